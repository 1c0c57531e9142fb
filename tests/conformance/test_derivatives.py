"""Gradient, S_t and average information of every backend × structure against their dense definitions."""

from __future__ import annotations

import numpy as np
import pytest
from problems import CASES, build, par_templates, singular_thetas, thetas

from sparselmm.likelihood.criterion import criterion_for
from sparselmm.likelihood.derivatives import differentiate
from sparselmm.linalg import SYSTEMS

CASES_BY_SOLVER = [
    pytest.param(case, solver, id=f"{case.name}-{solver}")
    for case in CASES
    for solver in SYSTEMS
    if solver != "schur" or case.grouped
]


def column_sizes(problem, C):
    """Return the norms of the k columns of each term's Z, in the coordinates of the parameters."""
    stacked = [(t.Z.reshape(-1, t.m, t.k) @ c).reshape(-1, t.k) for t, c in zip(problem.model.terms, C)]
    return [np.sqrt((Z**2).sum(axis=0)) for Z in stacked]


def check(problem, solver, reml, par):
    """Compare all derivatives in scale-free units: each coefficient times the norm of its column of Z."""
    engine = problem.fitted_model(solver).problem.engine
    with engine.locked() as pls:
        found = differentiate(pls, criterion_for(reml), pls.solve(par))
    C, templates, directions = par_templates(problem, engine.parameters, par)
    dense = problem.model.at(templates, reml)
    sizes = column_sizes(problem, C)
    slack = problem.case.slack
    for S, expected, c, s in zip(found.S, dense.S, C, sizes, strict=True):
        unit = np.outer(s, s)
        # entries of order 1 at most; rounding of sums over levels, and of a division by T >= 1e-3 twice
        np.testing.assert_allclose(S / unit, (c.T @ expected @ c).astype(float) / unit, rtol=0, atol=1e-10 * slack)
        np.testing.assert_array_equal(S, S.T)
    reach = np.array(
        [
            max(float((np.abs(d) * s[:, None]).max()) for d, s in zip(direction, sizes))
            for direction in problem.directions()
        ]
    )
    gradient = dense.gradient(directions).astype(float)
    # 2 S T with T of order 1/rms of its column: sqrt(n) times the error of S
    root = np.sqrt(problem.case.n)
    np.testing.assert_allclose(found.gradient / reach / root, gradient / reach / root, rtol=0, atol=1e-10 * slack)
    hessian = dense.average_information(directions).astype(float)
    unit = np.outer(reach, reach)
    np.testing.assert_allclose(found.hessian / unit, hessian / unit, rtol=0, atol=1e-9 * slack)
    # rounding of two matrix products taken in either order
    np.testing.assert_allclose(found.hessian / unit, found.hessian.T / unit, rtol=0, atol=1e-13)
    assert found.value == pytest.approx(float(dense.criterion), rel=1e-12 * slack)


@pytest.mark.filterwarnings("ignore::sparselmm.exceptions.ScaleWarning")
@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize(("case", "solver"), CASES_BY_SOLVER)
def test_regular_templates(case, solver, reml):
    problem = build(case)
    parameters = problem.fitted_model(solver).problem.engine.parameters
    for theta in thetas(problem, 2):
        check(problem, solver, reml, parameters.par(theta))


@pytest.mark.filterwarnings("ignore::sparselmm.exceptions.ScaleWarning")
@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize(("case", "solver"), CASES_BY_SOLVER)
def test_singular_and_nearly_singular_templates(case, solver, reml):
    problem = build(case)
    points = singular_thetas(problem)
    for theta in points[:: max(1, len(points) // 2)]:
        check(problem, solver, reml, theta)
        check(problem, solver, reml, theta + 1e-5)  # between the two formulas for information blocks


@pytest.mark.parametrize("case", CASES[:8], ids=lambda c: c.name)
def test_average_information_is_near_the_true_curvature_at_an_optimum(case):
    """The definition is that of a Hessian: where data are simulated it is within sampling error of the true one."""
    problem = build(case)
    fit = problem.fitted_model().fit(reml=True)
    h, n = 1e-4, len(fit.theta)
    E = np.eye(n) * h
    corners = ((1, 1), (1, -1), (-1, 1), (-1, -1))
    f = [
        [problem.dense(fit.theta + s * E[i] + t * E[j], True).criterion for s, t in corners]
        for i in range(n)
        for j in range(n)
    ]
    true = np.array([float((a - b - c + d) / (4 * h * h)) for a, b, c, d in f]).reshape(n, n)
    with fit.problem.engine.locked() as pls:
        found = differentiate(pls, fit.result.criterion_type, pls.solve(fit.result.par)).hessian
    # average of observed and expected information; with 4 to 16 levels they differ by less than a factor of 3
    relative = np.linalg.eigvals(np.linalg.solve(true, found))
    assert np.all(relative.real > 1 / 3), relative
    assert np.all(relative.real < 3), relative
