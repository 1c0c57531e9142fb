"""Marginal means and contrasts between them as data frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sparselmm._typing import FloatArray
from sparselmm.inference.fixed.tables import check_level, t_table
from sparselmm.inference.fixed.wald import TestMethod
from sparselmm.inference.means.emmeans import ContrastKind, MarginalMeans, contrast_rows, mean_labels
from sparselmm.inference.means.multiplicity import INTERVALS, NAMES, adjusted_p, adjusted_quantile, check_adjust

PAIRS = ("pairwise", "revpairwise")


@dataclass(frozen=True)
class EMMeans:
    """Estimated marginal means and, where asked for, contrasts between them.

    Attributes
    ----------
    means : DataFrame
        One row per mean: the variables, ``emmean``, ``std_error``, ``df``, ``conf_low``, ``conf_high``.
    contrasts : DataFrame or None
        One row per contrast: ``contrast``, the ``by`` variables, ``estimate``, ``std_error``, ``df``,
        ``statistic``, ``p_value``, ``conf_low``, ``conf_high``.
    notes : tuple of str
        How they were computed.
    """

    means: pd.DataFrame
    contrasts: pd.DataFrame | None
    notes: tuple[str, ...]

    def __str__(self) -> str:
        parts = [self.means.to_string(index=False)]
        if self.contrasts is not None:
            parts.append(self.contrasts.to_string(index=False))
        return "\n\n".join([*parts, "\n".join(self.notes)])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        tables = [self.means, *([] if self.contrasts is None else [self.contrasts])]
        notes = "".join(f"<p>{note}</p>" for note in self.notes)
        return "".join(str(t.to_html(index=False)) for t in tables) + notes


def means_table(method: TestMethod, means: MarginalMeans, level: float) -> pd.DataFrame:
    """Return the table of means; rows that cannot be estimated hold NaN."""
    found = _rows(method, means.L, level)
    for name in ("estimate", "conf_low", "conf_high"):
        found[name] += means.offset
    columns = {"emmean": found["estimate"], **{c: found[c] for c in ("std_error", "df", "conf_low", "conf_high")}}
    return pd.concat([means.cells, pd.DataFrame(columns)], axis=1)


def _rows(method: TestMethod, L: FloatArray, level: float) -> pd.DataFrame:
    known = np.all(~np.isnan(L), axis=1)
    table = t_table(method, np.where(known[:, None], L, 0.0), np.zeros(len(L)), [""] * len(L), level)
    table = table.reset_index(drop=True)
    table.loc[~known] = np.nan
    return table


def contrasts_table(
    method: TestMethod,
    means: MarginalMeans,
    kind: ContrastKind,
    specs: Sequence[str],
    by: Sequence[str],
    adjust: str,
    level: float,
) -> tuple[pd.DataFrame, str]:
    """Return the contrasts within each group of ``by``, and the adjustment that was used."""
    adjust = check_adjust(adjust)
    if adjust == "tukey" and kind not in PAIRS:
        adjust = "sidak"
    parts = []
    for group in np.unique(means.groups):
        here = np.flatnonzero(means.groups == group)
        cells = means.cells.iloc[here]
        rows = contrast_rows(kind, mean_labels(cells, specs))
        C = np.array(list(rows.values()))
        part = _rows(method, _combined(C, means.L[here]), level)
        part["estimate"] += C @ means.offset[here]
        part["statistic"] = part["estimate"] / part["std_error"]
        _adjust(part, adjust, len(here), level)
        for position, name in enumerate(by):
            part.insert(position, name, [cells[name].iloc[0]] * len(part))
        part.insert(0, "contrast", list(rows))
        parts.append(part)
    return pd.concat(parts, ignore_index=True), adjust


def _combined(C: FloatArray, L: FloatArray) -> FloatArray:
    """Return C L; a mean that cannot be estimated spoils only the contrasts that use it."""
    unknown = np.any(np.isnan(L), axis=1)
    out = C @ np.where(unknown[:, None], 0.0, L)
    out[(C[:, unknown] != 0).any(axis=1)] = np.nan
    return out


def _adjust(part: pd.DataFrame, adjust: str, n_means: int, level: float) -> None:
    df, se = part["df"].to_numpy(), part["std_error"].to_numpy()
    part["p_value"] = adjusted_p(part["statistic"].to_numpy(), df, adjust, n_means)
    half = adjusted_quantile(level, df, adjust, n_means) * se
    part["conf_low"], part["conf_high"] = part["estimate"] - half, part["estimate"] + half


def emmeans_tables(
    method: TestMethod,
    means: MarginalMeans,
    specs: Sequence[str],
    by: Sequence[str],
    contrasts: ContrastKind | None,
    adjust: str,
    level: float,
    averaged: Sequence[str],
) -> EMMeans:
    """Return means and contrasts with notes on how they came about."""
    level = check_level(level)
    table = means_table(method, means, level)
    df = "infinite degrees of freedom" if method.name == "normal" else f"degrees of freedom: {method.name}"
    notes = [f"{df}; confidence level {level:g}", *method.notes]
    if averaged:
        notes.insert(0, f"averaged over the levels of {', '.join(averaged)}")
    if np.isnan(means.L).any():
        notes.append("NaN: not estimable, because coefficients were dropped (empty cells or aliases)")
    if contrasts is None:
        return EMMeans(table, None, tuple(notes))
    compared, used = contrasts_table(method, means, contrasts, specs, by, adjust, level)
    if used != "none":
        intervals = NAMES[INTERVALS[used]]
        notes.append(f"p-values of contrasts adjusted by the method of {NAMES[used]}, intervals by that of {intervals}")
    return EMMeans(table, compared, tuple(notes))
