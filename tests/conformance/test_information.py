"""Exact Hessians and the traces they are made of, against dense second derivatives without formulas for them."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import reference_helpers as rh
from problems import CASES, Case, TermSpec, build, par_templates, singular_thetas, thetas

from sparselmm.likelihood.criterion import criterion_for
from sparselmm.likelihood.derivatives import differentiate
from sparselmm.likelihood.information import exact_hessian
from sparselmm.linalg import SYSTEMS
from sparselmm.linalg.exact import sandwich
from sparselmm.statistics.crossproducts import CrossProducts

T = TermSpec
MERGED = (
    Case("three terms on the same levels, rest", (T(8, 3), T(8, 1, kind="same"), T(5, 2)), n=70, z="no constant"),
    Case("all terms on the same levels", (T(9, 2), T(9, 3, "diag", "same"), T(9, kind="same")), z="no constant"),
    Case("k = 3 crossed with k = 3", (T(7, 3), T(5, 3), T(4)), n=80, weighted=True),
    Case("no fixed effects, crossed slopes", (T(8, 2), T(6)), p=0),
)
ALL = (*CASES, *MERGED)
PAIRS = [
    pytest.param(case, solver, id=f"{case.name}-{solver}")
    for case in ALL
    for solver in SYSTEMS
    if solver != "schur" or case.grouped
]
STEP = 1e-30  # of complex steps, which have no truncation error: terms of second order vanish below 1e-59


def points(problem):
    """Return a regular θ, one on the boundary, and one between the formulas for regular and singular templates."""
    singular = singular_thetas(problem)
    return [thetas(problem, 1)[0], singular[-1], singular[len(singular) // 2] + 1e-5]


def marginal(model, templates):
    """Return V⁻¹ and P = V⁻¹ - V⁻¹X(X'V⁻¹X)⁻¹X'V⁻¹, straight from their definitions; templates may be complex."""
    V = np.diag(1 / model.weights)
    for term, t in zip(model.terms, templates):
        Z = (term.Z.reshape(-1, term.k) @ t).reshape(len(model.y), -1)
        V = V + Z @ Z.T
    Vi = np.linalg.inv(V)
    X = np.linalg.qr(model.X)[0]  # any basis gives the same P; this one rounds well
    return Vi, Vi - Vi @ X @ np.linalg.solve(X.T @ Vi @ X, X.T @ Vi)


def dense_sigma(model, templates, reml):
    """Return the best σ."""
    r = model.y - model.offset
    df = len(r) - (model.X.shape[1] if reml else 0)
    return np.sqrt(r @ marginal(model, templates)[1] @ r / df)


def dense_gradient(model, templates, directions, reml, sigma):
    """Return first derivatives of logdet + df log(2πσ²) + rss/σ² along the directions, and in σ."""
    Vi, P = marginal(model, templates)
    y = model.y - model.offset
    Py = P @ y
    A = P if reml else Vi
    df = len(y) - (model.X.shape[1] if reml else 0)
    out = []
    for direction in directions:
        total = 0
        for term, t, D in zip(model.terms, templates, direction):
            Z = term.Z.reshape(-1, term.k)
            left, right = (Z @ D).reshape(len(y), -1), (Z @ t).reshape(len(y), -1)  # dV = left right' + right left'
            total = total + 2 * np.sum(left * (A @ right)) - 2 * (Py @ left) @ (right.T @ Py) / sigma**2
        out.append(total)
    return np.array([*out, 2 * df / sigma - 2 * (y @ Py) / sigma**3])


@cache
def dense_hessian(case, reml, which):
    """Return the Hessian in (par, σ) by complex steps of first derivatives, and σ."""
    problem = build(case)
    parameters = problem.fitted_model().problem.engine.parameters
    par = parameters.par(points(problem)[which])
    _, templates, directions = par_templates(problem, parameters, par)
    sigma = dense_sigma(problem.model, templates, reml)
    rows = []
    for direction in directions:
        moved = [t + 1j * STEP * D for t, D in zip(templates, direction)]
        rows.append(dense_gradient(problem.model, moved, directions, reml, sigma).imag / STEP)
    rows.append(dense_gradient(problem.model, templates, directions, reml, sigma + 1j * STEP).imag / STEP)
    return np.array(rows), float(sigma)


def reaches(problem, parameters, par):
    """Return the largest norm of a column of Z that each parameter multiplies: the inverse of its natural unit."""
    C, _, _ = par_templates(problem, parameters, par)
    sizes = [
        np.sqrt(((t.Z.reshape(-1, t.m, t.k) @ c).reshape(-1, t.k) ** 2).sum(axis=0))
        for t, c in zip(problem.model.terms, C)
    ]
    return np.array(
        [
            max(float((np.abs(d) * s[:, None]).max()) for d, s in zip(direction, sizes))
            for direction in problem.directions()
        ]
    )


@pytest.mark.filterwarnings("ignore::sparselmm.exceptions.ScaleWarning")
@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize(("case", "solver"), PAIRS)
def test_exact_hessian(case, solver, reml):
    problem = build(case)
    engine = problem.fitted_model(solver).problem.engine
    for which, theta in enumerate(points(problem)):
        par = engine.parameters.par(theta)
        with engine.locked() as pls:
            found = exact_hessian(pls, criterion_for(reml), pls.solve(par))
        joint, sigma = dense_hessian(case, reml, which)
        # at the best σ the criterion with σ profiled out curves like the Schur complement of σ
        profiled = joint[:-1, :-1] - np.outer(joint[:-1, -1], joint[-1, :-1]) / joint[-1, -1]
        unit = reaches(problem, engine.parameters, par)
        # entries of order 1 in these units; sums over levels, divided by T >= 1e-3 from four sides at worst
        # years: V itself has entries of 1e4 (T fits the centred column), so V⁻¹ here is good to 1e-12 only, times n
        slack = 10 * case.slack if case.z == "year" else case.slack
        near = {"rtol": 0, "atol": 1e-9 * slack}
        np.testing.assert_allclose(found.profiled / np.outer(unit, unit), profiled / np.outer(unit, unit), **near)
        unit = np.append(unit, np.sqrt(case.n) / sigma)
        np.testing.assert_allclose(found.hessian / np.outer(unit, unit), joint / np.outer(unit, unit), **near)


@pytest.mark.filterwarnings("ignore::sparselmm.exceptions.ScaleWarning")
@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("case", ALL[::3], ids=lambda c: c.name)
def test_exact_hessian_is_the_slope_of_the_exact_gradient(case, reml):
    """The same by central differences of the package's own gradient, without any dense matrix."""
    problem = build(case)
    engine = problem.fitted_model().problem.engine
    criterion = criterion_for(reml)
    par = engine.parameters.par(thetas(problem, 1)[0])
    unit = reaches(problem, engine.parameters, par) / np.sqrt(case.n)
    h = 1e-4  # relative to columns of unit mean square
    with engine.locked() as pls:
        found = exact_hessian(pls, criterion, pls.solve(par)).profiled
        slopes = np.array(
            [
                differentiate(pls, criterion, pls.solve(par + e)).gradient
                - differentiate(pls, criterion, pls.solve(par - e)).gradient
                for e in np.diag(h / unit)
            ]
        ) / (2 * h)
    # third derivatives of order n times h²/6, and rounding 1e-11 n of the gradients over h
    np.testing.assert_allclose(found / np.outer(unit, unit), slopes / unit, rtol=0, atol=3e-7 * case.n * case.slack)


RECORDS = rh.read_records("lme4.json.gz")


@pytest.mark.parametrize("name", list(rh.reference_models()))
def test_gradient_is_that_of_lme4s_criterion(name):
    """Exact gradient against numDeriv's of lme4's own deviance function, away from the optimum."""
    record, model = RECORDS[name], rh.built("lme4.json.gz", name)
    engine = model.problem.engine
    for at in record["criterion_at"]:
        if "grad" not in at:  # saved for 75 of the 76
            assert name == "ie_zc_ml"
            continue
        theta = rh.theta_from_r(record, at["theta"], model.theta_names)
        np.testing.assert_array_equal(engine.parameters.par(theta), theta)  # coordinates of R's gradient
        with engine.locked() as pls:
            found = differentiate(pls, criterion_for(record["REML"]), pls.solve(theta)).gradient
        # numDeriv extrapolates from steps of 1e-5 or more: rounding 1e-14 of lme4's criterion over 1e-5, tenfold,
        # and 1e-7 of the gradient from higher derivatives
        allowed = 1e-8 * abs(at["value"]) + 1e-7 * np.abs(at["grad"]).max()
        rh.close(name, found, rh.theta_from_r(record, at["grad"], model.theta_names), allowed)


WAYS = {
    "dense": {"DENSE_CELLS": 10**9, "DENSE_SHARE": 0.0},
    "compiled": {"DENSE_CELLS": 0, "COMPILED_WORK": -1, "COMPILED_CELLS": -1},
    "scipy": {"DENSE_CELLS": 0, "COMPILED_WORK": 10**12, "COMPILED_CELLS": 10**12},
}
WITH_REST = [c for c in ALL if c.grouped and len(c.terms) > 1 and c.z != "year" and len(set(c.terms)) > 1]


def schur_system(case, way, monkeypatch):
    """Return a problem and a Schur system whose forms are computed in one of three ways."""
    for name, value in WAYS[way].items():
        monkeypatch.setattr(sandwich, name, value)
    problem = build(case)
    design = problem.fitted_model().problem.rows
    system = SYSTEMS["schur"](CrossProducts.from_rows(design, centres=(None,) * len(design.terms)).gram)
    if system._q2:  # the way asked for is the way taken
        taken = system._sandwich
        assert (taken._dense is not None) == (way == "dense")
        assert (taken._panels is not None) == (way == "compiled")
    return problem, system


def dense_information(problem, templates):
    """Return Z'V⁻¹Z of each pair of terms, from V itself."""
    Vi = marginal(problem.model, templates)[0]
    Z = [t.Z for t in problem.model.terms]
    return [[a.T @ Vi @ b for b in Z] for a in Z]


@pytest.mark.filterwarnings("ignore::sparselmm.exceptions.ScaleWarning")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", WITH_REST, ids=lambda c: c.name)
def test_traces_by_every_way_of_forming_products(case, way, monkeypatch):
    problem, system = schur_system(case, way, monkeypatch)
    rng = np.random.default_rng(11)
    directions = []
    for t, spec in enumerate(problem.specs):
        for _ in range(2):
            B = rng.standard_normal((spec.k, spec.k))
            directions.append((t, B + B.T))
    for theta in points(problem):
        templates = tuple(problem.templates(theta))
        system.refactor(templates)
        R = dense_information(problem, templates)
        terms = problem.model.terms
        expected = np.array(
            [
                [
                    np.trace(R[r][s] @ np.kron(np.eye(terms[s].m), B) @ R[s][r] @ np.kron(np.eye(terms[r].m), A))
                    for s, B in directions
                ]
                for r, A in directions
            ]
        )
        found = system.trace_products(directions)
        # products of two information matrices, each good to 1e-11 of its size
        size = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
        np.testing.assert_allclose(found / size, expected / size, rtol=0, atol=1e-9)
        np.testing.assert_allclose(found, found.T, rtol=0, atol=1e-12 * size.max())  # two orders of summation
        blocks = system.information_blocks()
        for t, total in enumerate(system.information_sums()):
            k, m = terms[t].k, terms[t].m
            dense = R[t][t].reshape(m, k, m, k)[np.arange(m), :, np.arange(m)]
            scale = np.sqrt(np.outer(*[np.diag(dense.sum(axis=0))] * 2))
            # divided by T from both sides where T is regular: T down to 1e-3 costs six digits of 1e-15
            np.testing.assert_allclose(blocks[t] / scale, dense / scale, rtol=0, atol=1e-9)
            np.testing.assert_allclose(total / scale, dense.sum(axis=0) / scale, rtol=0, atol=1e-9)
            np.testing.assert_allclose(total / scale, blocks[t].sum(axis=0) / scale, rtol=0, atol=1e-9)


@pytest.mark.parametrize("way", WAYS)
def test_products_do_not_depend_on_history(way, monkeypatch):
    """The compiled sums keep a workspace between calls: evaluate a, b, a and the bits agree."""
    problem, system = schur_system(MERGED[2], way, monkeypatch)
    directions = [(t, np.eye(s.k)) for t, s in enumerate(problem.specs)]

    def everything(theta):
        system.refactor(tuple(problem.templates(theta)))
        return [system.trace_products(directions), *system.information_sums()]

    a, b = thetas(problem, 2)
    first = everything(a)
    everything(b)
    for x, y in zip(first, everything(a), strict=True):
        np.testing.assert_array_equal(x, y)


def test_cases_include_what_this_file_is_about():
    assert sum(any(t.kind == "same" for t in c.terms) for c in WITH_REST) >= 2  # several terms eliminated together
    assert any(c.z == "year" for c in ALL)  # a centred term
    assert max(t.k for c in WITH_REST for t in c.terms) == 3
    assert {0, 1, 2, 3} <= {c.p for c in ALL}
