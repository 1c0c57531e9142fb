"""Marginal means and contrasts between them as data frames."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from sparselmm._typing import FloatArray
from sparselmm.exceptions import ParameterError
from sparselmm.inference.fixed.tables import check_level, t_table
from sparselmm.inference.fixed.wald import TestMethod
from sparselmm.inference.means.contrasts import (
    PAIRS,
    ContrastKind,
    InteractionKind,
    contrast_rows,
    interaction_kinds,
    interaction_rows,
    mean_labels,
)
from sparselmm.inference.means.emmeans import MarginalMeans
from sparselmm.inference.means.multiplicity import INTERVALS, NAMES, adjusted_p, adjusted_quantile, check_adjust
from sparselmm.inference.means.response import BackTransform


@dataclass(frozen=True)
class EMMeans:
    """Estimated marginal means and, where asked for, contrasts between them.

    Attributes
    ----------
    means : DataFrame
        One row per mean: the variables, ``emmean`` (``response`` with ``type="response"``, ``x.trend`` for slopes
        by x), ``std_error``, ``df``, ``conf_low``, ``conf_high``.
    contrasts : DataFrame or None
        One row per contrast: ``contrast`` (for interactions a column per variable, as ``recipe_pairwise``), the
        ``by`` variables, ``estimate`` (``ratio`` after a logarithm), ``std_error``, ``df``, ``statistic``,
        ``p_value``, ``conf_low``, ``conf_high``.
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


@dataclass(frozen=True)
class Compared:
    """Which contrasts between means are asked for.

    Attributes
    ----------
    contrasts : str, mapping or None
        Between all means of a group.
    interaction : str, sequence, mapping or None
        Contrasts of contrasts, one kind for each variable.
    adjust : str
        For several comparisons.
    level : float
        Confidence level.
    """

    contrasts: ContrastKind | None = None
    interaction: InteractionKind | None = None
    adjust: str = "tukey"
    level: float = 0.95

    def __post_init__(self) -> None:
        check_adjust(self.adjust)
        check_level(self.level)
        if self.contrasts is not None and self.interaction is not None:
            raise ParameterError("contrasts= and interaction= exclude each other")

    @property
    def used(self) -> str:
        """The adjustment that suits the contrasts: Tukey's is for pairs, and ones like polynomials ask different
        questions and have none."""
        adjust = check_adjust(self.adjust)
        if adjust != "tukey" or self.contrasts in PAIRS:
            return adjust
        return "none" if self.interaction is not None or self.contrasts == "poly" else "sidak"


def means_table(method: TestMethod, means: MarginalMeans, level: float) -> pd.DataFrame:
    """Return the table of means; rows that cannot be estimated hold NaN."""
    found = _rows(method, means.L, level)
    for name in ("estimate", "conf_low", "conf_high"):
        found[name] += means.offset
    columns = {means.estimate: found["estimate"], **{c: found[c] for c in ("std_error", "df", "conf_low", "conf_high")}}
    return pd.concat([means.cells, pd.DataFrame(columns)], axis=1)


def _rows(method: TestMethod, L: FloatArray, level: float) -> pd.DataFrame:
    known = np.all(~np.isnan(L), axis=1)
    table = t_table(method, np.where(known[:, None], L, 0.0), np.zeros(len(L)), [""] * len(L), level)
    table = table.reset_index(drop=True)
    table.loc[~known] = np.nan
    return table


def contrasts_table(method: TestMethod, means: MarginalMeans, asked: Compared, sign: str = " - ") -> pd.DataFrame:
    """Return the contrasts within each group of ``by``; ``sign`` stands between the labels of a pair."""
    parts = []
    for group in np.unique(means.groups):
        here = np.flatnonzero(means.groups == group)
        cells = means.cells.iloc[here]
        heads, C = _contrasts(cells, means.specs, asked, sign)
        part = _rows(method, _combined(C, means.L[here]), asked.level)
        part["estimate"] += C @ means.offset[here]
        part["statistic"] = part["estimate"] / part["std_error"]
        _adjust(part, asked.used, len(here), asked.level)
        for name in means.by:
            heads[name] = [cells[name].iloc[0]] * len(part)
        parts.append(pd.concat([heads, part], axis=1))
    return pd.concat(parts, ignore_index=True)


def _contrasts(cells: pd.DataFrame, specs: list[str], asked: Compared, sign: str) -> tuple[pd.DataFrame, FloatArray]:
    """Return the names of the contrasts between the means of one group, and their coefficients, (r, means)."""
    if asked.interaction is not None:
        return interaction_rows(interaction_kinds(asked.interaction, specs), cells, specs)
    assert asked.contrasts is not None
    rows = contrast_rows(asked.contrasts, mean_labels(cells, specs), sign)
    return pd.DataFrame({"contrast": list(rows)}), np.array(list(rows.values())).reshape(-1, len(cells))


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
    method: TestMethod, means: MarginalMeans, asked: Compared, back: BackTransform | None = None
) -> EMMeans:
    """Return means and contrasts with notes on how they came about; ``back`` leads to the scale of the response."""
    table = means_table(method, means, asked.level)
    df = "infinite degrees of freedom" if method.name == "normal" else f"degrees of freedom: {method.name}"
    notes = [*means.notes, f"{df}; confidence level {asked.level:g}", *method.notes]
    if np.isnan(means.L).any():
        notes.append("NaN: not estimable, because coefficients were dropped (empty cells or aliases)")
    if back is not None:
        table = back.table(table, means.estimate)
        notes.append(
            f"means and limits are back from {back.source} to the response, standard errors by the delta method"
        )
    result = EMMeans(table, None, tuple(notes))
    return (
        result
        if asked.contrasts is None and asked.interaction is None
        else _with_contrasts(method, means, asked, back, result)
    )


def _with_contrasts(
    method: TestMethod, means: MarginalMeans, asked: Compared, back: BackTransform | None, result: EMMeans
) -> EMMeans:
    logarithm = back is not None and back.log_base is not None
    compared = contrasts_table(method, means, asked, " / " if logarithm else " - ")
    notes = list(result.notes)
    if back is not None and logarithm:
        compared = back.ratios(compared)
        notes.append(f"differences of {back.source} are shown as ratios; tests are on the scale of {back.source}")
    elif back is not None:
        notes.append(f"contrasts are on the scale of {back.source}")
    if asked.used != "none":
        intervals = NAMES[INTERVALS[asked.used]]
        notes.append(
            f"p-values of contrasts adjusted by the method of {NAMES[asked.used]}, intervals by that of {intervals}"
        )
    return replace(result, contrasts=compared, notes=tuple(notes))
