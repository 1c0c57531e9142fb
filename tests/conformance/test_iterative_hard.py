"""Awkward data through the public door, with probes in double and in single precision."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from iterative_cases import precision
from test_iterative_fits import standard_errors

import sparselmm as slm
from sparselmm.exceptions import (
    DataError,
    DesignError,
    FitInterrupted,
    ParameterError,
    RankDeficiencyWarning,
    SingularFitWarning,
)
from sparselmm.linalg.iterative import system as iterative
from sparselmm.linalg.iterative.operator import ReducedSystem

FORMULA = "y ~ x + (1 | a) + (1 | b)"


@pytest.fixture(params=["double", "single"], autouse=True)
def kind(request):
    """Work on probes in this precision, however small the design."""
    with precision(request.param):
        yield request.param


def ratings(n=2500, levels=(200, 90), theta=(1.0, 0.7), seed=0):
    """Return a frame with two crossed factors, standard deviations theta and a residual one of 1."""
    rng = np.random.default_rng(seed)
    return answered(rng, *(rng.integers(0, m, n) for m in levels), theta)


def answered(rng, a, b, theta=(1.0, 0.7)):
    """Return a frame with a response for these levels."""
    x = rng.standard_normal(len(a))
    y = 1.0 + 0.5 * x + rng.standard_normal(len(a))
    for codes, t in zip((a, b), theta):
        y += t * rng.standard_normal(codes.max() + 1)[codes]
    return pd.DataFrame({"y": y, "x": x, "a": a, "b": b})


def both(frame, formula=FORMULA, **options):
    """Return the exact fit and the iterative one."""
    exact = slm.lmer(formula, frame, solver="cholmod", **options)
    return exact, slm.lmer(formula, frame, solver="iterative", **options)


def agree(exact, found, theta=1e-3):
    """Check criterion and estimates, θ to a share of its standard error."""
    known = found.convergence.monte_carlo
    room = 4.5 * known.standard_error + 2.0 * abs(known.precision) + 1e-6
    assert abs(found.criterion - exact.criterion) <= room
    error = np.abs(found.theta - exact.theta) / standard_errors(exact, reml=True)
    assert np.all(error <= theta), error
    assert found.convergence.certified
    np.testing.assert_allclose(found.bse, exact.bse, rtol=0.1 * theta + 1e-7)
    np.testing.assert_allclose((found.params - exact.params) / exact.bse, 0.0, atol=0.1 * theta)


def test_many_components():
    """Each of 600 components has an eigenvalue of S close to 1, far more than directions can be deflated."""
    rng = np.random.default_rng(1)
    component = np.repeat(np.arange(600), 10)
    frame = answered(rng, 4 * component + rng.integers(0, 4, 6000), 3 * component + rng.integers(0, 3, 6000))
    control = slm.IterativeControl(max_probes=32, max_deflation=32)
    exact = slm.lmer(FORMULA, frame, solver="cholmod")
    with pytest.warns(match="standard error"):
        found = slm.lmer(FORMULA, frame, solver="iterative", control=control)
    known = found.convergence.monte_carlo
    assert known.standard_error > 10.0 * known.target
    agree(exact, found, theta=max(5.0 * known.theta.max(), 1e-3))
    assert known.theta.max() < 0.1


def test_levels_seen_once():
    """Most users have a single row; they bear on the residual variance only through their items."""
    rng = np.random.default_rng(2)
    a = np.concatenate([np.arange(2000), 2000 + np.repeat(np.arange(100), 12)])
    b = np.concatenate([np.minimum(rng.geometric(0.03, 3200) - 1, 119), np.arange(120, 140)])
    agree(*both(answered(rng, np.concatenate([a, np.arange(20)]), b)))


@pytest.mark.parametrize("theta", [(0.0, 0.7), (1.0, 0.0), (0.0, 0.0)])
@pytest.mark.filterwarnings("ignore::sparselmm.exceptions.SingularFitWarning")
def test_no_variance(theta):
    for seed in (0, 5):
        exact, found = both(ratings(1000, (80, 50), theta, seed))
        assert found.is_singular == exact.is_singular
        np.testing.assert_allclose(found.theta, exact.theta, rtol=1e-4, atol=1e-4)
        assert found.criterion == pytest.approx(exact.criterion, abs=0.02)


def test_zero_variance_is_said():
    """The estimate is at the boundary for every other sample; the probes' own derivatives tell."""
    frame = ratings(1000, (80, 50), (1.0, 0.0), seed=1)
    with pytest.warns(SingularFitWarning):
        exact = slm.lmer(FORMULA, frame, solver="schur", reml=False)
    with pytest.warns(SingularFitWarning):
        found = slm.lmer(FORMULA, frame, solver="iterative", reml=False)
    assert exact.theta[1] == 0.0 and found.is_singular
    np.testing.assert_allclose(found.theta, exact.theta, rtol=1e-5, atol=1e-9)


def test_large_variance():
    exact, found = both(ratings(theta=(100.0, 40.0)))
    assert exact.theta.min() > 30.0
    agree(exact, found)


