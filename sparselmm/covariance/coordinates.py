"""Coordinates of a model in which one parameter of interest is a coordinate of its own.

With τ = 1/σ the covariance of a term is T T'/τ². In the order of coefficients that starts with the
one of interest, its lower-triangular factor has the first entry ``T00 = c τ`` for the standard
deviation c; in an order that starts with two, the second row is ``a (sin c, cos c)`` for the
correlation sin c, and ``T10 = c τ²/T00`` for the covariance c. All else stays free, so fixing a
parameter is fixing a coordinate. So it is where every covariance is allowed; a structure that has
fewer keeps its own parameters, but for one of them that the fixed value determines (`Determined`).
Derivatives up to the second are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sparselmm._typing import FloatArray, IntArray
from sparselmm.covariance.base import CovarianceStructure, FreeEntry, triangular
from sparselmm.covariance.held import Correlation, Covariance, Free, StandardDeviation, determined


class Jet(Protocol):
    """Ω of one term with its derivatives in (own coordinates, τ, c), d of them, in the solver's coordinates."""

    @property
    def T(self) -> FloatArray:
        """A factor, (k, k), Ω = T T'; not always triangular."""
        ...

    @property
    def domega(self) -> FloatArray:
        """∂Ω, (d, k, k)."""
        ...

    def curvature(self, S: FloatArray) -> FloatArray:
        """Return <S, ∂∂Ω>, (d, d)."""
        ...


@dataclass(frozen=True)
class FactorJet:
    """A jet made from the factor and its derivatives, (d, k, k) and (d, d, k, k)."""

    T: FloatArray
    dT: FloatArray
    d2T: FloatArray

    @property
    def domega(self) -> FloatArray:
        """h + h', h = ∂T T'."""
        half = self.dT @ self.T.T
        return np.asarray(half + half.transpose(0, 2, 1))

    def curvature(self, S: FloatArray) -> FloatArray:
        """Return 2 tr(S ∂_iT ∂_jT') + 2 tr(S T ∂_i∂_jT')."""
        curved = np.tensordot(np.tensordot(self.dT, S, (1, 0)), self.dT, ((2, 1), (1, 2)))
        return np.asarray(2.0 * curved + 2.0 * np.tensordot(self.d2T, S @ self.T, 2))


class Chart(Protocol):
    """Coordinates of one term."""

    @property
    def n(self) -> int:
        """Number of own coordinates."""
        ...

    def box(self) -> tuple[FloatArray, FloatArray]:
        """Return bounds of the own coordinates, (n,) each."""
        ...

    def jet(self, x: FloatArray, tau: float, c: float) -> Jet:
        """Return Ω and its derivatives at own coordinates x, (n,), τ and c.

        Raises
        ------
        NumericalError
            Where no covariance of the structure has the value c.
        """
        ...

    def start(self, par: FloatArray, tau: float) -> tuple[FloatArray, float]:
        """Return x and c of free parameters."""
        ...


def _unbounded(n: int) -> tuple[FloatArray, FloatArray]:
    return np.full(n, -np.inf), np.full(n, np.inf)


# --- unrestricted structures: in an order that starts with the coefficients of interest ----------------------


