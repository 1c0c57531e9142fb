"""Coordinates of any structure: its own parameters, all free or one of them following from a value held.

With ``g(Ω(par)) = t(τ, c)`` for a standard deviation, a covariance or a correlation held, one parameter
par_j is a function of the others, τ and c. By the implicit function theorem, with P = ∂par/∂(x, τ, c),

    P_j = (∂t - g_x)/g_j,    ∂∂par_j = (∂∂t - P'∂∂g P)/g_j
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sparselmm._typing import FloatArray
from sparselmm.covariance.base import CovarianceStructure, FreeEntry
from sparselmm.exceptions import NumericalError

SOLVE_STEPS = 100  # of a root that Newton's method reaches in a few, unless the step length binds
SOLVE_TOL = 1e-14  # of the value held, relative
LONGEST = 2.0  # step of a parameter, so that a steep curve does not throw it far off

Curved = Callable[[FloatArray], FloatArray]
Derived = tuple[float, FloatArray, FloatArray]


@dataclass(frozen=True)
class StructureJet:
    """A jet by the chain rule through the parameters of a structure.

    With P = ∂par/∂(x, τ, c) and one parameter j that is not a linear function of them,
    ``∂Ω = P'∂_parΩ`` and ``<S, ∂∂Ω> = P'<S, ∂_par∂_parΩ>P + <S, ∂_jΩ> ∂∂par_j``.
    """

    structure: CovarianceStructure
    par: FloatArray
    P: FloatArray
    j: int = 0
    d2par: FloatArray | None = None

    @property
    def T(self) -> FloatArray:
        """The template."""
        return self.structure.template(self.par)

    @property
    def domega(self) -> FloatArray:
        """P'∂Ω."""
        return np.tensordot(self.P, self.structure.domega(self.par), (0, 0))

    def curvature(self, S: FloatArray) -> FloatArray:
        """Return the second derivatives."""
        out = self.P.T @ self.structure.curvature(self.par, S) @ self.P
        if self.d2par is not None:
            out = out + float(np.sum(S * self.structure.domega(self.par)[self.j])) * self.d2par
        return np.asarray(out)


@dataclass(frozen=True)
class Free:
    """The parameters themselves."""

    structure: CovarianceStructure

    @property
    def n(self) -> int:
        """Number of parameters."""
        return self.structure.n_par

    def box(self) -> tuple[FloatArray, FloatArray]:
        """Return the structure's."""
        return self.structure.box()

    def jet(self, x: FloatArray, tau: float, c: float) -> StructureJet:
        """Return Ω, which does not depend on τ and c."""
        return StructureJet(self.structure, x, np.eye(self.n, self.n + 2))

    def start(self, par: FloatArray, tau: float) -> tuple[FloatArray, float]:
        """Return the parameters; there is no c."""
        return par, 0.0