def test_slopes_and_collinear_columns():
    frame = ratings()
    frame["z"] = frame["x"] + 1e-5 * np.random.default_rng(1).standard_normal(len(frame))
    frame["y"] += (0.4 * np.random.default_rng(2).standard_normal(200))[frame["a"]] * frame["x"]
    agree(*both(frame, "y ~ x + z + (1 + x | a) + (1 | b)"))
    frame["z"] = 2.0 * frame["x"] + 1.0
    with pytest.warns(RankDeficiencyWarning):
        exact, found = both(frame, "y ~ x + z + (1 | a) + (1 | b)")
    agree(exact, found)


@pytest.mark.filterwarnings("ignore::sparselmm.exceptions.ScaleWarning")
@pytest.mark.parametrize("column", ["x", "y"])
def test_huge_values(column):
    plain = slm.lmer(FORMULA, ratings(), solver="iterative")
    frame = ratings()
    frame[column] = 1e8 * frame[column] + 1e10
    exact, found = both(frame)
    agree(exact, found)
    np.testing.assert_allclose(found.theta, plain.theta, rtol=1e-5)


def test_missing_values_and_columns():
    frame = ratings()
    frame.loc[::7, "x"] = np.nan
    frame.loc[::11, "a"] = np.nan
    exact, found = both(frame)
    assert found.nobs == exact.nobs < len(frame)
    agree(exact, found)
    with pytest.raises(DataError, match="'b'"):
        slm.lmer(FORMULA, frame.drop(columns="b"), solver="iterative")


def test_nothing_to_explain():
    frame = ratings()
    with pytest.raises(DesignError, match="constant"):
        slm.lmer(FORMULA, frame.assign(y=3.0), solver="iterative")
    with pytest.raises(DesignError, match="levels for"):
        slm.lmer(FORMULA, frame.assign(a=np.arange(len(frame))), solver="iterative")


@pytest.mark.parametrize("levels", [(2, 2), (20, 2), (20, 3), (3, 3)])
@pytest.mark.filterwarnings("ignore::sparselmm.exceptions.SingularFitWarning")
def test_very_small_designs(levels):
    for seed in range(2):
        exact, found = both(ratings(60, levels, seed=seed))
        assert found.criterion == pytest.approx(exact.criterion, abs=1e-7)
        np.testing.assert_allclose(found.theta, exact.theta, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("formula", ["y ~ x + (1 + x | a)", "y ~ x + (1 | a) + (0 + x | a)", "y ~ x + (1 + x || a)"])
def test_one_factor_is_refused(formula):
    with pytest.raises(ParameterError, match="two crossed grouping factors"):
        slm.lmer(formula, ratings(), solver="iterative")


@pytest.mark.filterwarnings("ignore::sparselmm.exceptions.SingularFitWarning")
def test_nested_factors_are_exact():
    """Each level of a lies in one of b: nothing is left to the probes."""
    frame = ratings()
    exact, found = both(frame.assign(b=frame["a"] // 4))
    assert found.convergence.monte_carlo.standard_error < 1e-12
    assert found.criterion == pytest.approx(exact.criterion, abs=1e-9)
    np.testing.assert_allclose(found.theta, exact.theta, atol=1e-6)


@pytest.mark.parametrize("where", ["start", "probes", "squares", "growth"])
def test_interruption(monkeypatch, where, kind):
    """An interruption inside an evaluation leaves the best θ so far and a model that is as it was."""
    control = slm.IterativeControl(standard_error=1e-3, max_probes=48, max_deflation=32)
    model = slm.LinearMixedModel.from_formula(FORMULA, ratings(theta=(2.0, 1.5)), solver="iterative", control=control)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = model.fit(optimizer="newton")
    owner, name, after = {
        "start": (ReducedSystem, "apply", 1),
        "probes": (iterative.IterativeSystem, "_random", 6),
        "squares": (iterative.IterativeSystem, "logdet", 3),
        "growth": (iterative.IterativeSystem, "_deflated_enough", 0),
    }[where]
    real, calls = getattr(owner, name), []

    def interrupted(self, *arguments):
        calls.append(arguments)
        if len(calls) > after:
            raise KeyboardInterrupt
        return real(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, interrupted)
        with pytest.raises(FitInterrupted) as caught:
            model.fit(optimizer="newton")
    error = caught.value
    assert (error.best_theta is None) == (where == "start")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = model.fit(optimizer="newton")
        assert again.criterion == expected.criterion and np.array_equal(again.theta, expected.theta)
        if error.best_theta is not None:
            onward = model.fit(start=error.best_theta, optimizer="newton")
            np.testing.assert_allclose(onward.theta, expected.theta, rtol=1e-3)
            assert np.isfinite(error.best_criterion)


def test_a_regular_design_with_few_directions():
    """Every level of a meets the same number of levels of b: the vector that deflation starts from is exact."""
    rng = np.random.default_rng(0)
    a = np.repeat(np.arange(400), 3)
    b = (a + np.tile([0, 1, 7], 400)) % 200
    exact = slm.lmer(FORMULA, answered(rng, a, b), solver="cholmod")
    errors = []
    for seed in range(6):
        control = slm.IterativeControl(seed=seed, deflation=2, max_deflation=2, max_probes=16)
        with pytest.warns(match="standard error"):
            found = slm.lmer(FORMULA, answered(np.random.default_rng(0), a, b), solver="iterative", control=control)
        errors.append((found.criterion - exact.criterion) / found.convergence.monte_carlo.standard_error)
    assert np.sqrt(np.mean(np.square(errors))) < 2.5, errors
