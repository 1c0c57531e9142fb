"""Gradients and whole fits with the iterative solver against those with an exact one."""

from __future__ import annotations

import warnings
from functools import cache

import numpy as np
import pandas as pd
import pytest
from iterative_cases import CASES, FEW, T, exact_system, iterative_system
from problems import Case, build, thetas

import sparselmm as slm
from sparselmm.exceptions import ConvergenceWarning
from sparselmm.likelihood.criterion import MaximumLikelihood, RestrictedMaximumLikelihood
from sparselmm.likelihood.derivatives import Curvature
from sparselmm.likelihood.pls import PenalizedLeastSquares
from sparselmm.linalg import IterativeControl

CRITERIA = {True: RestrictedMaximumLikelihood(), False: MaximumLikelihood()}
EVERYTHING = IterativeControl(probes=16, deflation=160, max_deflation=160, standard_error=1e-9)


def curvature_at(model, system, par, reml, effort=None):
    """Return the derivatives at the parameters with a system of our own."""
    engine = model.problem.engine
    pls = PenalizedLeastSquares(engine.crossproducts, engine.parameters, system, effort)
    return pls, Curvature(pls, CRITERIA[reml], pls.solve(par))


def differences(pls, par, reml, h=1e-4):
    """Return the gradient by central differences of the criterion, with an error of order h⁴."""
    out = []
    for e in np.eye(len(par)):
        values = [pls.value(pls.solve(par + s * h * e), CRITERIA[reml]) for s in (-2.0, -1.0, 1.0, 2.0)]
        out.append((values[0] - 8.0 * values[1] + 8.0 * values[2] - values[3]) / (12.0 * h))
    return np.array(out)


