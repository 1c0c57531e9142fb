"""The parts of the iterative solver against dense algebra."""

from __future__ import annotations

import numpy as np
import pytest
from iterative_cases import DESIGNS

from sparselmm.exceptions import NumericalError
from sparselmm.linalg.iterative.deflation import DOMINANT, Deflation, krylov, orthonormal, ritz
from sparselmm.linalg.iterative.lanczos import Tridiagonals, column_dots, lanczos, remainder
from sparselmm.linalg.iterative.layout import BORDER_COLUMNS, Layout, divide
from sparselmm.linalg.iterative.operator import ReducedSystem, gain
from sparselmm.linalg.iterative.second import cost_in_probes, sum_of_squares
from sparselmm.linalg.iterative.solve import conjugate_gradients
from sparselmm.linalg.iterative.traces import _root_near

KINDS = {np.float64: 1e-11, np.float32: 2e-5}


def symmetric(values, seed=0):
    """Return a symmetric matrix with these eigenvalues and its eigenvectors."""
    Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(values), len(values))))[0]
    return (Q * values) @ Q.T, Q


SPECTRA = {
    "weak": np.linspace(-0.2, 0.3, 60),
    "both signs": np.concatenate([np.linspace(-0.9, -0.5, 10), np.linspace(-0.1, 0.2, 40), np.linspace(0.6, 0.95, 10)]),
    "one near 1": np.append(np.linspace(-0.01, 0.02, 59), 1.0 - 1e-6),
    "many equal": np.repeat([0.0, 0.3, 0.9], 20),
}


@pytest.mark.parametrize(
    ("name", "kind"), [(n, k) for n in SPECTRA for k in KINDS if k is np.float64 or n != "one near 1"]
)
@pytest.mark.parametrize("order", [1, 2])
def test_lanczos(name, order, kind):
    S, Q = symmetric(SPECTRA[name])
    B = np.random.default_rng(1).integers(0, 2, (60, 5)) * 2.0 - 1.0
    B[:, 3] = Q[:, 7]  # an eigenvector, which ends the recursion at once
    B[:, 4] = 0.0
    truth = (Q.T @ B) ** 2 * remainder(SPECTRA[name], order)[:, None]
    found = lanczos(lambda X: (S @ X).astype(X.dtype), B.astype(kind), (S @ B).astype(kind), order, 1e-9, 1e-8)
    room = KINDS[kind] * 60.0 * (1e4 if name == "one near 1" else 10.0)
    np.testing.assert_allclose(found.forms, truth.sum(axis=0), atol=room)
    solution = np.linalg.solve(np.eye(60) - S, B)
    np.testing.assert_allclose(found.X, solution, atol=room * np.abs(solution).max() / 10.0)
    assert found.X.dtype == kind
    if kind is np.float64:  # a bracket also when few steps were done
        smallest = 1.0 - SPECTRA[name].max()
        for steps in (3, 5, 8):
            alpha, beta = found.tridiagonals.alpha[:steps], found.tridiagonals.beta[:steps]
            part = Tridiagonals(alpha, beta, found.tridiagonals.squares, order)
            assert np.all(part.forms() >= truth.sum(axis=0) - room)
            assert np.all(part.lower_forms(0.9 * smallest) <= truth.sum(axis=0) + room)


@pytest.mark.parametrize("largest", [1.0, 1.5])
def test_lanczos_refuses_what_is_not_positive_definite(largest):
    S, _ = symmetric(np.append(np.linspace(-0.1, 0.3, 29), largest))
    B = np.random.default_rng(1).standard_normal((30, 2))
    with pytest.raises(NumericalError, match="positive definite"):
        lanczos(lambda X: S @ X, B, S @ B, 1, 1e-12, 1e-12)
    with pytest.raises(NumericalError, match="positive definite"):
        lanczos(lambda X: np.nan * X, B, np.nan * B, 1, 1e-12, 1e-12)


def test_remainder():
    x = np.array([-0.9, -0.3, 0.0, 0.3, 0.99])
    for order in (1, 2):
        series = -sum(x**k / k for k in range(order + 1, 4000))
        np.testing.assert_allclose(remainder(x, order), series, rtol=1e-12, atol=1e-15)


def test_column_dots_in_single_precision():
    rng = np.random.default_rng(0)
    X, Y = (rng.standard_normal((20_000, 3)).astype(np.float32) for _ in range(2))
    expected = (X.astype(float) * Y.astype(float)).sum(axis=0)
    np.testing.assert_allclose(column_dots(X, Y), expected, atol=1e-2)
    ones = np.ones((20_000_000, 1), dtype=np.float32)  # beyond 2^24 adding 1 changes nothing
    assert column_dots(ones, ones)[0] == 20_000_000.0


