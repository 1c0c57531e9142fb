"""Scripts of statsmodels users with the import changed: the calls of three tutorials in our own words.

Where data are drawn, the seed of the generator is fixed; data read from the network are those of the bundled table.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm

sm = pytest.importorskip("statsmodels.api")
smf = pytest.importorskip("statsmodels.formula.api")
patsy = pytest.importorskip("patsy")

pytestmark = pytest.mark.filterwarnings("ignore")
OURS = SimpleNamespace(mixedlm=slm.mixedlm, MixedLM=slm.MixedLM)
THEIRS = SimpleNamespace(mixedlm=smf.mixedlm, MixedLM=sm.MixedLM)


def of_a_coefficient(result: Any, name: str) -> list[float]:
    """Return root mean square error, estimate, statistic and p-value of a fit, as the tutorial's helper does."""
    rmse = np.sqrt(np.sum(result.resid**2) / result.df_resid)
    return [float(rmse), *(float(part[name]) for part in (result.params, result.tvalues, result.pvalues))]


def test_growth_of_pigs():
    data = slm.load_dataset("dietox")
    ours, theirs = (door.mixedlm("Weight ~ Time", data, groups=data["Pig"]).fit() for door in (OURS, THEIRS))
    assert ours.summary().tables[1].loc["Time", "Coef."] == theirs.summary().tables[1].loc["Time", "Coef."]
    np.testing.assert_allclose(ours.params, theirs.params, rtol=1e-4)


def test_scores_by_class():
    data = slm.load_dataset("score_parentedu_byclass")
    table = pd.DataFrame(columns=["Model", "RMSE", "Coef", "Stat", "Pval"])
    for formula in ("~1", None, "~1+edu"):
        ours, theirs = (
            door.mixedlm("score ~ edu", data, groups=data["classroom"], re_formula=formula).fit()
            for door in (OURS, THEIRS)
        )
        assert "edu" in str(ours.summary())
        table.loc[len(table)] = ["LMM", *of_a_coefficient(ours, "edu")]
        assert (ours.df_resid, ours.df_modelwc, ours.k_constant) == (58, theirs.df_modelwc, theirs.k_constant)
        if formula != "~1+edu":  # theirs stops short at a singular fit
            np.testing.assert_allclose(of_a_coefficient(ours, "edu"), of_a_coefficient(theirs, "edu"), rtol=2e-3)
    assert table["RMSE"].iloc[0] == pytest.approx(0.916, abs=5e-4)  # as the tutorial prints it


