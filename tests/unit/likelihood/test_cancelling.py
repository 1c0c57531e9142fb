"""Strongly determined data: y'Wy is many powers of ten above the residual sum of squares."""

from __future__ import annotations

import numpy as np
import pytest

from sparselmm import LinearMixedModel
from sparselmm.likelihood.result import CANCELLING

RNG = np.random.default_rng(11)
N = 120
G, H = np.arange(N) % 12, RNG.integers(0, 7, N)
X = np.column_stack([np.ones(N), RNG.normal(size=N)])
NOISE = RNG.normal(size=12)[G] + 0.6 * RNG.normal(size=7)[H] + RNG.normal(size=N)
WEIGHTS, OFFSET = RNG.uniform(0.4, 2.5, N), RNG.normal(size=N)
THETA = [1.1, 0.7]


def at(y, design, weights=None, offset=None, terms=((G, "g"), (H, "h")), theta=THETA, reml=True):
    inputs = [{"groups": codes, "name": name} for codes, name in terms]
    return LinearMixedModel.from_arrays(y, design, inputs, weights=weights, offset=offset).at(theta, reml)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weights"])
@pytest.mark.parametrize("offset", [None, OFFSET], ids=["no offset", "offset"])
@pytest.mark.parametrize("reml", [True, False])
def test_a_large_slope_changes_the_slope_alone(weights, offset, reml):
    """y = 2²⁰ x + noise against y = noise: residuals, so σ, standard errors and b are the same."""
    plain = at(NOISE, X, weights, offset, reml=reml)
    large = at(NOISE + 2.0**20 * X[:, 1], X, weights, offset, reml=reml)
    assert large.sigma == pytest.approx(plain.sigma, rel=1e-9)
    np.testing.assert_allclose(large.bse, plain.bse, rtol=1e-9)
    assert large.params.iloc[1] == pytest.approx(plain.params.iloc[1] + 2.0**20, rel=1e-13)
    assert large.criterion == pytest.approx(plain.criterion, abs=1e-7)
    np.testing.assert_allclose(large.resid, plain.resid, atol=1e-7)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weights"])
@pytest.mark.parametrize("offset", [None, OFFSET], ids=["no offset", "offset"])
def test_without_fixed_effects_the_scale_is_carried_by_the_random_ones(weights, offset):
    """y with a mean of 10⁶ and no constant: the dense least squares of rows and penalties, in extended precision.

    pwrss = min over u of |W½(y - o - ZΛu)|² + |u|² is 10⁻⁶ of y'Wy and cancels in y'Wy - c'c.
    """
    y = NOISE + 1e6
    found = at(y, None, weights, offset, theta=[300.0, 200.0])
    w = np.ones(N) if weights is None else weights
    o = np.zeros(N) if offset is None else offset
    Z = np.hstack([300.0 * (np.arange(12) == G[:, None]), 200.0 * (np.arange(7) == H[:, None])])
    A = np.vstack([np.sqrt(w)[:, None] * Z, np.eye(19)]).astype(np.longdouble)
    r = np.concatenate([np.sqrt(w) * (y - o), np.zeros(19)]).astype(np.longdouble)
    M = A.T @ A
    u = np.linalg.solve(M.astype(float), (A.T @ r).astype(float)).astype(np.longdouble)
    for _ in range(3):  # refined: the residuals are formed in extended precision
        u = u + np.linalg.solve(M.astype(float), (A.T @ (r - A @ u)).astype(float))
    pwrss = float(((r - A @ u) ** 2).sum())
    assert (w @ (y - o) ** 2) > CANCELLING * pwrss  # the case is one that the rows are asked for
    assert found.scale == pytest.approx(pwrss / N, rel=1e-9)
    assert found.result.pwrss == pytest.approx(pwrss, rel=1e-9)


def test_a_slope_without_a_constant():
    """y = 30000 x + noise without a constant, x far from zero: σ and SE of the same rows moved by the slope."""
    x = 5.0 + RNG.normal(size=N)
    plain, large = (at(NOISE + b * x, x[:, None], WEIGHTS, OFFSET) for b in (0.0, 30000.0))
    assert large.sigma == pytest.approx(plain.sigma, rel=1e-9)
    np.testing.assert_allclose(large.bse, plain.bse, rtol=1e-9)
