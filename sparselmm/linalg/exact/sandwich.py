"""The dense product (FA)'(FA) of a sparse matrix A whose rows come in small groups.

A has m groups of K rows with one sparsity pattern in each group; F holds one K×K matrix per
group and changes with θ, A never does.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.linalg import blas

from sparselmm._typing import FloatArray, IntArray
from sparselmm.linalg.kernels._native import level_quadratic_forms, two_weighted_grams_lower, weighted_gram_lower

DENSE_CELLS = 4_000_000
DENSE_SHARE = 0.15
COMPILED_WORK = 500_000
COMPILED_CELLS = 20_000_000
PANEL_ENTRIES = 65_536  # of the result that are gathered at a time, to stay in cache


class Sandwich:
    """Forms (FA)'(FA) by the cheapest of three ways, chosen once from the pattern of A."""

    def __init__(self, A: sp.csr_array, K: int) -> None:
        self._K = K
        self._m, self._q = A.shape[0] // K, A.shape[1]
        self._A = sp.csr_array(
            (A.data, A.indices.astype(np.int32, copy=False), A.indptr.astype(np.int64, copy=False)), shape=A.shape
        )
        self.work = float((np.diff(A.indptr).astype(float) ** 2).sum())
        cells = A.shape[0] * A.shape[1]
        self._dense: FloatArray | None = None
        self._work_space: FloatArray | None = None
        self._prepared: FloatArray | None = None  # the Q (K = 1) whose product is in the work space
        self._panels: tuple[IntArray, IntArray, IntArray, int] | None = None
        if cells <= DENSE_CELLS and A.nnz >= DENSE_SHARE * cells:
            self._dense = self._filled()
        elif self.work > COMPILED_WORK or cells > COMPILED_CELLS:
            self._panels = self._panel_lists()

    def _filled(self) -> FloatArray:
        return np.asarray(self._A.toarray().reshape(self._m, self._K, self._q))

    def update(self, data: FloatArray) -> None:
        """Put other numbers into the pattern of A, in the order of its stored entries."""
        np.copyto(self._A.data, data)
        self._prepared = None
        if self._dense is not None:
            self._dense = self._filled()

    def _panel_lists(self) -> tuple[IntArray, IntArray, IntArray, int]:
        """Return where the list of each panel starts, the rows that touch it, their first entries, and the width."""
        A = self._A
        width = max(4, PANEL_ENTRIES // self._q)
        count = -(-self._q // width)
        panel = A.indices // width
        row = np.repeat(np.arange(A.shape[0]), np.diff(A.indptr))
        starts = np.flatnonzero(np.diff(row * count + panel, prepend=-1))
        order = np.argsort(panel[starts], kind="stable")
        first = starts[order]
        pointer = np.searchsorted(panel[first], np.arange(count + 1))
        return pointer, row[first], first, width

    def fill_lower(self, F: FloatArray, out: FloatArray, Q: FloatArray | None = None) -> None:
        """Write (FA)'(FA) into the lower triangle of ``out``, (q, q), C-ordered; F is (m, K, K).

        Q, (m, K, K), is what `form_sums` will be asked for next: its product is formed in the same pass
        where that saves work.
        """
        if self._dense is not None:
            B = (F @ self._dense).reshape(self._m * self._K, self._q)
            # the transpose of a C-ordered array is what Fortran calls the matrix: its upper triangle
            blas.dsyrk(1.0, B.T, lower=0, c=out.T, overwrite_c=1)
            return
        if self._panels is not None and self._K == 1 and Q is not None:
            self._with_sums(F[:, 0, 0], Q[:, 0, 0], out)
            return
        data = self._grouped(F)
        if self._panels is not None:
            self._compiled(data, data, np.ones(self._A.shape[0]), out)
            return
        FA = sp.csr_array((data, self._A.indices, self._A.indptr), shape=self._A.shape)
        out[:] = (FA.T @ FA).toarray()

    def _with_sums(self, F: FloatArray, Q: FloatArray, out: FloatArray) -> None:
        assert self._panels is not None
        if self._work_space is None:
            self._work_space = np.zeros((self._q, self._q))  # its upper triangle stays zero
        A = self._A
        two_weighted_grams_lower(A.indptr, A.indices, A.data, *self._panels, F**2, Q**2, out, self._work_space)
        self._prepared = Q.copy()

    def _compiled(self, left: FloatArray, right: FloatArray, d: FloatArray, out: FloatArray) -> None:
        assert self._panels is not None
        weighted_gram_lower(self._A.indptr, self._A.indices, left, right, *self._panels, d, out)

    def middle(self, C: FloatArray) -> FloatArray:
        """Return Σ_l A_l'C_lA_l, (q, q), symmetric and full, for symmetric (m, K, K) matrices C."""
        if self._dense is not None:
            flat = self._dense.reshape(self._m * self._K, self._q)
            return np.asarray(flat.T @ (C @ self._dense).reshape(self._m * self._K, self._q))
        right = self._grouped(C)
        if self._panels is None:
            B = sp.csr_array((right, self._A.indices, self._A.indptr), shape=self._A.shape)
            return np.asarray((self._A.T @ B).toarray())
        out = np.zeros((self._q, self._q))
        self._compiled(self._A.data, right, np.ones(self._A.shape[0]), out)
        out += np.tril(out, -1).T
        return out

    @property
    def sparse(self) -> sp.csr_array:
        """A, (m*K, q), sparse."""
        return self._A

    @property
    def cross(self) -> sp.csr_array | FloatArray:
        """A, (m*K, q), dense where it is well filled."""
        return self._A if self._dense is None else self._dense.reshape(self._m * self._K, self._q)

    def _grouped(self, F: FloatArray) -> FloatArray:
        """Return the stored values of FA, in the pattern of A."""
        A, K = self._A, self._K
        counts = np.diff(A.indptr)[::K]
        if K == 1:
            out: FloatArray = A.data * np.repeat(F[:, 0, 0], counts)
            return out
        group = np.repeat(np.arange(self._m), counts)
        # position of the entries of row (group, 0); those of row (group, a) come a * count later
        base = (
            np.repeat(A.indptr[:-1:K], counts) + np.arange(len(group)) - np.repeat(np.cumsum(counts) - counts, counts)
        )
        width = counts[group]
        rows = [A.data[base + a * width] for a in range(K)]
        data = np.empty_like(A.data)
        for a in range(K):
            mixed = F[group, a, 0] * rows[0]
            for b in range(1, K):
                mixed += F[group, a, b] * rows[b]
            data[base + a * width] = mixed
        return data

    def form_sums(self, inner: FloatArray, Q: FloatArray) -> FloatArray:
        """Return Σ_l Q_l A_l · inner · A_l'Q_l', (K, K), for Q of shape (m, K, K); inner is symmetric."""
        if self._panels is None:
            return np.asarray((Q @ self.level_forms(inner) @ Q.transpose(0, 2, 1)).sum(axis=0))
        if self._work_space is None:
            self._work_space = np.zeros((self._q, self._q))  # its upper triangle stays zero
        out = np.empty((self._K, self._K))
        for a in range(self._K):
            for b in range(a + 1):
                if self._prepared is None or not np.array_equal(self._prepared, Q[:, 0, 0]):
                    C = np.einsum("mi,mj->mij", Q[:, a], Q[:, b]) / 2.0
                    right = self._grouped(C + C.transpose(0, 2, 1))
                    self._compiled(self._A.data, right, np.ones(self._A.shape[0]), self._work_space)
                lower = 2.0 * float(np.vdot(inner.T, self._work_space))
                out[a, b] = out[b, a] = lower - float(inner.diagonal() @ self._work_space.diagonal())
        return out

    def level_forms(self, inner: FloatArray) -> FloatArray:
        """Return A_l · inner · A_l' for each group l, (m, K, K); inner is (q, q), symmetric."""
        out = np.empty((self._m, self._K, self._K))
        if self._dense is not None:
            product = (self._dense.reshape(-1, self._q) @ inner).reshape(self._dense.shape)
            return np.asarray(product @ self._dense.transpose(0, 2, 1))
        if self._panels is not None:
            level_quadratic_forms(self._A.indptr, self._A.indices, self._A.data, self._K, inner, out)
            return out
        step = max(1, 4_000_000 // max(self._q * self._K, 1))
        for first in range(0, self._m, step):
            last = min(first + step, self._m)
            rows = self._A[first * self._K : last * self._K]
            product = np.asarray(rows @ inner)
            level = np.repeat(np.arange(last - first), np.diff(rows.indptr)[:: self._K])
            for a in range(self._K):
                left = rows[a :: self._K]
                for b in range(self._K):
                    picked = left.data * product[b :: self._K][level, left.indices]
                    out[first:last, a, b] = np.bincount(level, weights=picked, minlength=last - first)
        return out
