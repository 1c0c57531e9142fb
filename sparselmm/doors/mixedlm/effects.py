"""Predicted random effects by group, with their covariances, in statsmodels' order and names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._typing import FloatArray, IntArray
from sparselmm.api import MixedModelFit, covariances_by_set
from sparselmm.doors.mixedlm.translation import Translation
from sparselmm.exceptions import DataError


@dataclass(frozen=True)
class GroupEffects:
    """Which random effects belong to which group.

    Attributes
    ----------
    labels : pandas.Index
        The groups, in increasing order.
    positions : list of (s,) int arrays
        For each group where its s effects stand among all: correlated ones first, then components by name.
    names : list of (s,) object arrays
        Their names.
    """

    labels: pd.Index
    positions: list[IntArray]
    names: list[Any]

    def split(self, values: FloatArray) -> dict[Any, pd.Series[float]]:
        """Return the values of all effects, (q,), by group."""
        groups = zip(self.labels, self.positions, self.names)
        return {label: pd.Series(values[at], index=names) for label, at, names in groups}

    def covariances(self, fit: MixedModelFit) -> dict[Any, pd.DataFrame]:
        """Return Cov(b | y) at the estimated parameters by group; effects of different groups are independent."""
        groups = zip(self.labels, covariances_by_set(fit, self.positions), self.names)
        return {label: pd.DataFrame(V, names, names) for label, V, names in groups}


@dataclass(frozen=True)
class Components:
    """Variance components as `MixedLM` takes them, in the way of statsmodels' ``VCSpec``.

    Attributes
    ----------
    names : list of str
        The components, sorted.
    colnames : list of lists of lists of str
        For each component and group the names of the columns.
    mats : list of lists of (n_g, c_g) arrays
        For each component and group the matrix.
    """

    names: list[str]
    colnames: list[list[list[str]]]
    mats: list[list[FloatArray]]


def components(t: Translation) -> Components:
    """Return the matrices of the variance components; rows stand in the order of the data within each group."""
    count = len(t.group_labels)
    rows = [np.flatnonzero(t.group_codes == g) for g in range(count)] if t.vcs else []
    mats, colnames = [], []
    for member in t.vcs:
        Z = t.lmm.problem.observed("matrices").terms[member.term].to_sparse()
        of = np.repeat(member.groups, Z.shape[1] // max(len(member.groups), 1))
        columns = [np.flatnonzero(of == g) for g in range(count)]
        mats.append([Z[at][:, own].toarray() for at, own in zip(rows, columns)])
        colnames.append([[member.names[i] for i in own] for own in columns])
    return Components(list(t.vc_names), colnames, mats)


def product_by_name(exog: Any, params: pd.Series[float]) -> pd.Series[float] | FloatArray:
    """Return a matrix (n, k_fe) times the fixed effects; columns of a DataFrame go by their names.

    Raises
    ------
    DataError
        When the matrix does not have a column for each fixed effect.
    """
    names = list(params.index)
    if isinstance(exog, pd.DataFrame) and set(names) <= set(exog.columns):
        exog = exog[names]
    try:
        X = np.asarray(exog, dtype=float)
    except (TypeError, ValueError) as error:
        raise DataError(f"exog must be a matrix of numbers: {error}") from error
    if X.ndim == 0 or X.shape[-1] != len(names):
        raise DataError(f"exog has shape {X.shape}; it needs a column for each of {', '.join(names)}")
    values: FloatArray = np.asarray(X @ params.to_numpy(), dtype=np.float64)
    if not isinstance(exog, pd.DataFrame):
        return values
    return pd.Series(values, index=exog.index)


def group_effects(t: Translation) -> GroupEffects:
    """Return the random effects of each group of a model."""
    members = t.vcs if t.re is None else (t.re, *t.vcs)
    terms = t.lmm.problem.layout.terms
    starts = np.cumsum([0, *(term.m * term.k for term in terms)])
    groups = np.concatenate([np.repeat(m.groups, terms[m.term].k) for m in members])
    positions = np.concatenate([np.arange(starts[m.term], starts[m.term + 1]) for m in members])
    names = np.array([name for m in members for name in m.names], dtype=object)
    order = np.argsort(groups, kind="stable")
    cuts = np.cumsum(np.bincount(groups, minlength=len(t.group_labels)))[:-1]
    return GroupEffects(t.group_labels, np.split(positions[order], cuts), np.split(names[order], cuts))
