"""Every backend × structure at fixed θ against the dense marginal likelihood."""

from __future__ import annotations

import numpy as np
import pytest
from problems import CASES, build, singular_thetas, thetas

from sparselmm import LinearMixedModel
from sparselmm.exceptions import NumericalError
from sparselmm.linalg import SYSTEMS, choose_system

# Rounding: the criterion is a sum of n logarithms of double precision numbers (1e-12 relative leaves 100 ulp per
# row); estimates are compared in their own standard errors or in σ, where the matrices have condition up to 1e4.
CRITERION, ESTIMATE = 1e-12, 1e-9


def points(problem):
    return [*thetas(problem, 2), *singular_thetas(problem)]


@pytest.mark.filterwarnings("ignore::sparselmm.exceptions.ScaleWarning")
@pytest.mark.parametrize("solver", SYSTEMS)
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_solution(case, solver):
    problem = build(case)
    if solver == "schur" and not case.grouped:
        with pytest.raises(NumericalError, match="does not apply"):
            problem.fitted_model(solver).at(thetas(problem)[0])
        return
    model = problem.fitted_model(solver)
    for reml in (True, False):
        for theta in points(problem):
            fit, dense = model.at(theta, reml), problem.dense(theta, reml)
            sigma, slack = float(dense.sigma), case.slack
            assert fit.criterion == pytest.approx(float(dense.criterion), rel=CRITERION * slack)
            assert fit.sigma == pytest.approx(sigma, rel=CRITERION * 10 * slack)
            assert fit.result.pwrss == pytest.approx(float(dense.rss), rel=CRITERION * 10 * slack)
            se = np.sqrt(np.diag(dense.cov_beta).astype(float))
            if case.p:
                np.testing.assert_allclose(
                    (fit.params - dense.beta.astype(float)) / se, 0, atol=ESTIMATE * slack, err_msg=f"beta at {theta}"
                )
                scaled = fit.cov_params().to_numpy() / np.outer(se, se)
                expected = dense.cov_beta.astype(float) / np.outer(se, se)
                np.testing.assert_allclose(scaled, expected, atol=ESTIMATE * slack, err_msg=f"vcov at {theta}")
            # modes in units of what they add to a fitted value
            size = np.abs(np.hstack([t.Z for t in problem.model.terms])).max(axis=0)
            difference = (fit.result.b - dense.b.astype(float)) * size / sigma
            np.testing.assert_allclose(difference, 0, atol=ESTIMATE * slack, err_msg=f"b at {theta}")
            fitted = (fit.fittedvalues.to_numpy() - dense.fitted.astype(float)) / sigma
            np.testing.assert_allclose(fitted, 0, atol=ESTIMATE * slack, err_msg=f"fitted at {theta}")
            variances = [float(dense.sigma) ** 2 * T @ T.T for T in problem.templates(theta)]
            for term, expected, Z in zip(fit.varcorr.terms, variances, problem.model.terms):
                s = np.abs(Z.Z.reshape(len(Z.Z), Z.m, Z.k)).max(axis=(0, 1))
                unit = np.outer(s, s) / sigma**2
                np.testing.assert_allclose(term.cov * unit, expected * unit, rtol=ESTIMATE, atol=ESTIMATE)


@pytest.mark.parametrize("case", [c for c in CASES if c.p and c.slack == 1], ids=lambda c: c.name)
@pytest.mark.filterwarnings("ignore::sparselmm.exceptions.ScaleWarning")
def test_zero_theta_is_weighted_least_squares(case):
    problem = build(case)
    m = problem.model
    fit = problem.fitted_model().at(np.zeros(problem.n_theta), reml=False)
    root = np.sqrt(m.weights)
    norms = np.linalg.norm(m.X, axis=0)
    beta, *_ = np.linalg.lstsq(m.X / norms * root[:, None], (m.y - m.offset) * root)
    rss = float(np.sum((root * (m.y - m.offset - m.X / norms @ beta)) ** 2))
    n = case.n
    value = n * (1 + np.log(2 * np.pi * rss / n)) - np.log(m.weights).sum()
    # least squares by SVD in double precision, condition of the scaled X up to 1e3
    np.testing.assert_allclose(fit.params.to_numpy() * norms, beta, rtol=1e-8, atol=1e-8)
    assert fit.criterion == pytest.approx(value, rel=1e-11)
    assert not fit.result.b.any()
    assert fit.result.ldL2 == 0.0


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
@pytest.mark.filterwarnings("ignore::sparselmm.exceptions.ScaleWarning")
def test_chosen_backend_applies_and_is_registered(case):
    problem = build(case)
    model: LinearMixedModel = problem.fitted_model()
    assert choose_system(model.problem.engine.crossproducts.gram) in SYSTEMS
    theta = thetas(problem)[0]
    expected = float(problem.dense(theta, True).criterion)
    assert model.at(theta).criterion == pytest.approx(expected, rel=CRITERION * case.slack)


@pytest.mark.parametrize("case", CASES[3:12], ids=lambda c: c.name)
def test_parts_of_the_criterion(case):
    """log|L|², log|RX|² and the matrices behind them, on the user's scale."""
    problem = build(case)
    fit = problem.fitted_model().at(thetas(problem)[1], reml=True)
    dense = problem.dense(fit.theta, reml=True)
    logdet_V = 2 * float(np.log(np.diag(dense.L)).sum())
    # log|V| = log|M| - Σ log w: sums of fewer than a hundred logarithms
    assert fit.result.ldL2 == pytest.approx(logdet_V + np.log(problem.model.weights).sum(), abs=1e-11)
    XViX = (problem.model.X.T @ dense.Vi @ problem.model.X).astype(float)
    assert fit.result.ldRX2 == pytest.approx(np.linalg.slogdet(XViX)[1], abs=1e-11)
    np.testing.assert_allclose(fit.RX.T @ fit.RX, XViX, rtol=1e-11)
    assert np.array_equal(fit.RX, np.triu(fit.RX))
    assert np.all(np.diag(fit.RX) > 0)
    Z = np.hstack([t.Z for t in problem.model.terms])
    L, P = fit.L.toarray(), fit.P
    ZL = Z @ fit.Lambda.toarray()
    M = ZL.T @ (problem.model.weights[:, None] * ZL) + np.eye(Z.shape[1])
    np.testing.assert_allclose(L @ L.T, M[np.ix_(P, P)], rtol=1e-11, atol=1e-11)
    RZX = np.linalg.solve(L, (ZL.T @ (problem.model.weights[:, None] * problem.model.X))[P])
    np.testing.assert_allclose(fit.RZX, RZX, rtol=1e-9, atol=1e-9)  # one more solve in double precision
    parts = fit.devcomp()
    r = problem.model.y - dense.fitted
    assert parts["wrss"] == pytest.approx(float(problem.model.weights @ r**2), rel=1e-10)
    assert parts["ussq"] == pytest.approx(float(dense.rss - problem.model.weights @ r**2), rel=1e-9)
