"""The trust-region step against a brute-force minimizer, and Newton on functions with saddles."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from sparselmm.exceptions import ParameterError
from sparselmm.optimize import OPTIMIZERS, Newton, Recorder, Status, make_optimizer
from sparselmm.optimize.newton import bounded_step, descend_many, trust_region_step


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


@pytest.mark.parametrize("radius", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("low", [-0.2, 0.0, -np.inf])
@pytest.mark.parametrize(("H", "Q", "g"), list(matrices()))
def test_step_within_bounds(H, Q, g, radius, low):
    """Never outside, never longer, never worse than staying; the free step itself where no bound is met."""
    low, high = np.array([low, -np.inf, low]), np.array([np.inf, 0.3, 0.1])
    s, predicted, free = bounded_step(g, H, radius, low, high)
    assert np.all((s >= low) & (s <= high)) and np.linalg.norm(s) <= radius * (1 + 1e-6)
    assert predicted == pytest.approx(-model(g, H, s), rel=1e-8, abs=1e-12)
    assert predicted >= 0
    unbounded, most = trust_region_step(g, H, radius)
    assert predicted <= most * (1 + 1e-5) + 1e-12  # the ball is met to 1e-6
    pushed = ((low == 0) & (g > 0)) | ((high == 0) & (g < 0))
    if np.all((unbounded >= low) & (unbounded <= high)) and not pushed.any():
        np.testing.assert_allclose(s, unbounded, rtol=1e-12)
        assert free.all()


def test_step_is_the_best_of_a_convex_model_in_a_box():
    H, g = np.array([[3.0, 1.0], [1.0, 2.0]]), np.array([-4.0, 1.0])
    low, high = np.array([0.0, 0.0]), np.array([0.9, 5.0])
    s, predicted, free = bounded_step(g, H, 100.0, low, high)
    found = minimize(lambda x: model(g, H, x), [0.1, 0.1], bounds=[(0.0, 0.9), (0.0, 5.0)])
    np.testing.assert_allclose(s, found.x, atol=1e-6)
    assert predicted == pytest.approx(-found.fun)
    assert not free.any()


class Bowl:
    """(x - centre)² with its minimum outside of the box."""

    def __init__(self, centre):
        self.centre = np.array(centre)

    def value(self, par):
        return float(((par - self.centre) ** 2).sum())

    def derivatives(self, par):
        return self.value(par), 2.0 * (par - self.centre), 2.0 * np.eye(len(par))

    def typical(self, par):
        return np.ones(len(par))


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_optimizers_keep_both_bounds(name):
    upper, lower = np.array([1.0, np.inf]), np.array([-np.inf, 0.5])
    recorder = Recorder(Bowl([2.0, -3.0]), upper=upper, box=(lower, upper))
    x, status, _ = make_optimizer(name).minimize(recorder, np.array([0.0, 2.0]), lower)
    assert status.ok
    np.testing.assert_allclose(x, [1.0, 0.5], atol=1e-6)
    assert all(np.all((point >= lower - 1e-12) & (point <= upper + 1e-12)) for point, _ in recorder.trace)


def test_many_descents_are_those_of_each():
    """Bowls with centres of their own, cut off where a step would be too good to be true."""
    centres = np.array([[0.3, 0.5], [5.0, 1.0], [0.0, 0.0]])

    class Bowls:
        def __init__(self):
            self.x = np.ones((3, 2))
            self.tried = []

        def step(self, rows, radius):
            s = centres[rows] - self.x[rows]
            length = np.maximum(np.linalg.norm(s, axis=1), 1e-300)
            return self.x[rows] + s * np.minimum(1.0, radius / length)[:, None], length < 1e-8

        def move(self, rows, trial, final):
            self.tried.append(list(rows))
            self.x[rows] = trial
            return np.ones(len(rows), dtype=bool)

    bowls = Bowls()
    assert descend_many(bowls, 3, limit=40).all()
    np.testing.assert_allclose(bowls.x, centres, atol=1e-12)
    assert len(bowls.tried[0]) == 3 and bowls.tried[-1] == [1]  # the furthest goes on alone
    assert list(descend_many(Bowls(), 3, limit=2)) == [True, False, False]
