"""At the result of every optimizer: first-order optimality by dense algebra, and nothing better by restarts."""

from __future__ import annotations

from contextlib import suppress
from functools import cache

import nlopt
import numpy as np
import pytest
from problems import CASES, Case, TermSpec, build, thetas
from scipy.optimize import minimize_scalar

from sparselmm import LinearMixedModel
from sparselmm.optimize import OPTIMIZERS

CHOSEN = [
    *[c for c in CASES if c.slack == 1 and c.x != "scales"][0::3],
    next(c for c in CASES if c.name == "slopes"),  # by ML, a strict local optimum at zero
    Case("many rows per level", (TermSpec(3, 2),), n=90, seed=4),
]
# Nelder-Mead is offered for comparison with other software and is not expected to find optima on edges
RELIABLE = [name for name in OPTIMIZERS if name != "nelder_mead"]


@cache
def best_of_restarts(case, reml):
    """Return the lowest criterion of BOBYQA runs without bounds from spread starts; slow and independent."""
    problem = build(case)
    evaluate = problem.fitted_model().at(thetas(problem, 1)[0], reml).evaluate
    lowest = np.inf
    for start in [np.full(problem.n_theta, 0.05), *thetas(problem, 2, seed=9)]:
        for step in (0.3, 0.03):
            seen = [(np.inf, start)]

            def objective(x, _gradient, seen=seen):
                value = evaluate(x)
                if value < seen[0][0]:
                    seen[0] = (value, x.copy())
                return value

            search = nlopt.opt(nlopt.LN_BOBYQA if len(start) > 1 else nlopt.LN_SBPLX, len(start))
            search.set_min_objective(objective)
            search.set_initial_step(step)
            search.set_ftol_abs(1e-11)
            search.set_maxeval(400)
            with suppress(nlopt.RoundoffLimited):
                search.optimize(start)
            value, start = seen[0]
        lowest = min(lowest, value)
    return lowest


def fitted(case, optimizer, reml):
    return build(case).fitted_model().fit(reml, optimizer=optimizer)


@pytest.mark.filterwarnings("ignore::sparselmm.exceptions.SparseLMMWarning")
@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("case", CHOSEN, ids=lambda c: c.name)
def test_optimum(case, optimizer, reml):
    fit = fitted(case, optimizer, reml)
    if optimizer not in RELIABLE:
        assert fit.criterion < best_of_restarts(case, reml) + (1e-4 if fit.converged else np.inf)
        return
    assert fit.converged, fit.optimizer_report.message
    assert fit.criterion <= best_of_restarts(case, reml) + 1e-7  # the accuracy promised
    problem = build(case)
    dense = problem.dense(fit.theta, reml)
    assert fit.criterion == pytest.approx(float(dense.criterion), rel=1e-12)  # rounding of n logarithms
    # bobyqa stops by differences of 1e-9 in the criterion: gradients of the root of that, times curvature
    first_order = 2e-3 if optimizer == "bobyqa" else 1e-4
    for spec, S, T, term in zip(problem.specs, dense.S, dense.templates, problem.model.terms):
        s = np.sqrt((term.Z.reshape(-1, term.m, term.k) ** 2).sum(axis=(0, 1)) / term.m)
        scaled = (S / np.outer(s, s)).astype(float)  # for columns of Z scaled to unit size per level
        template = T * s[:, None]
        if spec.structure == "us":
            np.testing.assert_allclose(scaled @ template, 0, atol=first_order)
            assert np.linalg.eigvalsh(scaled)[0] > -first_order, "a direction of zero variance wants to grow"
        elif spec.structure == "diag":
            np.testing.assert_allclose(np.diag(scaled) * np.diag(template), 0, atol=first_order)
            assert np.diag(scaled).min() > -first_order
        else:
            np.testing.assert_allclose(np.trace(S) * T[0, 0] / (s**2).sum(), 0, atol=first_order)
            assert float(np.trace(S)) / (s**2).sum() > -first_order


def boundary_prone(seed):
    """Two crossed components, many of them truly zero."""
    rng = np.random.default_rng([seed, 7])
    a, b = rng.integers(0, 12, 120), rng.integers(0, 8, 120)
    sd_a, sd_b = rng.choice([0, 0, 0.1, 0.3, 1], 2)
    x = rng.standard_normal(120)
    y = 1 + x + sd_a * rng.standard_normal(12)[a] + sd_b * rng.standard_normal(8)[b] + rng.standard_normal(120)
    return LinearMixedModel.from_arrays(y, np.column_stack([np.ones(120), x]), [(a, None, "a"), (b, None, "b")])


def rank_one(seed):
    """(x | g) with 8 groups of 5 rows, and only one true direction of variance."""
    rng = np.random.default_rng([seed, 8])
    g = np.repeat(np.arange(8), 5)
    x = rng.standard_normal(40) if seed % 3 else np.tile(np.arange(5.0), 8)
    u = rng.standard_normal(8)
    t = np.array([rng.choice([0, 0.5, 1.0]), rng.choice([0.3, 1.0, -0.7])])
    y = 1 + x + u[g] * (t[0] + t[1] * x) + rng.standard_normal(40)
    X = np.column_stack([np.ones(40), x])
    return LinearMixedModel.from_arrays(y, X, [(g, X, "g")])


@pytest.mark.filterwarnings("ignore::sparselmm.exceptions.SparseLMMWarning")
@pytest.mark.parametrize("make", [boundary_prone, rank_one])
@pytest.mark.parametrize("seed", range(8))
def test_boundary_prone_simulations(make, seed):
    """Seven unbounded restarts on the criterion find nothing lower; the full 60 + 60 were run once."""
    model = make(seed)
    fits = {name: model.fit(bool(seed % 2), optimizer=name) for name in RELIABLE}
    evaluate, n = next(iter(fits.values())).evaluate, len(model.theta_names)
    rng = np.random.default_rng(seed)
    starts = [np.eye(n)[0], np.eye(n)[-1], np.full(n, 0.01), np.ones(n), *rng.normal(0, 0.7, (3, n))]
    lowest = min(_local(evaluate, start) for start in starts)
    for name, fit in fits.items():
        assert fit.converged
        assert fit.criterion <= lowest + 1e-7, f"{name}: theta {fit.theta}"


@pytest.mark.filterwarnings("ignore::sparselmm.exceptions.SparseLMMWarning")
@pytest.mark.parametrize("seed", range(0, 24, 2))
def test_false_optima_with_a_zero_first_column_are_left(seed):
    """At T = (0, 0, t) the gradient along T's first column vanishes whether or not more variance would help."""
    model = rank_one(seed)
    start = model.at([0.0, 0.0, 1.0])
    found = minimize_scalar(lambda t: start.evaluate([0.0, 0.0, t]), bounds=(0.0, 3.0), method="bounded")
    false_point = [0.0, 0.0, float(found.x)]
    best = min(model.fit(optimizer=name).criterion for name in RELIABLE)
    for name in RELIABLE:
        fit = model.fit(start=false_point, optimizer=name)
        assert fit.criterion <= best + 1e-7, f"{name} stayed at {fit.theta}"


def _local(evaluate, start):
    search = nlopt.opt(nlopt.LN_BOBYQA, len(start))
    values = []
    search.set_min_objective(lambda x, _g: values.append(evaluate(x)) or values[-1])
    search.set_initial_step(0.3)
    search.set_ftol_abs(1e-10)
    search.set_maxeval(250)
    with suppress(nlopt.RoundoffLimited):
        search.optimize(start)
    return min(values)