@pytest.mark.parametrize("relative", [1e-10, 1e-6])
def test_conjugate_gradients(relative):
    S, Q = symmetric(SPECTRA["one near 1"])
    B = np.random.default_rng(1).standard_normal((60, 4))
    B[:, 1] = 0.0
    expected = np.linalg.solve(np.eye(60) - S, B)
    for precondition in (lambda R: R.copy(), Deflation(Q[:, -1:], SPECTRA["one near 1"][-1:]).precondition):
        found = conjugate_gradients(lambda X: S @ X, precondition, B, relative)
        np.testing.assert_allclose(B - found.X + S @ found.X, found.R, atol=1e-9)
        assert np.all(np.linalg.norm(found.R, axis=0) <= relative * np.linalg.norm(B, axis=0))
        assert 0.0 < found.relative <= relative
        np.testing.assert_allclose(found.X, expected, atol=relative * 1e7)
    alone = conjugate_gradients(lambda X: S @ X, precondition, B[:, 2:3], relative)
    np.testing.assert_allclose(alone.X[:, 0], found.X[:, 2], rtol=1e-6)
    bad, _ = symmetric(np.append(np.linspace(-0.1, 0.3, 59), 1.5))
    with pytest.raises(NumericalError, match="positive definite"):
        conjugate_gradients(lambda X: bad @ X, lambda R: R.copy(), B)


def test_orthonormal():
    rng = np.random.default_rng(0)
    V = rng.standard_normal((200, 6)) * 10.0 ** np.arange(-6, 6, 2)
    V = np.column_stack([V, V[:, 0] + V[:, 1], np.zeros(200), V[:, 2]])
    Q = orthonormal(V)
    assert Q.shape == (200, 6)
    np.testing.assert_allclose(Q.T @ Q, np.eye(6), atol=1e-14)
    np.testing.assert_allclose(Q @ (Q.T @ V), V, atol=1e-6 * np.linalg.norm(V, axis=0).max())
    assert orthonormal(np.zeros((5, 2))).shape == (5, 0)


def test_krylov_finds_the_directions_that_matter():
    values = np.concatenate([np.linspace(-0.05, 0.05, 290), [0.999, 0.9, 0.7, -0.8, 0.5, -0.6, 0.45, 0.4, 0.38, 0.36]])
    S, Q = symmetric(values)
    start = np.random.default_rng(0).standard_normal((300, 8))
    directions = krylov(lambda X: (S @ X).astype(X.dtype), start, 5, 1, 0.0, np.float64)
    assert directions.shape == (300, 5)
    wanted = np.argsort(-np.abs(remainder(values, 1)))[:5]
    overlap = np.linalg.norm(Q[:, wanted].T @ directions, axis=0)
    np.testing.assert_allclose(overlap, 1.0, atol=1e-2)
    np.testing.assert_allclose(Deflation(directions, np.zeros(5)).project(directions), 0.0, atol=1e-13)


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("eigenvectors", [1, 2, 4])
def test_directions_stay_orthonormal_where_images_leave_nothing_but_rounding(eigenvectors, kind):
    """In regular designs the first column of the start is an eigenvector, and few eigenvalues are distinct."""
    S, Q = symmetric(np.repeat([0.0, 0.3, 0.9], [60, 39, 1]))
    start = Q[:, -eigenvectors:].copy()
    if eigenvectors == 4:
        start[:, 0] = np.random.default_rng(0).standard_normal(100)
    found = krylov(lambda X: S.astype(X.dtype) @ X, start, 8, 1, 0.0, kind)
    np.testing.assert_allclose(found.T @ found, np.eye(found.shape[1]), atol=1e-12)
    assert abs(Q[:, -1] @ found @ found.T @ Q[:, -1] - 1.0) < 1e-6


def test_no_more_directions_than_the_noise_asks_for_but_none_that_dominates():
    values = np.array([0.9, 0.5, 0.2, 0.1] + [0.05] * 20)
    S = np.diag(values)
    variance = 2.0 * remainder(values, 1) ** 2
    left = np.cumsum(variance[::-1])[::-1]

    def count(noise, k=24):
        return ritz(np.eye(24), S, k, 1, noise).shape[1]

    assert count(0.0) == 24 and count(0.0, 6) == 6
    dominated = [j for j in range(24) if variance[j] > DOMINANT * left[j]]
    assert dominated[:4] == [0, 1, 2, 3] and 4 not in dominated
    assert count(np.inf) == count(1.01 * left[2]) == 4
    assert count(0.99 * left[8]) == 9


SOME = [
    "two crossed, weights and offset",
    "three crossed",
    "four crossed, two of them small, one with slopes",
    "slopes in both and a third factor",
    "two terms on the larger factor",
    "memberships with slopes in the rest",
    "many components",
]


