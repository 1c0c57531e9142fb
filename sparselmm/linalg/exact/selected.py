"""ΛM⁻¹Λ' for pairs of levels that occur together: σ² times it is the covariance of the conditional modes.

Only entries in the pattern of Z'WZ are computed. They are what a row's leverage and the variance of
its fitted value need; a full inverse of M is never formed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.linalg import lapack

from sparselmm._typing import FloatArray, IntArray
from sparselmm.linalg.blocks import BlockGram, Templates, scale_blocks
from sparselmm.linalg.kernels import _native as native
from sparselmm.linalg.protocol import Pairs

SMALL = 400
PLAIN_WORK = 5e6


def pairs_from_full(gram: BlockGram, inverse: FloatArray, templates: Templates) -> Pairs:
    """Return the pairs from the dense M⁻¹, (q, q)."""
    out = {}
    for (i, j), pair in gram.pairs.items():
        rows, cols = gram.element_indices(i, j)
        blocks = inverse[rows, cols].reshape(pair.values.shape)
        out[i, j] = scale_blocks(blocks, templates[i].T, templates[j].T)
    return out


class SelectedInverse:
    """The entries of M⁻¹ in the pattern of its factor L L' = M[P][:, P], by Takahashi's recursion."""

    def __init__(self, L: sp.csc_array, P: IntArray) -> None:
        L.sort_indices()
        q = self._q = L.shape[0]
        indptr, indices = L.indptr.astype(np.int64), L.indices.astype(np.int64)
        full = np.diff(indptr) == np.arange(q, 0, -1)
        cut = 0 if full.all() else int(np.flatnonzero(~full)[-1]) + 1  # the columns from here on are a dense triangle
        dense = np.zeros((q - cut, q - cut), order="F")
        column = np.repeat(np.arange(cut, q), np.diff(indptr)[cut:])
        dense[indices[indptr[cut] :] - cut, column - cut] = L.data[indptr[cut] :]
        dense, _ = lapack.dpotri(dense, lower=1, overwrite_c=1)
        self._dense = np.tril(dense) + np.tril(dense, -1).T
        self._values = np.zeros(indptr[cut])
        native.takahashi(indptr, indices, L.data, cut, self._dense, self._values)
        self._position = np.empty(q, dtype=np.int64)
        self._position[P] = np.arange(q)
        self._cut = cut
        self._keys = np.repeat(np.arange(cut), np.diff(indptr)[:cut]) * q + indices[: indptr[cut]]

    def entries(self, rows: IntArray, cols: IntArray) -> FloatArray:
        """Return M⁻¹[rows, cols], (n,), for entries in the pattern of M."""
        r, c = self._position[rows], self._position[cols]
        low, high = np.minimum(r, c), np.maximum(r, c)
        tail = low >= self._cut
        found = np.empty(len(r))
        found[tail] = self._dense[high[tail] - self._cut, low[tail] - self._cut]
        found[~tail] = self._values[np.searchsorted(self._keys, low[~tail] * self._q + high[~tail])]
        return found


def diagonal_from_factor(gram: BlockGram, L: sp.csc_array, P: IntArray) -> tuple[FloatArray, ...]:
    """Return the diagonal blocks of M⁻¹, one (m, k, k) array per term."""
    inverse = SelectedInverse(L, P)
    out = []
    for t, (m, k) in enumerate(zip(gram.m, gram.k)):
        at = gram.offsets[t] + np.arange(m)[:, None] * k + np.arange(k)
        rows, cols = np.broadcast_arrays(at[:, :, None], at[:, None, :])
        out.append(inverse.entries(rows.ravel(), cols.ravel()).reshape(m, k, k))
    return tuple(out)


def pairs_from_factor(gram: BlockGram, L: sp.csc_array, P: IntArray, templates: Templates) -> Pairs:
    """Return the pairs by Takahashi's recursion on the pattern of the factor L L' = M[P][:, P]."""
    inverse = SelectedInverse(L, P)
    out = {}
    for (i, j), pair in gram.pairs.items():
        found = inverse.entries(*gram.element_indices(i, j))
        out[i, j] = scale_blocks(found.reshape(pair.values.shape), templates[i].T, templates[j].T)
    return out


@dataclass(frozen=True)
class EliminatedLevels:
    """The eliminated part of a Schur factorisation, by level.

    Attributes
    ----------
    terms, rest : tuple of int
        The eliminated terms, all on the same m levels, and the others.
    G : (m, K, K) array
        Λ1 M11⁻¹ Λ1' of each level.
    A12 : (m*K, q2) sparse array or None
        Z1'WZ2; the K rows of a level have one pattern with sorted columns.
    E22 : (q2, q2) array
        Λ2 S⁻¹ Λ2'.
    """

    terms: tuple[int, ...]
    rest: tuple[int, ...]
    G: FloatArray
    A12: sp.csr_array | None
    E22: FloatArray

    def pairs(self, gram: BlockGram) -> Pairs:
        """Return all pairs."""
        starts = np.cumsum([0] + [gram.k[t] for t in self.terms])
        own = {t: slice(starts[x], starts[x + 1]) for x, t in enumerate(self.terms)}
        E11, cross, level_ptr, columns = self._solve()
        first = np.cumsum([0] + [int(gram.sizes[t]) for t in self.rest])
        offset = dict(zip(self.rest, first))
        out: Pairs = {}
        for (i, j), pair in gram.pairs.items():
            if i in own and j in own:
                out[i, j] = E11[pair.rows][:, own[i], own[j]]
            elif i in offset and j in offset:
                rows = offset[i] + pair.rows[:, None] * gram.k[i] + np.arange(gram.k[i])
                cols = offset[j] + pair.cols[:, None] * gram.k[j] + np.arange(gram.k[j])
                out[i, j] = self.E22[rows[:, :, None], cols[:, None, :]]
            else:
                mine, other = (i, j) if i in own else (j, i)
                levels, others = (pair.rows, pair.cols) if i in own else (pair.cols, pair.rows)
                col = offset[other] + others[:, None] * gram.k[other] + np.arange(gram.k[other])
                at = _find(level_ptr, columns, np.repeat(levels, gram.k[other]), col.ravel())
                blocks = cross[at][:, own[mine]].reshape(len(levels), gram.k[other], gram.k[mine])
                out[i, j] = blocks.transpose(0, 2, 1) if i in own else blocks
        return out

    def _solve(self) -> tuple[FloatArray, FloatArray, IntArray, IntArray]:
        """Return E11 by level, and E12 as K numbers per cell with the cells' level pointers and columns."""
        m, K, _ = self.G.shape
        if self.A12 is None:
            return self.G, np.zeros((0, K)), np.zeros(m + 1, dtype=np.int64), np.zeros(0, dtype=np.int64)
        A = self.A12
        counts = np.diff(A.indptr)[::K].astype(np.int64)
        level = np.repeat(np.arange(m), counts)
        ptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        within = np.arange(len(level)) - ptr[level]
        place = A.indptr[level * K].astype(np.int64) + within
        columns = A.indices[place].astype(np.int64)
        values = np.stack([A.data[place + a * counts[level]] for a in range(K)], axis=1)
        products = pattern_products(ptr, columns, values, self.E22)
        forms = np.zeros((m, K, K))
        for a in range(K):
            for b in range(K):
                forms[:, a, b] = np.bincount(level, weights=values[:, a] * products[:, b], minlength=m)
        E11 = self.G + self.G @ forms @ self.G
        cross = -(self.G[level] @ products[:, :, None])[:, :, 0]
        return E11, cross, ptr, columns


