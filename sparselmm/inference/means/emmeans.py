"""Estimated marginal means and slopes: predictions of the fixed part on a grid, averaged.

The reference grid has all levels of the factors of the fixed part and the means of its covariates
(Searle, Speed and Milliken 1980, Am. Stat. 34, 216-221; Lenth's R package emmeans). A mean is l'β with l
the average of rows of X over the grid, so its standard error and degrees of freedom follow as for any l; a
slope is l'β with l the average of their derivatives by a covariate.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._typing import BoolArray, FloatArray, IntArray
from sparselmm.data.encoding.encoding import EncodingSpec
from sparselmm.data.tables.columns import list_some
from sparselmm.exceptions import ParameterError
from sparselmm.formula.grammar import parse_expression
from sparselmm.formula.nodes import names
from sparselmm.inference.means.grid import Averages, Axis, Grid, as_covariate, axes, make_grid
from sparselmm.inference.means.weights import (
    COMPLETE,
    Nesting,
    cell_weights,
    check_weights,
    find_nesting,
    given_nesting,
    occurs,
)

ESTIMABLE_TOL = 1e-7  # of singular values and lengths, relative: between rounding and what data can show
STEP = 1e-3  # of the range of a covariate: far above rounding; the formula is exact for polynomials of degree four
DERIVATIVE = {-2: 1.0 / 12.0, -1: -8.0 / 12.0, 1: 8.0 / 12.0, 2: -1.0 / 12.0}

NestingGiven = str | Mapping[str, str | Sequence[str]]


@dataclass(frozen=True)
class MeansRequest:
    """Which means are asked for.

    Attributes
    ----------
    specs, by : list of str
        Variables whose combinations get a mean, and those whose combinations are treated one by one.
    at : mapping or None
        Values in place of all levels or of the mean.
    nesting : str, mapping or None
        Factors within others; None to find them in the data.
    weights : str
        How cells that are averaged count.
    """

    specs: list[str]
    by: list[str]
    at: Mapping[str, Any] | None = None
    nesting: NestingGiven | None = None
    weights: str = "equal"


@dataclass(frozen=True)
class MarginalMeans:
    """Marginal means as linear functions of the coefficients.

    Attributes
    ----------
    cells : DataFrame
        What each row is: one column per variable of specs and by.
    L : (r, p) array
        Rows; NaN where a mean cannot be estimated.
    offset : (r,) array
        Known parts of the means.
    groups : (r,) int array
        Which combination of the ``by`` variables a row belongs to.
    specs, by : list of str
        The variables, with those in which nested ones lie.
    estimate : str
        Name of what is estimated.
    notes : tuple of str
        What was averaged, and how.
    """

    cells: pd.DataFrame
    L: FloatArray
    offset: FloatArray
    groups: IntArray
    specs: list[str]
    by: list[str]
    estimate: str
    notes: tuple[str, ...]


def variables(given: str | Sequence[str] | None, known: Collection[str] = ()) -> list[str]:
    """Return the names asked for, without backticks; ``"a:b"`` and ``"a*b"`` are two, ``"1"`` is none.

    Parameters
    ----------
    given : str, sequence of str or None
        As the user wrote them.
    known : collection of str
        Names that are taken as they are.

    Raises
    ------
    ParameterError
        For a formula of R's emmeans, with the call that means the same.

    Examples
    --------
    >>> variables(["`Condition (2)`", "recipe:temp"])
    ['Condition (2)', 'recipe', 'temp']
    """
    out: list[str] = []
    for name in [] if given is None else [given] if isinstance(given, str) else map(str, given):
        if name in known or re.fullmatch("`[^`]+`", name):
            out.append(name if name in known else name[1:-1])
            continue
        if "~" in name and "`" not in name:
            raise ParameterError(f"emmeans takes names, not a formula: write {_call(name)}")
        parts = [part.strip() for part in re.split(r"[:*](?=(?:[^`]*`[^`]*`)*[^`]*$)", name)]
        out += [part.strip("`") for part in parts if part != "1"]
    return out


def _call(formula: str) -> str:
    """Return the call for a formula of R's emmeans: contrasts ~ variables | by."""
    left, _, right = (part.strip() for part in formula.partition("~"))
    parts = [[name.strip() for name in re.split(r"[*+:]", side)] for side in right.split("|")]
    shown = [repr(names[0] if len(names) == 1 else names) for names in parts]
    by = f", by={shown[1]}" if len(shown) > 1 else ""
    return f"fit.emmeans({shown[0]}{by}{f', contrasts={left!r}' if left else ''})"


