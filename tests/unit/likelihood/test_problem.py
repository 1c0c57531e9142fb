"""The problem and its fit: parameter errors, interruption, messages, degrees of freedom, starts."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm import LinearMixedModel, lmer, load_dataset
from sparselmm.exceptions import FitInterrupted, NumericalError, ParameterError, SingularFitWarning
from sparselmm.likelihood.pls import PenalizedLeastSquares
from sparselmm.linalg import SYSTEMS
from sparselmm.optimize import OPTIMIZERS

N = 60


def model(seed=0, sd=1.0, far=0.0, **options):
    rng = np.random.default_rng(seed)
    g, x = np.arange(N) % 9, rng.standard_normal(N) + far
    y = 1 + x + sd * rng.standard_normal(9)[g] + rng.standard_normal(N)
    X = np.column_stack([np.ones(N), x])
    return LinearMixedModel.from_arrays(y, X, [(g, X, "g")], **options)


@pytest.mark.parametrize("theta", [[1.0], [1.0, 0, 1, 1], [1.0, np.nan, 1.0], [np.inf, 0, 1], "abc", [[1.0, 0, 1]]])
def test_wrong_theta_is_refused_everywhere(theta):
    m = model()
    for use in (m.at, lambda t: m.fit(start=t), m.at([1.0, 0, 1]).at, m.at([1.0, 0, 1]).evaluate):
        with pytest.raises((ParameterError, ValueError)):
            use(theta)


def test_unknown_names_are_refused_with_those_there_are():
    with pytest.raises(ParameterError) as caught:
        model(solver="umfpack")
    assert all(name in str(caught.value) for name in SYSTEMS)
    with pytest.raises(ParameterError) as caught:
        model().fit(optimizer="lbfgs")
    assert all(name in str(caught.value) for name in OPTIMIZERS)
    with pytest.raises(ParameterError):
        model().fit(reml="yes")


@pytest.mark.parametrize("far", [0.0, 2000.0])
@pytest.mark.parametrize("after", [1, 4, 20])
def test_interruption_leaves_a_clean_state_and_the_best_theta(monkeypatch, far, after):
    """The point carried is in lme4's θ, also where the search runs in centred coordinates."""
    m = model(far=far)
    expected = m.fit(optimizer="bobyqa")
    real, seen = PenalizedLeastSquares.solve, []

    def solve(self, par):
        if len(seen) == after:
            raise KeyboardInterrupt
        seen.append(par)
        return real(self, par)

    monkeypatch.setattr(PenalizedLeastSquares, "solve", solve)
    with pytest.raises(FitInterrupted) as caught:
        m.fit(optimizer="bobyqa")
    monkeypatch.setattr(PenalizedLeastSquares, "solve", real)
    error = caught.value
    assert isinstance(error, KeyboardInterrupt)
    assert error.n_evaluations == after
    # centred coordinates go back and forth: rounding times 2000
    assert m.at(error.best_theta).criterion == pytest.approx(error.best_criterion, abs=1e-6)
    assert m.fit(optimizer="bobyqa").criterion == expected.criterion
    assert m.fit(start=error.best_theta).criterion == pytest.approx(expected.criterion, abs=1e-7)


def test_singular_fit_warns_and_says_so_in_the_messages():
    with pytest.warns(SingularFitWarning):
        fit = model(seed=4, sd=0.0).fit()
    assert fit.is_singular
    assert "singular" in {m.code for m in fit.messages}


def test_counts():
    fit = model().at([1.0, 0.1, 1.0])
    assert (fit.nobs, fit.npar, fit.df_resid) == (N, 2 + 3 + 1, N - 6)
    assert fit.aic == fit.criterion + 12
    assert fit.bic == pytest.approx(fit.criterion + 6 * np.log(N))
    assert fit.llf == -fit.criterion / 2
    assert fit.deviance == pytest.approx(model().at(fit.theta, reml=False).criterion, abs=1e-12)


def test_at_says_that_nothing_was_optimized():
    fit = model().at([1.0, 0.1, 1.0])
    assert not fit.converged
    assert fit.optimizer_report.n_evaluations == 1


def test_start_is_used():
    starts = []
    for start in (None, [0.3, 0.0, 0.2]):
        starts.append(model().fit(start=start, optimizer="bobyqa").optimizer_report.trace[0][0])
    np.testing.assert_array_equal(starts[1], [0.3, 0.0, 0.2])
    assert not np.array_equal(starts[0], starts[1])


def test_breakdown_at_a_fixed_theta_names_the_parameters():
    with pytest.raises(NumericalError):
        model().at([1e200, 0.0, 1e200])


@pytest.mark.parametrize("far", [0.0, 2000.0])
def test_report_counts_every_evaluation(far):
    fit = model(far=far).fit()
    report = fit.optimizer_report
    assert report.n_evaluations == len(report.trace)
    # what the search saw and what is reported differ by the last step, taken without another evaluation
    assert min(value for _, value in report.trace) == pytest.approx(fit.criterion, abs=1e-8)


def test_control_must_be_one():
    with pytest.raises(ParameterError, match="IterativeControl"):
        lmer("Yield ~ 1 + (1 | Batch)", load_dataset("dyestuff"), control={"seed": 1})


def test_interrupt_before_the_first_evaluation_says_so():
    assert "before its first evaluation" in str(FitInterrupted(None, np.inf, 0))
    text = str(FitInterrupted(np.array([0.5]), 12.0, 3))
    assert "after 3 evaluations" in text
    assert "12.000000" in text
    assert "criterion" not in str(FitInterrupted(np.array([0.5]), np.inf, 3))
    again = pickle.loads(pickle.dumps(FitInterrupted(np.array([0.5]), 12.0, 3)))
    assert (str(again), again.best_theta, again.n_evaluations) == (text, [0.5], 3)


@pytest.mark.parametrize("unit", [1.0, 1e6, 1e-9])
@pytest.mark.parametrize(
    ("formula", "slope"), [("y ~ x + (1 | g)", 0.0), ("y ~ x + (x | g)", 1.0), ("y ~ x + (1 | g)", None)]
)
def test_a_response_that_the_effects_fit_exactly_is_called_that(formula, slope, unit):
    rng = np.random.default_rng(0)
    g, x = np.repeat(np.arange(10), 8), np.tile(np.arange(8.0), 10)
    slopes = 2.0 if slope is None else slope * rng.normal(size=10)[g]
    frame = pd.DataFrame({"g": g, "x": x, "y": unit * (rng.normal(size=10)[g] + slopes * x)})
    with pytest.warns(slm.exceptions.ConvergenceWarning, match="residual variance is zero to rounding") as found:
        fit = slm.lmer(formula, frame)
    assert [m.code for m in fit.messages if m.severity == "warning"] == ["exact_fit"]
    assert not any("another optimizer" in str(w.message) for w in found)
    noisy = frame.assign(y=frame["y"] + unit * 1e-4 * rng.normal(size=80))
    assert not any(m.code == "exact_fit" for m in slm.lmer(formula, noisy).messages)
