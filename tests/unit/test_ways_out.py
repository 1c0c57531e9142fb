"""What happens when a step fails: halved steps, other precision, limits that are told.."""

from __future__ import annotations

import numpy as np
import pytest
from iterative_cases import DESIGNS, FEW
from resampling_designs import made_fit

from sparselmm.exceptions import NumericalError
from sparselmm.inference.profile import path
from sparselmm.inference.profile.curves import opened, optimum
from sparselmm.inference.profile.point import minimize
from sparselmm.likelihood.criterion import ML
from sparselmm.linalg import make_system
from sparselmm.linalg.iterative import lanczos as lanczos_module
from sparselmm.linalg.iterative import system as iterative
from sparselmm.linalg.iterative.lanczos import Tridiagonals, lanczos
from sparselmm.linalg.iterative.solve import conjugate_gradients
from sparselmm.optimize import Newton, Nlopt, Recorder, Status, make_optimizer
from sparselmm.optimize.combined import PolishedBobyqa

# --- profiles --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def curve_of_a_variance():
    fit = made_fit("intercepts")
    found = optimum(fit.problem, fit.result, ML)
    parameter = next(p for p in found.parameters if p.kind == "sd")
    with opened(found, parameter) as curve:
        yield curve


def zeta_at(knots, targets):
    """Return the values of the parameter at some ζ, by cubic interpolation of the knots with their slopes."""
    from scipy.interpolate import CubicHermiteSpline

    z = [k.zeta for k in knots]
    return CubicHermiteSpline(z, [k.at.c for k in knots], [1.0 / k.slope for k in knots])(targets)


def test_a_step_that_fails_is_halved(curve_of_a_variance, monkeypatch):
    curve = curve_of_a_variance
    first = path.first_knot(curve)
    plain = [first, *path.trace(curve, first, 1.0, 0.5, 2.0)]
    failures = []

    def fails_far_away(deviance, z, c):
        if len(failures) < 5 and abs(c - curve.c) > 0.3 * abs(plain[1].at.c - curve.c):
            failures.append(c)
            raise NumericalError("too far")
        return minimize(deviance, z, c)

    monkeypatch.setattr(path, "minimize", fails_far_away)
    halved = [first, *path.trace(curve, first, 1.0, 0.5, 2.0)]
    assert len(failures) >= 2
    assert abs(halved[1].at.c - curve.c) < abs(plain[1].at.c - curve.c)
    targets = np.linspace(0.3, 1.9, 9)
    np.testing.assert_allclose(zeta_at(halved, targets), zeta_at(plain, targets), rtol=1e-3)


def test_a_profile_that_cannot_be_followed_says_how_far_it_came(curve_of_a_variance, monkeypatch):
    curve = curve_of_a_variance
    first = path.first_knot(curve)

    def fails(*_):
        raise NumericalError("never")

    monkeypatch.setattr(path, "minimize", fails)
    with pytest.raises(NumericalError, match=r"cannot be followed beyond .* \(zeta 0\)"):
        path.trace(curve, first, -1.0, 0.5, 2.0)


# --- the iterative solver --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["two crossed", "slopes in both"])
def test_probes_are_drawn_in_double_where_single_precision_breaks_down(name, monkeypatch):
    made = DESIGNS[name]()
    single, double = (make_system(made.gram, "iterative", control=FEW) for _ in range(2))
    single.adapt(made.regular[0], grow=False)

    def breaks_down(apply, B, *rest):
        if B.dtype == np.float32:
            raise NumericalError("the Schur complement is not positive definite")
        return lanczos(apply, B, *rest)

    monkeypatch.setattr(iterative, "lanczos", breaks_down)
    double.adapt(made.regular[0], grow=False)
    np.testing.assert_allclose(double.samples, single.samples, rtol=1e-3, atol=1e-4)  # the same probes
    assert double.logdet() == pytest.approx(single.logdet(), rel=1e-6)


def test_a_breakdown_in_double_precision_is_an_error(monkeypatch):
    made = DESIGNS["two crossed"]()
    system = make_system(made.gram, "iterative", control=FEW)

    def breaks_down(*_):
        raise NumericalError("the Schur complement is not positive definite")

    monkeypatch.setattr(iterative, "lanczos", breaks_down)
    with pytest.raises(NumericalError, match="not positive definite"):
        system.adapt(made.regular[0], grow=False)


