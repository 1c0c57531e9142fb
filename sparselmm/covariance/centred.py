"""Random slopes far from zero, optimized as if their variables were centred."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import solve_triangular

from sparselmm._typing import FloatArray
from sparselmm.covariance.base import triangular
from sparselmm.covariance.unstructured import Unstructured


@dataclass(frozen=True)
class Centred(Unstructured):
    """An unstructured covariance optimized in coordinates whose columns of Z are centred.

    With ``Z = Z_c C⁻¹``, ``C = I - e_0 c'``, the coefficients of Z_c are ``C⁻¹ b``: a random
    intercept at the mean of the slopes' variables instead of at their origin. ``par`` fills the
    factor of their covariance, ``theta`` that of b.

    Attributes
    ----------
    k : int
        Number of coefficients.
    position : int
        The constant column.
    centre : tuple of float
        Multiples of the constant column taken from each column, zero for itself, (k,).
    """

    position: int
    centre: tuple[float, ...]

    @cached_property
    def _C(self) -> FloatArray:
        C = np.eye(self.k)
        C[self.position] -= self.centre
        return C

    def reported_template(self, par: FloatArray) -> FloatArray:
        """Return the lower factor of the covariance of b."""
        return triangular(self._C @ self.template(par))

    def reported_modes(self, modes: FloatArray) -> FloatArray:
        """Return b of modes of the centred coefficients."""
        return modes @ self._C.T

    def theta(self, par: FloatArray) -> FloatArray:
        """Return the entries of the reported template."""
        return np.asarray(self.reported_template(par)[self._entries])

    def par(self, theta: FloatArray) -> FloatArray:
        """Return the entries of the factor in centred coordinates."""
        inner = np.asarray(np.linalg.solve(self._C, self.template(theta)), dtype=np.float64)
        return np.asarray(triangular(inner)[self._entries])

    def dtheta(self, par: FloatArray) -> FloatArray:
        """Return the derivatives of the reported factor R: R·low(R⁻¹ ∂Ω R'⁻¹), the diagonal halved."""
        R = self.reported_template(par)
        if np.any(np.diag(R) == 0):
            return np.full((self.n_theta, self.n_par), np.nan)
        out = np.empty((self.n_theta, self.n_par))
        for i, d in enumerate(self._C @ self.domega(par) @ self._C.T):
            low = np.tril(solve_triangular(R, solve_triangular(R, d, lower=True).T, lower=True))
            low.flat[:: self.k + 1] /= 2.0
            out[:, i] = (R @ low)[self._entries]
        return out
