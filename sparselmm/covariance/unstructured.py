"""``us``: any covariance."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sparselmm._typing import BoolArray, FloatArray, IntArray
from sparselmm.covariance.base import CovarianceStructure, FreeEntry, lower_factor


@dataclass(frozen=True)
class Unstructured(CovarianceStructure):
    """Any positive semidefinite k×k covariance; par and theta are the lower triangle of T by columns."""

    k: int

    @cached_property
    def _entries(self) -> tuple[IntArray, IntArray]:
        """Row and column of each parameter."""
        cols, rows = np.triu_indices(self.k)
        return rows, cols

    @cached_property
    def _units(self) -> FloatArray:
        """E_i of each parameter, (n_par, k, k)."""
        E = np.zeros((self.n_par, self.k, self.k))
        E[np.arange(self.n_par), *self._entries] = 1.0
        return E

    @cached_property
    def _same_column(self) -> BoolArray:
        cols = self._entries[1]
        return np.asarray(cols[:, None] == cols)

    @property
    def n_par(self) -> int:
        """Number of free parameters, k(k + 1)/2."""
        return self.k * (self.k + 1) // 2

    def start(self) -> FloatArray:
        """Return the parameters of the identity."""
        rows, cols = self._entries
        return np.asarray(rows == cols, dtype=np.float64)

    def lower(self) -> FloatArray:
        """Return 0 for the diagonal of T, -inf elsewhere."""
        rows, cols = self._entries
        return np.where(rows == cols, 0.0, -np.inf)

    def typical(self, par: FloatArray, rows: FloatArray) -> FloatArray:
        """Return the length of the row of T that a parameter is in."""
        return rows[..., self._entries[0]]

    def template(self, par: FloatArray) -> FloatArray:
        """Fill the lower triangle by columns."""
        T = np.zeros((*np.shape(par)[:-1], self.k, self.k))
        rows, cols = self._entries
        T[..., rows, cols] = par
        return T

    def domega(self, par: FloatArray) -> FloatArray:
        """Return h + h', h = E_i T' for the unit matrix E_i of each entry of T."""
        half = self._units @ np.swapaxes(self.template(par), -1, -2)[..., None, :, :]
        return np.asarray(half + np.swapaxes(half, -1, -2))

    def curvature(self, par: FloatArray, S: FloatArray) -> FloatArray:
        """Return 2 tr(S E_i E_j'): twice the entry of S for the rows of two parameters of one column of T."""
        rows = self._entries[0]
        return np.asarray(2.0 * S[..., rows[:, None], rows] * self._same_column)

    @property
    def is_linear(self) -> bool:
        """All symmetric matrices."""
        return True

    @property
    def is_unrestricted(self) -> bool:
        """Every positive semidefinite covariance."""
        return True

    def directions(self, par: FloatArray) -> FloatArray:
        """Return E_ij + E_ji for each entry."""
        return self.domega(self.start())

    def canonical(self, par: FloatArray) -> FloatArray:
        """Refactor T T' where T has a zero or negative diagonal entry."""
        T = self.template(par)
        d = np.diag(T)
        if np.all(d > 0):
            return np.array(par, dtype=float)
        T = T * np.sign(d) if np.all(d != 0) else lower_factor(T @ T.T)
        return np.asarray(T[self._entries])

    def nearest(self, covariance: FloatArray) -> FloatArray:
        """Return the factor of the covariance."""
        if self.k == 1:
            return np.asarray(np.sqrt(np.maximum(covariance[0], 0.0)))
        return np.asarray(lower_factor(covariance)[self._entries])

    def descent(self, par: FloatArray, S: FloatArray) -> FloatArray:
        """Return z z' for the eigenvector z of the smallest eigenvalue."""
        z = np.linalg.eigh(S)[1][:, 0]
        return np.outer(z, z)

    def theta_names(self, label: str, columns: tuple[str, ...]) -> tuple[str, ...]:
        """Return ``label.col`` for the diagonal and ``label.row.col`` below it."""
        rows, cols = self._entries
        return tuple(
            f"{label}.{columns[c]}" if r == c else f"{label}.{columns[r]}.{columns[c]}" for r, c in zip(rows, cols)
        )

    def entries(self) -> tuple[FreeEntry, ...]:
        """Return all."""
        below = [FreeEntry(i, j) for j in range(self.k) for i in range(j + 1, self.k)]
        return (*(FreeEntry(i, i) for i in range(self.k)), *below)
