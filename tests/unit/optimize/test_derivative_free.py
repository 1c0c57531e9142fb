"""nlopt's traps: a reused x, bounds, exceptions in the objective, lost best points."""

from __future__ import annotations

import nlopt
import numpy as np
import pytest

from sparselmm.exceptions import FitInterrupted, NumericalError
from sparselmm.optimize import OPTIMIZERS, Nlopt, Recorder, Status, make_optimizer


class Quadratic:
    """(x - c)'H(x - c)/2 + 5 with an optional action at each evaluation."""

    def __init__(self, centre=(0.5, -0.3, 0.2), action=lambda count, x: None):
        self.centre = np.array(centre)
        self.H = np.diag(np.arange(1.0, len(self.centre) + 1)) + 0.2
        self.action, self.count = action, 0

    def value(self, x):
        self.count += 1
        replacement = self.action(self.count, x)
        d = x - self.centre
        return float(d @ self.H @ d) / 2 + 5.0 if replacement is None else replacement

    def derivatives(self, x):
        return self.value(x), self.H @ (x - self.centre), self.H

    def typical(self, x):
        return np.ones_like(x)


FREE = np.full(3, -np.inf)
START = np.array([1.0, 1.0, 1.0])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_finds_the_minimum_and_reports_success(name):
    recorder = Recorder(Quadratic())
    start = START.copy()
    start.flags.writeable = False
    x, status, message = make_optimizer(name).minimize(recorder, start, FREE)
    # differences of 1e-9 in a criterion with curvature 1 to 3: x to the root of that
    np.testing.assert_allclose(x, Quadratic().centre, atol=2e-4)
    assert status is Status.CONVERGED
    assert status.ok
    assert name.split("+")[0] in message


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_trace_holds_distinct_arrays_with_the_points_really_tried(name):
    """Nlopt hands out one array again and again; every entry must be a copy."""
    tried = []
    recorder = Recorder(Quadratic(action=lambda count, x: tried.append(np.array(x))))
    make_optimizer(name).minimize(recorder, START, FREE)
    points = [par for par, _ in recorder.trace]
    assert len(points) >= 3
    for i, a in enumerate(points):
        assert not any(np.shares_memory(a, b) for b in points[i + 1 :])
    for par, value in recorder.trace:
        assert value == Quadratic().value(par)
    assert {tuple(x) for x in tried} == {tuple(x) for x in points}
    assert len({tuple(x) for x in points}) >= 3


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_best_point_of_the_recorder_is_the_lowest_of_the_trace(name):
    recorder = Recorder(Quadratic())
    make_optimizer(name).minimize(recorder, START, FREE)
    values = [value for _, value in recorder.trace]
    assert recorder.best_value == min(values)
    np.testing.assert_array_equal(recorder.best_par, recorder.trace[int(np.argmin(values))][0])


@pytest.mark.parametrize("name", ["bobyqa", "nelder_mead"])
def test_bounds_hold_where_given_and_only_there(name):
    recorder = Recorder(Quadratic((-1.0, -2.0, 0.2)))
    lower = np.array([0.0, -np.inf, 0.0])
    x, _, _ = Nlopt(name).minimize(recorder, START, lower)
    assert x[0] == pytest.approx(0.0, abs=1e-6)
    assert x[1] < -1.5  # free to be negative
    assert all(np.all(par >= lower) for par, _ in recorder.trace)


@pytest.mark.parametrize("name", ["bobyqa", "nelder_mead"])
def test_infinite_bounds_reach_nlopt_as_infinite(name, monkeypatch):
    """Finite stand-ins would set the initial step (309 evaluations in place of 46, most of them to a wrong end)."""
    given = []
    real = nlopt.opt

    class Spy(real):
        def set_lower_bounds(self, values):
            given.append(np.array(values))
            super().set_lower_bounds(values)

        def set_upper_bounds(self, values):
            given.append(-np.array(values))
            super().set_upper_bounds(values)

    monkeypatch.setattr(nlopt, "opt", Spy)
    lower = np.array([0.0, -np.inf, 0.0])
    Nlopt(name).minimize(Recorder(Quadratic()), START, lower)
    assert given
    for values in given:
        assert values[1] == -np.inf


