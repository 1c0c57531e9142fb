"""Penalized least squares: all quantities of the criterion at one θ, from cross-products alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import lapack

from sparselmm._typing import FloatArray
from sparselmm.covariance.parameters import ParameterMap
from sparselmm.exceptions import NumericalError
from sparselmm.likelihood.criterion import Criterion
from sparselmm.linalg.blocks import Templates, apply_transposed
from sparselmm.linalg.iterative.control import Effort
from sparselmm.linalg.protocol import PenalizedSystem
from sparselmm.statistics.crossproducts import CrossProducts


@dataclass(frozen=True)
class PLSSolution:
    """The penalized least-squares problem solved at one parameter vector.

    Attributes
    ----------
    par : (n_par,) array
        Where.
    templates : tuple of (k, k) arrays
        T of each term.
    ldL2, ldRX2 : float
        log|L|² and log|RX|² on the scale of the original X.
    pwrss : float
        Penalized, weighted residual sum of squares.
    gamma : (p,) array
        Coefficients of the transformed X.
    RX : (p, p) array
        Upper triangular; RX'RX is the Schur complement for the transformed X.
    scaled : (q, p + 1) array
        Λ'Z'W[X y].
    """

    par: FloatArray
    templates: Templates
    ldL2: float
    ldRX2: float
    pwrss: float
    gamma: FloatArray
    RX: FloatArray
    scaled: FloatArray


@dataclass(frozen=True, eq=False)
class PenalizedLeastSquares:
    """The least-squares problem of one model on a system; `solve` depends on its argument alone.

    Attributes
    ----------
    crossproducts : CrossProducts
        Of the model.
    parameters : ParameterMap
        From free parameters to templates.
    system : PenalizedSystem
        The solver, which others may use in between.
    effort : Effort or None
        What an evaluation does where values have a Monte Carlo error.
    """

    crossproducts: CrossProducts
    parameters: ParameterMap
    system: PenalizedSystem
    effort: Effort | None = None

    def factor(self, templates: Templates) -> None:
        """Factor M for the templates, unless the system holds just this factor.

        The system takes the Z'WZ of these cross-products first, if it worked for other weights.
        """
        if self.system.gram is not self.crossproducts.gram:
            self.system.update(self.crossproducts.gram)
        if not self.system.holds(templates, self.effort):
            self.system.refactor(templates, self.effort)

    def solve(self, par: FloatArray) -> PLSSolution:
        """Return the solution at ``par``."""
        xp = self.crossproducts
        templates = self.parameters.templates(par)
        self.factor(templates)
        C = apply_transposed(xp.ZtWXy, templates, xp.gram)
        S = xp.XytWXy - self.system.quadratic(C)[0]
        RX, gamma, pwrss = _eliminate(S, par)
        ldRX2 = 2.0 * float(np.log(np.diag(RX)).sum()) + xp.basis.logdet if xp.p else 0.0
        return PLSSolution(np.array(par), templates, self.system.logdet(), ldRX2, pwrss, gamma, RX, C)

    def value(self, solution: PLSSolution, criterion: Criterion) -> float:
        """Return the criterion of a solution."""
        xp = self.crossproducts
        value = float(
            criterion.value(
                ldL2=solution.ldL2,
                ldRX2=solution.ldRX2,
                pwrss=solution.pwrss,
                n=xp.n,
                p=xp.p,
                sum_log_weights=xp.sum_log_weights,
            )
        )
        if not np.isfinite(value):
            raise NumericalError(f"the criterion is not finite at parameters {solution.par}")
        return value

    def spherical(self, solution: PLSSolution) -> FloatArray:
        """Return u = M⁻¹Λ'Z'W(y - o - Xβ), (q,), of a solution."""
        self.factor(solution.templates)
        right = solution.scaled[:, -1:] - solution.scaled[:, :-1] @ solution.gamma[:, None]
        return self.system.solve(right)[:, 0]


def _eliminate(S: FloatArray, par: FloatArray) -> tuple[FloatArray, FloatArray, float]:
    """Return RX, γ and pwrss of the Schur complement S of M, (p + 1, p + 1)."""
    p = len(S) - 1
    if p == 0:
        RX, c, pwrss = np.zeros((0, 0)), np.zeros(0), float(S[0, 0])
    else:
        factor, info = lapack.dpotrf(S[:p, :p], lower=0, clean=1)
        if info != 0:
            raise NumericalError(f"X'V⁻¹X is not positive definite at parameters {par} (column {info})")
        RX = np.ascontiguousarray(factor)
        c = lapack.dtrtrs(factor, S[:p, p], lower=0, trans=1)[0]
        pwrss = float(S[p, p] - c @ c)
    if not pwrss > 0:
        raise NumericalError(
            f"the penalized residual sum of squares is {pwrss:.3g} at parameters {par}: "
            "the model reproduces the response exactly, so the residual variance cannot be estimated"
        )
    return RX, lapack.dtrtrs(factor, c, lower=0)[0] if p else c, pwrss
