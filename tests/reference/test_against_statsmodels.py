"""The statsmodels-shaped door beside statsmodels itself, fitted in the same run.

The log-likelihood has the same definition in both, so it may not be lower here by more than 1e-6 (its
rounding); parameters are compared where statsmodels came within 1e-5 of the optimum, with a tolerance
that such a gap allows: a gap d moves a parameter by about sqrt(2 d) standard errors.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm

smf = pytest.importorskip("statsmodels.formula.api")
mixed = pytest.importorskip("statsmodels.regression.mixed_linear_model")

CLOSE = 1e-5


def notebook(n: int, seed: int) -> pd.DataFrame:
    """Return the simulation of statsmodels' notebook: four classrooms of four in each school."""
    rng = np.random.default_rng(seed)
    m = n // 16
    school, room = np.repeat(np.arange(m), 16), np.tile(np.repeat(np.arange(4), 4), m)
    data = pd.DataFrame(rng.normal(size=(n, 5)), columns=["x1", "x2", "x3", "z2", "prior_test"])
    data = data.assign(z1=1.0, groups=school, classroom=room)
    u, cell = rng.normal(size=(m, 2)), 4 * school + room
    a, b = rng.normal(size=(2, 4 * m)) * np.sqrt([[2.0], [5.0]])
    data["y"] = data["x2"] - 2 * data["x3"] + u[school, 0] + u[school, 1] * data["z2"] + rng.normal(size=n)
    data["y"] += a[cell] + b[cell] * data["prior_test"]
    return data


def matrices(data: pd.DataFrame) -> dict[str, dict[Any, np.ndarray]]:
    vc: dict[str, dict[Any, np.ndarray]] = {"classroom": {}, "prior_test": {}}
    for school, part in data.groupby("groups"):
        vc["classroom"][school] = pd.get_dummies(part["classroom"]).to_numpy(dtype=float)
        vc["prior_test"][school] = vc["classroom"][school] * part["prior_test"].to_numpy()[:, None]
    return vc


@dataclass(frozen=True)
class Case:
    name: str
    formula: str
    data: pd.DataFrame
    options: dict[str, Any]


def cases() -> list[Case]:
    score, dietox = slm.load_dataset("score_parentedu_byclass"), slm.load_dataset("dietox")
    penicillin, pastes = slm.load_dataset("penicillin"), slm.load_dataset("pastes")
    vcf = {"classroom": "0 + C(classroom)", "prior_test": "0 + C(classroom):prior_test"}
    nested = {"groups": "Litter", "re_formula": "1", "vc_formula": {"pig": "0 + C(Pig)"}}
    plates = {"groups": np.ones(144), "vc_formula": {"p": "0 + C(plate)", "s": "0 + C(sample)"}}
    casks = {"groups": np.ones(60), "vc_formula": {"b": "0 + C(batch)", "s": "0 + C(sample)"}}
    school = {"groups": "groups", "re_formula": "0 + z1 + z2", "vc_formula": vcf}
    return [
        Case("score intercept", "score ~ edu", score, {"groups": score["classroom"]}),
        Case("score slope", "score ~ edu", score, {"groups": "classroom", "re_formula": "~edu"}),
        Case("dietox intercept", "Weight ~ Time", dietox, {"groups": "Pig"}),
        Case("dietox slope", "Weight ~ Time", dietox, {"groups": dietox["Pig"], "re_formula": "~Time"}),
        Case("dietox nested", "Weight ~ Time", dietox, nested),
        Case("notebook", "y ~ x1 + x2 + x3", notebook(1600, 3), school),
        Case("penicillin", "diameter ~ 1", penicillin, plates),
        Case("pastes", "strength ~ 1", pastes, casks),
    ]


