"""Symmetric matrices stored as blocks between random terms.

Z'WZ of a model with terms of m_t levels and k_t coefficients has a sparse pattern of
k_t×k_s blocks, one for each pair of levels that occur together in a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sparselmm._typing import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class BlockPairs:
    """Blocks between the levels of two terms, sorted by row then column, each pair once.

    Attributes
    ----------
    rows, cols : (nb,) int arrays
        Level of the first and of the second term.
    values : (nb, k_row, k_col) array
        The blocks.
    """

    rows: IntArray
    cols: IntArray
    values: FloatArray

    @cached_property
    def is_block_diagonal(self) -> bool:
        """Whether every block joins a level with itself."""
        return bool(np.array_equal(self.rows, self.cols))


@dataclass(frozen=True)
class BlockGram:
    """The blocks of Z'WZ for all pairs of terms (i, j) with i >= j.

    Attributes
    ----------
    m, k : tuple of int
        Levels and coefficients of each term.
    pairs : dict
        ``pairs[i, j]`` for i >= j; the pairs (i, i) hold the lower triangle of levels.
    """

    m: tuple[int, ...]
    k: tuple[int, ...]
    pairs: dict[tuple[int, int], BlockPairs]

    @property
    def sizes(self) -> IntArray:
        """Columns of Z per term."""
        return np.array(self.m, dtype=np.int64) * np.array(self.k, dtype=np.int64)

    @cached_property
    def offsets(self) -> IntArray:
        """First column of each term in Z, and q at the end, (n_terms + 1,)."""
        return np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.int64)

    @property
    def q(self) -> int:
        """Columns of Z."""
        return int(self.offsets[-1])

    def diagonal(self, t: int) -> FloatArray:
        """Return the (m, k, k) diagonal blocks of term t."""
        pair = self.pairs[t, t]
        if pair.is_block_diagonal and len(pair.rows) == self.m[t]:
            return pair.values
        out = np.zeros((self.m[t], self.k[t], self.k[t]))
        on = pair.rows == pair.cols
        out[pair.rows[on]] = pair.values[on]
        return out

    def element_indices(self, i: int, j: int) -> tuple[IntArray, IntArray]:
        """Return the row and column in Z'WZ of each entry of ``pairs[i, j].values``, flattened."""
        pair = self.pairs[i, j]
        ki, kj = self.k[i], self.k[j]
        shape = (len(pair.rows), ki, kj)
        rows = self.offsets[i] + pair.rows[:, None, None] * ki + np.arange(ki)[None, :, None]
        cols = self.offsets[j] + pair.cols[:, None, None] * kj + np.arange(kj)[None, None, :]
        return np.broadcast_to(rows, shape).ravel(), np.broadcast_to(cols, shape).ravel()


Templates = tuple[FloatArray, ...]


def scale_blocks(values: FloatArray, left: FloatArray, right: FloatArray) -> FloatArray:
    """Return left' B right for each block B, (nb, k_row, k_col)."""
    if left.shape == (1, 1) and right.shape == (1, 1):
        return values * (left[0, 0] * right[0, 0])
    out: FloatArray = left.T @ values @ right
    return out


def apply_transposed(B: FloatArray, templates: Templates, gram: BlockGram) -> FloatArray:
    """Return Λ'B for a (q, r) matrix."""
    return _apply(B, tuple(T.T for T in templates), gram)


def apply_factor(B: FloatArray, templates: Templates, gram: BlockGram) -> FloatArray:
    """Return ΛB for a (q, r) matrix."""
    return _apply(B, templates, gram)


def _apply(B: FloatArray, matrices: Templates, gram: BlockGram) -> FloatArray:
    out = np.empty_like(B)
    r = B.shape[1]
    for t, T in enumerate(matrices):
        a, b = gram.offsets[t], gram.offsets[t + 1]
        if T.shape == (1, 1):
            np.multiply(B[a:b], T[0, 0], out=out[a:b])
        else:
            out[a:b] = (T @ B[a:b].reshape(gram.m[t], gram.k[t], r)).reshape(b - a, r)
    return out


def lower_part(rows: IntArray, cols: IntArray) -> BoolArray:
    """Return which entries lie on or below the diagonal."""
    return rows >= cols
