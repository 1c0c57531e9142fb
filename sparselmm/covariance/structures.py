"""Covariance structures: how free parameters fill the k×k template of a random term.

The conditional modes of one level have covariance ``sigma² T T'``, where the template T is
lower triangular. A structure maps its free parameters ``par`` to T and names the entries
that lme4 calls ``theta``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol

import numpy as np

from sparselmm._typing import FloatArray
from sparselmm.exceptions import UnsupportedError


class CovarianceStructure(Protocol):
    """What the solver asks of a covariance structure for a term with k coefficients."""

    @property
    def k(self) -> int:
        """Number of coefficients."""
        ...

    @property
    def n_par(self) -> int:
        """Number of free parameters."""
        ...

    @property
    def n_theta(self) -> int:
        """Number of reported entries of the factor."""
        ...

    def start(self) -> FloatArray:
        """Return default parameters, (n_par,): those of the identity template."""
        ...

    def lower(self) -> FloatArray:
        """Return lower bounds, (n_par,); -inf where there is none."""
        ...

    def template(self, par: FloatArray) -> FloatArray:
        """Return T(par), (k, k), lower triangular."""
        ...

    def dtemplate(self) -> FloatArray:
        """Return the derivatives of T, (n_par, k, k); T is linear in par."""
        ...

    def theta(self, par: FloatArray) -> FloatArray:
        """Return the reported factor entries, (n_theta,), of the free parameters."""
        ...

    def par(self, theta: FloatArray) -> FloatArray:
        """Return the free parameters of the reported entries (inverse of `theta`)."""
        ...

    def canonical(self, par: FloatArray) -> FloatArray:
        """Return parameters of the same T T' in the unique form with non-negative diagonal."""
        ...

    def nearest(self, covariance: FloatArray) -> FloatArray:
        """Return parameters whose T T' matches a (k, k) covariance as well as the structure can."""
        ...

    def descent(self, S: FloatArray) -> FloatArray:
        """Return the admissible unit change of Ω, (k, k), along which <S, dΩ> is smallest."""
        ...

    def reported_template(self, par: FloatArray) -> FloatArray:
        """Return the template in the user's coordinates, (k, k); `template` may use others."""
        ...

    def reported_modes(self, modes: FloatArray) -> FloatArray:
        """Return conditional modes (m, k) in the user's coordinates."""
        ...

    def theta_names(self, label: str, columns: tuple[str, ...]) -> tuple[str, ...]:
        """Return names of the reported entries, as lme4 spells them."""
        ...


def lower_factor(covariance: FloatArray, tol: float = 1e-14) -> FloatArray:
    """Return the lower-triangular T >= 0 on the diagonal with T T' = covariance.

    Works for positive semidefinite input: a column whose pivot is below ``tol`` of the
    largest variance is zero.
    """
    k = len(covariance)
    T = np.zeros((k, k))
    floor = tol * max(float(np.max(np.diag(covariance))), 0.0)
    for j in range(k):
        pivot = covariance[j, j] - T[j, :j] @ T[j, :j]
        if pivot > floor:
            T[j, j] = np.sqrt(pivot)
            T[j + 1 :, j] = (covariance[j + 1 :, j] - T[j + 1 :, :j] @ T[j, :j]) / T[j, j]
    return T


def triangular(A: FloatArray) -> FloatArray:
    """Return the lower triangular T with T T' = A A' and a non-negative diagonal."""
    R = np.linalg.qr(A.T, mode="r")
    signs = np.where(np.diag(R) < 0, -1.0, 1.0)
    out: FloatArray = (signs[:, None] * R).T
    return out


class UserCoordinates:
    """Mixin of structures whose free parameters are the reported entries, in the user's coordinates."""

    def template(self, par: FloatArray) -> FloatArray:
        """Return T(par), (k, k)."""
        raise NotImplementedError

    def theta(self, par: FloatArray) -> FloatArray:
        """Return the parameters themselves."""
        return np.array(par, dtype=float)

    def par(self, theta: FloatArray) -> FloatArray:
        """Return the reported entries themselves."""
        return np.array(theta, dtype=float)

    def reported_template(self, par: FloatArray) -> FloatArray:
        """Return `template`."""
        return self.template(par)

    def reported_modes(self, modes: FloatArray) -> FloatArray:
        """Return the modes as they are."""
        return modes


