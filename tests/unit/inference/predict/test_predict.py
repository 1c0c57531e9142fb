"""Predictions: variances against dense equations, targets, chunks, requests that make no sense."""

from __future__ import annotations

import henderson
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import sparselmm as slm
from sparselmm.exceptions import DataError, FormulaError, ParameterError
from sparselmm.inference.predict import error_variance as joint_module
from sparselmm.inference.predict.error_variance import InverseEntries, TermPart, error_variance

RNG = np.random.default_rng(5)


def table(n=160, seed=3):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "x": rng.normal(size=n),
            "year": 2000.0 + rng.integers(0, 12, n),
            "g": rng.integers(0, 9, n).astype(str),
            "h": rng.integers(0, 6, n),
            "f": rng.choice(["a", "b", "c"], n),
            "w": rng.uniform(0.5, 3, n),
            "o": rng.normal(size=n),
        }
    )
    effects = rng.normal(size=(9, 2)) * [1.5, 0.7]
    g = frame.g.astype(int)
    random = effects[g, 0] + effects[g, 1] * frame.x + rng.normal(size=6)[frame.h]
    frame["y"] = 3 + frame.x + random + rng.normal(size=n)
    return frame


DATA = table()
FORMULAS = [
    ("y ~ x + (x | g)", {}),
    ("y ~ x*f + (x | g) + (1 | h)", {}),
    ("y ~ x + (x || g) + (1 | h)", {"weights": "w"}),
    ("y ~ x + offset(o) + (1 | g/h)", {"weights": "w"}),
    ("y ~ 0 + (0 + f | g) + (1 | h)", {}),
]
THETA = {1: [0.8], 2: [0.8, 0.4], 3: [0.8, 0.3, 0.5], 4: [0.8, 0.3, 0.5, 0.6]}


def make(formula, solver=None, theta=None, **arguments):
    model = slm.LinearMixedModel.from_formula(formula, DATA, solver=solver, **arguments)
    k = len(model.theta_names)
    return model.at(np.random.default_rng(k).uniform(0.3, 1.0, k) if theta is None else theta)


def full_rows(fit, newdata, keep=lambda name: True):
    """Dense x and z of new rows in the order of the fit; new levels have no columns."""
    encoding, n = fit.source.encoding, len(newdata)
    blocks = []
    for i, term in enumerate(fit.result.rows.terms):
        rows = encoding.apply_term(i, newdata)
        z = np.zeros((n, term.m, term.k))
        if keep(term.name):
            known = np.flatnonzero(rows.codes >= 0)
            z[known, rows.codes[known]] = rows.Z[known]
        blocks.append(z.reshape(n, -1))
    return encoding.apply_fixed(newdata), np.hstack(blocks)


def added(fit, newdata, names, only_new):
    """Variance that terms of new levels add."""
    out = np.zeros(len(newdata))
    for i, (term, cov) in enumerate(zip(fit.result.rows.terms, fit.varcorr.terms)):
        rows = fit.source.encoding.apply_term(i, newdata)
        own = np.einsum("nk,kl,nl->n", rows.Z, cov.cov, rows.Z)
        if term.name in names:
            out += np.where(rows.codes < 0, own, 0.0) if only_new else own
    return out


@pytest.mark.parametrize("solver", ["cholmod", "schur"])
@pytest.mark.parametrize(("formula", "arguments"), FORMULAS)
@pytest.mark.parametrize("share", [0.0, 1e9], ids=["by pairs", "row by row"])
def test_conditional_variances_are_those_of_henderson(formula, arguments, solver, share, monkeypatch):
    monkeypatch.setattr(joint_module, "DIRECT_SHARE", share)
    fit = make(formula, solver, **arguments)
    new = table(60, seed=8)
    if "/" in formula:
        new = new[[f"{g}:{h}" in set(DATA.g + ":" + DATA.h.astype(str)) for g, h in zip(new.g, new.h)]]
    dense = henderson.dense_errors(fit)
    expected = henderson.variance(dense, *full_rows(fit, new))
    found = fit.predict(new, se=True)
    np.testing.assert_allclose(found["se"] ** 2, expected, rtol=1e-7)
    np.testing.assert_allclose(found["conf_high"] - found["mean"], 1.959963984540054 * found["se"], rtol=1e-12)


