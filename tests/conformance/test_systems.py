"""Every registered backend against dense algebra on Λ'Z'WZΛ + I."""

from __future__ import annotations

import numpy as np
import pytest
from problems import CASES, build, singular_thetas, thetas

from sparselmm.linalg import SYSTEMS
from sparselmm.statistics.crossproducts import CrossProducts

PLAIN = [c for c in CASES if c.z != "year"]  # uncentred years are a matter of the layer above


def assembled(case, solver):
    """Return the problem, a system on its cross-products, and dense Z and Z'WZ."""
    problem = build(case)
    design = problem.fitted_model().problem.rows
    gram = CrossProducts.from_rows(design, centres=(None,) * len(design.terms)).gram
    Z = np.hstack([t.Z for t in problem.model.terms])
    return problem, SYSTEMS[solver](gram), Z, Z.T @ (problem.model.weights[:, None] * Z)


def big_lambda(problem, templates):
    blocks = [np.kron(np.eye(t.m), T) for t, T in zip(problem.model.terms, templates)]
    q = sum(len(b) for b in blocks)
    out, start = np.zeros((q, q)), 0
    for b in blocks:
        out[start : start + len(b), start : start + len(b)] = b
        start += len(b)
    return out


def diagonal_blocks(problem, A):
    out, start = [], 0
    for t in problem.model.terms:
        out.append(
            np.array(
                [
                    A[start + i * t.k : start + (i + 1) * t.k][:, start + i * t.k : start + (i + 1) * t.k]
                    for i in range(t.m)
                ]
            )
        )
        start += t.m * t.k
    return out


def _pairs():
    for case in PLAIN:
        for solver in SYSTEMS:
            if solver != "schur" or case.grouped:
                yield pytest.param(case, solver, id=f"{case.name}-{solver}")


PAIRS = list(_pairs())


def test_each_backend_is_tested_and_named_as_registered():
    tested = {p.values[1] for p in PAIRS}
    assert tested == set(SYSTEMS)
    problem = build(CASES[3])
    for name in SYSTEMS:
        system = assembled(problem.case, name)[1]
        assert (system.name, system.monte_carlo) == (name, None)
        assert system.factorization is not None


@pytest.mark.filterwarnings("ignore::sparselmm.exceptions.ScaleWarning")
@pytest.mark.parametrize(("case", "solver"), PAIRS)
def test_against_dense_algebra(case, solver):
    problem, system, Z, ZtWZ = assembled(case, solver)
    rng = np.random.default_rng(3)
    C = rng.standard_normal((Z.shape[1], 3))
    for theta in [*thetas(problem, 2), *singular_thetas(problem)]:
        templates = tuple(problem.templates(theta))
        system.refactor(templates)
        Lambda = big_lambda(problem, templates)
        M = Lambda.T @ ZtWZ @ Lambda + np.eye(Z.shape[1])
        inverse = np.linalg.inv(M)
        # M is I plus a matrix of moderate size (condition below 1e3): 1e-11 leaves four digits for rounding
        near = {"rtol": 1e-11, "atol": 1e-11}
        assert system.logdet() == pytest.approx(np.linalg.slogdet(M)[1], rel=1e-12, abs=1e-12)
        np.testing.assert_allclose(system.solve(C), inverse @ C, **near)
        np.testing.assert_allclose(system.quadratic(C)[0], C.T @ inverse @ C, **near)
        each = np.einsum("qi,qi->i", C, inverse @ C)
        np.testing.assert_allclose(system.quadratic(C, 1)[:, 0, 0], each, **near)
        L, P = system.factor()
        L = L.toarray()
        np.testing.assert_allclose(L, np.tril(L), atol=0)
        assert sorted(P) == list(range(len(M)))
        np.testing.assert_allclose(L @ L.T, M[np.ix_(P, P)], **near)
        for found, expected in zip(system.inverse_diagonal(), diagonal_blocks(problem, inverse), strict=True):
            np.testing.assert_allclose(found, expected, **near)
        W = np.diag(problem.model.weights)
        Vi = W - W @ Z @ Lambda @ inverse @ Lambda.T @ Z.T @ W
        information = diagonal_blocks(problem, Z.T @ Vi @ Z)
        # divided by T from both sides where T is regular: T down to 1e-3 costs six digits of 1e-15
        for found, expected in zip(system.information_blocks(), information, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8)
        for found, expected in zip(system.information_sums(), information, strict=True):
            np.testing.assert_allclose(found, expected.sum(axis=0), rtol=1e-8, atol=1e-7)  # sums of twenty such blocks


