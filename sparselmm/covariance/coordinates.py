"""Coordinates of a model in which one parameter of interest is a coordinate of its own.

With τ = 1/σ the covariance of a term is T T'/τ². In the order of coefficients that starts with the
one of interest, its lower-triangular factor has the first entry ``T00 = c τ`` for the standard
deviation c; in an order that starts with two, the second row is ``a (sin c, cos c)`` for the
correlation sin c, and ``T10 = c τ²/T00`` for the covariance c. All else stays free, so fixing a
parameter is fixing a coordinate. Derivatives up to the second are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sparselmm._typing import FloatArray, IntArray
from sparselmm.covariance import CovarianceStructure
from sparselmm.covariance.structures import triangular
from sparselmm.exceptions import UnsupportedError


@dataclass(frozen=True)
class Jet:
    """A factor of Ω with its derivatives in (own coordinates, τ, c), d of them.

    Attributes
    ----------
    T : (k, k) array
        Ω = T T' in the solver's coordinates; not always triangular.
    dT : (d, k, k) array
        First derivatives.
    d2T : (d, d, k, k) array
        Second derivatives.
    """

    T: FloatArray
    dT: FloatArray
    d2T: FloatArray


class Chart(Protocol):
    """Coordinates of one term."""

    @property
    def n(self) -> int:
        """Number of own coordinates."""
        ...

    def lower(self) -> FloatArray:
        """Return lower bounds of the own coordinates, (n,): only where a sign would mean another value of c."""
        ...

    def jet(self, x: FloatArray, tau: float, c: float) -> Jet:
        """Return the factor at own coordinates x, (n,), τ and c."""
        ...

    def start(self, R: FloatArray, tau: float) -> tuple[FloatArray, float]:
        """Return x and c of a factor R, (k, k), in the user's coordinates."""
        ...


@dataclass(frozen=True)
class Affine:
    """``T = F (Σ x_a D_a + c τ E)``: a free term (E = 0), or one with a standard deviation fixed.

    Attributes
    ----------
    D : (n, k, k) array
        Directions of the own coordinates.
    E : (k, k) array
        What c τ multiplies.
    F : (k, k) array
        From this order and the user's coordinates to the solver's.
    to_chart : (k, k) array
        The inverse.
    """

    D: FloatArray
    E: FloatArray
    F: FloatArray
    to_chart: FloatArray

    @property
    def n(self) -> int:
        """Number of own coordinates."""
        return len(self.D)

    def lower(self) -> FloatArray:
        """Return no bounds."""
        return np.full(self.n, -np.inf)

    def jet(self, x: FloatArray, tau: float, c: float) -> Jet:
        """Return the factor and its derivatives."""
        n, k = self.n, len(self.E)
        FE = self.F @ self.E
        dT = np.empty((n + 2, k, k))
        dT[:n] = self.F @ self.D
        dT[n], dT[n + 1] = c * FE, tau * FE
        d2T = np.zeros((n + 2, n + 2, k, k))
        d2T[n, n + 1] = d2T[n + 1, n] = FE
        return Jet(np.tensordot(x, dT[:n], 1) + c * tau * FE, dT, d2T)

    def start(self, R: FloatArray, tau: float) -> tuple[FloatArray, float]:
        """Return the coordinates of a factor."""
        T = triangular(self.to_chart @ R)
        k = len(T)
        basis = np.concatenate([self.D, self.E[None]]).reshape(self.n + 1, k * k)
        found = np.linalg.lstsq(basis.T, T.ravel(), rcond=None)[0]
        return found[:-1], float(found[-1] / tau)


