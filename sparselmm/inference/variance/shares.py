"""Shares of variance: ICC, Nakagawa's R², principal components of the random effects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from sparselmm._typing import FloatArray
from sparselmm.data.design import DesignTerm, GroupedTerm
from sparselmm.likelihood.result import FitResult


@dataclass(frozen=True)
class VarianceShares:
    """Where the variance of the response comes from.

    Attributes
    ----------
    fixed : float
        Variance of Xβ over the rows.
    random : tuple of float
        Mean variance of the rows from each term, Σ z'Ωz/n.
    residual : float
        σ².
    names : tuple of str
        The terms.
    """

    fixed: float
    random: tuple[float, ...]
    residual: float
    names: tuple[str, ...]


def variance_shares(result: FitResult) -> VarianceShares:
    """Return the parts of the variance (Johnson 2014, Methods Ecol. Evol. 5, 944-946, for random slopes)."""
    design = result.design
    eta = design.X @ result.beta if design.p else np.zeros(design.n)
    random = tuple(mean_variance(t, c.cov) for t, c in zip(design.terms, result.varcorr.terms))
    return VarianceShares(float(np.var(eta, ddof=1)), random, result.sigma**2, tuple(t.name for t in design.terms))


def mean_variance(term: DesignTerm, cov: FloatArray) -> float:
    """Return the mean over the rows of z'Ωz, z the row of Z and Ω (k, k)."""
    if isinstance(term, GroupedTerm):
        return float(np.sum((term.Z.T @ term.Z) * cov) / len(term.Z))
    matrix = term.matrix
    blocks = [matrix[:, i :: term.k] for i in range(term.k)]
    total = sum(cov[i, j] * float(blocks[i].multiply(blocks[j]).sum()) for i in range(term.k) for j in range(term.k))
    return float(total) / int(matrix.shape[0])


def icc_series(shares: VarianceShares) -> pd.Series[float]:
    """Return the intraclass correlations: adjusted (without the fixed part) and unadjusted."""
    random = sum(shares.random)
    return pd.Series(
        {
            "adjusted": random / (random + shares.residual),
            "unadjusted": random / (shares.fixed + random + shares.residual),
        },
        name="icc",
    )


def icc_by_term(shares: VarianceShares) -> pd.Series[float]:
    """Return each term's share of random and residual variance."""
    total = sum(shares.random) + shares.residual
    return pd.Series(np.array(shares.random) / total, index=list(shares.names), name="icc")


def r2_series(shares: VarianceShares) -> pd.Series[float]:
    """Return Nakagawa and Schielzeth's (2013) marginal and conditional R²."""
    random = sum(shares.random)
    total = shares.fixed + random + shares.residual
    return pd.Series({"marginal": shares.fixed / total, "conditional": (shares.fixed + random) / total}, name="r2")


def principal_components(result: FitResult) -> dict[str, pd.DataFrame]:
    """Return per grouping label the components of the random effects, relative to σ.

    The standard deviations are the singular values of the relative factor of the terms with this label;
    a value of (nearly) zero is a direction without variance.
    """
    templates = result.engine.parameters.reported_templates(result.par)
    parts: dict[str, list[tuple[tuple[str, ...], FloatArray]]] = {}
    for term, T in zip(result.design.terms, templates):
        parts.setdefault(term.label, []).append((term.columns, T))
    return {label: _components(found) for label, found in parts.items()}


def _components(parts: list[tuple[tuple[str, ...], FloatArray]]) -> pd.DataFrame:
    columns = [c for names, _ in parts for c in names]
    factor = np.zeros((len(columns), len(columns)))
    at = 0
    for names, T in parts:
        factor[at : at + len(names), at : at + len(names)] = T
        at += len(names)
    U, d, _ = np.linalg.svd(factor)
    total = float(np.sum(d**2))
    share = d**2 / total if total > 0 else np.full(len(d), np.nan)
    rows = {"sdev": d, "proportion": share, "cumulative": np.cumsum(share)}
    rows |= {f"rotation[{name}]": U[i] for i, name in enumerate(columns)}
    return pd.DataFrame(rows, index=pd.Index([f"PC{i + 1}" for i in range(len(d))]))
