"""The search: which optimizer and why, other starts at boundaries, a complete record, interruption."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest
from problems import CASES, build

from sparselmm import LinearMixedModel
from sparselmm.exceptions import FitInterrupted, ParameterError, SparseLMMWarning
from sparselmm.likelihood import search
from sparselmm.likelihood.criterion import REML
from sparselmm.likelihood.pls import PenalizedLeastSquares
from sparselmm.likelihood.search import EXPENSIVE_FLOPS, MANY_PARAMETERS, RESTART_FLOPS, CriterionAt, choose_optimizer
from sparselmm.optimize import Newton, Nlopt

SLOPES = next(c for c in CASES if c.name == "slopes")


def model(k=2, sd=1.0, seed=0, far=0.0, n=90):
    rng = np.random.default_rng(seed)
    g = np.arange(n) % 10
    x = rng.standard_normal((n, k - 1))
    X, near = np.column_stack([np.ones(n), x + far]), np.column_stack([np.ones(n), x])
    effects = sd * rng.standard_normal((10, k))
    y = (near * (1 + effects[g])).sum(axis=1) + rng.standard_normal(n)
    return LinearMixedModel.from_arrays(y, X, [(g, X, "g")])


def choice(m, flops=None, optimizer=None):
    with m.problem.engine.locked() as pls:
        if flops is not None:
            pls.system.flops = flops
        return choose_optimizer(pls, optimizer)


def test_small_problems_are_searched_without_derivatives_first():
    optimizer, reason = choice(model(3))  # 6 parameters
    assert (optimizer.name, reason) == ("bobyqa+newton", "few parameters, cheap evaluations")


def test_many_parameters_call_for_newton():
    optimizer, reason = choice(model(4))
    assert optimizer.name == "newton"
    assert reason == "10 parameters"
    assert 6 < MANY_PARAMETERS < 10


def test_expensive_evaluations_call_for_newton():
    optimizer, reason = choice(model(2), flops=2 * EXPENSIVE_FLOPS)
    assert optimizer.name == "newton"
    assert reason == "4.0e+07 flops per evaluation"
    assert choice(model(2), flops=EXPENSIVE_FLOPS / 2)[0].name == "bobyqa+newton"


@pytest.mark.parametrize("asked", ["bobyqa", "newton", "nelder_mead", Newton(radius=0.5)])
def test_the_caller_decides(asked):
    optimizer, reason = choice(model(4), flops=1e12, optimizer=asked)
    assert optimizer is asked or optimizer.name == asked
    assert reason == "chosen by the caller"


@pytest.mark.parametrize(("k", "why"), [(2, "few parameters, cheap evaluations"), (4, "10 parameters")])
def test_fits_record_which_optimizer_and_why(k, why):
    report = model(k).fit().optimizer_report
    assert report.name == ("newton" if k == 4 else "bobyqa+newton")
    assert report.message.endswith(f"({why})")
    assert report.status.ok
    chosen = model(k).fit(optimizer=Nlopt("bobyqa")).optimizer_report
    assert chosen.name == "bobyqa"
    assert "chosen by the caller" in chosen.message


def quietly(function, *args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SparseLMMWarning)
        return function(*args, **options)


def starts_of(monkeypatch):
    """Return a list that collects the starts of all Newton runs from now on."""
    seen, real = [], Newton.minimize

    def minimize(self, problem, start, lower):
        seen.append(np.array(start))
        return real(self, problem, start, lower)

    monkeypatch.setattr(Newton, "minimize", minimize)
    return seen


def test_other_starts_are_tried_at_a_singular_optimum(monkeypatch):
    """By ML this case has a strict local optimum at zero, where every derivative approves; only a restart helps."""
    m = build(SLOPES).fitted_model()
    stuck = np.zeros(3)
    best = quietly(m.fit, False)
    assert m.at(stuck, False).criterion > best.criterion + 1e-3
    fit = quietly(m.fit, False, start=stuck, optimizer="newton")
    assert fit.criterion == pytest.approx(best.criterion, abs=1e-8)
    assert "a better optimum was found from another start" in fit.optimizer_report.message
    monkeypatch.setattr(search, "RESTART_FLOPS", 0.0)  # too expensive: stays, and certifies what it can
    alone = quietly(m.fit, False, start=stuck, optimizer="newton")
    assert alone.criterion == pytest.approx(m.at(stuck, False).criterion, abs=1e-8)
    assert "another start" not in alone.optimizer_report.message


def test_other_starts_cost_nothing_where_they_are_not_needed(monkeypatch):
    seen = starts_of(monkeypatch)
    fit = model(2).fit(optimizer="newton")
    assert not fit.is_singular
    assert len(seen) == 1
    singular = quietly(model(2, sd=0.0, seed=4).fit, optimizer="newton")
    assert singular.is_singular
    assert len(seen) >= 1 + 3  # its own and two others
    assert RESTART_FLOPS > EXPENSIVE_FLOPS


def test_a_false_boundary_point_is_left(monkeypatch):
    """A search that ends at zero where the data want variance goes on, and says so."""
    monkeypatch.setattr(search, "RESTART_FLOPS", 0.0)  # leaving is not a matter of other starts
    m = model(2)
    best = m.fit()

    class Stays:
        name = "stays"

        def minimize(self, problem, start, lower):
            problem.value(start)
            return start, Nlopt("bobyqa").minimize(problem, start, lower)[1], "stays where it is"

    fit = m.fit(start=np.zeros(3), optimizer=Stays())
    assert "left a false boundary optimum" in fit.optimizer_report.message
    assert fit.criterion == pytest.approx(best.criterion, abs=1e-8)
    assert fit.converged


@pytest.mark.parametrize("case", [c for c in CASES if c.z != "year"][::4], ids=lambda c: c.name)
@pytest.mark.parametrize("optimizer", [None, "newton", "bobyqa"])
@pytest.mark.filterwarnings("ignore::sparselmm.exceptions.SparseLMMWarning")
def test_trace_is_complete(monkeypatch, case, optimizer):
    """Every evaluation of the criterion or of its derivatives is in the trace, with the value it has there."""
    counts = {"value": 0, "derivatives": 0}
    for name in counts:
        real = getattr(CriterionAt, name)

        def counted(self, par, name=name, real=real):
            # the restarts compare two ends of their own, which is no step of a search
            if "recorder" not in sys._getframe(1).f_locals:
                counts[name] += 1
            return real(self, par)

        monkeypatch.setattr(CriterionAt, name, counted)
    m = build(case).fitted_model()
    fit = m.fit(optimizer=optimizer)
    report = fit.optimizer_report
    assert report.n_evaluations == len(report.trace)
    assert report.n_gradients == counts["derivatives"]
    # a gradient at the point just evaluated adds no entry
    assert counts["value"] <= report.n_evaluations <= counts["value"] + counts["derivatives"]
    pls_value = {}
    with m.problem.engine.locked() as pls:
        for par, value in report.trace[:: max(1, len(report.trace) // 5)]:
            pls_value[value] = pls.value(pls.solve(par), REML)
    for value, again in pls_value.items():
        assert value == again  # the criterion depends on the parameters alone, to the bit
    # the last step is taken on the strength of the gradient, where it promises less than 1e-6
    assert min(value for _, value in report.trace) == pytest.approx(fit.criterion, abs=1e-8)


@pytest.mark.parametrize(
    ("where", "optimizer"),
    [("solve", None), ("solve", "newton"), ("solve", "nelder_mead"), ("derivatives", None), ("derivatives", "newton")],
)
@pytest.mark.parametrize("after", [1, 2])
def test_interruption_inside_an_evaluation(monkeypatch, where, optimizer, after):
    m = model(2, far=50.0)
    expected = m.fit(optimizer=optimizer)
    owner = {"solve": PenalizedLeastSquares, "derivatives": CriterionAt}[where]
    real, calls = getattr(owner, where), []

    def interrupted(self, par):
        calls.append(par)
        if len(calls) > after:
            raise KeyboardInterrupt
        return real(self, par)

    assert not expected.is_singular
    with monkeypatch.context() as patch:
        patch.setattr(owner, where, interrupted)
        with pytest.raises(FitInterrupted) as caught:
            m.fit(optimizer=optimizer)
    error = caught.value
    assert isinstance(error, KeyboardInterrupt)
    assert error.n_evaluations >= 1
    assert "start=" in str(error)
    # centred coordinates go back and forth: rounding times 50
    assert m.at(error.best_theta).criterion == pytest.approx(error.best_criterion, abs=1e-9)
    assert m.fit(optimizer=optimizer).criterion == expected.criterion, "the model is as it was"
    again = m.fit(start=error.best_theta, optimizer=optimizer)
    assert again.criterion == pytest.approx(expected.criterion, abs=1e-7)
    assert again.optimizer_report.trace[0][1] == pytest.approx(error.best_criterion, abs=1e-9)


def test_the_point_kept_is_the_best_not_the_last(monkeypatch):
    """BOBYQA's first steps along the axes are worse than its start on the way."""
    m = model(2)
    values, real = [], CriterionAt.value

    def value(self, par):
        if len(values) == 5:
            raise KeyboardInterrupt
        values.append(real(self, par))
        return values[-1]

    monkeypatch.setattr(CriterionAt, "value", value)
    with pytest.raises(FitInterrupted) as caught:
        m.fit()
    assert values[-1] > min(values)
    assert caught.value.best_criterion == min(values)
    # θ and free parameters are the same here
    assert m.at(caught.value.best_theta).criterion == min(values)