@dataclass(frozen=True)
class Pair:
    """A term with the correlation or the covariance of its first two coefficients fixed.

    Attributes
    ----------
    F, to_chart : (k, k) arrays
        As for `Affine`.
    """

    F: FloatArray
    to_chart: FloatArray

    @property
    def n(self) -> int:
        """Number of own coordinates: T00, then what the second row has left, then the other rows."""
        k = len(self.F)
        return k * (k + 1) // 2 - 1

    def lower(self) -> FloatArray:
        """Return no bounds: the covariance does not change with signs."""
        return np.full(self.n, -np.inf)

    def _rest(self) -> tuple[IntArray, IntArray]:
        rows, cols = np.tril_indices(len(self.F))
        return np.asarray(rows[rows > 1], dtype=np.int64), np.asarray(cols[rows > 1], dtype=np.int64)

    def _second(self, x: FloatArray, tau: float, c: float) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the second row (2,), its derivatives (4, 2) and second ones (4, 4, 2) in x0, x1, τ, c."""
        raise NotImplementedError

    def _split(self, T: FloatArray, tau: float) -> tuple[float, float]:
        """Return x1 and c of a factor."""
        raise NotImplementedError

    def jet(self, x: FloatArray, tau: float, c: float) -> Jet:
        """Return the factor and its derivatives."""
        n, k = self.n, len(self.F)
        T, dT, d2T = np.zeros((k, k)), np.zeros((n + 2, k, k)), np.zeros((n + 2, n + 2, k, k))
        T[0, 0] = x[0]
        dT[0, 0, 0] = 1.0
        rest = self._rest()
        T[rest] = x[2:]
        dT[np.arange(2, n), rest[0], rest[1]] = 1.0
        at = np.array([0, 1, n, n + 1])
        row, drow, d2row = self._second(x, tau, c)
        T[1, :2] = row
        dT[at, 1, :2] += drow
        d2T[at[:, None], at[None, :], 1, :2] = d2row
        return Jet(self.F @ T, self.F @ dT, self.F @ d2T)

    def start(self, R: FloatArray, tau: float) -> tuple[FloatArray, float]:
        """Return the coordinates of a factor."""
        T = triangular(self.to_chart @ R)
        second, c = self._split(T, tau)
        return np.concatenate([[T[0, 0], second], T[self._rest()]]), c


class CorrelationPair(Pair):
    """The correlation is sin c; x1 is the length of the second row."""

    def lower(self) -> FloatArray:
        """Return 0 for both lengths: a negative one would turn the sign of the correlation."""
        return np.concatenate([np.zeros(2), np.full(self.n - 2, -np.inf)])

    def _second(self, x: FloatArray, tau: float, c: float) -> tuple[FloatArray, FloatArray, FloatArray]:
        a, s, r = x[1], np.sin(c), np.cos(c)
        first, second = np.zeros((4, 2)), np.zeros((4, 4, 2))
        first[1], first[3] = (s, r), (a * r, -a * s)
        second[1, 3] = second[3, 1] = (r, -s)
        second[3, 3] = (-a * s, -a * r)
        return np.array([a * s, a * r]), first, second

    def _split(self, T: FloatArray, tau: float) -> tuple[float, float]:
        return float(np.hypot(T[1, 0], T[1, 1])), float(np.arctan2(T[1, 0], T[1, 1]))


class CovariancePair(Pair):
    """The covariance is c; x1 is T11."""

    def _second(self, x: FloatArray, tau: float, c: float) -> tuple[FloatArray, FloatArray, FloatArray]:
        t = x[0]
        first, second = np.zeros((4, 2)), np.zeros((4, 4, 2))
        first[:, 0] = (-c * tau**2 / t**2, 0.0, 2.0 * c * tau / t, tau**2 / t)
        first[1, 1] = 1.0
        second[0, 0, 0] = 2.0 * c * tau**2 / t**3
        second[0, 2, 0] = second[2, 0, 0] = -2.0 * c * tau / t**2
        second[0, 3, 0] = second[3, 0, 0] = -(tau**2) / t**2
        second[2, 2, 0] = 2.0 * c / t
        second[2, 3, 0] = second[3, 2, 0] = 2.0 * tau / t
        return np.array([c * tau**2 / t, x[1]]), first, second

    def _split(self, T: FloatArray, tau: float) -> tuple[float, float]:
        return float(T[1, 1]), float(T[0, 0] * T[1, 0] / tau**2)


def free_chart(structure: CovarianceStructure) -> Chart:
    """Return the structure's own coordinates."""
    eye = np.eye(structure.k)
    return Affine(structure.dtemplate(), np.zeros_like(eye), eye, eye)


def sd_chart(structure: CovarianceStructure, i: int) -> Chart:
    """Return coordinates with c the standard deviation of coefficient i."""
    D = structure.dtemplate()
    eye = np.eye(structure.k)
    if is_diagonal(structure):
        moved = np.flatnonzero(D[:, i, i])
        return Affine(np.delete(D, moved, axis=0), D[moved].sum(axis=0), eye, eye)
    check_unstructured(structure)
    rows, cols = np.tril_indices(structure.k)
    units = np.zeros((len(rows), structure.k, structure.k))
    units[np.arange(len(rows)), rows, cols] = 1.0
    return Affine(units[1:], units[0], *_maps(structure, [i]))


def pair_chart(structure: CovarianceStructure, i: int, j: int, covariance: bool = False) -> Chart:
    """Return coordinates with c the arcsine of the correlation of i and j, or their covariance."""
    check_unstructured(structure)
    return (CovariancePair if covariance else CorrelationPair)(*_maps(structure, [i, j]))


def _maps(structure: CovarianceStructure, first: Sequence[int]) -> tuple[FloatArray, FloatArray]:
    """Return the maps from the chart's order to the solver's coordinates, and from the user's to the chart's."""
    k = structure.k
    order = [*first, *(x for x in range(k) if x not in first)]
    P = np.eye(k)[order]
    C = structure.reported_modes(np.eye(k)).T  # user's = C · solver's
    return np.asarray(np.linalg.solve(C, P.T)), P


def is_diagonal(structure: CovarianceStructure) -> bool:
    """Return whether all templates of a structure are diagonal."""
    D = structure.dtemplate()
    return not np.any(D * (1.0 - np.eye(structure.k)))


def check_unstructured(structure: CovarianceStructure) -> None:
    """Raise unless every positive semidefinite covariance belongs to the structure."""
    if structure.n_par != structure.k * (structure.k + 1) // 2:
        raise UnsupportedError(
            f"profiles of the variance parameters of a {type(structure).__name__} term are not available; "
            "profile the other parameters by name (which=), or use method='boot'"
        )