def drawn(n: int) -> tuple[np.ndarray, ...]:
    """Return response, groups and the matrices of the tutorial's simulation: classrooms of four within schools."""
    rng = np.random.default_rng(5)
    exog, exog_re = rng.normal(size=(n, 3)), np.column_stack([np.ones(n), rng.normal(size=n)])
    room, score = np.kron(np.arange(n // 4), np.ones(4)) % 4, rng.normal(size=n)
    groups = np.kron(np.arange(n // 16), np.ones(16))
    y = exog @ [0.0, 1.0, -2.0] + (exog_re * np.kron(rng.normal(size=(n // 16, 2)), np.ones((16, 1)))).sum(1)
    for variance, by in ((2.0, np.ones(n)), (5.0, score)):
        for k in range(4):
            y += np.kron(rng.normal(size=n // 16) * variance**0.5, np.ones(16)) * (room == k) * by
    return y + rng.normal(size=n), groups, exog, exog_re, np.column_stack([room, score])


def test_variance_components_by_arrays_and_by_formulas():
    endog, groups, exog, exog_re, exog_vc = drawn(480)
    frame = pd.DataFrame(exog_vc, columns=["classroom", "priortest"])
    formulas = {"classroom": "0 + C(classroom)", "priortest": "0 + C(classroom):priortest"}
    matrices = {name: patsy.dmatrix(text, frame, return_type="dataframe") for name, text in formulas.items()}
    vc = {
        name: {k: np.asarray(matrix.iloc[np.flatnonzero(groups == k), :]) for k in range(30)}
        for name, matrix in matrices.items()
    }
    ex = sm.add_constant(exog)
    ours, theirs = (door.MixedLM(endog, ex, groups, exog_re=exog_re, exog_vc=vc).fit() for door in (OURS, THEIRS))
    assert ours.llf == pytest.approx(theirs.llf, abs=1e-4)
    assert "priortest Var" in str(ours.summary())
    data = pd.DataFrame(exog, columns=["x1", "x2", "x3"]).assign(
        y=endog, z1=exog_re[:, 0], z2=exog_re[:, 1], classroom=exog_vc[:, 0], prior_test=exog_vc[:, 1], groups=groups
    )
    formulas = {"classroom": "0 + C(classroom)", "prior_test": "0 + C(classroom):prior_test"}
    options = {"groups": "groups", "re_formula": "0 + z1 + z2", "vc_formula": formulas, "data": data}
    by_formula = OURS.MixedLM.from_formula("y ~ x1 + x2 + x3", **options).fit()
    assert by_formula.llf == pytest.approx(ours.llf, abs=1e-6)
    assert "prior_test Var" in str(by_formula.summary())
    np.testing.assert_allclose(by_formula.model.exog_re, exog_re)


@pytest.mark.parametrize("of_pandas", [(), ("endog",), ("exog",), ("groups",), ("exog_re",)], ids="+".join)
def test_results_of_arrays_are_arrays_where_those_of_statsmodels_are(of_pandas):
    endog, groups, exog, exog_re, columns = drawn(960)
    given = {"endog": endog, "exog": sm.add_constant(exog), "groups": groups, "exog_re": exog_re}
    as_pandas = {1: lambda v: pd.Series(v, name="v"), 2: lambda v: pd.DataFrame(v).add_prefix("v")}
    given |= {name: as_pandas[given[name].ndim](given[name]) for name in of_pandas}
    room = np.eye(4)[columns[:, 0].astype(int)]
    given["exog_vc"] = {"room": {g: room[groups == g] * columns[groups == g, 1:] for g in np.unique(groups)}}
    ours, theirs = (door.MixedLM(**given).fit() for door in (OURS, THEIRS))
    vectors = ["params", "bse", "bse_fe", "fe_params", "tvalues", "pvalues", "resid", "fittedvalues"]
    if not {"endog", "exog"} & set(of_pandas):  # there statsmodels cannot label those of the components
        vectors.append("bse_re")
    for name in [*vectors, "cov_re", "cov_re_unscaled", "cov_params", "conf_int", "vcomp", "random_effects"]:
        found, expected = (value() if callable(value := getattr(r, name)) else value for r in (ours, theirs))
        assert type(found) is type(expected), name
        if name == "random_effects":
            found, expected = (np.concatenate([np.asarray(v) for v in d.values()]) for d in (found, expected))
        elif isinstance(expected, pd.Series | pd.DataFrame):
            assert list(found.index) == list(expected.index), name
        assert found.shape == expected.shape, name
        if name != "bse_re":  # statsmodels has another definition of its values
            np.testing.assert_allclose(found, expected, rtol=5e-3, atol=5e-3, err_msg=name)
    if not of_pandas:
        assert type(ours.predict()) is type(theirs.predict())
        first = ours.params
        first[0] += 1.0  # an array is the caller's own
        assert ours.params[0] == ours.fe_params[0] != first[0]
    assert str(ours.summary()).count("v0" if "exog_re" in of_pandas else "x_re1") == 2


def test_numbers_of_tests_are_the_originals():
    data = slm.load_dataset("dietox")
    ours, theirs = (door.mixedlm("Weight ~ Time", data, groups="Pig").fit() for door in (OURS, THEIRS))
    R = np.eye(2)
    for use_t in (False, True):
        t, expected = ours.t_test(R, use_t=use_t), theirs.t_test(R, use_t=use_t)
        assert t.distribution == expected.distribution
        for name in ("effect", "sd", "tvalue", "statistic", "pvalue"):
            np.testing.assert_allclose(getattr(t, name), np.ravel(getattr(expected, name)), rtol=1e-3, atol=1e-12)
        np.testing.assert_allclose(t.conf_int(0.1), expected.conf_int(0.1), rtol=1e-3)
        assert list(t.summary_frame()) == list(expected.summary_frame())
    for test, text in (("f_test", "Time = 7"), ("wald_test", "Time = 7")):
        found, expected = getattr(ours, test)(text), getattr(theirs, test)(text)
        assert found.distribution == expected.distribution
        assert found.statistic == pytest.approx(expected.statistic, rel=1e-2)
        assert found.pvalue == pytest.approx(expected.pvalue, rel=1e-2)
        assert found.df_denom == expected.df_denom
    for formula, constant in (("Weight ~ Time", 1), ("Weight ~ 0 + Time", 0), ("Weight ~ 0 + Evit", 1)):
        a, b = (door.mixedlm(formula, data, groups="Pig") for door in (OURS, THEIRS))
        assert a.exog_names == b.exog_names
        found, expected = a.fit(), b.fit()
        assert found.k_constant == expected.k_constant == constant
        assert (found.df_resid, found.df_modelwc, found.use_t) == (
            expected.df_resid,
            expected.df_modelwc,
            expected.use_t,
        )