def test_interruption_before_the_first_evaluation_has_no_point(monkeypatch):
    m = model(2)

    def interrupted(self, par):
        raise KeyboardInterrupt

    monkeypatch.setattr(PenalizedLeastSquares, "solve", interrupted)
    with pytest.raises(FitInterrupted) as caught:
        m.fit()
    assert caught.value.best_theta is None
    assert caught.value.n_evaluations == 0


def test_objects_without_minimize_are_refused():
    with pytest.raises(ParameterError, match="minimize"):
        model(2).fit(optimizer=object())


@pytest.mark.parametrize("seed", [3, 5, 6])
@pytest.mark.parametrize("ftol", [1e-3, 1e-4, 1e-5, 1e-9])
def test_the_certificate_decides_not_the_tolerance_of_an_optimizer(ftol, seed):
    """Certified means that less than 1e-6 is left; an optimizer that has converged too loosely goes on."""
    m = model(2, seed=seed)
    best = m.fit(optimizer="newton")
    fit = quietly(m.fit, optimizer=Nlopt(ftol_abs=ftol, xtol_abs=1e-6, restarts=0))
    assert fit.converged == (fit.criterion <= best.criterion + 1e-6)
    assert fit.converged or ftol > 1e-5
    assert ("; again:" in fit.optimizer_report.message) == (ftol > 1e-6)
