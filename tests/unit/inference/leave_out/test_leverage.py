"""Leverages, residuals and deletion of rows against dense matrices and refits at the same θ."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm.exceptions import ParameterError
from sparselmm.linalg import SYSTEMS
from sparselmm.linalg.blocks import apply_factor

pytestmark = pytest.mark.filterwarnings("ignore")


def crossed(n=150, seed=4):
    rng = np.random.default_rng(seed)
    data = pd.DataFrame({"g": rng.integers(0, 25, n), "h": rng.integers(0, 9, n), "x": rng.normal(size=n)})
    data["w"] = 0.5 + rng.random(n)
    data["year"] = 2000 + rng.integers(0, 8, n)
    data["o"] = rng.normal(size=n)
    effect_g, effect_h = rng.normal(size=(25, 2)), rng.normal(size=9)
    data["y"] = (
        data.o + data.x + effect_g[data.g, 0] + effect_g[data.g, 1] * data.x + effect_h[data.h] + rng.normal(size=n)
    )
    return data


CASES = {
    "slopes": ("y ~ x + (x | g) + (1 | h)", {}),
    "weighted": ("y ~ x + (x | g) + (1 | h)", {"weights": "w", "offset": "o"}),
    "diagonal": ("y ~ x + (x || g) + (x | h)", {"reml": False}),
    "far from zero": ("y ~ year + (year | g)", {}),
    "no fixed effects": ("y ~ 0 + (1 | g) + (1 | h)", {}),
}


@pytest.fixture(params=list(CASES))
def fit(request):
    formula, arguments = CASES[request.param]
    return slm.lmer(formula, crossed(), **arguments)


def dense(fit):
    """Relative V, X and weights of a fit, from its public matrices."""
    ZL = (fit.Z @ fit.Lambda).toarray()
    w = fit.getME("weights")
    return np.diag(1 / w) + ZL @ ZL.T, fit.X, w


def dense_hat(fit):
    V, X, w = dense(fit)
    Vi = np.linalg.inv(V)
    P = Vi - Vi @ X @ np.linalg.solve(X.T @ Vi @ X, X.T @ Vi) if X.shape[1] else Vi
    return 1.0 - np.diag(P) / w


def test_leverages(fit):
    np.testing.assert_allclose(fit.leverage(), dense_hat(fit), rtol=1e-8, atol=1e-10)


def test_standardized_and_marginal_residuals(fit):
    V, X, w = dense(fit)
    hat, sigma = dense_hat(fit), fit.sigma
    np.testing.assert_allclose(fit.residuals("standardized"), np.sqrt(w / (1 - hat)) * fit.resid / sigma, rtol=1e-7)
    Vi = np.linalg.inv(V)
    C = V - X @ np.linalg.solve(X.T @ Vi @ X, X.T) if X.shape[1] else V
    marginal = fit.getME("y") - fit.getME("offset") - X @ fit.params.to_numpy()
    np.testing.assert_allclose(fit.residuals("marginal"), marginal, atol=1e-10)
    np.testing.assert_allclose(
        fit.residuals("marginal_standardized"), marginal / sigma / np.sqrt(np.diag(C)), rtol=1e-6
    )


def test_aliases_and_scales_of_residuals(fit):
    np.testing.assert_array_equal(fit.residuals(), fit.resid)
    np.testing.assert_array_equal(fit.residuals("conditional"), fit.resid)
    np.testing.assert_array_equal(fit.residuals("pearson"), fit.resid_pearson)
    np.testing.assert_allclose(fit.residuals("scaled"), fit.resid_pearson / fit.sigma, rtol=1e-14)


def test_unknown_kind_is_refused(fit):
    with pytest.raises(ParameterError, match="studentized"):
        fit.residuals("student")


def test_deleted_rows_are_those_of_refits_at_the_same_theta(fit):
    formula, arguments = next(
        v for v in CASES.values() if v[0] == fit.formula and ("weights" in v[1]) == bool(fit.weights_name)
    )
    keep = {k: v for k, v in arguments.items() if k != "reml"}
    data = crossed()
    cases, studentized = fit.influence(), fit.residuals("studentized")
    for row in (0, 17, 88):
        less = slm.LinearMixedModel.from_formula(formula, data.drop(index=row), **keep).at(fit.theta, reml=fit.reml)
        change = (less.params - fit.params).to_numpy()
        np.testing.assert_allclose(cases["change"].loc[row], [*change, less.sigma - fit.sigma], rtol=1e-6, atol=1e-9)
        if len(change):
            np.testing.assert_allclose(fit.dfbetas().loc[row], change / less.bse, rtol=1e-6, atol=1e-9)
            D = change @ np.linalg.solve(fit.cov_params(), change) / len(change)
            np.testing.assert_allclose(cases["cook"].loc[row], D, rtol=1e-6, atol=1e-12)
        hat = dense_hat(fit)[row]
        expected = fit.resid_pearson[row] / (less.sigma * np.sqrt(1 - hat))
        np.testing.assert_allclose(studentized[row], expected, rtol=1e-6)


def test_rows_left_out_are_padded():
    data = crossed()
    data.loc[[3, 40], "x"] = np.nan
    fit = slm.lmer("y ~ x + (1 | g)", data, na_action="exclude")
    for values in (fit.leverage(), fit.cooks_distance(), fit.residuals("studentized"), fit.dfbetas()["x"]):
        assert len(values) == len(data)
        assert list(np.flatnonzero(values.isna())) == [3, 40]


@pytest.mark.parametrize("name", list(SYSTEMS))
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("case", list(CASES))
def test_covariance_pairs_are_entries_of_the_inverse(name, compiled, case, monkeypatch):
    formula, arguments = CASES[case]
    fit = slm.lmer(formula, crossed(), **arguments)
    if compiled:
        monkeypatch.setattr("sparselmm.linalg.exact.cholmod.SMALL", 0)
        monkeypatch.setattr("sparselmm.linalg.exact.selected.PLAIN_WORK", 0)
    gram, templates = fit.crossproducts.gram, fit.problem.engine.parameters.templates(fit.result.par)
    system = SYSTEMS[name](gram)
    system.refactor(templates)
    half = apply_factor(system.solve(np.eye(gram.q)), templates, gram)
    E = apply_factor(np.ascontiguousarray(half.T), templates, gram)
    pairs = system.covariance_pairs()
    assert pairs.keys() == gram.pairs.keys()
    for key, blocks in pairs.items():
        rows, cols = gram.element_indices(*key)
        np.testing.assert_allclose(blocks.ravel(), E[rows, cols], atol=1e-12 * np.abs(E).max())


def test_leverage_of_multiple_membership():
    rng = np.random.default_rng(0)
    M = (rng.random((80, 10)) < 0.25).astype(float)
    g = rng.integers(0, 8, 80)
    y = M @ rng.normal(size=10) + rng.normal(size=8)[g] + rng.normal(size=80)
    import scipy.sparse as sp

    term = slm.SparseTerm("m", "m", "us", ("Intercept",), pd.RangeIndex(10), sp.csr_array(M))
    fit = slm.LinearMixedModel.from_arrays(y, np.ones((80, 1)), [term, (g, None)]).fit()
    np.testing.assert_allclose(fit.leverage(), dense_hat(fit), rtol=1e-8)
    V, X, _ = dense(fit)
    C = V - X @ np.linalg.solve(X.T @ np.linalg.inv(V) @ X, X.T)
    np.testing.assert_allclose(
        fit.residuals("marginal_standardized"), fit.residuals("marginal") / fit.sigma / np.sqrt(np.diag(C)), rtol=1e-8
    )