def compare(ours: Any, theirs: Any) -> None:
    gap = ours.llf - theirs.llf
    assert gap > -1e-6, f"statsmodels' log-likelihood is higher by {-gap}"
    if not theirs.converged or gap > CLOSE:
        return
    moved = 2 * np.sqrt(2 * max(gap, 1e-10)) + 1e-3
    difference = np.abs(np.asarray(ours.params) - np.asarray(theirs.params))
    assert (difference <= moved * np.asarray(theirs.bse)).all(), (ours.params, theirs.params)
    assert ours.param_names == list(theirs.model.data.param_names)
    k = ours.k_fe
    if not ours.lmm.is_singular:  # close to a boundary standard errors depend on the last bit of the variances
        np.testing.assert_allclose(ours.bse_fe, np.asarray(theirs.bse)[:k], rtol=2e-3)
    assert ours.scale == pytest.approx(theirs.scale, rel=2e-3)
    label = next(iter(theirs.random_effects))
    modes = np.asarray(theirs.random_effects[label])
    observed = np.sort(modes[modes != 0])  # statsmodels has a zero for every level that the group does not have
    np.testing.assert_allclose(np.sort(ours.random_effects[label]), observed, atol=0.01 * np.sqrt(ours.scale))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("case", cases(), ids=lambda c: c.name)
def test_not_below_statsmodels_and_equal_where_it_converged(case, reml):
    theirs = smf.mixedlm(case.formula, case.data, **case.options).fit(reml=reml)
    ours = slm.mixedlm(case.formula, case.data, **case.options).fit(reml=reml)
    assert ours.converged
    compare(ours, theirs)
    if not reml:
        assert ours.aic == pytest.approx(theirs.aic, abs=2 * abs(ours.llf - theirs.llf) + 1e-8)
        assert ours.bic == pytest.approx(theirs.bic, abs=2 * abs(ours.llf - theirs.llf) + 1e-8)


@pytest.mark.filterwarnings("ignore")
def test_arrays_as_in_the_notebook():
    data = notebook(1600, 3)
    exog = np.column_stack([np.ones(len(data)), data[["x1", "x2", "x3"]]])
    arguments = (data["y"].to_numpy(), exog, data["groups"].to_numpy())
    exog_re, vc = data[["z1", "z2"]].to_numpy(), matrices(data)
    theirs = mixed.MixedLM(*arguments, exog_re=exog_re, exog_vc=vc).fit()
    ours = slm.MixedLM(*arguments, exog_re=exog_re, exog_vc=vc).fit()
    compare(ours, theirs)
    assert list(ours.random_effects[0].index) == list(theirs.random_effects[0].index)
    spec = theirs.model.exog_vc
    assert slm.MixedLM(*arguments, exog_re=exog_re, exog_vc=spec).fit().llf == pytest.approx(ours.llf, abs=1e-9)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", [c for c in cases() if c.name != "score slope"], ids=lambda c: c.name)
def test_conditional_covariances_of_random_effects(case):
    # statsmodels inverts the covariance matrix, which is singular for the one left out
    theirs = smf.mixedlm(case.formula, case.data, **case.options).fit()
    ours = slm.mixedlm(case.formula, case.data, **case.options).fit()
    assert not ours.lmm.is_singular
    plain = theirs._results  # the wrapper around it would keep what is set
    plain.cov_re, plain.vcomp, plain.scale = ours.cov_re.to_numpy(), ours.vcomp, ours.scale
    expected = plain.random_effects_cov
    assert set(ours.random_effects_cov) == set(expected)
    for label, found in ours.random_effects_cov.items():
        # levels that the group does not have are listed in statsmodels, too
        same = expected[label].loc[found.index, found.columns]
        assert same.shape == ours.random_effects[label].shape * 2
        np.testing.assert_allclose(found, same, rtol=1e-6, atol=1e-9 * ours.scale)