# --- the cells of the means, and what each cell of the grid counts in them ---------------------------------


@dataclass(frozen=True)
class _Layout:
    """The grid, the weight of each of its cells, the variables of the means, and which means there are.

    ``variable`` is the one whose slope is asked for, empty for means.
    """

    grid: Grid
    weights: FloatArray
    specs: list[str]
    by: list[str]
    keep: BoolArray
    nesting: Nesting
    variable: str = ""

    def averaged(self, rows: FloatArray) -> FloatArray:
        """Return means of the rows of the grid, (r, ...); NaN where the cells do not exist that are needed."""
        parts = (rows * self.weights[:, None]).reshape(-1, len(self.keep), rows.shape[1])
        out, total = parts.sum(axis=0), self.weights.reshape(-1, len(self.keep)).sum(axis=0)
        out[np.abs(total - 1.0) > COMPLETE] = np.nan
        return np.asarray(out[self.keep])


def _layout(variables: dict[str, Axis], known: Averages, asked: MeansRequest) -> _Layout:
    shown = [*asked.specs, *asked.by]
    for name in shown:
        if name not in variables:
            used = f"which uses {list_some(list(variables))}" if variables else "which has none"
            raise ParameterError(f"{name!r} is not a variable of the fixed part, {used}")
    if len(set(shown)) < len(shown):
        raise ParameterError("specs and by must name different variables, at least one of them in specs")
    grid = make_grid(variables, shown)
    counts = grid.counts(known)
    nesting = find_nesting(grid, counts) if asked.nesting is None else given_nesting(asked.nesting, grid)
    by = list(dict.fromkeys([*(o for n in asked.by for o in nesting.get(n, ())), *asked.by]))
    by = [name for name in by if name not in asked.specs]
    outer = [o for n in asked.specs for o in nesting.get(n, ()) if o not in by]
    specs = list(dict.fromkeys([*asked.specs, *outer]))
    if [*specs, *by] != shown:
        grid = make_grid(variables, [*specs, *by])
        counts = grid.counts(known)
    cells = int(np.prod([len(variables[name].levels) for name in (*specs, *by)], dtype=np.int64))
    keep = occurs(grid, counts, nesting, [*specs, *by])[:cells] > 0
    weights = cell_weights(grid, counts, nesting, [*specs, *by], check_weights(asked.weights))
    return _Layout(grid, weights, specs, by, np.asarray(keep), nesting)


def _means(
    encoding: EncodingSpec, known: Averages, layout: _Layout, rows: Any, offset: FloatArray, estimate: str
) -> MarginalMeans:
    """Return the means of a layout; ``rows`` gives the rows of X, (N, p), of an encoding on the grid."""
    L = layout.averaged(rows(encoding))
    if known.spanned is not None:
        whole = layout.averaged(rows(replace(encoding, kept=tuple(range(len(encoding.fixed.columns))))))
        some = ~np.isnan(whole).any(axis=1)
        L[some] = np.where(estimable(whole[some], known.spanned)[:, None], L[some], np.nan)
    at = np.flatnonzero(layout.keep)
    cells = layout.grid.frame()[[*layout.specs, *layout.by]].iloc[at].reset_index(drop=True)
    groups = np.unique(layout.grid.key(layout.by)[at], return_inverse=True)[1]
    return MarginalMeans(cells, L, offset, groups, layout.specs, layout.by, estimate, _notes(encoding, layout))