@pytest.mark.parametrize("share", [0.0, 1e9], ids=["by pairs", "row by row"])
def test_columns_far_from_zero(share, monkeypatch):
    # the same model with the years counted from 2005, where dense matrices lose no digits
    monkeypatch.setattr(joint_module, "DIRECT_SHARE", share)
    formula, shift = "y ~ year + (year | g) + (1 | h)", 2005.0
    near = slm.LinearMixedModel.from_formula(formula, DATA.assign(year=DATA.year - shift)).at([0.8, 0.1, 0.3, 0.6])
    moved = np.array([[1.0, -shift], [0.0, 1.0]]) @ np.array([[0.8, 0.0], [0.1, 0.3]])
    T = np.linalg.qr(moved.T, mode="r").T
    T = T * np.sign(np.diag(T))
    fit = make(formula, theta=[T[0, 0], T[1, 0], T[1, 1], 0.6])
    assert any(fit.problem.engine.crossproducts.centres)
    new = table(60, seed=8)
    expected = henderson.variance(henderson.dense_errors(near), *full_rows(near, new.assign(year=new.year - shift)))
    np.testing.assert_allclose(fit.predict(new, se=True)["se"] ** 2, expected, rtol=1e-6)
    np.testing.assert_allclose(
        fit.ranef(condvar=True)["g"].cov[:, 1, 1], near.ranef(condvar=True)["g"].cov[:, 1, 1], rtol=1e-6
    )


