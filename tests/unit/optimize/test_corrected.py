"""Hessians that learn from gradients: exact on a function whose Hessian is known, and Newton arrives with them."""

from __future__ import annotations

import numpy as np
import pytest

from sparselmm.optimize import Differenced, Newton, Recorder, Secant, Status

LOWER = np.full(2, -np.inf)


class Valley:
    """Rosenbrock's function, whose Hessian is told too large in all directions; the minimum is 0 at (1, 1)."""

    def __init__(self, excess):
        self.excess = excess

    def value(self, x):
        return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2

    def typical(self, x):
        return np.ones(2)

    def hessian(self, x):
        return np.array([[1200 * x[0] ** 2 - 400 * x[1] + 2, -400 * x[0]], [-400 * x[0], 200.0]])

    def derivatives(self, x):
        gradient = np.array([-400 * x[0] * (x[1] - x[0] ** 2) - 2 * (1 - x[0]), 200 * (x[1] - x[0] ** 2)])
        return self.value(x), gradient, self.hessian(x) + self.excess * np.eye(2)


START = np.array([-1.2, 1.0])


def test_a_hessian_far_too_large_keeps_newton_from_arriving():
    x, status, _ = Newton().minimize(Recorder(Valley(1000.0)), START, LOWER)
    assert status is Status.MAX_EVALUATIONS
    assert Valley(1.0).value(x) > 1e-3


@pytest.mark.parametrize("kind", [Secant, Differenced])
def test_newton_arrives_with_corrections(kind):
    recorder = Recorder(Valley(1000.0))
    x, status, _ = Newton().minimize(kind(recorder), START, LOWER)
    assert status.ok
    np.testing.assert_allclose(x, 1.0, atol=1e-5)
    assert recorder.n_gradients < 150


def test_differences_give_the_hessian():
    problem = Valley(1000.0)
    for x in (START, np.array([0.0, 0.5]), np.array([1.0, 1.0])):
        value, gradient, H = Differenced(problem).derivatives(x)
        assert value == problem.value(x)
        np.testing.assert_array_equal(gradient, problem.derivatives(x)[1])
        np.testing.assert_allclose(H, problem.hessian(x), atol=0.02)  # steps of 1e-5 times third derivatives of 2400


def test_corrections_satisfy_the_last_secant_equation():
    problem = Secant(Valley(1000.0))
    a, b = np.array([0.3, 0.2]), np.array([0.4, 0.1])
    _, before, _ = problem.derivatives(a)
    _, after, H = problem.derivatives(b)
    np.testing.assert_allclose(H @ (b - a), after - before, rtol=1e-9)


def test_a_path_that_stands_still_learns_nothing():
    problem, x = Secant(Valley(2.0)), np.array([0.3, 0.2])
    problem.derivatives(x)
    np.testing.assert_array_equal(problem.derivatives(x)[2], Valley(2.0).derivatives(x)[2])
