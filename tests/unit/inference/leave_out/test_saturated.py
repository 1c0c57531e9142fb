"""Models whose effects fit all rows exactly: no rounding error is given for a leverage."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm.exceptions import NumericalError


def design(seed, n=30, groups=9):
    rng = np.random.default_rng(seed)
    a, b = rng.permutation(np.arange(n) % groups), rng.permutation(np.arange(n) % groups)
    data = pd.DataFrame({"a": a, "b": b, "x": rng.standard_normal(n), "z": rng.standard_normal(n)})
    return data.assign(y=rng.standard_normal(n))


def model_and_matrices(seed, random):
    model = slm.LinearMixedModel.from_formula(f"y ~ x + {random}", design(seed))
    rows = model.problem.rows
    return model, rows.X, np.hstack([t.to_sparse().toarray() for t in rows.terms])


def dense_leverages(X, Z, relative):
    """Return the diagonal of I - P, P the projection V⁻¹ - V⁻¹X(X'V⁻¹X)⁻¹X'V⁻¹ of V = I + relative² ZZ'."""
    V = np.eye(len(X)) + relative**2 * Z @ Z.T
    Vi = np.linalg.inv(V)
    P = Vi - Vi @ X @ np.linalg.solve(X.T @ Vi @ X, X.T @ Vi)
    return 1.0 - np.diag(P)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("random", ["(x || a) + (z || b)", "(1 | a) + (1 | b)"])
@pytest.mark.parametrize("relative", [0.3, 10.0, 1e3])
def test_leverages_of_saturated_models_that_can_be_had(seed, random, relative):
    model, X, Z = model_and_matrices(seed, random)
    fit = model.at(np.full(len(model.theta_names), relative))
    np.testing.assert_allclose(fit.leverage(), dense_leverages(X, Z, relative), atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("relative", [1e6, 1e7])
def test_rounding_error_is_no_leverage(seed, relative):
    """All true leverages are 1 to 1e-10; what came out was 0.2 to 2."""
    model, X, Z = model_and_matrices(seed, "(x + z || a) + (x + z || b)")
    assert np.linalg.matrix_rank(Z) == len(X)
    fit = model.at(np.full(len(model.theta_names), relative))
    with pytest.raises(NumericalError, match=r"the leverages cannot be had.*residual variance is next to nothing"):
        fit.leverage()


@pytest.mark.parametrize("sigma", [1e-4, 1e-6])
def test_small_residual_variances_alone_do_no_harm(sigma):
    """Balanced groups: h = 1/n + (1/rows - 1/n) shrunk by next to nothing, whatever the ratio of variances."""
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(10), 6)
    data = pd.DataFrame({"y": rng.standard_normal(10)[g] + sigma * rng.standard_normal(60), "g": g})
    fit = slm.lmer("y ~ 1 + (1 | g)", data)
    assert fit.theta[0] > 0.1 / sigma
    np.testing.assert_allclose(fit.leverage(), 1 / 6, atol=1e-6)
