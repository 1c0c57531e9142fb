"""Blocks of Z'WZ from rows with level codes: one per level of a term, one per pair of levels of two.

Few rows go through numpy and scipy; many through compiled counting sorts, which need neither
sorting by comparison nor long float temporaries.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp

from sparselmm._typing import FloatArray, IntArray
from sparselmm.linalg.blocks import BlockPairs
from sparselmm.linalg.kernels._native import (
    add_level_products,
    count_cells,
    fill_cells,
    level_starts,
    place_distinct,
    sort_by_pair,
)
from sparselmm.linalg.kernels.types import same_type

MANY_ROWS = 2_000_000


@dataclass(frozen=True)
class CodedRows:
    """The rows of a random term given by one factor.

    Attributes
    ----------
    codes : (n,) int array
        Level of each row.
    m : int
        Levels.
    Z : (n, k) array or None
        Values that multiply the k coefficients of the row's level; None for a column of ones.
    """

    codes: IntArray
    m: int
    Z: FloatArray | None

    @property
    def k(self) -> int:
        """Coefficients per level."""
        return 1 if self.Z is None else self.Z.shape[1]

    def times(self, j: int, other: FloatArray | None) -> FloatArray | None:
        """Return column j of Z times another vector, None for ones."""
        if self.Z is None:
            return other
        return self.Z[:, j] if other is None else self.Z[:, j] * other


def many(n: int) -> bool:
    """Whether so many rows are worth compiled loops."""
    return n >= MANY_ROWS


def level_blocks(a: CodedRows, b: CodedRows, weights: FloatArray | None) -> BlockPairs:
    """Return Σ w z_a z_b' over the rows of each level, for two terms with the same codes."""
    levels = np.arange(a.m, dtype=a.codes.dtype)
    out = np.zeros((a.m, a.k, b.k))
    if many(len(a.codes)):
        add_level_products(a.codes, *_stepped(a.Z), *_stepped(b.Z), *_stepped_vector(weights), out)
        return BlockPairs(levels, levels, out)
    for i in range(a.k):
        for j in range(b.k):
            if a is b and j < i:
                out[:, i, j] = out[:, j, i]
            else:
                out[:, i, j] = np.bincount(a.codes, weights=b.times(j, a.times(i, weights)), minlength=a.m)
    return BlockPairs(levels, levels, out)


def level_sums(a: CodedRows, right: FloatArray) -> FloatArray:
    """Return Σ z x' over the rows of each level, (m, k, r), x the rows of ``right``, (n, r)."""
    out = np.empty((a.m, a.k, right.shape[1]))
    codes = a.codes.astype(np.intp, copy=False)
    for i in range(a.k):
        for j in range(right.shape[1]):
            out[:, i, j] = np.bincount(codes, weights=a.times(i, right[:, j]), minlength=a.m)
    return out


def add_level_sums(a: CodedRows, right: FloatArray, out: FloatArray) -> None:
    """Add `level_sums` of many rows to out, (m, k, r), in one compiled pass."""
    add_level_products(a.codes, *_stepped(a.Z), *_stepped(right), *_stepped_vector(None), out)


def cells(a: CodedRows, b: CodedRows, weights: FloatArray | None) -> BlockPairs:
    """Return Σ w z_a z_b' over the rows of each pair of levels that occurs, sorted by both."""
    if many(len(a.codes)):
        return _counted(a, b, weights)
    if a.k == b.k == 1:
        w = b.times(0, a.times(0, weights))
        data = np.ones(len(a.codes)) if w is None else w
        C = sp.coo_array((data, (a.codes, b.codes)), shape=(a.m, b.m)).tocsr()
        C.sort_indices()
        return BlockPairs(_repeated(np.diff(C.indptr), a), C.indices, C.data.reshape(-1, 1, 1))
    found, distinct = pd.factorize(a.codes.astype(np.int64) * b.m + b.codes)
    order = np.argsort(distinct)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    cell = rank[found]
    blocks = level_blocks(CodedRows(cell, len(order), a.Z), CodedRows(cell, len(order), b.Z), weights)
    distinct = distinct[order]
    rows, cols = (distinct // b.m).astype(a.codes.dtype), (distinct % b.m).astype(b.codes.dtype)
    return BlockPairs(rows, cols, blocks.values)


def _repeated(counts: IntArray, a: CodedRows) -> IntArray:
    """Return each level of a as often as it has cells."""
    return np.repeat(np.arange(a.m, dtype=a.codes.dtype), counts)


def _stepped(Z: FloatArray | None) -> tuple[FloatArray, int]:
    """Return a matrix, C-ordered, and the step from one of its rows to the next: 0 where all are one."""
    return (np.ones((1, 1)), 0) if Z is None else (np.ascontiguousarray(Z), 1)


def _stepped_vector(w: FloatArray | None) -> tuple[FloatArray, int]:
    return (np.ones(1), 0) if w is None else (np.ascontiguousarray(w), 1)


def _counted(a: CodedRows, b: CodedRows, weights: FloatArray | None) -> BlockPairs:
    """Return `cells` by counting sorts."""
    n, a_starts, b_starts = len(a.codes), np.empty(a.m + 1, dtype=np.int64), np.empty(b.m + 1, dtype=np.int64)
    a_codes, b_codes = same_type(a.codes, b.codes)
    level_starts(a_codes, a_starts)
    level_starts(b_codes, b_starts)
    if a.Z is None and b.Z is None and weights is None:
        cols, by_b = np.empty(n, dtype=b_codes.dtype), np.empty(n, dtype=b_codes.dtype)
        if place_distinct(a_codes, b_codes, a_starts, b_starts, by_b, cols):
            ones = np.broadcast_to(np.float64(1.0), (n, 1, 1))
            return BlockPairs(_repeated(np.diff(a_starts), a), cols, ones)
        del cols, by_b
    position = np.int32 if n <= np.iinfo(np.int32).max else np.int64
    order: IntArray = np.empty(n, dtype=position)
    sort_by_pair(a_codes, b_codes, a_starts, b_starts, np.empty(n, dtype=position), order)
    counts = np.empty(a.m, dtype=np.int64)
    count_cells(order, b_codes, a_starts, counts)
    size = int(counts.sum())
    cols, values = np.empty(size, dtype=b_codes.dtype), np.zeros((size, a.k, b.k))
    right = (*_stepped(b.Z), *_stepped_vector(weights))
    fill_cells(order, b_codes, a_starts, *_stepped(a.Z), *right, cols, values)
    return BlockPairs(_repeated(counts, a), cols, values)