def pattern_products(ptr: IntArray, columns: IntArray, values: FloatArray, inner: FloatArray) -> FloatArray:
    """Return the rows of A·inner in the pattern of A, one K-vector per cell.

    ``ptr`` and ``columns`` are the CSR pattern of the levels, ``values`` (cells, K) the entries and
    ``inner`` (q2, q2) is symmetric.
    """
    out = np.zeros_like(values)
    if len(columns) * len(inner) > PLAIN_WORK:
        native.pattern_products(ptr, columns, values, np.ascontiguousarray(inner.T), out)
        return out
    level = np.repeat(np.arange(len(ptr) - 1), np.diff(ptr))
    for a in range(values.shape[1]):
        A = sp.csr_array((np.ascontiguousarray(values[:, a]), columns, ptr), shape=(len(ptr) - 1, len(inner)))
        out[:, a] = np.asarray(A @ inner)[level, columns]
    return out


def _find(ptr: IntArray, columns: IntArray, level: IntArray, col: IntArray) -> IntArray:
    """Return the positions of the cells (level, col) in a CSR pattern with sorted columns."""
    width = int(columns.max(initial=0)) + 1
    keys = np.repeat(np.arange(len(ptr) - 1), np.diff(ptr)) * width + columns
    return np.searchsorted(keys, level.astype(np.int64) * width + col)