def test_lanczos_that_ends_at_its_last_step_gives_what_it_has(monkeypatch):
    """Few steps: the forms are those of the tridiagonal matrices so far, an upper bound of the truth."""
    rng = np.random.default_rng(3)
    Q = np.linalg.qr(rng.standard_normal((40, 40)))[0]
    w = np.linspace(-0.5, 0.97, 40)
    S, B = (Q * w) @ Q.T, rng.standard_normal((40, 3))
    full = lanczos(lambda X: S @ X, B, S @ B, 1, 1e-10, 1e-10)
    monkeypatch.setattr(lanczos_module, "MAX_STEPS", 6)
    cut = lanczos(lambda X: S @ X, B, S @ B, 1, 1e-10, 1e-10)
    assert cut.tridiagonals.alpha.shape == (6, 3)
    tridiagonals = Tridiagonals(full.tridiagonals.alpha[:6], full.tridiagonals.beta[:6], full.tridiagonals.squares, 1)
    np.testing.assert_allclose(cut.forms, tridiagonals.forms(), rtol=1e-12)
    # the solution of the sixth Krylov space, by its definition
    for j in range(3):
        K = np.linalg.qr(np.stack([np.linalg.matrix_power(S, i) @ B[:, j] for i in range(6)], axis=1))[0]
        expected = K @ np.linalg.solve(K.T @ (np.eye(40) - S) @ K, K.T @ B[:, j])
        np.testing.assert_allclose(cut.X[:, j], expected, rtol=1e-7, atol=1e-9)


def test_conjugate_gradients_end_where_nothing_is_left_to_do():
    """A preconditioner that is blind to the residual leaves it: told by the relative residual, not by a loop."""
    rng = np.random.default_rng(4)
    S = np.diag(np.linspace(0.0, 0.5, 10))
    B = rng.standard_normal((10, 2))
    found = conjugate_gradients(lambda X: S @ X, lambda R: np.zeros_like(R), B, 1e-10)
    np.testing.assert_array_equal(found.X, 0.0)
    np.testing.assert_array_equal(found.R, B)
    assert found.relative == pytest.approx(1.0)
    exact = conjugate_gradients(lambda X: S @ X, lambda R: R.copy(), B, 1e-12)
    np.testing.assert_allclose(exact.X, np.linalg.solve(np.eye(10) - S, B), rtol=1e-9)


# --- optimizers ------------------------------------------------------------------------------------------------


class Bowl:
    """(x - 1)'(x - 1)."""

    def value(self, x):
        return float(((x - 1) ** 2).sum())

    def derivatives(self, x):
        return self.value(x), 2 * (x - 1), 2 * np.eye(len(x))

    def typical(self, x):
        return np.maximum(np.abs(x), 0.1)


def bounds(minimize_method, n):
    """Return lower and, where the method takes them, upper bounds."""
    import inspect

    both = [np.full(n, -np.inf), np.full(n, np.inf)]
    return both[: len(inspect.signature(minimize_method).parameters) - 2]


def test_a_search_that_runs_out_of_evaluations_is_not_polished():
    optimizer = PolishedBobyqa(search=Nlopt(max_evaluations=5, restarts=0))
    recorder = Recorder(Bowl())
    x, status, message = optimizer.minimize(recorder, np.array([4.0, -3.0]), *bounds(optimizer.minimize, 2))
    assert status is Status.MAX_EVALUATIONS
    assert "predicted decrease" not in message
    assert recorder.n_gradients == 0
    full, status, message = make_optimizer("bobyqa+newton").minimize(
        Recorder(Bowl()), np.array([4.0, -3.0]), *bounds(optimizer.minimize, 2)
    )
    assert status is Status.CONVERGED
    np.testing.assert_allclose(full, 1.0, atol=1e-6)
    assert "newton" in message
    assert Bowl().value(x) > Bowl().value(full)


def test_newton_that_only_rounding_holds_back_says_so():
    """A value that is flat but for noise of one rounding: no step is better, the radius shrinks, the end is told."""

    class Noise(Bowl):
        def value(self, x):
            return 1.0

        def derivatives(self, x):
            return 1.0, np.full(len(x), 1e-3), np.eye(len(x))

    newton = Newton()
    x, status, message = newton.minimize(Recorder(Noise()), np.ones(2), *bounds(newton.minimize, 2))
    np.testing.assert_array_equal(x, 1.0)
    assert status is Status.CONVERGED
    assert "limited by rounding" in message