@pytest.mark.parametrize(("formula", "arguments"), FORMULAS)
def test_variances_at_a_singular_covariance(formula, arguments):
    model = slm.LinearMixedModel.from_formula(formula, DATA, **arguments)
    theta = np.random.default_rng(1).uniform(0.3, 1.0, len(model.theta_names))
    theta[-1] = 0.0
    theta[len(theta) // 2] = 0.0
    fit = model.at(theta)
    rows = DATA.iloc[:50]
    expected = henderson.variance(henderson.dense_errors(fit), fit.X[:50], fit.Z.toarray()[:50])
    np.testing.assert_allclose(fit.predict(rows, se=True)["se"] ** 2, expected, rtol=1e-6)
    np.testing.assert_allclose(fit.predict(se=True)["se"].iloc[:50] ** 2, expected, rtol=1e-6)


@pytest.mark.parametrize("re_form", [None, "~0", "~(1 | h)", "~(x | g)"])
@pytest.mark.parametrize("kind", ["mean", "new_observation"])
def test_every_target(re_form, kind):
    fit = make("y ~ x*f + (x | g) + (1 | h)", weights="w")
    new = table(40, seed=9)
    new["g"] = np.where(new.index % 4 == 0, "new", new.g)
    new["h"] += (new.index % 5 == 0) * 99
    included = {None: {"g", "h"}, "~0": set(), "~(1 | h)": {"h"}, "~(x | g)": {"g"}}[re_form]
    expected = henderson.variance(henderson.dense_errors(fit), *full_rows(fit, new, included.__contains__))
    expected += added(fit, new, included, only_new=True)
    if kind == "new_observation":
        expected += added(fit, new, {"g", "h"} - included, only_new=False) + fit.scale / new.w
    found = fit.predict(new, re_form=re_form, kind=kind, se=True, allow_new_levels=True)
    np.testing.assert_allclose(found["se"] ** 2, expected, rtol=1e-8)


def test_part_of_a_term():
    fit = make("y ~ x + (x | g)")
    found = fit.predict(DATA, re_form="~(1 | g)", se=True)
    z = fit.Z.toarray().reshape(len(DATA), -1, 2)
    z[:, :, 1] = 0
    z = z.reshape(len(DATA), -1)
    np.testing.assert_allclose(found["mean"], fit.X @ fit.params + z @ fit.result.b, rtol=1e-12)
    np.testing.assert_allclose(found["se"] ** 2, henderson.variance(henderson.dense_errors(fit), fit.X, z), rtol=1e-8)
    with pytest.raises(ParameterError, match="some of the correlated"):
        fit.predict(DATA, re_form="~(1 | g)", kind="new_observation")


def test_conditional_covariances():
    for formula, arguments in FORMULAS:
        fit = make(formula, **arguments)
        design, Lambda, Z = fit.result.rows, fit.Lambda.toarray(), fit.Z.toarray()
        W = np.diag(np.ones(design.n) if design.weights is None else design.weights)
        M = Lambda.T @ Z.T @ W @ Z @ Lambda + np.eye(design.q)
        full = fit.scale * Lambda @ np.linalg.solve(M, Lambda.T)
        start, by_label = 0, {}
        for t in design.terms:
            by_label.setdefault(t.label, []).append(start + np.arange(t.m * t.k).reshape(t.m, t.k))
            start += t.m * t.k
        for label, found in fit.ranef(condvar=True).items():
            columns = np.hstack(by_label[label])
            expected = full[columns[:, :, None], columns[:, None, :]]
            np.testing.assert_allclose(found.cov, expected, atol=1e-9 * np.abs(expected).max())


def test_ranef_table():
    fit = make("y ~ x + (x | g) + (1 | h)")
    found = fit.ranef_table(0.9)
    assert list(found.columns) == ["grp", "term", "level", "estimate", "std_dev", "conf_low", "conf_high"]
    assert len(found) == 9 * 2 + 6
    row = found[(found.grp == "h") & (found.level == 3)].iloc[0]
    condvar = fit.ranef(condvar=True)["h"]
    assert row.estimate == condvar.modes.loc[3, "Intercept"]
    assert row.std_dev == condvar.sd.loc[3, "Intercept"]
    assert row.conf_high == pytest.approx(row.estimate + 1.6448536269514722 * row.std_dev, rel=1e-12)


# --- chunks and caches --------------------------------------------------------------------------


@pytest.mark.parametrize("cache", [0, 10**9])
def test_chunks_give_the_same(cache, monkeypatch):
    monkeypatch.setattr(joint_module, "CACHE_CELLS", cache)
    monkeypatch.setattr(joint_module, "DIRECT_SHARE", 0.0)
    monkeypatch.setattr(joint_module, "BATCH_CELLS", 100)
    fit = make("y ~ x*f + (x | g) + (1 | h)", weights="w")
    whole = fit.predict(DATA, kind="new_observation", se=True)
    weights = DATA["w"].to_numpy()
    pieces = fit.predict(DATA, kind="new_observation", se=True, chunk_rows=13, weights=weights)
    pd.testing.assert_frame_equal(pieces, whole, rtol=1e-10)


@pytest.mark.parametrize("kind", ["dict", "polars", "arrow"])
def test_chunks_of_other_tables(kind):
    fit = make("y ~ x*f + (x | g) + (1 | h)")
    if kind == "dict":
        given = {name: DATA[name].to_numpy() for name in DATA}
    elif kind == "polars":
        given = pytest.importorskip("polars").DataFrame({name: DATA[name].to_list() for name in DATA})
    else:
        given = pytest.importorskip("pyarrow").Table.from_pandas(DATA)
    found = fit.predict(given, chunk_rows=50)
    np.testing.assert_allclose(found, fit.predict(DATA), rtol=1e-13)


def test_levels_that_never_met_in_the_data():
    data = pd.DataFrame({"g": list("aabbccdd") * 3, "h": list("ppqqrrss") * 3})
    data["y"] = np.random.default_rng(0).normal(size=24)
    fit = slm.LinearMixedModel.from_formula("y ~ 1 + (1 | g) + (1 | h)", data).at([0.7, 0.5])
    new = pd.DataFrame({"g": list("abcdabcd"), "h": list("qrspssrr")})
    expected = henderson.variance(henderson.dense_errors(fit), *full_rows(fit, new))
    np.testing.assert_allclose(fit.predict(new, se=True)["se"] ** 2, expected, rtol=1e-10)


def test_entries_by_pairs_need_no_order():
    fit = make("y ~ x + (x | g) + (1 | h)")
    joint = fit._joint()
    parts = (TermPart(np.array([-1, 2, 0]), RNG.normal(size=(3, 2))), TermPart(np.array([1, -1, 0]), np.ones((3, 1))))
    X = RNG.normal(size=(3, 2))
    few = error_variance(joint, InverseEntries(joint), X, parts)
    many = tuple(TermPart(np.tile(p.codes, 40), np.tile(p.Z, (40, 1))) for p in parts)
    found = error_variance(joint, InverseEntries(joint), np.tile(X, (40, 1)), many)
    np.testing.assert_allclose(found, np.tile(few, 40), rtol=1e-12)


def test_model_from_arrays_with_multiple_membership():
    rng = np.random.default_rng(2)
    Z = sp.csr_array(rng.integers(0, 2, (40, 6)) / 2.0)
    y = rng.normal(size=40)
    fit = slm.LinearMixedModel.from_arrays(y, np.ones((40, 1)), [(Z, 1)]).at([0.6])
    expected = henderson.variance(henderson.dense_errors(fit), fit.X, fit.Z.toarray())
    np.testing.assert_allclose(fit.predict(se=True)["se"] ** 2, expected, rtol=1e-10)
    alone = fit.predict(re_form="~0", interval="prediction")["se"] ** 2
    own = np.einsum("nq,nq->n", Z.toarray(), Z.toarray()) * 0.36 * fit.scale
    np.testing.assert_allclose(alone, fit.scale * fit.result.unscaled_cov[0, 0] + own + fit.scale, rtol=1e-10)
    with pytest.raises(ParameterError, match="made from arrays"):
        fit.predict({"x": [1]})
    with pytest.raises(ParameterError, match="made from arrays"):
        fit.predict(re_form="~(1 | g)")


# --- missing values, offsets, weights ------------------------------------------------------------


def test_missing_values_give_missing_predictions():
    fit = make("y ~ x*f + (x | g) + (1 | h)")
    new = DATA.iloc[:6].astype({"h": "float"}).copy()
    expected = fit.predict(new, se=True)
    new.loc[0, "x"], new.loc[1, "g"], new.loc[2, "h"], new.loc[3, "f"] = np.nan, None, np.nan, None
    found = fit.predict(new, se=True)
    assert found.iloc[:4].isna().all().all()
    pd.testing.assert_frame_equal(found.iloc[4:], expected.iloc[4:])
    population = fit.predict(new, re_form="~0")
    assert list(population.isna()) == [True, False, False, True, False, False]


@pytest.mark.parametrize(
    "formula", ["y ~ poly(x, 2) + (scale(x) | g)", "y ~ bs(x, df=4) + (1 | g)", "y ~ ns(x, df=3) + (1 | g)"]
)
def test_chunks_of_missing_values_give_missing_predictions(formula):
    fit = make(formula)
    new = DATA.assign(x=DATA.x.where(DATA.index >= 40))
    found = fit.predict(new, se=True, chunk_rows=20)
    assert found.iloc[:40].isna().all().all()
    pd.testing.assert_frame_equal(found.iloc[40:], fit.predict(DATA.iloc[40:], se=True))


def test_solvers_agree_on_a_larger_design():
    rng = np.random.default_rng(3)
    n = 4000
    data = pd.DataFrame({"x": rng.normal(size=n), "g": rng.integers(0, 300, n), "h": rng.integers(0, 150, n)})
    data["y"] = data.x + rng.normal(size=300)[data.g] + rng.normal(size=n)
    new = pd.DataFrame({"x": rng.normal(size=3000), "g": rng.integers(0, 330, 3000), "h": rng.integers(0, 160, 3000)})
    fits = [
        slm.LinearMixedModel.from_formula("y ~ x + (x || g) + (x | h)", data, solver=s).at([0.6, 0.3, 0.5, 0.1, 0.2])
        for s in ("cholmod", "schur")
    ]
    first, second = (f.predict(new, se=True, allow_new_levels=True, chunk_rows=2500) for f in fits)
    pd.testing.assert_frame_equal(first, second, rtol=1e-8)
    few = fits[1].predict(new.iloc[:30], se=True, allow_new_levels=True)
    pd.testing.assert_frame_equal(few, second.iloc[:30], rtol=1e-8)
    for a, b in zip(*(f.ranef(condvar=True).values() for f in fits)):
        np.testing.assert_allclose(a.cov, b.cov, atol=1e-9)


def test_rows_left_out_are_padded():
    data = DATA.assign(x=DATA.x.where(DATA.index != 4))
    fit = slm.LinearMixedModel.from_formula("y ~ x + (1 | g)", data, na_action="exclude").at([0.5])
    found = fit.predict(se=True)
    assert len(found) == len(data)
    assert list(np.flatnonzero(found["mean"].isna())) == [4]
    assert fit.simulate(2, seed=1).isna().sum().tolist() == [1, 1]


def test_offsets():
    inside = make("y ~ x + offset(o) + (1 | g)")
    by_name = make("y ~ x + (1 | g)", offset="o")
    by_array = make("y ~ x + (1 | g)", offset=DATA["o"].to_numpy())
    expected = inside.fittedvalues
    np.testing.assert_allclose(inside.predict(DATA), expected)
    np.testing.assert_allclose(by_name.predict(DATA), expected)
    np.testing.assert_allclose(by_array.predict(DATA, offset="o"), expected)
    np.testing.assert_allclose(by_array.predict(DATA, offset=DATA["o"]), expected)
    with pytest.raises(ParameterError, match="by offset="):
        by_array.predict(DATA)
    for fit in (inside, by_name):
        with pytest.raises(DataError, match="'o'"):
            fit.predict(DATA.drop(columns="o"))
    with pytest.raises(DataError, match="160 rows"):
        by_array.predict(DATA, offset=[1.0, 2.0])
    for chunk in (7, 1000):
        with pytest.raises(DataError, match=r"offset has the rows of the newdata in another order; pass offset\.loc"):
            by_array.predict(DATA, offset=DATA["o"][::-1], chunk_rows=chunk)
    with pytest.raises(DataError, match="weights has the rows of the newdata in another order"):
        by_name.predict(DATA, interval="prediction", weights=DATA["w"][::-1])
    with pytest.raises(DataError, match="another order"):
        by_array.simulate(seed=1, newdata=DATA, offset=DATA["o"][::-1])


def test_weights_of_new_observations():
    fit = make("y ~ x + (1 | g)", weights="w")
    plain = fit.predict(DATA, se=True)["se"] ** 2
    found = fit.predict(DATA, interval="prediction")["se"] ** 2
    np.testing.assert_allclose(found - plain, fit.scale / DATA["w"], rtol=1e-9)
    same = fit.predict(DATA, interval="prediction", weights=4.0)["se"] ** 2
    np.testing.assert_allclose(same - plain, fit.scale / 4, rtol=1e-9)
    with pytest.raises(DataError, match="'w'"):
        fit.predict(DATA.drop(columns="w"), interval="prediction")
    with pytest.raises(DataError, match="must be positive: row 0"):
        fit.predict(DATA, interval="prediction", weights=DATA["w"].where(DATA.index > 0, 0.0))
    by_array = make("y ~ x + (1 | g)", weights=DATA["w"].to_numpy())
    with pytest.raises(ParameterError, match="weights=1"):
        by_array.predict(DATA, interval="prediction")


# --- requests that make no sense -------------------------------------------------------------------


def test_new_levels_are_named():
    fit = make("y ~ x + (x | g) + (1 | h)")
    with pytest.raises(DataError, match=r"g: zz, yy; h: 77.*allow_new_levels"):
        fit.predict({"x": [1, 2, 3], "g": ["zz", "yy", "1"], "h": [77, 1, 2]})


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"re_form": "~(1 | f)"}, FormulaError, "no random term for 'f'"),
        ({"re_form": "~(0 + year | g)"}, FormulaError, "year of .* is not a random effect"),
        ({"re_form": "~(1 | x1)"}, FormulaError, "'x1'"),
        ({"re_form": "~x + (1 | g)"}, FormulaError, "random terms only"),
        ({"re_form": "(1 | g)"}, ParameterError, "one-sided"),
        ({"re_form": 3}, ParameterError, "re_form"),
        ({"kind": "median"}, ParameterError, "kind"),
        ({"interval": "both"}, ParameterError, "interval"),
        ({"interval": "confidence", "kind": "new_observation"}, ParameterError, "for a mean"),
        ({"level": 95, "se": True}, ParameterError, "between 0 and 1"),
        ({"chunk_rows": 0}, ParameterError, "chunk_rows"),
    ],
)
def test_bad_requests(arguments, error, words):
    fit = make("y ~ x + (x | g) + (1 | h)")
    with pytest.raises(error, match=words):
        fit.predict(DATA, **arguments)


def test_own_rows_take_no_weights():
    with pytest.raises(ParameterError, match="for new data"):
        make("y ~ x + (x | g)").predict(offset=1.0)


def test_re_form_spellings():
    fit = make("y ~ x + (x || g) + (1 | h)")
    none = fit.predict(DATA, re_form="~0")
    for spelling in ("NA", "~ 0", float("nan")):
        pd.testing.assert_series_equal(fit.predict(DATA, re_form=spelling), none)
    both = fit.predict(DATA, re_form="~(x | g)")
    pd.testing.assert_series_equal(fit.predict(DATA, re_form="~(x || g)"), both)
    pd.testing.assert_series_equal(fit.predict(DATA, re_form="~(1 | g) + (0 + x | g) + (1 | h)"), fit.predict(DATA))


def test_full_dummies_are_not_taken_for_contrasts():
    fit = make("y ~ x + (f | g)")
    with pytest.raises(FormulaError, match="f of"):
        fit.predict(DATA, re_form="~(0 + f | g)")
    pd.testing.assert_series_equal(fit.predict(DATA, re_form="~(f | g)"), fit.predict(DATA))
