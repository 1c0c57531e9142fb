"""Two sets of estimates of the same model side by side, and whether they agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from sparselmm.report.cells import Table
from sparselmm.report.text import render_grid

__all__ = ["Comparison", "ComparisonRow", "Estimate", "pair_up"]

#: Relative rounding error allowed to two evaluations of the same criterion at the same theta.
DEFINITION_TOLERANCE = 1e-8

#: Relative difference of two criteria that is only rounding.
ROUNDING = 1e-13

_TITLES = {
    "fixed effect": "Fixed effects",
    "std. error": "Standard errors",
    "random sd": "Standard deviations",
    "random corr": "Correlations",
    "fit statistic": "Fit statistics",
    "count": "Counts",
}


@dataclass(frozen=True)
class Estimate:
    """One number of one program.

    Attributes
    ----------
    kind : str
        ``"fixed effect"``, ``"std. error"``, ``"random sd"``, ``"random corr"``,
        ``"fit statistic"`` or ``"count"``.
    name : str
        For people.
    key : str
        Equal for the same quantity in both programs.
    value : float
        The number; NaN where it is not defined.
    scale : float
        What a difference is measured against.
    """

    kind: str
    name: str
    key: str
    value: float
    scale: float = 1.0


@dataclass(frozen=True)
class ComparisonRow:
    """One quantity in both programs.

    Attributes
    ----------
    kind, name : str
        What it is.
    here, r : float
        The value here and in R; NaN where a program does not have it.
    difference : float
        here - r.
    scaled_difference : float
        Absolute difference over its scale: a standard error for fixed effects, the value itself
        for standard errors and standard deviations, 1 for correlations and criteria.
    agrees : bool
        Whether the scaled difference is within the tolerance.
    remark : str
        Why a row that looks different counts as equal, or where a value is missing.
    """

    kind: str
    name: str
    here: float
    r: float
    difference: float
    scaled_difference: float
    agrees: bool
    remark: str = ""


@dataclass(frozen=True)
class Comparison:
    """The outcome of fitting one model here and with lme4.

    Attributes
    ----------
    formula : str
        The model.
    criterion_name : str
        REML criterion or deviance.
    rows : tuple of ComparisonRow
        Every quantity.
    criterion_here, criterion_r : float
        The two minima.
    criterion_at_r : float or None
        The criterion here at the covariance parameters that R found: it tests the definition
        without any optimizer. None where they could not be matched.
    seconds_here, seconds_r : float or None
        Time of the fitting call alone, where it was measured.
    version_here, version_r : str
        Programs and versions.
    tolerance : float
        Largest scaled difference that counts as agreement.
    notes : tuple of str
        Remarks of either program.
    """

    formula: str
    criterion_name: str
    rows: tuple[ComparisonRow, ...]
    criterion_here: float
    criterion_r: float
    criterion_at_r: float | None
    seconds_here: float | None
    seconds_r: float | None
    version_here: str
    version_r: str
    tolerance: float
    notes: tuple[str, ...] = ()

    @property
    def same_definition(self) -> bool:
        """Whether both programs give the same criterion at R's covariance parameters (True if unknown)."""
        if self.criterion_at_r is None:
            return True
        return abs(self.criterion_at_r - self.criterion_r) <= DEFINITION_TOLERANCE * max(1.0, abs(self.criterion_r))

    @property
    def agrees(self) -> bool:
        """Whether every quantity agrees within the tolerance and the criterion is the same function."""
        return self.same_definition and all(row.agrees for row in self.rows)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per quantity."""
        names = ["kind", "name", "here", "r", "difference", "scaled_difference", "agrees", "remark"]
        return pd.DataFrame([[getattr(row, n) for n in names] for row in self.rows], columns=names)

    def __str__(self) -> str:
        return "\n".join([*self._head(), "", *self._table(), "", *self._criteria(), *self._foot()])

    def _head(self) -> list[str]:
        return [f"{self.version_here} against {self.version_r}", f"Formula: {self.formula}"]

    def _table(self) -> list[str]:
        lines: list[tuple[str, ...]] = []
        kind = ""
        for row in self.rows:
            if row.kind != kind:
                lines.append((_TITLES.get(row.kind, row.kind), "", "", "", "", ""))
                kind = row.kind
            mark = row.remark if row.remark else ("" if row.agrees else "differs")
            values = (_show(row.here, 10), _show(row.r, 10), _show(row.difference, 2), _show(row.scaled_difference, 2))
            lines.append(("  " + row.name, *values, mark))
        return render_grid(Table(("", "here", "R", "difference", "scaled", ""), tuple(lines), "lrrrrl"))

    def _criteria(self) -> list[str]:
        gap = self.criterion_here - self.criterion_r
        if abs(gap) <= ROUNDING * max(1.0, abs(self.criterion_r)):
            verdict = "equal but for rounding"
        else:
            verdict = f"lower {'here' if gap < 0 else 'in R'} by {abs(gap):.2g}"
        lines = [f"{self.criterion_name}: {self.criterion_here:.8f} here, {self.criterion_r:.8f} in R; {verdict}"]
        if self.criterion_at_r is not None:
            apart = self.criterion_at_r - self.criterion_r
            lines.append(f"At R's theta: {self.criterion_at_r:.8f} here; {apart:+.2g} against R's value")
        lines.append(f"Time of the fit: {_seconds(self.seconds_here)} here, {_seconds(self.seconds_r)} in R")
        return lines

    def _foot(self) -> list[str]:
        lines = [f"Note: {note}" for note in self.notes]
        apart = [row for row in self.rows if not row.agrees]
        if self.agrees:
            return [*lines, f"The two agree within {self.tolerance:g} of each scale."]
        if not self.same_definition:
            lines.append("The two disagree: at the same theta the criterion is not the same number.")
        if apart:
            lines.append(
                f"The two disagree in {len(apart)} of {len(self.rows)} numbers (tolerance {self.tolerance:g})."
            )
            gap = self.criterion_here - self.criterion_r
            if self.same_definition and abs(gap) > 0:
                who = "R stopped short of it" if gap < 0 else "the fit here stopped short of it"
                lines.append(f"The lower criterion is nearer to the optimum: {who}.")
        return lines


def pair_up(here: Sequence[Estimate], r: Sequence[Estimate], tolerance: float, flat: bool) -> tuple[ComparisonRow, ...]:
    """Return the rows of a comparison.

    Parameters
    ----------
    here, r : sequences of Estimate
        Numbers of both programs; equal kind and key means the same quantity, repeated ones are
        taken in order. What is left over of one kind is paired in order if equally many are left.
    tolerance : float
        Largest scaled difference that counts as agreement.
    flat : bool
        True for a singular fit whose two criteria agree: variances and correlations that the
        criterion does not determine are then accepted as they are.
    """
    theirs: dict[tuple[str, str], list[Estimate]] = {}
    for e in r:
        theirs.setdefault((e.kind, e.key), []).append(e)
    partners: list[tuple[Estimate | None, Estimate | None]] = []
    for e in here:
        waiting = theirs.get((e.kind, e.key))
        partners.append((e, waiting.pop(0) if waiting else None))
    leftover = [e for waiting in theirs.values() for e in waiting]
    partners = _pair_rest(partners, leftover)
    return tuple(_row(mine, other, tolerance, flat) for mine, other in partners)


def _pair_rest(
    partners: list[tuple[Estimate | None, Estimate | None]], leftover: list[Estimate]
) -> list[tuple[Estimate | None, Estimate | None]]:
    done = list(partners)
    for kind in dict.fromkeys(e.kind for e in leftover):
        alone = [i for i, (mine, other) in enumerate(done) if mine is not None and mine.kind == kind and other is None]
        rest = [e for e in leftover if e.kind == kind]
        if len(alone) == len(rest):
            for i, e in zip(alone, rest):
                done[i] = (done[i][0], e)
        else:
            done += [(None, e) for e in rest]
    order = list(dict.fromkeys(e.kind for pair in done for e in pair if e is not None))
    return sorted(done, key=lambda pair: order.index(next(e.kind for e in pair if e is not None)))


def _row(mine: Estimate | None, other: Estimate | None, tolerance: float, flat: bool) -> ComparisonRow:
    shown = mine if mine is not None else other
    assert shown is not None
    if mine is None or other is None:
        here, r = (math.nan, shown.value) if mine is None else (shown.value, math.nan)
        remark = "only in R" if mine is None else "only here"
        return ComparisonRow(shown.kind, shown.name, here, r, math.nan, math.nan, False, remark)
    difference = mine.value - other.value
    scaled = _scaled(mine, other)
    undetermined = flat and mine.kind.startswith("random")
    close = scaled <= tolerance
    remark = "" if mine.key == other.key else f"paired by position with {other.name}"
    if undetermined and not close:
        remark = "singular fit: not determined"
    return ComparisonRow(
        mine.kind, mine.name, mine.value, other.value, difference, scaled, close or undetermined, remark
    )


def _scaled(mine: Estimate, other: Estimate) -> float:
    if math.isnan(mine.value) and math.isnan(other.value):
        return 0.0
    difference = abs(mine.value - other.value)
    if difference == 0:
        return 0.0
    scale = max(mine.scale, other.scale)
    return difference / scale if scale > 0 else math.inf


def _show(value: float, digits: int) -> str:
    return "" if math.isnan(value) else f"{value:.{digits}g}"


def _seconds(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f} s"
