"""Products with the sparse block that couples two grouping factors."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from sparselmm._typing import AnyArray, FloatArray, IntArray


class CrossBlock:
    """The sparse block A = Z_left'WZ_right, (m_left*k_left, m_right*k_right), of k_left x k_right cells.

    Parameters
    ----------
    rows, cols : (nb,) integer arrays
        Levels of the cells, sorted by row, then by column.
    values : (nb, k_left, k_right) float64
        The cells; may be a broadcast of one value.
    m_left, m_right : int
        Numbers of levels.
    threads : int
        Number of threads the products may use.
    """

    def __init__(
        self, rows: IntArray, cols: IntArray, values: FloatArray, m_left: int, m_right: int, threads: int = 1
    ) -> None:
        self.nnz = len(rows)
        self.m_left, self.m_right, self.threads = m_left, m_right, threads
        _, self.k_left, self.k_right = values.shape
        self._rows, self._cols, self._values = rows, cols, np.ascontiguousarray(values)
        indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=m_left))])
        shape = (m_left * self.k_left, m_right * self.k_right)
        self._matrix = sp.csr_array(sp.bsr_array((self._values, cols, indptr), shape=shape))
        self.bytes = 2 * (self._matrix.data.nbytes + self._matrix.indices.nbytes)

    def dot(self, X: AnyArray) -> AnyArray:
        """Return A X, (m_left*k_left, c), for X (m_right*k_right, c), in the dtype of X."""
        return np.asarray(self._matrix @ X, X.dtype)

    def tdot(self, Y: AnyArray) -> AnyArray:
        """Return A'Y, (m_right*k_right, c), for Y (m_left*k_left, c), in the dtype of Y."""
        return np.asarray(self._matrix.T @ Y, Y.dtype)

    def quadratic_left(self, B: FloatArray) -> FloatArray:
        """Return Σ_j a_ij B_j a_ij' per row i, (m_left, k_left, k_left), for B (m_right, k_right, k_right)."""
        out = np.zeros((self.m_left, self.k_left, self.k_left))
        np.add.at(out, self._rows, self._values @ B[self._cols] @ self._values.transpose(0, 2, 1))
        return out

    def quadratic_right(self, B: FloatArray) -> FloatArray:
        """Return Σ_i a_ij' B_i a_ij per column j, (m_right, k_right, k_right), for B (m_left, k_left, k_left)."""
        out = np.zeros((self.m_right, self.k_right, self.k_right))
        np.add.at(out, self._cols, self._values.transpose(0, 2, 1) @ B[self._rows] @ self._values)
        return out
