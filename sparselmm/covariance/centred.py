"""Random slopes far from zero, optimized as if their variables were centred."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from sparselmm._typing import FloatArray
from sparselmm.covariance.structures import Unstructured, triangular


@dataclass(frozen=True)
class Centred:
    """An unstructured covariance optimized in coordinates whose columns of Z are centred.

    With ``Z = Z_c C⁻¹``, ``C = I - e_0 c'``, the coefficients of Z_c are ``C⁻¹ b``: a random
    intercept at the mean of the slopes' variables instead of at their origin. ``par`` fills the
    factor of their covariance, ``theta`` that of b.

    Attributes
    ----------
    base : Unstructured
        The structure.
    position : int
        The constant column.
    centre : tuple of float
        Multiples of the constant column taken from each column, zero for itself, (k,).
    """

    base: Unstructured
    position: int
    centre: tuple[float, ...]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "base":
            raise AttributeError(name)
        return getattr(self.base, name)

    @cached_property
    def _C(self) -> FloatArray:
        C = np.eye(self.base.k)
        C[self.position] -= self.centre
        return C

    def reported_template(self, par: FloatArray) -> FloatArray:
        """Return the lower factor of the covariance of b."""
        return triangular(self._C @ self.base.template(par))

    def reported_modes(self, modes: FloatArray) -> FloatArray:
        """Return b of modes of the centred coefficients."""
        return modes @ self._C.T

    def theta(self, par: FloatArray) -> FloatArray:
        """Return the entries of the reported template."""
        return np.asarray(self.reported_template(par)[self.base._entries])

    def par(self, theta: FloatArray) -> FloatArray:
        """Return the entries of the factor in centred coordinates."""
        inner = np.asarray(np.linalg.solve(self._C, self.base.template(theta)), dtype=np.float64)
        return np.asarray(triangular(inner)[self.base._entries])