@pytest.mark.parametrize("name", ["bobyqa", "nelder_mead"])
def test_start_below_the_bounds_is_moved_inside(name):
    recorder = Recorder(Quadratic())
    x, status, _ = Nlopt(name).minimize(recorder, np.array([-1.0, 0.0, -3.0]), np.array([0.0, -np.inf, 0.0]))
    assert status.ok
    np.testing.assert_allclose(x, Quadratic().centre, atol=2e-4)  # as above


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, ZeroDivisionError, MemoryError])
def test_exceptions_in_the_objective_pass_through(name, error):
    def fail(count, x):
        if count == 3:
            raise error("from the objective")

    recorder = Recorder(Quadratic(action=fail))
    with pytest.raises(error, match="from the objective"):
        make_optimizer(name).minimize(recorder, START, FREE)
    assert len(recorder.trace) >= 1
    # the library is usable afterwards
    x, _, _ = make_optimizer(name).minimize(Recorder(Quadratic()), START, FREE)
    np.testing.assert_allclose(x, Quadratic().centre, atol=2e-4)  # as above


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_interruption_carries_the_best_point(name):
    def stop(count, x):
        if count == 3:
            raise KeyboardInterrupt

    recorder = Recorder(Quadratic(action=stop))
    with pytest.raises(KeyboardInterrupt):
        make_optimizer(name).minimize(recorder, START, FREE)
    error = recorder.interrupted(lambda par: 2.0 * par)
    assert isinstance(error, FitInterrupted)
    assert isinstance(error, KeyboardInterrupt)
    values = [v for _, v in recorder.trace]
    assert error.best_criterion == min(values)
    np.testing.assert_array_equal(error.best_theta, 2.0 * recorder.trace[int(np.argmin(values))][0])
    assert error.n_evaluations == len(values)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_breakdown_on_the_way_is_a_high_value_not_the_end(name):
    def fail(count, x):
        if x[0] < 0.2 and count > 1:
            raise NumericalError("broken down")

    recorder = Recorder(Quadratic(action=fail))
    x, _, _ = make_optimizer(name).minimize(recorder, np.array([2.0, -0.3, 0.2]), FREE)
    np.testing.assert_allclose(x, Quadratic().centre, atol=2e-3)  # the barrier costs the search some accuracy
    assert np.isfinite(recorder.best_value)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_breakdown_at_the_start_is_an_error(name):
    def fail(count, x):
        raise NumericalError("broken down")

    with pytest.raises(NumericalError, match="broken down"):
        make_optimizer(name).minimize(Recorder(Quadratic(action=fail)), START, FREE)


@pytest.mark.parametrize("name", ["bobyqa", "nelder_mead"])
def test_evaluation_limit_is_kept_and_told(name):
    recorder = Recorder(Quadratic())
    _, status, message = Nlopt(name, max_evaluations=12).minimize(recorder, START, FREE)
    assert status is Status.MAX_EVALUATIONS
    assert not status.ok
    assert "12" in message
    assert len(recorder.trace) <= 13  # nlopt may finish the evaluation it is in


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_one_parameter(name):
    recorder = Recorder(Quadratic((0.7,)))
    x, status, _ = make_optimizer(name).minimize(recorder, np.array([1.0]), np.array([0.0]))
    assert status.ok
    assert x[0] == pytest.approx(0.7, abs=2e-4)  # as above


def test_nested_optimizations_do_not_disturb_each_other():
    def inner(count, x):
        Nlopt().minimize(Recorder(Quadratic((0.1, 0.1))), np.ones(2), np.full(2, -np.inf))

    x, _, _ = Nlopt().minimize(Recorder(Quadratic(action=inner)), START, FREE)
    np.testing.assert_allclose(x, Quadratic().centre, atol=2e-4)  # as above


def test_listener_hears_every_evaluation():
    heard = []
    recorder = Recorder(Quadratic(), lambda count, value, best: heard.append((count, value, best)))
    make_optimizer("bobyqa+newton").minimize(recorder, START, FREE)
    assert [count for count, _, _ in heard] == list(range(1, len(recorder.trace) + 1))
    assert [value for _, value, _ in heard] == [value for _, value in recorder.trace]
    assert heard[-1][2] == recorder.best_value


def test_derivatives_at_the_last_point_are_not_a_second_evaluation():
    recorder = Recorder(Quadratic())
    recorder.value(START)
    recorder.derivatives(START)
    assert len(recorder.trace) == 1
    assert recorder.n_gradients == 1
    recorder.derivatives(START + 1)
    assert len(recorder.trace) == 2