@dataclass(frozen=True)
class Affine:
    """``T = F (Σ x_a D_a + c τ E)``: a term with the standard deviation of its first coefficient fixed.

    Attributes
    ----------
    structure : CovarianceStructure
        The structure.
    D : (n, k, k) array
        Directions of the own coordinates.
    E : (k, k) array
        What c τ multiplies.
    F : (k, k) array
        From this order and the user's coordinates to the solver's.
    to_chart : (k, k) array
        From the user's order to this one.
    """

    structure: CovarianceStructure
    D: FloatArray
    E: FloatArray
    F: FloatArray
    to_chart: FloatArray

    @property
    def n(self) -> int:
        """Number of own coordinates."""
        return len(self.D)

    def box(self) -> tuple[FloatArray, FloatArray]:
        """Return no bounds."""
        return _unbounded(self.n)

    def jet(self, x: FloatArray, tau: float, c: float) -> Jet:
        """Return the factor and its derivatives."""
        n, k = self.n, len(self.E)
        FE = self.F @ self.E
        dT = np.empty((n + 2, k, k))
        dT[:n] = self.F @ self.D
        dT[n], dT[n + 1] = c * FE, tau * FE
        d2T = np.zeros((n + 2, n + 2, k, k))
        d2T[n, n + 1] = d2T[n + 1, n] = FE
        return FactorJet(np.tensordot(x, dT[:n], 1) + c * tau * FE, dT, d2T)

    def start(self, par: FloatArray, tau: float) -> tuple[FloatArray, float]:
        """Return the coordinates of a factor."""
        T = triangular(self.to_chart @ self.structure.reported_template(par))
        k = len(T)
        basis = np.concatenate([self.D, self.E[None]]).reshape(self.n + 1, k * k)
        found = np.linalg.lstsq(basis.T, T.ravel(), rcond=None)[0]
        return found[:-1], float(found[-1] / tau)


@dataclass(frozen=True)
class Pair:
    """A term with the correlation or the covariance of its first two coefficients fixed.

    Attributes
    ----------
    structure, F, to_chart :
        As for `Affine`.
    """

    structure: CovarianceStructure
    F: FloatArray
    to_chart: FloatArray

    @property
    def n(self) -> int:
        """Number of own coordinates: T00, then what the second row has left, then the other rows."""
        k = len(self.F)
        return k * (k + 1) // 2 - 1

    def box(self) -> tuple[FloatArray, FloatArray]:
        """Return no bounds: the covariance does not change with signs."""
        return _unbounded(self.n)

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
        return FactorJet(self.F @ T, self.F @ dT, self.F @ d2T)

    def start(self, par: FloatArray, tau: float) -> tuple[FloatArray, float]:
        """Return the coordinates of a factor."""
        T = triangular(self.to_chart @ self.structure.reported_template(par))
        second, c = self._split(T, tau)
        return np.concatenate([[T[0, 0], second], T[self._rest()]]), c


class CorrelationPair(Pair):
    """The correlation is sin c; x1 is the length of the second row."""

    def box(self) -> tuple[FloatArray, FloatArray]:
        """Return 0 below both lengths: a negative one would turn the sign of the correlation."""
        low, high = _unbounded(self.n)
        low[:2] = 0.0
        return low, high

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
    return Free(structure)


def sd_chart(structure: CovarianceStructure, par: FloatArray, entry: FreeEntry) -> Chart:
    """Return coordinates with c the standard deviation of a coefficient; ``par`` is the estimate."""
    if not structure.is_unrestricted:
        return determined(structure, par, entry, StandardDeviation())
    rows, cols = np.tril_indices(structure.k)
    units = np.zeros((len(rows), structure.k, structure.k))
    units[np.arange(len(rows)), rows, cols] = 1.0
    return Affine(structure, units[1:], units[0], *_maps(structure, [entry.row]))


def pair_chart(structure: CovarianceStructure, par: FloatArray, entry: FreeEntry, covariance: bool = False) -> Chart:
    """Return coordinates with c the arcsine of a correlation, or the covariance; ``par`` is the estimate."""
    if not structure.is_unrestricted:
        return determined(structure, par, entry, Covariance() if covariance else Correlation())
    maps = _maps(structure, [entry.col, entry.row])
    return (CovariancePair if covariance else CorrelationPair)(structure, *maps)


def _maps(structure: CovarianceStructure, first: Sequence[int]) -> tuple[FloatArray, FloatArray]:
    """Return the maps from the chart's order to the solver's coordinates, and from the user's to the chart's."""
    k = structure.k
    order = [*first, *(x for x in range(k) if x not in first)]
    P = np.eye(k)[order]
    C = structure.reported_modes(np.eye(k)).T  # user's = C · solver's
    return np.asarray(np.linalg.solve(C, P.T)), P