def marginal_means(encoding: EncodingSpec, known: Averages, asked: MeansRequest) -> MarginalMeans:
    """Return the means of the combinations of ``specs`` within those of ``by``.

    Offsets of the formula are evaluated on the grid; of others the mean over the rows is added.

    Raises
    ------
    ParameterError
        For a variable that is not in the fixed part.
    """
    layout = _layout(axes(known.variables, asked.at), known, asked)
    frame = layout.grid.frame()
    extra = np.full(int(layout.keep.sum()), known.offset)
    on_grid = encoding.apply_offset(frame)
    if on_grid is not None:
        extra += layout.averaged(on_grid[:, None])[:, 0] - known.formula_offset
    return _means(encoding, known, layout, lambda e: e.apply_fixed(frame), extra, "emmean")


def marginal_slopes(encoding: EncodingSpec, known: Averages, variable: str, asked: MeansRequest) -> MarginalMeans:
    """Return the slopes by a covariate, averaged as the means are.

    The derivative at its mean (or at the values of ``at=``) is (8 [f(h) - f(-h)] - [f(2h) - f(-2h)]) / 12h.

    Raises
    ------
    ParameterError
        For a variable that is not in the fixed part, or a factor.
    """
    used = axes(known.variables, asked.at)
    if variable not in used:
        raise ParameterError(f"{variable!r} is not a variable of the fixed part, which uses {list_some(list(used))}")
    used[variable] = as_covariate(used[variable], known.variables[variable], variable in (asked.at or {}))
    layout = replace(_layout(used, known, asked), variable=variable)
    frame, h = layout.grid.frame(), STEP * known.variables[variable].spread

    def slopes(e: EncodingSpec) -> FloatArray:
        moved = {d: frame.assign(**{variable: frame[variable] + d * h}) for d in DERIVATIVE}
        return np.asarray(sum(c / h * e.apply_fixed(moved[d]) for d, c in DERIVATIVE.items()))

    return _means(encoding, known, layout, slopes, np.zeros(int(layout.keep.sum())), f"{variable}.trend")


def _notes(encoding: EncodingSpec, layout: _Layout) -> tuple[str, ...]:
    """Return what was averaged, which factors are nested, and which interactions are averaged over."""
    shown, grid = [*layout.specs, *layout.by], layout.grid
    averaged = [name for name in grid.averaged if name not in shown]
    notes = [f"averaged over the levels of {', '.join(averaged)}"] if averaged else []
    notes += [
        f"{inner} is nested in {', '.join(outer)} (nesting= overrides): "
        + ("averaged within" if inner in averaged else "means of the combinations that occur")
        for inner, outer in layout.nesting.items()
    ]
    for name, other in dict.fromkeys(_interactions(encoding, layout)):
        how, more = "over which is averaged", f"by={other!r}"
        if other not in averaged:
            how, more = "which stands at its mean", f"at={{{other!r}: [...]}}"
        notes.append(f"NOTE: {name} interacts with {other}, {how}: the results may mislead ({more} tells more)")
    return tuple(notes)


def _interactions(encoding: EncodingSpec, layout: _Layout) -> list[tuple[str, str]]:
    """Return pairs of a variable asked for and another that shares a term with it and is averaged over."""
    grid, found = layout.grid, []
    asked = [*layout.specs, layout.variable]
    shown = [*asked, *layout.by]
    for term in encoding.fixed.terms:
        together = [n for block in term for n in names(parse_expression(block.variable)) if n in grid.axes]
        for name in (n for n in together if n in asked):
            others = [n for n in together if n not in shown and name not in layout.nesting.get(n, ())]
            found += [(name, n) for n in others if len(grid.axes[n].levels) > 1 or not grid.axes[n].factor]
    return found


def estimable(L: FloatArray, R: FloatArray) -> BoolArray:
    """Return which rows over all columns, (r, P), are combinations of rows of X, R its triangular factor."""
    scale = np.linalg.norm(R, axis=0)
    scale[scale == 0] = 1.0
    _, s, Vt = np.linalg.svd(R / scale)
    null = Vt[int((s > ESTIMABLE_TOL * s[0]).sum()) :]
    rows = L / scale
    size = np.maximum(np.linalg.norm(rows, axis=1), 1e-300)
    return np.asarray(np.linalg.norm(rows @ null.T, axis=1) < ESTIMABLE_TOL * size)
