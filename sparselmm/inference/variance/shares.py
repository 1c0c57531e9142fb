"""Shares of variance: ICC, Nakagawa's R², principal components of the random effects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from sparselmm._typing import FloatArray
from sparselmm.data.rows import DesignTerm, GroupedTerm, Rows
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


@dataclass(frozen=True)
class VarianceMoments:
    """Second moments over the rows.

    Attributes
    ----------
    X : (r, p) array
        R'R is the covariance of the rows of X.
    Z : tuple of (k, k) arrays
        Σ zz'/n of each term, z the row of Z.
    """

    X: FloatArray
    Z: tuple[FloatArray, ...]


def variance_moments(observed: Rows) -> VarianceMoments:
    """Return the moments of rows."""
    X = observed.X
    R = np.linalg.qr(X - X.mean(axis=0), mode="r") if observed.p else X[:0]
    return VarianceMoments(R / np.sqrt(observed.n - 1), tuple(mean_square(t) for t in observed.terms))


def mean_square(term: DesignTerm) -> FloatArray:
    """Return the mean over the rows of zz', z the row of Z, (k, k)."""
    if isinstance(term, GroupedTerm):
        return np.asarray(term.Z.T @ term.Z / len(term.Z))
    matrix, k = term.matrix, term.k
    blocks = [matrix[:, i::k] for i in range(k)]
    return np.array([[float(a.multiply(b).sum()) for b in blocks] for a in blocks]) / matrix.shape[0]


def variance_shares(result: FitResult, moments: VarianceMoments) -> VarianceShares:
    """Return the parts of the variance (Johnson 2014, Methods Ecol. Evol. 5, 944-946, for random slopes)."""
    fixed = float(np.sum((moments.X @ result.beta) ** 2))
    random = tuple(float(np.sum(S * c.cov)) for S, c in zip(moments.Z, result.varcorr.terms))
    return VarianceShares(fixed, random, result.sigma**2, tuple(t.name for t in result.layout.terms))


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
    for term, T in zip(result.layout.terms, templates):
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
