"""The certificate holds at the point that is returned: derivatives are those there, the tolerance that of rounding."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import reference_helpers as rh

from sparselmm import LinearMixedModel, lmer, load_dataset
from sparselmm.covariance import make_structure
from sparselmm.exceptions import SparseLMMWarning
from sparselmm.likelihood import search
from sparselmm.likelihood.certificate import TOLERANCE, certify
from sparselmm.likelihood.criterion import criterion_for
from sparselmm.likelihood.derivatives import Curvature
from sparselmm.optimize import Nlopt

FILE = "lme4.json.gz"
MODELS = list(rh.reference_models())[::5]


def derivatives_at(fit, par=None):
    """Return gradient, Hessian and typical sizes of the parameters of a fit (or of another point)."""
    with fit.problem.engine.locked() as pls:
        par = fit.result.par if par is None else par
        found = Curvature(pls, criterion_for(fit.reml), pls.solve(par)).derivatives
        typical = search.CriterionAt(pls, criterion_for(fit.reml)).typical(par)
    return found.gradient, found.hessian, typical


def assert_gradient_is_that_of_the_point(fit, share):
    """In typical sizes the gradient is off by less than the curvature times a share of such a size."""
    gradient, H, typical = derivatives_at(fit)
    bend = np.abs(typical[:, None] * H * typical).sum(axis=1)
    assert np.all(np.abs(typical * (fit.convergence.gradient - gradient)) <= share * bend + 1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_gradient_of_the_certificate(name):
    assert_gradient_is_that_of_the_point(rh.fitted(FILE, name), search.CLOSE)


class Strays:
    """An optimizer that takes its last derivatives somewhere else than where it ends."""

    name = "strays"

    def __init__(self, end, last) -> None:
        self.end, self.last = np.asarray(end, float), np.asarray(last, float)

    def minimize(self, problem, start, *bounds):
        _, status, _ = Nlopt("bobyqa").minimize(problem, start, *bounds)
        problem.value(self.end)
        problem.derivatives(self.last)
        return self.end, status, "strays"


@pytest.mark.parametrize("factor", [0.2, 0.9, 1.1, 5.0])
def test_derivatives_from_far_below_or_above_are_not_used_again(factor):
    model = LinearMixedModel.from_formula("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
    best = model.fit()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SparseLMMWarning)
        fit = model.fit(optimizer=Strays(best.result.par, factor * best.result.par))
    np.testing.assert_array_equal(fit.result.par, best.result.par)
    assert_gradient_is_that_of_the_point(fit, search.CLOSE)
    far = derivatives_at(fit, factor * best.result.par)[0]
    assert not np.allclose(far, fit.convergence.gradient, rtol=1e-6, atol=0)


def test_derivatives_from_very_near_are_those_of_the_point_where_a_variance_is_zero(monkeypatch):
    """At T₁₁ = 0 the gradient along it vanishes by symmetry; a little beside it, it does not."""
    monkeypatch.setattr(search, "RESTART_FLOPS", 0.0)  # other starts would take derivatives of their own
    rng = np.random.default_rng(0)
    g, x = np.repeat(np.arange(12), 8), np.tile(np.arange(8) - 3.5, 12)
    e = rng.standard_normal((12, 8))
    e -= e.mean(axis=1, keepdims=True)  # no group differs from another in its mean
    X = np.column_stack([np.ones(96), x])
    y = X.sum(axis=1) + rng.standard_normal(12)[g] * x + e.ravel()
    term = {"groups": g, "Z": X, "name": "g", "structure": "diag"}
    model = LinearMixedModel.from_arrays(y, X, [term])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SparseLMMWarning)
        end = model.fit().result.par
        assert end[0] == 0.0 < end[1]
        beside = end + np.array([1e-2 * search.CLOSE, 0.0])
        fit = model.fit(optimizer=Strays(end, beside))
    gradient = derivatives_at(fit)[0]
    np.testing.assert_array_equal(fit.convergence.gradient, gradient)
    assert abs(gradient[0]) < 1e-3 * abs(derivatives_at(fit, beside)[0][0])


def test_derivatives_of_the_last_step_are_used_again_where_they_prove_the_same():
    """A regular fit by Newton's method takes no derivatives beyond those of its steps."""
    fit = lmer("diameter ~ 1 + (1 | plate) + (1 | sample)", load_dataset("Penicillin"), optimizer="newton")
    at_points = {tuple(par) for par, _ in fit.optimizer_report.trace}
    assert tuple(fit.result.par) not in at_points  # the last step is taken on the strength of the gradient
    gradient = derivatives_at(fit)[0]
    assert not np.array_equal(fit.convergence.gradient, gradient)
    assert_gradient_is_that_of_the_point(fit, search.CLOSE)


@pytest.mark.parametrize("value", [1e10, -1e10, 1e3])
def test_tolerance_is_what_rounding_leaves_of_the_criterion(value):
    """Beyond 1e8 the sums of the criterion are exact to 1e-11 of themselves: no smaller decrease can be proved."""
    curvature = SimpleNamespace(
        derivatives=SimpleNamespace(value=value, gradient=np.array([1e-3]), hessian=np.eye(1), S=(np.eye(1),)),
        solution=SimpleNamespace(templates=(np.eye(1),), par=np.ones(1)),
        along=lambda t, direction: 1.0,
    )
    found = certify(curvature, (make_structure("us", 1),), ("g",), [np.ones(1)], np.ones(1))
    assert found.tolerance == pytest.approx(max(TOLERANCE, 1e-11 * abs(value)), rel=1e-12)
    assert found.predicted_decrease == pytest.approx(5e-7, rel=1e-9)
    assert found.certified == (found.remaining < found.tolerance)
