"""``homdiag``: independent coefficients of one variance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparselmm._typing import FloatArray
from sparselmm.covariance.base import CovarianceStructure, FreeEntry


@dataclass(frozen=True)
class HomogeneousDiagonal(CovarianceStructure):
    """Independent coefficients that share one variance; par and theta are its relative SD."""

    k: int

    @property
    def n_par(self) -> int:
        """Number of free parameters, 1."""
        return 1

    def start(self) -> FloatArray:
        """Return one."""
        return np.ones(1)

    def lower(self) -> FloatArray:
        """Return zero."""
        return np.zeros(1)

    def typical(self, par: FloatArray, rows: FloatArray) -> FloatArray:
        """Return the mean length of the rows of T."""
        return np.asarray(rows.sum(axis=-1, keepdims=True) / self.k)

    def template(self, par: FloatArray) -> FloatArray:
        """Return par times the identity."""
        return np.asarray(np.asarray(par)[..., None] * np.eye(self.k))

    def domega(self, par: FloatArray) -> FloatArray:
        """Return 2 par times the identity."""
        return np.asarray(2.0 * self.template(par)[..., None, :, :])

    def curvature(self, par: FloatArray, S: FloatArray) -> FloatArray:
        """Return 2 tr(S)."""
        return np.asarray(2.0 * np.einsum("...kk->...", S)[..., None, None])

    @property
    def is_linear(self) -> bool:
        """All multiples of the identity."""
        return True

    def directions(self, par: FloatArray) -> FloatArray:
        """Return twice the identity."""
        return self.domega(self.start())

    def canonical(self, par: FloatArray) -> FloatArray:
        """Return the absolute value: only the square matters."""
        return np.abs(par)

    def nearest(self, covariance: FloatArray) -> FloatArray:
        """Return the square root of the mean variance."""
        return np.asarray(np.sqrt(np.maximum(np.array([np.mean(np.diag(covariance))]), 0.0)))

    def descent(self, par: FloatArray, S: FloatArray) -> FloatArray:
        """Return the identity."""
        return np.eye(self.k)

    def theta_names(self, label: str, columns: tuple[str, ...]) -> tuple[str, ...]:
        """Return the label alone."""
        return (label,)

    def entries(self) -> tuple[FreeEntry, ...]:
        """Return the one standard deviation, the parameter itself."""
        return (FreeEntry(0, 0, 0),)
