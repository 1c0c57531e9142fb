"""Residuals of a fit by kind, and Cook's distance of single rows, as functions of arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular

from sparselmm._typing import FloatArray
from sparselmm.data.rows import GroupedTerm, Rows
from sparselmm.exceptions import ParameterError
from sparselmm.inference.leave_out.leverage import RowGeometry, delete_cases, row_geometry
from sparselmm.likelihood.result import RESIDUALS, FitResult
from sparselmm.linalg.blocks import Templates


@dataclass(frozen=True)
class ResidualParts:
    """What all kinds of residuals are computed from; the costly parts only when asked for.

    Attributes
    ----------
    result : FitResult
        The fit.
    geometry : callable
        Returns the leverages.
    """

    result: FitResult
    geometry: Callable[[], RowGeometry]

    @property
    def response(self) -> FloatArray:
        """Response minus conditional fitted values, (n,)."""
        return self.result.residuals

    @property
    def pearson(self) -> FloatArray:
        """The same times the square root of the prior weight, (n,)."""
        return self.result.observed(RESIDUALS).scaled(self.response)

    @property
    def scaled(self) -> FloatArray:
        """Pearson residuals over σ, (n,)."""
        return self.pearson / self.result.sigma

    @property
    def standardized(self) -> FloatArray:
        """Scaled residuals over the root of 1 - h, (n,)."""
        return self.scaled / _root(1.0 - self.geometry().hat)

    @property
    def studentized(self) -> FloatArray:
        """Standardized with the σ of the fit without the row, (n,)."""
        r = self.result
        geometry = self.geometry()
        sigma = delete_cases(geometry, self.response, r.pwrss, r.df).sigma
        return self.pearson / (sigma * _root(1.0 - geometry.hat))

    @property
    def marginal(self) -> FloatArray:
        """Response minus offset and fixed part, (n,)."""
        observed = self.result.observed(RESIDUALS)
        fixed = observed.X @ self.result.beta
        return observed.y - fixed if observed.offset is None else observed.y - observed.offset - fixed

    @property
    def marginal_standardized(self) -> FloatArray:
        """Marginal residuals over their standard deviations, (n,)."""
        r = self.result
        templates = r.engine.parameters.reported_templates(r.par)
        observed = r.observed(RESIDUALS)
        variance = marginal_variance(observed, templates)
        if r.layout.p:
            variance -= (solve_triangular(r.RX, observed.X.T, trans=1) ** 2).sum(axis=0)
        return self.marginal / (r.sigma * _root(variance))


KINDS: Mapping[str, str] = {
    "response": "response",
    "conditional": "response",
    "working": "response",
    "pearson": "pearson",
    "deviance": "pearson",
    "scaled": "scaled",
    "standardized": "standardized",
    "studentized": "studentized",
    "marginal": "marginal",
    "marginal_standardized": "marginal_standardized",
}


def residuals_of(result: FitResult, kind: str) -> FloatArray:
    """Return the residuals of a kind, (n,)."""
    if kind not in KINDS:
        raise ParameterError(f"unknown kind of residuals {kind!r}; there are {', '.join(KINDS)}")
    observed = result.observed(RESIDUALS)
    parts = ResidualParts(result, lambda: row_geometry(observed, result.engine, result.par))
    values: FloatArray = getattr(parts, KINDS[kind])
    return values


def marginal_variance(observed: Rows, templates: Templates) -> FloatArray:
    """Return the diagonal of V = W⁻¹ + ZΛΛ'Z', (n,), for templates in the user's coordinates."""
    out = np.ones(observed.n) if observed.weights is None else 1.0 / observed.weights
    for term, T in zip(observed.terms, templates):
        if isinstance(term, GroupedTerm):
            out = out + ((term.Z @ T) ** 2).sum(axis=1)
        else:
            scaled = term.matrix.tocoo()
            for a in range(term.k):  # the a-th column of Λ within each level
                weights = scaled.data * T[scaled.col % term.k, a]
                level = scaled.row.astype(np.int64) * term.m + scaled.col // term.k
                cells, position = np.unique(level, return_inverse=True)
                sums = np.bincount(position, weights=weights)
                out = out + np.bincount(cells // term.m, weights=sums**2, minlength=observed.n)
    return out


def cook_of_cases(pearson: FloatArray, hat: FloatArray, sigma: float, rank: int) -> FloatArray:
    """Return R's ``cooks.distance``: (r/(1-h))² h / (σ² p), (n,); NaN for a leverage of one."""
    left = np.where(hat < 1.0, 1.0 - hat, np.nan)
    out: FloatArray = (pearson / left) ** 2 * hat / (sigma**2 * max(rank, 1))
    return out


def _root(values: FloatArray) -> FloatArray:
    """Return square roots, NaN where there is nothing left."""
    return np.sqrt(np.where(values > 1e-12, values, np.nan))
