"""The oracle itself, against numpy and scipy where their double precision reaches."""

from __future__ import annotations

import numpy as np
import pytest
from dense import backward, factor, forward
from problems import CASES, build, covers_all_structures, singular_thetas, thetas
from scipy.stats import multivariate_normal


def test_every_registered_structure_is_explained_and_used():
    assert covers_all_structures()


@pytest.mark.parametrize("case", CASES[:12], ids=lambda c: c.name)
def test_ml_is_the_normal_density_at_the_profiled_estimates(case):
    problem = build(case)
    fit = problem.dense(thetas(problem)[0], reml=False)
    mean = (problem.model.offset + problem.model.X @ fit.beta).astype(float)
    value = -2 * multivariate_normal.logpdf(problem.model.y, mean, (fit.sigma**2 * fit.V).astype(float))
    # scipy works by eigenvalues in double precision: rounding of n terms
    assert float(fit.criterion) == pytest.approx(value, rel=1e-10)


@pytest.mark.parametrize("case", CASES[:12], ids=lambda c: c.name)
def test_reml_is_the_density_of_error_contrasts(case):
    """With K an orthonormal basis of the complement of X: -2 log f(K'y) = REML criterion - log|X'X|."""
    problem = build(case)
    fit = problem.dense(thetas(problem)[0], reml=True)
    X, n, p = problem.model.X, case.n, case.p
    K = np.linalg.qr(np.column_stack([X, np.eye(n)[:, : n - p]]))[0][:, p:]
    V = K.T @ (fit.sigma**2 * fit.V).astype(float) @ K
    value = -2 * multivariate_normal.logpdf(K.T @ (problem.model.y - problem.model.offset), np.zeros(n - p), V)
    value += np.linalg.slogdet(X.T @ X)[1] if p else 0.0
    assert float(fit.criterion) == pytest.approx(value, rel=1e-10)  # as above


def test_triangular_algebra():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((7, 7))
    A = (A @ A.T + np.eye(7)).astype(np.longdouble)
    L = factor(A)
    b = rng.standard_normal((7, 2))
    np.testing.assert_allclose((L @ L.T).astype(float), A.astype(float), rtol=1e-14)  # extended precision inside
    np.testing.assert_allclose((L @ forward(L, b)).astype(float), b, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose((L.T @ backward(L, b)).astype(float), b, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("case", CASES[3:10:3], ids=lambda c: c.name)
@pytest.mark.parametrize("reml", [True, False])
def test_complex_steps_agree_with_central_differences_and_with_S(case, reml):
    problem = build(case)
    for theta in (thetas(problem)[0], singular_thetas(problem)[1]):
        fit = problem.dense(theta, reml)
        h = 1e-5
        central = [
            (problem.dense(theta + h * e, reml).criterion - problem.dense(theta - h * e, reml).criterion) / (2 * h)
            for e in np.eye(len(theta))
        ]
        gradient = fit.complex_step_gradient(problem.directions()).astype(float)
        # truncation h² f'''/6, with third derivatives of order 10³
        limit = 1e-6 * max(1.0, float(np.abs(gradient).max()))
        np.testing.assert_allclose(gradient, np.array(central, dtype=float), atol=limit)
        # two exact formulas in extended precision
        np.testing.assert_allclose(fit.gradient(problem.directions()).astype(float), gradient, rtol=1e-10, atol=1e-10)


def test_cases_cover_what_they_name():
    kinds = {t.kind for case in CASES for t in case.terms}
    assert kinds == {"crossed", "nested", "same", "single", "membership"}
    assert {case.p for case in CASES} >= {0, 1, 2, 3, 4, 5}
    for case in CASES:
        assert np.linalg.matrix_rank(build(case).model.X) == case.p
        for term in build(case).model.terms:
            assert np.all((term.Z.reshape(case.n, term.m, term.k) != 0).any(axis=(0, 2)))