@dataclass(frozen=True)
class Determined:
    """The parameters of a structure but one, j, which follows from the value held.

    Attributes
    ----------
    structure : CovarianceStructure
        The structure.
    entry : FreeEntry
        The standard deviation or correlation held.
    quantity : Quantity
        How it depends on c and τ: ``g(Ω) = t(τ, c)``.
    j : int
        The parameter that follows.
    near : float
        Where it is at the estimate.
    """

    structure: CovarianceStructure
    entry: FreeEntry
    quantity: Quantity
    j: int
    near: float

    @property
    def n(self) -> int:
        """Number of the other parameters."""
        return self.structure.n_par - 1

    def box(self) -> tuple[FloatArray, FloatArray]:
        """Return the structure's."""
        low, high = self.structure.box()
        return np.delete(low, self.j), np.delete(high, self.j)

    def jet(self, x: FloatArray, tau: float, c: float) -> StructureJet:
        """Return Ω with the derivatives of the implicit function par_j(x, τ, c)."""
        target, dtarget, d2target = self.quantity.target(tau, c)
        d2par = np.zeros((self.n + 2, self.n + 2))
        P = np.insert(np.eye(self.n, self.n + 2), self.j, 0.0, axis=0)
        if self.entry.parameter is not None and not self.quantity.of_covariance:
            par = np.insert(x, self.j, target)  # the parameter is the value
            P[self.j, -2:], d2par[-2:, -2:] = dtarget, d2target
            return StructureJet(self.structure, par, P, self.j, d2par)
        par = self._solved(x, target)
        _, g, G = self._derivatives(par)
        P[self.j, :-2], P[self.j, -2:] = -np.delete(g, self.j) / g[self.j], dtarget / g[self.j]
        d2par[-2:, -2:] = d2target
        return StructureJet(self.structure, par, P, self.j, (d2par - P.T @ G @ P) / g[self.j])

    def _derivatives(self, par: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        """Return g(Ω(par)) with first and second derivatives in par."""
        T, d = self.structure.template(par), self.structure.domega(par)
        return self.quantity.along(T @ T.T, d, lambda S: self.structure.curvature(par, S), self.entry)

    def _solved(self, x: FloatArray, target: float) -> FloatArray:
        """Return par with g(Ω) = target, by Newton's method in par_j."""
        par = np.insert(x, self.j, self.near)
        low, high = (bound[self.j] for bound in self.structure.box())
        for _ in range(SOLVE_STEPS):
            value, g, _ = self._derivatives(par)
            if abs(value - target) <= SOLVE_TOL * max(abs(target), 1e-300) or g[self.j] == 0.0:
                break
            step = float(np.clip((target - value) / g[self.j], -LONGEST, LONGEST))
            par[self.j] = np.clip(par[self.j] + step, low, high)
        if not abs(self._derivatives(par)[0] - target) <= 1e3 * SOLVE_TOL * max(abs(target), SOLVE_TOL):
            raise NumericalError(f"no covariance of the structure has the value {target:.6g} held")
        return par

    def start(self, par: FloatArray, tau: float) -> tuple[FloatArray, float]:
        """Return the other parameters and the value."""
        T = self.structure.template(par)
        return np.delete(par, self.j), self.quantity.c(T @ T.T, self.entry, tau)


class Quantity(Protocol):
    """A function g of Ω that is held at t(τ, c)."""

    @property
    def of_covariance(self) -> bool:
        """Whether it is a covariance, which no parameter is."""
        ...

    def target(self, tau: float, c: float) -> tuple[float, FloatArray, FloatArray]:
        """Return t with first, (2,), and second, (2, 2), derivatives in (τ, c)."""
        ...

    def along(self, omega: FloatArray, d: FloatArray, curvature: Curved, e: FreeEntry) -> Derived:
        """Return g with its derivatives in par, from those of Ω, (n, k, k), and <S, ∂∂Ω> for any S."""
        ...

    def c(self, omega: FloatArray, e: FreeEntry, tau: float) -> float:
        """Return c of a covariance."""
        ...


@dataclass(frozen=True)
class StandardDeviation:
    """``√Ω_ii = c τ``."""

    of_covariance: bool = False

    def target(self, tau: float, c: float) -> tuple[float, FloatArray, FloatArray]:
        """Return c τ."""
        return c * tau, np.array([c, tau]), np.array([[0.0, 1.0], [1.0, 0.0]])

    def along(self, omega: FloatArray, d: FloatArray, curvature: Curved, e: FreeEntry) -> Derived:
        """Return the square root of a variance."""
        E = np.zeros_like(omega)
        E[e.row, e.row] = 1.0
        sd = float(np.sqrt(omega[e.row, e.row]))
        g = d[:, e.row, e.row] / (2.0 * sd)
        return sd, g, curvature(E) / (2.0 * sd) - np.outer(g, g) / sd

    def c(self, omega: FloatArray, e: FreeEntry, tau: float) -> float:
        """Return the standard deviation."""
        return float(np.sqrt(omega[e.row, e.row])) / tau


@dataclass(frozen=True)
class Covariance:
    """``Ω_ij = c τ²``."""

    of_covariance: bool = True

    def target(self, tau: float, c: float) -> tuple[float, FloatArray, FloatArray]:
        """Return c τ²."""
        cross = 2.0 * tau
        return c * tau**2, np.array([cross * c, tau**2]), np.array([[2.0 * c, cross], [cross, 0.0]])

    def along(self, omega: FloatArray, d: FloatArray, curvature: Curved, e: FreeEntry) -> Derived:
        """Return the entry."""
        E = np.zeros_like(omega)
        E[e.row, e.col] = E[e.col, e.row] = 0.5
        return float(omega[e.row, e.col]), d[:, e.row, e.col], curvature(E)

    def c(self, omega: FloatArray, e: FreeEntry, tau: float) -> float:
        """Return the covariance."""
        return float(omega[e.row, e.col]) / tau**2


@dataclass(frozen=True)
class Correlation:
    """``Ω_ij/√(Ω_ii Ω_jj) = sin c``."""

    of_covariance: bool = False

    def target(self, tau: float, c: float) -> tuple[float, FloatArray, FloatArray]:
        """Return sin c."""
        return float(np.sin(c)), np.array([0.0, np.cos(c)]), np.diag([0.0, -np.sin(c)])

    def along(self, omega: FloatArray, d: FloatArray, curvature: Curved, e: FreeEntry) -> Derived:
        """Return a/(uv) for the covariance a and standard deviations u, v, by the product rule."""
        a, ga, Ga = Covariance().along(omega, d, curvature, e)
        u, gu, Gu = StandardDeviation().along(omega, d, curvature, FreeEntry(e.row, e.row))
        v, gv, Gv = StandardDeviation().along(omega, d, curvature, FreeEntry(e.col, e.col))
        r = a / (u * v)
        gl = gu / u + gv / v  # of log uv
        Gl = Gu / u - np.outer(gu, gu) / u**2 + Gv / v - np.outer(gv, gv) / v**2
        g = ga / (u * v) - r * gl
        mixed = np.outer(g, gl)
        return r, g, (Ga - a * Gl) / (u * v) - mixed - mixed.T - r * np.outer(gl, gl)

    def c(self, omega: FloatArray, e: FreeEntry, tau: float) -> float:
        """Return the arcsine of the correlation."""
        sd = np.sqrt(np.diag(omega))
        return float(np.arcsin(np.clip(omega[e.row, e.col] / (sd[e.row] * sd[e.col]), -1.0, 1.0)))


def determined(structure: CovarianceStructure, par: FloatArray, entry: FreeEntry, quantity: Quantity) -> Determined:
    """Return coordinates without the parameter that moves the quantity most."""
    j = entry.parameter
    if j is None or quantity.of_covariance:
        T, d = structure.template(par), structure.domega(par)
        slopes = quantity.along(T @ T.T, d, lambda S: structure.curvature(par, S), entry)[1]
        j = int(np.argmax(np.abs(slopes) * np.maximum(np.abs(par), 1.0)))
    return Determined(structure, entry, quantity, j, float(par[j]))