@pytest.mark.filterwarnings("ignore::sparselmm.exceptions.ScaleWarning")
@pytest.mark.parametrize(("case", "solver"), PAIRS)
def test_covariances_and_traces(case, solver):
    problem, system, Z, ZtWZ = assembled(case, solver)
    rng = np.random.default_rng(4)
    directions = []
    for t, spec in enumerate(problem.specs):
        for _ in range(2):
            B = rng.standard_normal((spec.k, spec.k))
            directions.append((t, B + B.T))
    for theta in [thetas(problem, 1)[0], *singular_thetas(problem)[:2]]:
        templates = tuple(problem.templates(theta))
        system.refactor(templates)
        Lambda = big_lambda(problem, templates)
        covariance = Lambda @ np.linalg.inv(Lambda.T @ ZtWZ @ Lambda + np.eye(Z.shape[1])) @ Lambda.T
        pairs = system.covariance_pairs()
        assert set(pairs) == set(system.gram.pairs)
        for i, j in pairs:
            expected = covariance[system.gram.element_indices(i, j)].reshape(pairs[i, j].shape)
            # condition below 1e3, as above
            np.testing.assert_allclose(pairs[i, j], expected, rtol=1e-10, atol=1e-11)
        A = ZtWZ - ZtWZ @ covariance @ ZtWZ
        full = []
        for t, B in directions:
            blocks = [np.kron(np.eye(x.m), B if s == t else 0 * np.eye(x.k)) for s, x in enumerate(problem.model.terms)]
            full.append(A @ big_lambda(problem, [b[: x.k, : x.k] for b, x in zip(blocks, problem.model.terms)]))
        expected = np.array([[np.sum(x * y.T) for y in full] for x in full])
        # products of two information matrices, each good to 1e-11 of its size
        size = np.abs(expected).max()
        np.testing.assert_allclose(system.trace_products(directions), expected, rtol=1e-8, atol=1e-9 * size)


@pytest.mark.parametrize(("case", "solver"), PAIRS)
@pytest.mark.filterwarnings("ignore::sparselmm.exceptions.ScaleWarning")
def test_results_do_not_depend_on_history_and_inputs_are_left_alone(case, solver):
    problem, system, Z, _ = assembled(case, solver)
    a, b = (tuple(problem.templates(theta)) for theta in thetas(problem, 2))
    zero = tuple(problem.templates(np.zeros(problem.n_theta)))
    C = np.random.default_rng(3).standard_normal((Z.shape[1], 3))
    for array in (C, *a, *b, *zero):
        array.flags.writeable = False

    def everything(templates):
        system.refactor(templates)
        L, P = system.factor()
        parts = [system.logdet(), system.solve(C), system.quadratic(C), L.toarray(), P]
        return [np.array(x) for x in (*parts, *system.inverse_diagonal(), *system.information_blocks())]

    first = everything(a)
    kept = [x.copy() for x in first]
    for other in (b, zero, a):
        again = everything(other)
    for x, y, z in zip(first, kept, again, strict=True):
        np.testing.assert_array_equal(x, y, err_msg="a later factorisation changed what was returned")
        np.testing.assert_array_equal(y, z, err_msg="the result depends on what came before")


@pytest.mark.parametrize(("case", "solver"), PAIRS)
@pytest.mark.filterwarnings("ignore::sparselmm.exceptions.ScaleWarning")
def test_no_method_disturbs_the_factor(case, solver):
    problem, system, Z, _ = assembled(case, solver)
    C = np.random.default_rng(3).standard_normal((Z.shape[1], 2))
    system.refactor(tuple(problem.templates(thetas(problem)[0])))
    before = [system.logdet(), system.solve(C)]
    for method in (system.factor, system.inverse_diagonal, system.information_blocks, lambda: system.quadratic(C)):
        method()
        # quadratic may turn an LDL' factor into LL', which rounds differently: a few ulp
        assert system.logdet() == pytest.approx(before[0], rel=1e-14)
        np.testing.assert_allclose(system.solve(C), before[1], rtol=1e-13, atol=1e-15)