@pytest.mark.parametrize(("case", "reml"), [pytest.param(c, i % 2 == 0, id=c.name) for i, c in enumerate(CASES[1::2])])
@pytest.mark.filterwarnings("ignore::sparselmm.exceptions.ScaleWarning")
def test_gradient(case, reml):
    problem = build(case)
    model = problem.fitted_model()
    engine = model.problem.engine
    gram, par = engine.crossproducts.gram, engine.parameters.par(thetas(problem, 1)[0])
    _, exact = curvature_at(model, exact_system(gram), par, reml)
    size = 1e-6 * np.sqrt(np.diag(exact.derivatives.hessian).clip(1.0))
    # with nothing left to the probes it is the derivative of the criterion
    system = iterative_system(gram, EVERYTHING)
    effort = system.adapt(engine.parameters.templates(par), grow=False)
    pls, found = curvature_at(model, system, par, reml, effort)
    np.testing.assert_allclose(found.derivatives.gradient, exact.derivatives.gradient, rtol=1e-6, atol=size.max())
    np.testing.assert_allclose(found.derivatives.hessian, exact.derivatives.hessian, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(differences(pls, par, reml), exact.derivatives.gradient, rtol=1e-6, atol=size.max())
    # else both have a Monte Carlo error, which the samples tell
    system = iterative_system(gram, FEW)
    effort = system.adapt(engine.parameters.templates(par), grow=False)
    pls, found = curvature_at(model, system, par, reml, effort)
    assert found.samples.shape == (FEW.probes, len(par))
    error = 5.0 * found.samples.std(axis=0, ddof=1) / np.sqrt(FEW.probes) + 2.0 * size.max()
    assert np.all(np.abs(found.derivatives.gradient - exact.derivatives.gradient) <= error)
    assert np.all(np.abs(differences(pls, par, reml) - exact.derivatives.gradient) <= 2.0 * error)


@cache
def simulated(seed=0, n=4000, users=300, items=120):
    """Return ratings with a random line per user, an item effect, a region of the item, weights and an offset."""
    rng = np.random.default_rng(seed)
    user, item = rng.integers(0, users, n), (items * rng.random(n) ** 2).astype(int)
    x, weights, offset = rng.standard_normal(n), rng.gamma(3.0, 0.4, n) + 0.1, rng.standard_normal(n)
    region = item % 7
    line = rng.standard_normal((users, 2)) @ np.array([[0.6, 0.2], [0.0, 0.3]])
    y = 2.0 + 0.5 * x + line[user, 0] + line[user, 1] * x + 0.5 * rng.standard_normal(items)[item]
    y += 0.3 * rng.standard_normal(7)[region] + offset + rng.standard_normal(n) / np.sqrt(weights)
    names = ("y", "x", "user", "item", "region", "w", "o")
    return pd.DataFrame(dict(zip(names, (y, x, user, item, region, weights, offset))))


FITS = {
    "insteval": ("y ~ service + (1 | s) + (1 | d) + (1 | dept)", "InstEval", {}),
    "two intercepts": ("y ~ x + (1 | user) + (1 | item)", None, {}),
    "two intercepts, ML": ("y ~ x + (1 | user) + (1 | item)", None, {"reml": False}),
    "slopes": ("y ~ x + (1 + x | user) + (1 | item)", None, {}),
    "slopes, ML": ("y ~ x + (1 + x | user) + (1 | item)", None, {"reml": False}),
    "slopes without correlation": ("y ~ x + (1 + x || user) + (1 | item)", None, {}),
    "slopes in the smaller factor": ("y ~ x + (1 | user) + (1 + x | item)", None, {}),
    "weights and offset": ("y ~ x + (1 + x | user) + (1 | item)", None, {"weights": "w", "offset": "o"}),
    "three factors": ("y ~ x + (1 | user) + (1 | item) + (1 | region)", None, {"weights": "w"}),
    "variance zero": ("y ~ x + (1 | user) + (0 + o || item)", None, {"reml": False}),
}


@pytest.mark.parametrize("name", FITS)
def test_fits(name):
    formula, data, options = FITS[name]
    frame = simulated() if data is None else slm.load_dataset(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exact = slm.lmer(formula, frame, solver="schur", **options)
        found = slm.lmer(formula, frame, solver="iterative", **options)
    if name == "insteval":
        assert exact.criterion == pytest.approx(237733.834128, abs=1e-5)
    known = found.convergence.monte_carlo
    assert known.reached and found.convergence.certified
    # an optimizer's tolerance of 1e-13 of the criterion comes on top of the Monte Carlo error
    assert abs(found.criterion - exact.criterion) <= 4.0 * known.standard_error + 1e-6
    free = exact.theta > 1e-3
    theta_error = np.abs(found.theta - exact.theta) / standard_errors(exact, options.get("reml", True))
    assert np.all(theta_error[free] <= 1e-3)
    assert np.all(known.theta[free] <= 1e-3)
    np.testing.assert_allclose(found.theta[~free], exact.theta[~free], atol=1e-3)
    # what an error of θ of a thousandth of its standard error can do with few levels
    np.testing.assert_allclose(found.bse, exact.bse, rtol=1e-5 if data else 5e-5)
    np.testing.assert_allclose(found.params, exact.params, rtol=1e-5, atol=1e-5 * exact.bse.min())
    assert found.sigma == pytest.approx(exact.sigma, rel=1e-5)
    modes = found.ranef()
    for group, expected in exact.ranef().items():
        spread = np.abs(np.asarray(expected)).max()
        np.testing.assert_allclose(modes[group], expected, rtol=0, atol=1e-4 * spread + 1e-4 * exact.sigma)


def standard_errors(fit, reml):
    """Return standard errors of θ from the Hessian of the criterion, (n_theta,), 1 where there are none."""
    engine = fit.problem.engine
    with engine.locked() as pls:
        par = engine.parameters.par(fit.theta)
        hessian = Curvature(pls, CRITERIA[reml], pls.solve(par)).derivatives.hessian
    inside = fit.theta > 1e-3
    inside |= fit.theta < -1e-3
    out = np.ones(len(par))
    out[inside] = np.sqrt(2.0 * np.diag(np.linalg.inv(hessian[np.ix_(inside, inside)])))
    return out


def test_moderate_aim_is_said_and_kept():
    """Few probes and directions on a hard graph: the criterion is off by about what is said, θ far less."""
    rng = np.random.default_rng(1)
    a, b = np.repeat(np.arange(150), 3), rng.integers(0, 60, 450)
    frame = pd.DataFrame({"a": a, "b": b, "y": 3.0 * rng.standard_normal(150)[a] + 2.0 * rng.standard_normal(60)[b]})
    frame["y"] += rng.standard_normal(450)
    formula = "y ~ 1 + (1 | a) + (1 | b)"
    control = IterativeControl(probes=32, max_probes=32, deflation=2, max_deflation=2, standard_error=1e-4)
    exact = slm.lmer(formula, frame, solver="schur")
    with pytest.warns(ConvergenceWarning, match="standard error"):
        found = slm.lmer(formula, frame, solver="iterative", control=control)
    known = found.convergence.monte_carlo
    assert not known.reached and known.probes == 32
    assert 0.0 < abs(found.criterion - exact.criterion) <= 4.5 * known.standard_error
    se = standard_errors(exact, True)
    assert np.all(np.abs(found.theta - exact.theta) / se <= 4.5 * known.theta + 1e-4)
    assert [m.code for m in found.messages] == ["monte_carlo"]


def test_start_and_seed():
    frame = simulated()
    formula = "y ~ x + (1 | user) + (1 | item)"
    first = slm.lmer(formula, frame, solver="iterative")
    again = slm.lmer(formula, frame, solver="iterative")
    assert first.criterion == again.criterion and np.array_equal(first.theta, again.theta)
    known = first.convergence.monte_carlo
    other = slm.lmer(formula, frame, solver="iterative", control=IterativeControl(seed=5))
    assert 0.0 < abs(other.criterion - first.criterion) <= 7.0 * known.standard_error
    elsewhere = slm.lmer(formula, frame, solver="iterative", start=3.0 * first.theta)
    assert elsewhere.criterion == pytest.approx(first.criterion, abs=7.0 * known.standard_error + 1e-6)
    np.testing.assert_allclose(elsewhere.theta, first.theta, rtol=1e-4)


def test_fixed_theta():
    frame = simulated()
    formula, theta = "y ~ x + (1 + x | user) + (1 | item)", [0.6, 0.1, 0.3, 0.5]
    exact, found = (
        slm.LinearMixedModel.from_formula(formula, frame, solver=solver).at(theta) for solver in ("schur", "iterative")
    )
    assert abs(found.criterion - exact.criterion) <= 5.0 * IterativeControl().standard_error
    np.testing.assert_allclose(found.params, exact.params, rtol=1e-9)
    np.testing.assert_allclose(found.bse, exact.bse, rtol=1e-9)


def test_small_problem_of_the_registry_is_the_same():
    """Problem sizes where everything is deflated: nothing distinguishes the solvers."""
    problem = build(Case("small crossed", (T(12), T(9)), n=100))
    exact = problem.fitted_model("schur").fit()
    found = problem.fitted_model("iterative").fit()
    assert found.criterion == pytest.approx(
        exact.criterion, abs=5.0 * found.convergence.monte_carlo.standard_error + 1e-7
    )
    np.testing.assert_allclose(found.theta, exact.theta, rtol=1e-3)
