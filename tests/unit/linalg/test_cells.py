"""Compiled counting sorts give the blocks that numpy and scipy give."""

from __future__ import annotations

import numpy as np
import pytest

from sparselmm.linalg import blocks
from sparselmm.linalg import cells as module
from sparselmm.linalg.blocks import BlockGram
from sparselmm.linalg.cells import CodedRows, add_level_sums, cells, level_blocks, level_sums

M = (7, 5)


@pytest.fixture
def rng():
    return np.random.default_rng(8)


def coded(rng: np.random.Generator, n: int, m: int, k: int, *, frozen: bool = True) -> CodedRows:
    codes = rng.integers(0, m, n).astype(np.int32)
    codes[:m] = np.arange(m)
    Z = None if k == 0 else rng.standard_normal((n, k))
    if Z is not None:
        Z.flags.writeable = False
    codes.flags.writeable = not frozen
    return CodedRows(codes, m, Z)


def both(monkeypatch: pytest.MonkeyPatch, function, *arguments):
    few = function(*arguments)
    monkeypatch.setattr(module, "MANY_ROWS", 1)
    return few, function(*arguments)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("ka", "kb"), [(0, 0), (1, 0), (0, 1), (2, 0), (0, 3), (2, 2)])
def test_cells(monkeypatch, rng, ka, kb, weighted):
    a, b = coded(rng, 60, M[0], ka), coded(rng, 60, M[1], kb)
    w = rng.uniform(0.5, 2.0, 60) if weighted else None
    few, many = both(monkeypatch, cells, a, b, w)
    for found in (few, many):
        assert (np.diff(found.keys(M[1])) > 0).all()
        assert found.rows.dtype == found.cols.dtype == np.int32
    np.testing.assert_array_equal(many.keys(M[1]), few.keys(M[1]))
    np.testing.assert_allclose(many.values, few.values, rtol=1e-14, atol=1e-14)
    dense = np.zeros((M[0], M[1], *few.values.shape[1:]))
    for r in range(60):
        za, zb = (np.ones(1) if x.Z is None else x.Z[r] for x in (a, b))
        dense[a.codes[r], b.codes[r]] += np.outer(za, zb) * (1.0 if w is None else w[r])
    np.testing.assert_allclose(many.values, dense[many.rows, many.cols], atol=1e-13)


def test_cells_of_single_rows_share_one_number(monkeypatch, rng):
    keys = rng.permutation(M[0] * M[1])[:20].astype(np.int32)
    a, b = CodedRows(keys // M[1], M[0], None), CodedRows(keys % M[1], M[1], None)
    few, many = both(monkeypatch, cells, a, b, None)
    assert many.values.strides[0] == 0
    np.testing.assert_array_equal(many.values, few.values)
    np.testing.assert_array_equal(many.rows, np.sort(keys) // M[1])
    np.testing.assert_array_equal(many.cols, np.sort(keys) % M[1])
    np.testing.assert_array_equal(many.matrix(*M).toarray(), few.matrix(*M).toarray())


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("ka", "kb"), [(0, 0), (2, 0), (2, 3)])
def test_level_blocks(monkeypatch, rng, ka, kb, weighted):
    a = coded(rng, 60, 4, ka, frozen=False)
    b = CodedRows(a.codes, 4, None if kb == 0 else rng.standard_normal((60, kb)))
    w = rng.uniform(0.5, 2.0, 60) if weighted else None
    few, many = both(monkeypatch, level_blocks, a, b, w)
    assert many.is_block_diagonal
    np.testing.assert_allclose(many.values, few.values, rtol=1e-13, atol=1e-13)
    itself = level_blocks(a, a, w).values
    np.testing.assert_allclose(itself, itself.transpose(0, 2, 1), rtol=1e-14)


@pytest.mark.parametrize("k", [0, 1, 3])
def test_level_sums(rng, k):
    a, right = coded(rng, 60, 4, k), rng.standard_normal((60, 3))
    out = np.ones((4, max(k, 1), 3))
    for rows in (slice(0, 25), slice(25, 60)):
        add_level_sums(CodedRows(a.codes[rows], 4, None if a.Z is None else a.Z[rows]), right[rows], out)
    np.testing.assert_allclose(out, 1.0 + level_sums(a, right), rtol=1e-13)


def test_components_without_copies(monkeypatch, rng):
    a, b = rng.integers(0, 40, 45).astype(np.int32), rng.integers(0, 30, 45).astype(np.int32)
    left, right = CodedRows(a, 40, None), CodedRows(b, 30, None)
    pairs = {
        (0, 0): level_blocks(left, left, None),
        (1, 0): cells(right, left, None),
        (1, 1): level_blocks(right, right, None),
    }
    few = np.concatenate(BlockGram((40, 30), (1, 1), pairs).components)
    monkeypatch.setattr(blocks, "MANY_CELLS", 1)
    many = np.concatenate(BlockGram((40, 30), (1, 1), pairs).components)
    assert len(np.unique(few)) > 3
    np.testing.assert_array_equal(few[:, None] == few, many[:, None] == many)
    assert many.max() + 1 == len(np.unique(many))
