"""The trust-region step against a brute-force minimizer, and Newton on functions with saddles."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from sparselmm.exceptions import ParameterError
from sparselmm.optimize import OPTIMIZERS, Newton, Recorder, Status, make_optimizer
from sparselmm.optimize.newton import trust_region_step


def model(g, H, s):
    return float(g @ s + s @ H @ s / 2)


def brute_force(g, H, radius):
    """Return the lowest value over the ball, by many local searches on polar coordinates and inside."""
    n = len(g)
    rng = np.random.default_rng(0)

    def value(z):
        length = np.linalg.norm(z)
        return model(g, H, z if length <= radius else z * radius / length)

    starts = rng.standard_normal((30, n)) * radius
    return min(minimize(value, s, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-13}).fun for s in starts)


def matrices():
    rng = np.random.default_rng(4)
    Q = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    for name, w in {
        "convex": (1.0, 2.0, 5.0),
        "indefinite": (-1.0, 2.0, 5.0),
        "concave": (-3.0, -2.0, -1.0),
        "flat direction": (0.0, 2.0, 5.0),
        "nearly flat": (1e-14, 2.0, 5.0),
        "ill-conditioned": (1e-6, 1.0, 1e5),
    }.items():
        H = Q @ np.diag(w) @ Q.T
        H = (H + H.T) / 2
        yield pytest.param(H, Q, rng.standard_normal(3), id=name)


@pytest.mark.parametrize("radius", [0.1, 1.0, 10.0])
@pytest.mark.parametrize(("H", "Q", "g"), list(matrices()))
def test_step_is_the_minimum_over_the_ball(H, Q, g, radius):
    s, predicted = trust_region_step(g, H, radius)
    assert np.linalg.norm(s) <= radius * (1 + 1e-6)  # the multiplier is found to 1e-6
    assert predicted == pytest.approx(-model(g, H, s), rel=1e-8, abs=1e-12 * max(1.0, np.abs(H).max()) * radius**2)
    best = brute_force(g, H, radius)
    assert model(g, H, s) <= best + 1e-5 * abs(best)  # a step within 1e-6 of the boundary, first order


@pytest.mark.parametrize("radius", [0.1, 1.0, 10.0])
def test_hard_case_follows_negative_curvature(radius):
    """No slope along the negative direction: the step must still go there (a variance leaving zero)."""
    H = np.diag([-2.0, 3.0, 4.0])
    for g in (np.zeros(3), np.array([0.0, 0.01, -0.02])):
        s, predicted = trust_region_step(g, H, radius)
        assert abs(s[0]) > 0.9 * radius
        assert predicted > 0.9 * radius**2
        assert np.linalg.norm(s) == pytest.approx(radius, rel=1e-3)


def test_no_slope_and_no_negative_curvature_is_no_step():
    for w in ((1.0, 2.0), (0.0, 2.0)):
        s, predicted = trust_region_step(np.zeros(2), np.diag(w), 1.0)
        np.testing.assert_allclose(s, 0, atol=1e-12)
        assert predicted == pytest.approx(0.0, abs=1e-12)


def test_flat_direction_with_slope_is_followed_to_the_boundary():
    s, _ = trust_region_step(np.array([1.0, 0.0]), np.diag([0.0, 2.0]), 3.0)
    assert s[0] == pytest.approx(-3.0, rel=1e-5)


class Even:
    """(x₁² - a)² + (x₂² + x₁²/10 - b)²: even in each parameter, a saddle or maximum at zero."""

    def __init__(self, a, b):
        self.a, self.b = a, b

    def value(self, x):
        return (x[0] ** 2 - self.a) ** 2 + (x[1] ** 2 + x[0] ** 2 / 10 - self.b) ** 2

    def derivatives(self, x):
        u, v = x[0] ** 2 - self.a, x[1] ** 2 + x[0] ** 2 / 10 - self.b
        g = np.array([4 * x[0] * u + 0.4 * x[0] * v, 4 * x[1] * v])
        H = np.array(
            [
                [12 * x[0] ** 2 - 4 * self.a + 0.4 * v + 0.08 * x[0] ** 2, 0.8 * x[0] * x[1]],
                [0.8 * x[0] * x[1], 4 * v + 8 * x[1] ** 2],
            ]
        )
        return self.value(x), g, H

    def typical(self, x):
        return np.maximum(np.abs(x), 0.1)


@pytest.mark.parametrize("start", [(1.0, 1.0), (0.0, 0.0), (0.0, 1.0), (3.0, 0.0), (1e-6, 20.0)])
@pytest.mark.parametrize(("a", "b"), [(1.0, 2.0), (-1.0, 2.0), (-1.0, -1.0), (4.0, 0.1)])
def test_newton_leaves_saddles_and_reaches_boundaries(start, a, b):
    recorder = Recorder(Even(a, b))
    x, status, message = Newton().minimize(recorder, np.array(start), np.zeros(2))
    best = min(
        minimize(Even(a, b).value, s, method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-14}).fun
        for s in ((1.0, 1.0), (0.1, 2.0), (2.0, 0.1), (0.01, 0.01))
    )
    assert status is Status.CONVERGED, message
    assert Even(a, b).value(x) <= best + 1e-8  # what is left of a predicted decrease of 1e-9
    assert len(recorder.trace) < 60


def test_iteration_limit_is_told():
    _, status, message = Newton(max_iterations=2).minimize(Recorder(Even(1.0, 2.0)), np.array([9.0, 9.0]), np.zeros(2))
    assert status is Status.MAX_EVALUATIONS
    assert "2 iterations" in message


def test_registry_makes_named_optimizers_and_names_them_in_errors():
    for name in OPTIMIZERS:
        assert make_optimizer(name).name == name
    with pytest.raises(ParameterError) as caught:
        make_optimizer("lbfgs")
    assert all(name in str(caught.value) for name in OPTIMIZERS)
    with pytest.raises(ParameterError, match="minimize"):
        make_optimizer(3)
    own = Newton(max_iterations=7)
    assert make_optimizer(own) is own
