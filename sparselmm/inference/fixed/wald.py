"""Tests of linear hypotheses about β: what all methods share, and the two that need no derivatives.

With Cov(β) = σ² K K', a hypothesis L β = c has the statistic F = d'(L Cov L')⁻¹ d / q, d = Lβ - c. The
methods differ in the covariance they use and in the denominator degrees of freedom.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.linalg import solve_triangular

from sparselmm._typing import FloatArray, frozen
from sparselmm.exceptions import NumericalError, ParameterError
from sparselmm.inference.distributions import f_tail
from sparselmm.likelihood.result import FitResult

EPS = float(np.finfo(float).eps)
RANK_TOL = float(np.sqrt(EPS))
CANCELLED = 1e-3  # relative rounding of a variance above which it is refused


@dataclass(frozen=True)
class FixedEffects:
    """Estimates of the fixed effects as the tests need them.

    Attributes
    ----------
    names : tuple of str
        The p coefficients.
    beta : (p,) array
        Estimates.
    root : (p, p) array
        K with Cov(β) = σ² K K'; K' L' are rows of a hypothesis in whitened coordinates.
    sigma : float
        Residual standard deviation.
    n : int
        Rows.
    """

    names: tuple[str, ...]
    beta: FloatArray
    root: FloatArray
    sigma: float
    n: int

    @property
    def p(self) -> int:
        """Number of coefficients."""
        return len(self.beta)

    @property
    def cov(self) -> FloatArray:
        """σ² K K', (p, p)."""
        return np.asarray(self.sigma**2 * (self.root @ self.root.T))


@dataclass(frozen=True)
class FTest:
    """An F test.

    Attributes
    ----------
    statistic : float
        F, scaled where the method scales it.
    num_df : int
        Rank of the hypothesis.
    den_df : float
        Denominator degrees of freedom; infinite for a χ² test.
    scale : float
        Factor already in the statistic.
    """

    statistic: float
    num_df: int
    den_df: float
    scale: float = 1.0

    @property
    def p_value(self) -> float:
        """Upper tail probability."""
        return f_tail(self.statistic, self.num_df, self.den_df)


class TestMethod(Protocol):
    """How a hypothesis about β is tested."""

    @property
    def name(self) -> str:
        """Whose method, for titles."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about this computation."""
        ...

    @property
    def fixed(self) -> FixedEffects:
        """The estimates."""
        ...

    def cov(self) -> FloatArray:
        """Return the covariance of β that the tests use, (p, p)."""
        ...

    def row_df(self, L: FloatArray) -> FloatArray:
        """Return the degrees of freedom of each row of L, (r,), taken alone."""
        ...

    def f_test(self, L: FloatArray, rhs: FloatArray) -> FTest:
        """Return the joint test of L β = rhs, L (r, p)."""
        ...


def fixed_effects(result: FitResult) -> FixedEffects:
    """Return the estimates of a fit.

    Raises
    ------
    ParameterError
        When the model has no fixed effects.
    """
    if result.layout.p == 0:
        raise ParameterError(
            "this model has no fixed effects (p = 0), so there is nothing to test; summary(ddf=None) shows the rest"
        )
    root = solve_triangular(result.RX, np.eye(len(result.RX)))
    return FixedEffects(result.layout.columns, result.beta, frozen(root), result.sigma, result.n)


@dataclass(frozen=True)
class Rotated:
    """A hypothesis as independent one-row hypotheses.

    Attributes
    ----------
    rows : (q, p) array
        Rows P'L with diagonal covariance, q the rank; P are the eigenvectors of L Cov L' with L as given,
        on which Satterthwaite's denominator degrees of freedom depend.
    statistic : float
        F, which does not depend on how L is written.
    """

    rows: FloatArray
    statistic: float


def variances(L: FloatArray, cov: FloatArray) -> FloatArray:
    """Return l' Cov l of each row l of L, (r,).

    Raises
    ------
    NumericalError
        When rounding leaves nothing of one: the coefficients of covariates far from zero cancel in it.
    """
    out: FloatArray = np.einsum("ra,ab,rb->r", L, cov, L)
    summands = (np.abs(L) @ np.sqrt(np.diag(cov))) ** 2  # not below the sum of the sizes of what is summed
    if bool((EPS * summands > CANCELLED * np.abs(out)).any()):
        raise NumericalError(
            "rounding leaves too few digits of a variance: a covariate lies so far from zero that its coefficient and "
            "the constant cancel; subtract its mean in the formula, as in I(t - mean(t))"
        )
    return out


def rotate(L: FloatArray, cov: FloatArray, difference: FloatArray) -> Rotated:
    """Return the eigen-rotation of L Cov L'; dependent rows drop out.

    Parameters
    ----------
    L : (r, p) array
        The hypothesis.
    cov : (p, p) array
        Covariance of β.
    difference : (r,) array
        Lβ minus the right-hand side.

    Raises
    ------
    ParameterError
        When the hypothesis is zero, or its dependent rows contradict each other.
    """
    size = np.sqrt(variances(L, cov))
    if not np.all(np.isfinite(size)) or not size.max(initial=0.0) > 0:
        raise ParameterError("the hypothesis involves no coefficient: all its rows are zero")
    scale = np.where(size > 0, size, 1.0)  # rank and F from rows in units of their own standard error
    units, gaps = L / scale[:, None], difference / scale
    d, P = np.linalg.eigh(units @ cov @ units.T)
    keep = d > RANK_TOL * d[-1]
    lost = P[:, ~keep].T @ gaps
    if lost.size and np.max(np.abs(lost)) > 1e-6 * (1.0 + np.max(np.abs(gaps))):
        raise ParameterError("the rows of the hypothesis contradict each other: no β satisfies all of them")
    statistic = float(np.mean((P[:, keep].T @ gaps) ** 2 / d[keep]))
    rows = np.linalg.eigh(L @ cov @ L.T)[1][:, ::-1][:, : int(keep.sum())].T @ L
    return Rotated(rows, statistic)


def check_hypothesis(L: FloatArray, p: int) -> FloatArray:
    """Return L as a finite (r, p) array, or say what is wrong with it."""
    out = np.atleast_2d(np.asarray(L, dtype=np.float64))
    if out.ndim != 2 or out.shape[1] != p:
        raise ParameterError(f"a hypothesis needs {p} values per row, one for each coefficient, not {out.shape[-1]}")
    if not np.all(np.isfinite(out)):
        raise ParameterError("the hypothesis has values that are not finite")
    return out


@dataclass(frozen=True)
class Asymptotic:
    """Tests with degrees of freedom that are the same for every hypothesis.

    Attributes
    ----------
    name : str
        For titles.
    fixed : FixedEffects
        The estimates.
    df : float
        Infinite for normal tests, n - p for "residual".
    """

    name: str
    fixed: FixedEffects
    df: float
    notes: tuple[str, ...] = ()

    def cov(self) -> FloatArray:
        """Return σ² K K'."""
        return self.fixed.cov

    def row_df(self, L: FloatArray) -> FloatArray:
        """Return the constant for each row."""
        return np.full(len(L), self.df)

    def f_test(self, L: FloatArray, rhs: FloatArray) -> FTest:
        """Return the Wald test."""
        found = rotate(L, self.cov(), L @ self.fixed.beta - rhs)
        return FTest(found.statistic, len(found.rows), self.df)
