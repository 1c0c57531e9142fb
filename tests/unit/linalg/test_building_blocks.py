"""Batched small matrices, sandwiches, block storage, rank: each against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from sparselmm.exceptions import NumericalError, ParameterError
from sparselmm.linalg import SYSTEMS, choose_system, make_system
from sparselmm.linalg.blocks import BlockGram, BlockPairs, apply_factor, apply_transposed, scale_blocks
from sparselmm.linalg.exact import sandwich, selected
from sparselmm.linalg.exact.batched import batched_cholesky, batched_lower_solve, batched_upper_solve
from sparselmm.linalg.exact.sandwich import Sandwich
from sparselmm.linalg.exact.schur import eliminable_terms
from sparselmm.linalg.rank import independent_columns, triangular_factor


def positive(m, k, seed=0):
    A = np.random.default_rng(seed).standard_normal((m, k, k))
    return A @ A.transpose(0, 2, 1) + np.eye(k)


# 200 matrices is where one algorithm takes over from another
@pytest.mark.parametrize("m", [1, 199, 200, 300])
@pytest.mark.parametrize("k", [1, 2, 3, 6, 7])
def test_batched_factor_and_solves(m, k):
    A = positive(m, k)
    L = batched_cholesky(A)
    np.testing.assert_allclose(L, np.linalg.cholesky(A), rtol=1e-10, atol=1e-12)  # two orders of the same sums
    B = np.random.default_rng(1).standard_normal((m, k, 4))
    np.testing.assert_allclose(L @ batched_lower_solve(L, B), B, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(L.transpose(0, 2, 1) @ batched_upper_solve(L, B), B, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("m", [3, 250])
@pytest.mark.parametrize("k", [1, 2, 7])
@pytest.mark.parametrize("bad", [-1.0, 0.0])
def test_one_bad_block_is_an_error(m, k, bad):
    A = positive(m, k)
    A[m // 2] = np.eye(k) * bad
    with pytest.raises(NumericalError, match="positive definite"):
        batched_cholesky(A)


def grouped_sparse(m, K, q, share, seed=0):
    """Return A whose K rows of each group have one pattern, as CSR with explicit entries."""
    rng = np.random.default_rng(seed)
    indptr, indices, data = [0], [], []
    for _ in range(m):
        cols = np.flatnonzero(rng.random(q) < share)
        for _ in range(K):
            indices.append(cols)
            data.append(rng.standard_normal(len(cols)))
            indptr.append(indptr[-1] + len(cols))
    return sp.csr_array((np.concatenate(data), np.concatenate(indices), indptr), shape=(m * K, q))


@pytest.mark.parametrize("K", [1, 2, 3])
@pytest.mark.parametrize("way", ["dense", "sparse", "compiled"])
def test_sandwich_every_way(monkeypatch, K, way):
    monkeypatch.setattr(sandwich, "DENSE_SHARE", 0.0 if way == "dense" else 2.0)
    monkeypatch.setattr(sandwich, "COMPILED_WORK", -1.0 if way == "compiled" else np.inf)
    m, q = 9, 7
    A = grouped_sparse(m, K, q, 0.5)
    S = Sandwich(A, K)
    assert (S._dense is not None) == (way == "dense")
    assert (S._panels is not None) == (way == "compiled")
    F = np.random.default_rng(1).standard_normal((m, K, K))
    FA = sp.block_diag(list(F)).toarray() @ A.toarray()
    for _ in range(2):  # the second call finds what the first left in the array
        out = np.full((q, q), 9.0)
        S.fill_lower(F, out)
        np.testing.assert_allclose(np.tril(out), np.tril(FA.T @ FA), rtol=1e-12, atol=1e-12)  # rounding
    inner = positive(1, q)[0]
    expected = (A.toarray() @ inner @ A.toarray().T).reshape(m, K, m, K)[np.arange(m), :, np.arange(m), :]
    np.testing.assert_allclose(S.level_forms(inner), expected, rtol=1e-11, atol=1e-11)  # rounding


def gram(seed=0):
    """Two terms, 4 levels of 2 and 3 levels of 1, from random rows, with a level pair that does not occur."""
    rng = np.random.default_rng(seed)
    n = 20
    a, b = np.arange(n) % 4, np.where(np.arange(n) % 4 == 0, 0, rng.integers(0, 3, n))
    Za, Zb = np.zeros((n, 4, 2)), np.zeros((n, 3, 1))
    Za[np.arange(n), a] = rng.standard_normal((n, 2))
    Zb[np.arange(n), b, 0] = 1.0
    Z = np.hstack([Za.reshape(n, -1), Zb.reshape(n, -1)])
    A = Z.T @ Z
    cells = np.unique(b * 4 + a)
    cross = np.array([A[8 + c // 4, 2 * (c % 4) : 2 * (c % 4) + 2] for c in cells])[:, None, :]
    pairs = {
        (0, 0): BlockPairs(np.arange(4), np.arange(4), A[:8, :8].reshape(4, 2, 4, 2)[np.arange(4), :, np.arange(4)]),
        (1, 0): BlockPairs(cells // 4, cells % 4, cross),
        (1, 1): BlockPairs(np.arange(3), np.arange(3), np.diag(A)[8:].reshape(3, 1, 1)),
    }
    return BlockGram((4, 3), (2, 1), pairs), A


def test_block_gram_is_the_matrix():
    g, A = gram()
    assert g.q == 11
    np.testing.assert_array_equal(g.offsets, [0, 8, 11])
    np.testing.assert_allclose(g.dot(np.eye(11)), A, atol=1e-13)  # sums in another order
    for t, k, start, cells in ((0, 2, 0, 10**6), (0, 2, 0, 1), (1, 1, 8, 10**6)):
        covered = []
        for levels, places, columns in g.column_batches(t, cells):
            for place in np.unique(places):
                sharing = levels[places == place]
                assert len(np.unique(g.components[t][sharing])) == len(sharing)  # one level of each component
                expected = sum(A[:, start + level * k : start + (level + 1) * k] for level in sharing)
                np.testing.assert_allclose(columns[:, place * k : (place + 1) * k], expected, atol=1e-13)
            covered += list(levels)
        assert sorted(covered) == list(range(g.m[t]))
    np.testing.assert_array_equal(g.diagonal(0)[2], A[4:6, 4:6])
    for i, j in g.pairs:
        rows, cols = g.element_indices(i, j)
        np.testing.assert_allclose(A[rows, cols], g.pairs[i, j].values.ravel(), atol=1e-13)


def test_factors_apply_level_by_level():
    g, _ = gram()
    T = (np.array([[1.0, 0.0], [2.0, 3.0]]), np.array([[5.0]]))
    Lambda = np.zeros((11, 11))
    Lambda[:8, :8], Lambda[8:, 8:] = np.kron(np.eye(4), T[0]), 5.0 * np.eye(3)
    B = np.random.default_rng(0).standard_normal((11, 3))
    np.testing.assert_allclose(apply_factor(B, T, g), Lambda @ B, rtol=1e-13)
    np.testing.assert_allclose(apply_transposed(B, T, g), Lambda.T @ B, rtol=1e-13)
    blocks = g.pairs[1, 0].values
    np.testing.assert_allclose(scale_blocks(blocks, T[1], T[0]), np.einsum("ab,nac,cd->nbd", T[1], blocks, T[0]))


def test_eliminable_terms_prefers_the_largest_and_merges_same_levels():
    g, _ = gram()
    assert eliminable_terms(g) == (0,)
    same = BlockGram(
        (4, 4),
        (2, 1),
        {**g.pairs, (1, 1): g.pairs[0, 0], (1, 0): BlockPairs(np.arange(4), np.arange(4), np.ones((4, 1, 2)))},
    )
    assert eliminable_terms(same) == (0, 1)
    off = BlockPairs(np.array([0, 1, 1, 2, 3]), np.array([0, 0, 1, 2, 3]), np.ones((5, 1, 1)))
    assert eliminable_terms(BlockGram((4,), (1,), {(0, 0): off})) == ()
    assert choose_system(BlockGram((4,), (1,), {(0, 0): off})) == "cholmod"


def test_unknown_solver_names_those_there_are():
    g, _ = gram()
    with pytest.raises(ParameterError) as caught:
        make_system(g, "umfpack")
    assert all(name in str(caught.value) for name in SYSTEMS)


class TestRank:
    def test_triangular_factor_in_chunks(self):
        X = np.random.default_rng(0).standard_normal((50, 4))
        R = np.abs(np.linalg.qr(X, mode="r"))
        for chunk in (1, 3, 4, 50, 100):
            found = triangular_factor(X, chunk)
            np.testing.assert_array_equal(found, np.triu(found))
            np.testing.assert_allclose(np.abs(found), R, rtol=1e-11, atol=1e-12)  # orthogonal transformations

    @pytest.mark.parametrize("n", [0, 1, 3])
    def test_fewer_rows_than_columns(self, n):
        X = np.random.default_rng(0).standard_normal((n, 4))
        R = triangular_factor(X)
        assert R.shape == (4, 4)
        np.testing.assert_allclose(R.T @ R, X.T @ X, atol=1e-13)

    def test_input_is_not_overwritten(self):
        X = np.asfortranarray(np.random.default_rng(0).standard_normal((9, 3)))
        kept = X.copy()
        X.flags.writeable = False
        triangular_factor(X)
        independent_columns(X)
        np.testing.assert_array_equal(X, kept)

    @pytest.mark.parametrize("scale", [1e-150, 1e-8, 1.0, 1e8, 1e150])
    def test_first_of_dependent_columns_is_kept_at_any_scale(self, scale):
        rng = np.random.default_rng(0)
        a, b = rng.standard_normal((2, 40))
        X = np.column_stack([a, scale * b, a + 2 * b, np.zeros(40), b - 1e-3 * a, rng.standard_normal(40)])
        assert independent_columns(X) == [0, 1, 5]

    @pytest.mark.parametrize(("distance", "kept"), [(1e-5, 3), (1e-9, 2)])
    def test_tolerance_is_that_of_r(self, distance, kept):
        rng = np.random.default_rng(0)
        a, b, c = rng.standard_normal((3, 40))
        assert len(independent_columns(np.column_stack([a, b, a + b + distance * c]))) == kept


def test_cells_are_found_beyond_32_bits():
    """Codes are int32; level times columns is not."""
    levels, width = 1_100_000, 2_000
    columns = np.arange(levels) % width
    found = selected._find(np.arange(levels + 1), columns, np.arange(levels, dtype=np.int32), columns)
    np.testing.assert_array_equal(found, np.arange(levels))
