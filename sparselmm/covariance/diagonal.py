"""``diag``: coefficients that do not depend on each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparselmm._typing import FloatArray
from sparselmm.covariance.base import CovarianceStructure, FreeEntry


def diagonal(values: FloatArray) -> FloatArray:
    """Return diagonal matrices, (..., n, n), of their diagonals, (..., n)."""
    n = np.shape(values)[-1]
    out = np.zeros((*np.shape(values), n))
    out[..., np.arange(n), np.arange(n)] = values
    return out


@dataclass(frozen=True)
class Diagonal(CovarianceStructure):
    """Independent coefficients with a variance each; par and theta are the diagonal of T."""

    k: int

    @property
    def n_par(self) -> int:
        """Number of free parameters, k."""
        return self.k

    def start(self) -> FloatArray:
        """Return ones."""
        return np.ones(self.k)

    def lower(self) -> FloatArray:
        """Return zeros."""
        return np.zeros(self.k)

    def typical(self, par: FloatArray, rows: FloatArray) -> FloatArray:
        """Return the lengths of the rows of T."""
        return rows

    def template(self, par: FloatArray) -> FloatArray:
        """Return diag(par)."""
        return diagonal(par)

    def domega(self, par: FloatArray) -> FloatArray:
        """Return 2 par_i in entry (i, i)."""
        return diagonal(diagonal(2.0 * par))

    def curvature(self, par: FloatArray, S: FloatArray) -> FloatArray:
        """Return 2 diag(S)."""
        return diagonal(2.0 * np.einsum("...kk->...k", S))

    @property
    def is_linear(self) -> bool:
        """All diagonal matrices."""
        return True

    def directions(self, par: FloatArray) -> FloatArray:
        """Return 2 E_ii for each coefficient."""
        return self.domega(self.start())

    def canonical(self, par: FloatArray) -> FloatArray:
        """Return absolute values: only squares matter."""
        return np.abs(par)

    def nearest(self, covariance: FloatArray) -> FloatArray:
        """Return the square roots of the variances."""
        return np.sqrt(np.maximum(np.diag(covariance), 0.0))

    def descent(self, par: FloatArray, S: FloatArray) -> FloatArray:
        """Return the unit variance of the coefficient with the smallest derivative."""
        out = np.zeros((self.k, self.k))
        j = int(np.argmin(np.diag(S)))
        out[j, j] = 1.0
        return out

    def theta_names(self, label: str, columns: tuple[str, ...]) -> tuple[str, ...]:
        """Return ``label.col`` per coefficient."""
        return tuple(f"{label}.{c}" for c in columns)

    def entries(self) -> tuple[FreeEntry, ...]:
        """Return the standard deviations, the parameters themselves."""
        return tuple(FreeEntry(i, i, i) for i in range(self.k))
