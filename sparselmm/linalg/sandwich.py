"""The dense product (FA)'(FA) of a sparse matrix A whose rows come in small groups.

A has m groups of K rows with one sparsity pattern in each group; F holds one K×K matrix per
group and changes with θ, A never does.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.linalg import blas

from sparselmm._typing import FloatArray

DENSE_CELLS = 4_000_000
DENSE_SHARE = 0.15
LARGE_WORK = 3_000_000


class Sandwich:
    """Forms (FA)'(FA) by the cheapest of three ways, chosen once from the pattern of A."""

    def __init__(self, A: sp.csr_array, K: int) -> None:
        self._A, self._K = A, K
        self._m, self._q = A.shape[0] // K, A.shape[1]
        cells = A.shape[0] * A.shape[1]
        per_row = np.diff(A.indptr).astype(float)
        self.work = float((per_row**2).sum())
        self._dense: FloatArray | None = None
        self._tabmat = None
        if cells <= DENSE_CELLS and A.nnz >= DENSE_SHARE * cells:
            self._dense = A.toarray().reshape(self._m, K, self._q)
        elif K == 1 and self.work > LARGE_WORK:
            from tabmat import SparseMatrix

            self._tabmat = SparseMatrix(sp.csc_matrix(A))

    def dense(self, F: FloatArray) -> FloatArray:
        """Return (FA)'(FA), (q, q), Fortran-ordered, owned by the caller; F is (m, K, K)."""
        if self._dense is not None:
            B = (F @ self._dense).reshape(self._m * self._K, self._q)
            lower = blas.dsyrk(1.0, B.T, lower=1)
            out: FloatArray = lower + np.tril(lower, -1).T
            return np.asfortranarray(out)
        if self._tabmat is not None:
            return np.asarray(self._tabmat.sandwich(F[:, 0, 0] ** 2)).T
        if self._K == 1:
            B = sp.csr_array((self._A.data * np.repeat(F[:, 0, 0], np.diff(self._A.indptr)), self._A.indices,
                              self._A.indptr), shape=self._A.shape)
        else:
            B = self._grouped(F)
        return np.asfortranarray((B.T @ B).toarray())

    def _grouped(self, F: FloatArray) -> sp.csr_array:
        """Return FA; the K rows of a group share their pattern."""
        A, K = self._A, self._K
        counts = np.diff(A.indptr)[::K]
        group = np.repeat(np.arange(self._m), counts)
        # position of the entries of row (group, 0); row (group, a) starts counts[group] * a later
        base = np.repeat(A.indptr[:-1:K], counts) + _ramps(counts)
        rows = [A.data[base + a * counts[group]] for a in range(K)]
        data = np.empty_like(A.data)
        for a in range(K):
            mixed = sum(F[group, a, b] * rows[b] for b in range(K))
            data[base + a * counts[group]] = mixed
        return sp.csr_array((data, A.indices, A.indptr), shape=A.shape)

    def level_forms(self, inner: FloatArray) -> FloatArray:
        """Return A_l · inner · A_l' for each group l, (m, K, K); inner is (q, q) symmetric."""
        out = np.empty((self._m, self._K, self._K))
        step = max(1, 8_000_000 // max(self._q * self._K, 1))
        for first in range(0, self._m, step):
            last = min(first + step, self._m)
            rows = self._A[first * self._K : last * self._K]
            product = np.asarray(rows @ inner)
            for a in range(self._K):
                left = rows[a :: self._K]
                for b in range(self._K):
                    picked = product[b :: self._K][np.repeat(np.arange(last - first), np.diff(left.indptr)), left.indices]
                    out[first:last, a, b] = _row_sums(left, left.data * picked)
        return out


def _ramps(counts: np.ndarray) -> np.ndarray:
    """Return 0..c-1 for each count c, concatenated."""
    total = int(counts.sum())
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    out: np.ndarray = np.arange(total) - starts
    return out


def _row_sums(A: sp.csr_array, values: FloatArray) -> FloatArray:
    rows = np.repeat(np.arange(A.shape[0]), np.diff(A.indptr))
    return np.bincount(rows, weights=values, minlength=A.shape[0]).astype(np.float64)
