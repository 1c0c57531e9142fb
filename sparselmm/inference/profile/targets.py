"""What is held fixed in a profile: a variance parameter or a fixed effect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.linalg import solve_triangular

from sparselmm._typing import FloatArray
from sparselmm.likelihood.derivatives import Scores
from sparselmm.likelihood.pls import PLSSolution


@dataclass(frozen=True)
class Held:
    """The residual part Q of the deviance, with what belongs to a fixed effect that is held.

    Attributes
    ----------
    Q : float
        Weighted, penalized sum of squares.
    s : (q,) array
        Z'V⁻¹(y - Xβ_c).
    gamma : (p,) array
        Coefficients of the transformed X.
    w : (q,) array
        Z'V⁻¹X(X'V⁻¹X)⁻¹e_j; zero when no fixed effect is held.
    v : float
        [(X'V⁻¹X)⁻¹]_jj; infinite then.
    gap : float
        c - β̂_j.
    """

    Q: float
    s: FloatArray
    gamma: FloatArray
    w: FloatArray
    v: float = np.inf
    gap: float = 0.0


class Target(Protocol):
    """The parameter that is held, in the coordinate c in which it is profiled."""

    @property
    def fixes_sigma(self) -> bool:
        """Whether c is log σ, so that τ is no free coordinate."""
        ...

    def held(self, solution: PLSSolution, scores: Scores | None, c: float) -> Held:
        """Return the residual part; without scores only ``Q`` and ``gamma`` count."""
        ...


@dataclass(frozen=True)
class VarianceTarget:
    """A variance parameter; the chart of its term knows c."""

    fixes_sigma: bool = False

    def held(self, solution: PLSSolution, scores: Scores | None, c: float) -> Held:
        """Return pwrss and the scores as they are."""
        s = np.zeros(len(solution.scaled)) if scores is None else scores.s
        return Held(solution.pwrss, s, solution.gamma, np.zeros(0))


@dataclass(frozen=True)
class FixedEffectTarget:
    """The coefficient ``row'(b0 + γ)``.

    Attributes
    ----------
    row : (p,) array
        Its row of the basis.
    b0 : (p,) array
        The pilot fit.
    """

    row: FloatArray
    b0: FloatArray
    fixes_sigma: bool = False

    def held(self, solution: PLSSolution, scores: Scores | None, c: float) -> Held:
        """Return the residual part with the coefficient held at c."""
        half = solve_triangular(solution.RX, self.row, trans=1)
        direction, v = solve_triangular(solution.RX, half), float(half @ half)
        gap = c - float(self.row @ (self.b0 + solution.gamma))
        gamma = solution.gamma + direction * (gap / v)
        Q = solution.pwrss + gap**2 / v
        if scores is None:
            return Held(Q, np.zeros(0), gamma, np.zeros(0), v, gap)
        w = scores.ZtViX @ direction
        return Held(Q, scores.s - w * (gap / v), gamma, w, v, gap)
