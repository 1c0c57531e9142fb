"""Satterthwaite's degrees of freedom with exact derivatives.

For a row l of a hypothesis f(par, σ) = l'Cov(β)l has the approximate χ² degrees of freedom

    ν = 2 f² / (g'A g),   g = grad f,   A = 2 H⁻¹

(Giesbrecht and Burns 1985; Fai and Cornelius 1996 for several rows; Kuznetsova, Brockhoff and
Christensen 2017, J. Stat. Softw. 82(13), for the choice of parameters (θ, σ)). In whitened rows
w = K'l the derivative along a parameter is σ² w'U_i w, along σ it is 2σ w'w.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparselmm._typing import FloatArray
from sparselmm.inference.fixed.wald import FixedEffects, FTest, fixed_effects, rotate
from sparselmm.inference.variance.covariance import VarianceParameters, variance_parameters
from sparselmm.likelihood.result import FitResult

EQUAL_DF = 1e-8  # degrees of freedom this close are equal, and need no average (lmerTest's rule)


@dataclass(frozen=True)
class Satterthwaite:
    """Tests by Satterthwaite's method.

    Attributes
    ----------
    fixed : FixedEffects
        The estimates.
    gradients : (n_par + 1, p, p) array
        Derivatives of Cov(β) in (par, σ).
    cov_varpar : (n_par + 1, n_par + 1) array
        A.
    notes : tuple of str
        What was held or left out.
    """

    fixed: FixedEffects
    gradients: FloatArray
    cov_varpar: FloatArray
    notes: tuple[str, ...] = ()
    name: str = "Satterthwaite"

    def cov(self) -> FloatArray:
        """Return σ² K K'."""
        return self.fixed.cov

    def row_df(self, L: FloatArray) -> FloatArray:
        """Return ν of each row."""
        variance = np.einsum("ra,ab,rb->r", L, self.cov(), L)
        g = np.einsum("ra,iab,rb->ri", L, self.gradients, L)
        with np.errstate(divide="ignore", invalid="ignore"):
            out = 2.0 * variance**2 / np.einsum("ri,ij,rj->r", g, self.cov_varpar, g)
        return np.where(variance > 0, out, np.nan)

    def f_test(self, L: FloatArray, rhs: FloatArray) -> FTest:
        """Return the F test; the denominator follows from the ν of the rotated rows."""
        found = rotate(L, self.cov(), L @ self.fixed.beta - rhs)
        return FTest(found.statistic, len(found.rows), pooled_df(self.row_df(found.rows)))


def pooled_df(nu: FloatArray) -> float:
    """Return the denominator df of F from those of q independent t statistics, (q,).

    With E = Σ ν/(ν - 2), the expectation of q F, F has the mean of an F variable with 2E/(E - q)
    denominator degrees of freedom. A ν of 2 or less has no such mean: the answer is then 2.
    """
    if np.isclose(nu, nu[0], rtol=0.0, atol=EQUAL_DF).all():
        return float(np.mean(nu))
    if np.any(nu <= 2.0):
        return 2.0
    excess = float(np.sum(np.where(np.isinf(nu), 0.0, 2.0 / (nu - 2.0))))  # E - q, without cancellation
    return 2.0 * (excess + len(nu)) / excess if excess > 0 else float("inf")


def satterthwaite(result: FitResult) -> Satterthwaite:
    """Return the tests of a fit.

    Examples
    --------
    >>> import numpy as np, sparselmm as slm
    >>> fit = slm.lmer("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    >>> satterthwaite(fit.result).row_df(np.eye(2)).round(3)
    array([17., 17.])
    """
    fixed = fixed_effects(result)
    found = variance_parameters(result)
    basis = result.engine.crossproducts.basis
    root = basis.matrix @ np.linalg.inv(found.RX)
    along_par = result.sigma**2 * (root @ found.U @ root.T)
    along_sigma = 2.0 * result.sigma * (root @ root.T)
    gradients = np.concatenate([along_par, along_sigma[None]])
    return Satterthwaite(fixed, gradients, found.cov, _notes(result, found))


def _notes(result: FitResult, found: VarianceParameters) -> tuple[str, ...]:
    notes = []
    if found.held.any():
        names = held_names(result, found)
        notes.append(
            f"Satterthwaite: {int(found.held.sum())} covariance parameter(s) at the boundary are held there ({names})."
        )
    if found.dropped:
        directions = f"{found.dropped} direction{'s' * (found.dropped > 1)}"
        notes.append(
            f"Satterthwaite: left out {directions} in which the deviance does not rise; "
            "the degrees of freedom are approximate."
        )
    return tuple(notes)


def held_names(result: FitResult, found: VarianceParameters) -> str:
    """Return the terms whose parameters are held, for messages."""
    sizes = [s.n_par for s in result.engine.parameters.structures]
    parts = np.split(found.held, np.cumsum(sizes)[:-1])
    return ", ".join(t.name for t, held in zip(result.layout.terms, parts) if held.any())