@dataclass(frozen=True)
class Unstructured(UserCoordinates):
    """Any positive semidefinite k×k covariance; theta is the lower triangle by columns."""

    k: int
    key: ClassVar[str] = "us"

    @cached_property
    def _entries(self) -> tuple[np.ndarray, np.ndarray]:
        cols, rows = np.triu_indices(self.k)
        return rows, cols

    @property
    def n_par(self) -> int:
        """Number of free parameters, k(k + 1)/2."""
        return self.k * (self.k + 1) // 2

    @property
    def n_theta(self) -> int:
        """Number of reported entries, k(k + 1)/2."""
        return self.n_par

    def start(self) -> FloatArray:
        """Return the parameters of the identity."""
        rows, cols = self._entries
        return np.asarray(rows == cols, dtype=np.float64)

    def lower(self) -> FloatArray:
        """Return 0 for the diagonal of T, -inf elsewhere."""
        rows, cols = self._entries
        return np.where(rows == cols, 0.0, -np.inf)

    def template(self, par: FloatArray) -> FloatArray:
        """Fill the lower triangle by columns."""
        T = np.zeros((self.k, self.k))
        T[self._entries] = par
        return T

    @cached_property
    def _units(self) -> FloatArray:
        D = np.zeros((self.n_par, self.k, self.k))
        rows, cols = self._entries
        D[np.arange(self.n_par), rows, cols] = 1.0
        return D

    def dtemplate(self) -> FloatArray:
        """Return one unit matrix per entry."""
        return self._units

    def canonical(self, par: FloatArray) -> FloatArray:
        """Refactor T T' where T has a zero or negative diagonal entry."""
        T = self.template(par)
        d = np.diag(T)
        if np.all(d > 0):
            return np.array(par, dtype=float)
        if np.all(d != 0):
            T = T * np.sign(d)
        else:
            T = lower_factor(T @ T.T)
        return np.asarray(T[self._entries])

    def nearest(self, covariance: FloatArray) -> FloatArray:
        """Return the factor of the covariance."""
        return np.asarray(lower_factor(covariance)[self._entries])

    def descent(self, S: FloatArray) -> FloatArray:
        """Return z z' for the eigenvector z of the smallest eigenvalue."""
        z = np.linalg.eigh(S)[1][:, 0]
        return np.outer(z, z)

    def theta_names(self, label: str, columns: tuple[str, ...]) -> tuple[str, ...]:
        """Return ``label.col`` for the diagonal and ``label.row.col`` below it."""
        rows, cols = self._entries
        return tuple(
            f"{label}.{columns[c]}" if r == c else f"{label}.{columns[r]}.{columns[c]}" for r, c in zip(rows, cols)
        )


@dataclass(frozen=True)
class Diagonal(UserCoordinates):
    """Independent coefficients with a variance each; theta is the diagonal of T."""

    k: int
    key: ClassVar[str] = "diag"

    @property
    def n_par(self) -> int:
        """Number of free parameters, k."""
        return self.k

    @property
    def n_theta(self) -> int:
        """Number of reported entries, k."""
        return self.k

    def start(self) -> FloatArray:
        """Return ones."""
        return np.ones(self.k)

    def lower(self) -> FloatArray:
        """Return zeros."""
        return np.zeros(self.k)

    def template(self, par: FloatArray) -> FloatArray:
        """Return diag(par)."""
        return np.diag(par)

    def dtemplate(self) -> FloatArray:
        """Return one diagonal unit matrix per coefficient."""
        D = np.zeros((self.k, self.k, self.k))
        i = np.arange(self.k)
        D[i, i, i] = 1.0
        return D

    def canonical(self, par: FloatArray) -> FloatArray:
        """Return absolute values: only squares matter."""
        return np.abs(par)

    def nearest(self, covariance: FloatArray) -> FloatArray:
        """Return the square roots of the variances."""
        return np.sqrt(np.maximum(np.diag(covariance), 0.0))

    def descent(self, S: FloatArray) -> FloatArray:
        """Return the unit variance of the coefficient with the smallest derivative."""
        out = np.zeros((self.k, self.k))
        j = int(np.argmin(np.diag(S)))
        out[j, j] = 1.0
        return out

    def theta_names(self, label: str, columns: tuple[str, ...]) -> tuple[str, ...]:
        """Return ``label.col`` per coefficient."""
        return tuple(f"{label}.{c}" for c in columns)


@dataclass(frozen=True)
class HomogeneousDiagonal(UserCoordinates):
    """Independent coefficients that share one variance; theta is its relative SD."""

    k: int
    key: ClassVar[str] = "homdiag"

    @property
    def n_par(self) -> int:
        """Number of free parameters, 1."""
        return 1

    @property
    def n_theta(self) -> int:
        """Number of reported entries, 1."""
        return 1

    def start(self) -> FloatArray:
        """Return one."""
        return np.ones(1)

    def lower(self) -> FloatArray:
        """Return zero."""
        return np.zeros(1)

    def template(self, par: FloatArray) -> FloatArray:
        """Return par times the identity."""
        return float(par[0]) * np.eye(self.k)

    def dtemplate(self) -> FloatArray:
        """Return the identity."""
        return np.eye(self.k)[None]

    def canonical(self, par: FloatArray) -> FloatArray:
        """Return the absolute value: only the square matters."""
        return np.abs(par)

    def nearest(self, covariance: FloatArray) -> FloatArray:
        """Return the square root of the mean variance."""
        return np.asarray(np.sqrt(np.maximum(np.array([np.mean(np.diag(covariance))]), 0.0)))

    def descent(self, S: FloatArray) -> FloatArray:
        """Return the identity."""
        return np.eye(self.k)

    def theta_names(self, label: str, columns: tuple[str, ...]) -> tuple[str, ...]:
        """Return the label alone."""
        return (label,)


STRUCTURES: dict[str, Callable[[int], CovarianceStructure]] = {
    Unstructured.key: Unstructured,
    Diagonal.key: Diagonal,
    HomogeneousDiagonal.key: HomogeneousDiagonal,
}


def make_structure(key: str, k: int) -> CovarianceStructure:
    """Return the registered structure for a term with k coefficients."""
    if key not in STRUCTURES:
        raise UnsupportedError(f"covariance structure {key!r} is not yet supported; there are {', '.join(STRUCTURES)}")
    return STRUCTURES[key](k)