def dense_parts(gram, layout, templates):
    """Return the blocks of M without the border, eliminated columns first, and the columns of the rest."""
    A = np.zeros((gram.q, gram.q))
    for i, j in gram.pairs:
        rows, cols = gram.element_indices(i, j)
        A[rows, cols] = A[cols, rows] = gram.pairs[i, j].values.ravel()
    Lambda = np.zeros_like(A)
    for t, T in enumerate(templates):
        here = slice(gram.offsets[t], gram.offsets[t + 1])
        Lambda[here, here] = np.kron(np.eye(gram.m[t]), T)
    M = Lambda.T @ A @ Lambda + np.eye(gram.q)
    first, rest = layout.first.columns.ravel(), np.concatenate([g.columns.ravel() for g in layout.rest])
    return M[np.ix_(first, first)], M[np.ix_(first, rest)], M[np.ix_(rest, rest)]


@pytest.mark.parametrize("name", SOME)
def test_reduced_system(name):
    made = DESIGNS[name]()
    layout = Layout.of(made.gram)
    for templates in (made.regular[0], made.regular[3], made.singular[0], made.singular[-1]):
        reduced = ReducedSystem(layout, templates)
        D, M12, M22 = dense_parts(made.gram, layout, templates)
        N = M22 - M12.T @ np.linalg.solve(D, M12)
        S = reduced.apply(np.eye(reduced.q2))
        np.testing.assert_allclose(S, S.T, atol=1e-10)
        start, C = 0, np.zeros_like(N)
        for L in reduced.L2:
            for block in L @ L.transpose(0, 2, 1):
                here = slice(start, start + len(block))
                np.testing.assert_allclose(S[here, here], 0.0, atol=1e-10)
                np.testing.assert_allclose(N[here, here], block, rtol=1e-9, atol=1e-9)
                C[here, here] = np.linalg.cholesky(block)
                start += len(block)
        np.testing.assert_allclose(C @ (np.eye(len(N)) - S) @ C.T, N, rtol=1e-9, atol=1e-9 * np.abs(N).max())
        eigenvalues = np.linalg.eigvalsh(S)
        assert 0.0 < reduced.smallest <= 1.0 - eigenvalues[-1] + 1e-12
        logdet = reduced.logdet + np.log1p(-eigenvalues).sum()
        assert logdet == pytest.approx(np.linalg.slogdet(D)[1] + np.linalg.slogdet(N)[1], rel=1e-9, abs=1e-9)
        assert sum_of_squares(reduced) == pytest.approx((S**2).sum(), rel=1e-9, abs=1e-10)
        single = reduced.apply(np.eye(reduced.q2, dtype=np.float32))
        assert single.dtype == np.float32
        np.testing.assert_allclose(single, S, atol=1e-4)
        C1, C2 = np.random.default_rng(0).standard_normal((len(D), 2)), np.ones((len(N), 2))
        H1, right = reduced.reduce(C1, C2)
        X1, X2 = reduced.expand(H1, np.linalg.solve(np.eye(len(N)) - S, right))
        expected = np.linalg.solve(np.block([[D, M12], [M12.T, M22]]), np.vstack([C1, C2]))
        np.testing.assert_allclose(np.vstack([X1, X2]), expected, atol=1e-9)
    assert 0.0 < cost_in_probes(layout) < np.inf


def test_division_of_the_terms():
    made = DESIGNS["four crossed, two of them small, one with slopes"]()
    groups, border = divide(made.gram)
    assert groups[0] == (0,) and made.gram.m[0] == max(made.gram.m)
    assert len(groups) == 2 and border == (2, 3)
    assert all(made.gram.sizes[t] <= BORDER_COLUMNS for t in border)
    groups, border = divide(DESIGNS["two terms on the smaller factor"]().gram)
    assert sorted(len(g) for g in groups) == [1, 2] and border == ()


def test_gain_at_regular_and_singular_templates():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((5, 8, 3))
    A = X.transpose(0, 2, 1) @ X
    full = np.linalg.cholesky(np.cov(rng.standard_normal((3, 9))))
    for T in (full, 1e4 * full, np.diag([1.0, 0.0, 2.0]), np.zeros((3, 3)), np.outer(full[:, 0], [1.0, 0.0, 0.0])):
        L = np.linalg.cholesky(np.eye(3) + T.T @ A @ T)
        expected = np.linalg.inv(np.eye(3) + A @ T @ T.T)
        np.testing.assert_allclose(gain(A, T, L), expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("rank", [0, 1, 2, 3])
def test_root_near_a_template(rank):
    rng = np.random.default_rng(rank)
    T = np.tril(rng.standard_normal((3, 3)))
    T[:, rank:] = 0.0
    v = rng.standard_normal(3)
    np.testing.assert_allclose(_root_near(T, T @ T.T), T, atol=1e-7)
    R = _root_near(T, T @ T.T + 1e-6 * np.outer(v, v))
    np.testing.assert_allclose(R @ R.T, T @ T.T + 1e-6 * np.outer(v, v), atol=1e-14)
    # a new direction enters with the root of the step
    assert np.abs(R - T).max() <= (1e-5 if rank == 3 else 1e-3 * np.abs(v).max() * 1.5)
