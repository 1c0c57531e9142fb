"""The effort of an approximate solver belongs to the fit: nothing done in between changes a criterion."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from approximate_designs import FORMULAS, data, fitted, pair

import sparselmm as slm
from sparselmm.data.design import Design
from sparselmm.exceptions import ParameterError


@pytest.fixture
def fit():
    return slm.lmer(FORMULAS["slopes"], data(), solver="iterative")


def effort(fit):
    return fit.problem.engine.effort


def test_values_do_not_depend_on_what_was_fitted_in_between(fit):
    far = fit.evaluate(fit.theta * 1.4)
    assert fit.evaluate(fit.theta) == fit.criterion
    other = fit.at(fit.theta * 1.4)
    assert other.criterion == far
    slm.LinearMixedModel(fit.problem, fit.source).fit(reml=False)
    fit.refit(fit.result.rows.y[::-1].copy())
    assert fit.evaluate(fit.theta) == fit.criterion
    assert fit.evaluate(fit.theta * 1.4) == far


def test_one_model_gives_the_same_fit_each_time(fit):
    model = slm.LinearMixedModel.from_formula(FORMULAS["slopes"], data(), solver="iterative")
    first = model.fit()
    model.at(first.theta * 2.0)
    assert model.fit().criterion == first.criterion == fit.criterion


def test_a_refit_shares_effort_and_control(fit):
    again = fit.refit(fit.result.rows.y + 1.0)
    assert effort(again) is effort(fit)
    assert again.criterion == pytest.approx(fit.criterion, abs=1e-5)
    assert again.problem.solver == "iterative"


def test_it_travels_to_other_processes(fit):
    twin = pickle.loads(pickle.dumps(fit))
    assert twin.evaluate(fit.theta * 1.1) == fit.evaluate(fit.theta * 1.1)


def test_engines_that_are_open_inside_each_other_keep_their_own(fit):
    model = slm.LinearMixedModel.from_formula(FORMULAS["slopes"], data(), solver="iterative")
    other = model.at(fit.theta * 3.0)
    par = fit.result.par
    with fit.problem.engine.locked() as pls:
        value = pls.solve(par).ldL2
        with other.problem.engine.locked() as inner:
            inner.solve(other.result.par)
        assert pls.solve(par).ldL2 == value


def test_an_update_keeps_solver_and_control():
    control = slm.IterativeControl(standard_error=0.01, seed=5)
    fit = slm.lmer(FORMULAS["slopes"], data(), solver="iterative", control=control)
    small = fit.update(". ~ . - x")
    assert (small.problem.solver, small.problem.control) == ("iterative", control)
    assert fit.update(solver="schur").convergence.monte_carlo is None


def test_fits_of_many_responses_share_the_effort_of_the_first():
    rng = np.random.default_rng(1)
    Y = data()["y"].to_numpy()[:, None] + 0.1 * rng.standard_normal((len(data()), 3))
    exact, approximate = (slm.fit_many(fit, Y) for fit in pair("slopes"))
    np.testing.assert_allclose(approximate["sigma"], exact["sigma"], rtol=1e-5)
    np.testing.assert_allclose(np.diff(approximate["criterion"]), np.diff(exact["criterion"]), atol=1e-3)


def test_problems_alike():
    fit = fitted("three", "iterative")
    design = Design(fit.result.layout, fit.result.rows)
    same = fit.problem.for_design(design)
    with same.engine.locked() as pls, fit.problem.engine.locked() as own:
        assert pls.system is own.system
    exact = fitted("three", "schur").problem
    with exact.for_design(Design(exact.layout, exact.rows)).engine.locked() as pls:
        assert pls.system.name == "schur"


@pytest.mark.parametrize("optimizer", [None, "newton", "bobyqa", "nelder_mead"])
def test_errors_of_theta_are_known_for_every_optimizer(optimizer):
    control = slm.IterativeControl(standard_error=0.5)
    found = slm.lmer(FORMULAS["slopes"], data(), solver="iterative", optimizer=optimizer, control=control)
    known = found.convergence.monte_carlo
    assert known.theta.shape == (4,)
    assert (known.theta > 0).all()
    assert known.theta.max() <= 1e-3  # the aim for parameters, reached before the probes run out
    assert known.probes < control.max_probes


@pytest.mark.parametrize("solver", ["schur", "cholmod"])
def test_control_is_not_for_exact_solvers(solver):
    with pytest.raises(ParameterError, match=f"solver='{solver}' is exact"):
        slm.lmer(FORMULAS["slopes"], data(), solver=solver, control=slm.IterativeControl())
    assert slm.lmer(FORMULAS["slopes"], data(), control=slm.IterativeControl()).converged


def test_an_aim_below_rounding_costs_no_more_steps():
    control = slm.IterativeControl(standard_error=1e-12, max_probes=16, max_deflation=32)
    with pytest.warns(slm.exceptions.ConvergenceWarning):
        found = slm.lmer(FORMULAS["slopes"], data(), solver="iterative", control=control)
    with found.problem.engine.locked() as pls:
        pls.factor(pls.parameters.templates(found.result.par))
        steps = max(len(batch.tridiagonals.alpha) for batch in pls.system._batches)
    assert steps < 40