@pytest.mark.parametrize("reml", [True, False])
def test_log_likelihoods_have_the_same_definition(reml):
    # at one and the same point, columns of X far from unit scale included: no term in log|X'X| is missing
    data = notebook(320, 1).assign(x1=lambda d: 50 + 1000 * d["x1"])
    options = {"groups": "groups", "re_formula": "0 + z1 + z2", "vc_formula": {"c": "0 + C(classroom)"}}
    with pytest.warns(slm.exceptions.ScaleWarning):
        model = slm.mixedlm("y ~ x1 + x2", data, **options)
    T = np.array([[0.9, 0.0], [0.3, 0.7]])
    c = 1.3
    theta = [c, T[0, 0], T[1, 0], T[1, 1]]
    assert [name.split(".")[0] for name in model.lmm.theta_names] == ["groups:classroom", "groups", "groups", "groups"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = smf.mixedlm("y ~ x1 + x2", data, **options)
        other.reml, other.cov_pen, other.fe_pen, other._cov_sing = reml, None, None, 0
        point = mixed.MixedLMParams.from_components(np.zeros(3), cov_re=T @ T.T, vcomp=np.array([c**2]))
        theirs = other.loglike(point, profile_fe=True)
    assert model.lmm.at(theta, reml).llf == pytest.approx(theirs, rel=1e-10)


def test_the_numbers_that_the_tutorial_prints():
    data = slm.load_dataset("score_parentedu_byclass")
    r = slm.mixedlm("score ~ edu", data, groups=data["classroom"]).fit()
    assert round(r.fe_params["Intercept"], 3) == 9.865
    assert round(r.fe_params["edu"], 3) == 0.131
    assert round(r.scale, 4) == 0.8693
    assert round(r.llf, 4) == -88.8676
    # statsmodels printed 3.453 and 9.427 from a point 1e-8 below the optimum; one unit of the last digit
    assert r.tvalues["edu"] == pytest.approx(3.453, abs=1.1e-3)
    assert r.cov_re.iloc[0, 0] == pytest.approx(9.427, abs=1.1e-3)


def test_standard_errors_of_variances_over_scale_are_statsmodels():
    data = slm.load_dataset("dietox")
    theirs = smf.mixedlm("Weight ~ Time", data, groups="Pig").fit()
    ours = slm.mixedlm("Weight ~ Time", data, groups="Pig").fit()
    np.testing.assert_allclose(ours.bse, theirs.bse, rtol=1e-4)
    np.testing.assert_allclose(ours.conf_int(), theirs.conf_int(), rtol=1e-3)
    np.testing.assert_allclose(ours.pvalues, theirs.pvalues, rtol=1e-3, atol=1e-12)
    np.testing.assert_allclose(ours.predict(data.head(3)), theirs.predict(data.head(3)), rtol=1e-6)
    np.testing.assert_allclose(ours.fittedvalues, theirs.fittedvalues, rtol=1e-5)


FIXED = """
1
x
x + a
a * b
a:b
b:a
x + a:b
a + a:b
b + a:b
a * b * d
a + b:d
a:b:d
(a + b + d) ** 2
(x + a + b) ** 2
(x + z + a) ** 3
a * b - a
a / b
a / x
x * a
x:a
a:x + x
x:z + x + a
x * z * a
z + x:a + b + x:b
x:a + x:b
x:z:a + a
0 + a
a - 1
0 + a:b
0 + a + a:b
-1 + x:a
0 + x + x:a
0 + x + a
0 + b + x * a
np.log(x)
np.log(x) * a
I(x**2) + x + I( x *z )
I(x>1) + t
C(k)
C(k) * x
C(a, Treatment("w")) + x
C(a, Treatment(reference='v')):x
C(k, Treatment(3)) + a
C(a, Sum)
C(a, Sum) * C(b, Sum)
C(a, Sum):b
0 + C(a, Sum)
0 + C(a, Helmert) + x
C(a, Helmert) * x
C(k, Poly) + a
0 + C(d, Poly)
x:C(a, Poly)
standardize(x) + a
scale(x) * a
scale(x):center(z) + b
center(x) + z + a
bs(x, df=4)
bs(x, df=5, degree=2) * a
bs(x, df = 4):z + C(k)
Q('a b') + Q('a b'):x
Q("a b") * a + I(Q('a b')**2)
"""


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    rng = np.random.default_rng(7)
    n = 360
    data = pd.DataFrame({"x": rng.normal(size=n) ** 2 + 0.1, "z": rng.normal(size=n), "g": rng.integers(0, 20, n)})
    data["a"], data["b"], data["d"] = (
        rng.choice(list("uvw"), n),
        rng.choice(["p", "q"], n),
        rng.choice(list("klmno"), n),
    )
    data["k"], data["t"], data["a b"] = rng.integers(1, 5, n), data["z"] > 0, rng.normal(size=n)
    return data.assign(y=rng.normal(size=n) + rng.normal(size=20)[data["g"]])


@pytest.mark.parametrize("fixed", FIXED.strip().splitlines())
def test_the_columns_are_patsys_in_patsys_order(rows, fixed):
    # positional code reads the same coefficients: names and values of all columns are the same
    theirs, ours = (f(f"y ~ {fixed}", rows, groups="g") for f in (smf.mixedlm, slm.mixedlm))
    assert ours.exog_names == theirs.exog_names
    np.testing.assert_allclose(ours.lmm.problem.rows.X, theirs.exog, rtol=1e-9, atol=1e-9)
    # by ML: the restricted likelihood depends on how X is coded, and R codes "0 + C(a, Sum)" by indicators
    fit = slm.lmer(ours.lmer_formula, rows, reml=False)
    assert ours.lmm.at(fit.theta, reml=False).llf == pytest.approx(fit.llf, abs=1e-8)


def test_a_base_level_by_position(rows):
    fixed = "y ~ C(a, Treatment(1)) + C(k, Treatment(3)) + C(d, Treatment(reference=-1))"
    theirs, ours = (f(fixed, rows, groups="g") for f in (smf.mixedlm, slm.mixedlm))
    assert ours.exog_names == theirs.exog_names
    np.testing.assert_allclose(ours.exog, theirs.exog)


@pytest.mark.parametrize("effects", ["~x", "1 + x + b", "0 + b", "x:z + z", "0 + scale(x) + C(b, Sum)", 'Q("a b")'])
def test_random_effects_have_patsys_names_and_order(rows, effects):
    theirs, ours = (f("y ~ z + a", rows, groups="g", re_formula=effects) for f in (smf.mixedlm, slm.mixedlm))
    term = ours.lmm.problem.rows.terms[0]
    names = ["g" if name == "Intercept" else name for name in term.columns]
    assert names == [n.removesuffix(" Var") for n in theirs.data.param_names if n.endswith(" Var")]
    np.testing.assert_allclose(term.Z, theirs.exog_re, rtol=1e-9, atol=1e-9)
    again = slm.LinearMixedModel.from_formula(ours.lmer_formula, rows).problem.rows
    assert np.linalg.matrix_rank(np.hstack([term.Z, again.terms[0].Z])) == term.k


def test_a_column_that_depends_on_others_is_left_out(rows):
    # patsy's cr() keeps a basis that contains the constant; statsmodels inverts the matrix as if it could
    theirs = smf.mixedlm("y ~ cr(x, df=4)", rows, groups="g")
    with pytest.warns(slm.exceptions.RankDeficiencyWarning):
        ours = slm.mixedlm("y ~ cr(x, df=4)", rows, groups="g")
    assert ours.exog_names == theirs.exog_names[:-1]
    np.testing.assert_allclose(ours.lmm.problem.rows.X, theirs.exog[:, :-1], rtol=1e-9, atol=1e-9)


def test_tests_have_statsmodels_definitions():
    data = slm.load_dataset("dietox")
    formula = "Weight ~ Time + Evit"
    theirs = smf.mixedlm(formula, data, groups="Pig").fit()
    ours = slm.mixedlm(formula, data, groups="Pig").fit()
    R = np.eye(4)[1:]
    f, wide = ours.f_test(R).iloc[0], np.eye(5)[1:4]
    expected = theirs.f_test(wide)
    assert (f["num_df"], f["den_df"]) == (expected.df_num, expected.df_denom)
    # their standard errors are from the joint second derivatives: close, not equal
    assert f["statistic"] == pytest.approx(float(expected.fvalue), rel=1e-3)
    wald, expected = ours.wald_test(R, scalar=True).iloc[0], theirs.wald_test(wide, scalar=True)
    assert wald["statistic"] == pytest.approx(float(expected.statistic), rel=1e-3)
    assert wald["df"] == expected.df_denom
    t, expected = ours.t_test(R), theirs.t_test(R)
    np.testing.assert_allclose(t["statistic"], np.ravel(expected.tvalue), rtol=1e-3)
    np.testing.assert_allclose(t["p_value"], expected.pvalue, rtol=1e-3, atol=1e-12)
