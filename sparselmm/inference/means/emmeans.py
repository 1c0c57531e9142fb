"""Estimated marginal means: predictions of the fixed part on a grid, averaged with equal weights.

The reference grid has all levels of the factors of the fixed part and the means of its covariates
(Searle, Speed and Milliken 1980, Am. Stat. 34, 216-221; Lenth's R package emmeans). A mean is l'β with l
the average of rows of X over the grid, so its standard error and degrees of freedom follow as for any l.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._typing import BoolArray, FloatArray, IntArray
from sparselmm.data.encoding.encoding import EncodingSpec
from sparselmm.data.tables.columns import Factor, list_some, only_levels_hold, to_column, to_grouping
from sparselmm.exceptions import ParameterError
from sparselmm.formula.grammar import parse_expression
from sparselmm.formula.nodes import names
from sparselmm.inference.fixed.terms import distinct_chunks, upper_factor
from sparselmm.inference.sizes import MAX_CELLS

ESTIMABLE_TOL = 1e-7  # of singular values and lengths, relative: between rounding and what data can show

#: A name of contrasts, or coefficients by name: in the order of the means, or by their labels.
ContrastKind = str | Mapping[str, Sequence[float] | Mapping[str, float]]


@dataclass(frozen=True)
class Axis:
    """One variable of the reference grid.

    Attributes
    ----------
    name : str
        Column of the data.
    levels : list
        Levels of a factor; the mean of a covariate.
    factor : bool
        Whether the grid averages over it with equal weights.
    dtype : object
        What new data of this variable must look like.
    """

    name: str
    levels: list[Any]
    factor: bool
    dtype: Any


@dataclass(frozen=True)
class Variable:
    """What the grid needs to know of one variable of the fixed part.

    Attributes
    ----------
    levels : list
        Levels of a factor; values of numbers used as a factor and of covariates with two values; else empty.
    mean : float or None
        Mean of a covariate; None for a factor.
    dtype : object
        What new data of this variable must look like.
    coded : bool
        Whether the formula makes a factor of it.
    exact : list or None
        The levels as they are, where numbers would not hold them.
    """

    levels: list[Any]
    mean: float | None
    dtype: Any
    coded: bool
    exact: list[Any] | None = None


@dataclass(frozen=True)
class Averages:
    """What marginal means need of the rows.

    Attributes
    ----------
    variables : dict
        By name.
    offset : float
        Mean of all offsets.
    formula_offset : float
        Mean of those of the formula.
    spanned : (r, P) array or None
        Triangular factor of all columns of the fixed part, where some were dropped.
    """

    variables: dict[str, Variable]
    offset: float
    formula_offset: float
    spanned: FloatArray | None


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
    """

    cells: pd.DataFrame
    L: FloatArray
    offset: FloatArray
    groups: IntArray


def variables(given: str | Sequence[str] | None) -> list[str]:
    """Return the names asked for, without backticks.

    Raises
    ------
    ParameterError
        For a formula of R's emmeans, with the call that means the same.

    Examples
    --------
    >>> variables("`Condition (2)`")
    ['Condition (2)']
    """
    listed = [] if given is None else [given] if isinstance(given, str) else [str(name) for name in given]
    for name in listed:
        if "~" in name and "`" not in name:
            raise ParameterError(f"emmeans takes names, not a formula: write {_call(name)}")
    return [name[1:-1] if len(name) > 2 and name[0] == name[-1] == "`" else name for name in listed]


def _call(formula: str) -> str:
    """Return the call for a formula of R's emmeans: contrasts ~ variables | by."""
    left, _, right = (part.strip() for part in formula.partition("~"))
    parts = [[name.strip() for name in re.split(r"[*+:]", side)] for side in right.split("|")]
    shown = [repr(names[0] if len(names) == 1 else names) for names in parts]
    by = f", by={shown[1]}" if len(shown) > 1 else ""
    return f"fit.emmeans({shown[0]}{by}{f', contrasts={left!r}' if left else ''})"


def averages(encoding: EncodingSpec, raw: pd.DataFrame, offset: float) -> Averages:
    """Return the levels and means of the variables.

    Parameters
    ----------
    encoding : EncodingSpec
        The model.
    raw : DataFrame
        The columns of the fixed part on the rows used.
    offset : float
        Mean of all offsets over the rows.
    """
    coded = {
        name
        for block in (b for term in encoding.fixed.terms for b in term)
        if block.levels is not None
        for name in names(parse_expression(block.variable))
    }
    variables = {name: _variable(name, raw[name], name in coded) for name in raw.columns}
    on_rows, spanned = encoding.apply_offset(raw), None
    if encoding.dropped_columns:
        full = replace(encoding, kept=tuple(range(len(encoding.fixed.columns))))
        spanned = np.zeros((0, len(full.kept)))
        for chunk in distinct_chunks(raw):
            spanned = upper_factor(np.vstack([spanned, full.apply_fixed(chunk)]))
    return Averages(variables, offset, 0.0 if on_rows is None else float(np.mean(on_rows)), spanned)


def _variable(name: str, series: pd.Series[Any], coded: bool) -> Variable:
    exact = None
    if coded and only_levels_hold(series):
        exact = list(to_grouping(series, name).drop_unused().levels)
    column = to_column(series, name)
    if isinstance(column, Factor):
        levels = list(column.drop_unused().levels)
        return Variable(levels, None, bool if column.is_logical else pd.CategoricalDtype(levels), coded, exact)
    distinct = np.unique(column)
    few = coded or len(distinct) == 2  # numbers used as a factor, and covariates with two values
    return Variable([float(v) for v in distinct] if few else [], float(column.mean()), float, coded, exact)


def axes(variables: Mapping[str, Variable], at: Mapping[str, Any] | None) -> list[Axis]:
    """Return the variables of the grid with their values, those of ``at`` in place of those of the data."""
    wanted = dict(at or {})
    unknown = [name for name in wanted if name not in variables]
    if unknown:
        raise ParameterError(f"at= names {list_some(unknown)}, but the fixed part uses {list_some(list(variables))}")
    return [_axis(name, variable, wanted.get(name)) for name, variable in variables.items()]


def _axis(name: str, variable: Variable, given: Any) -> Axis:
    levels = variable.levels
    if given is None and variable.exact is not None:
        return Axis(name, variable.exact, True, object)
    if variable.mean is None:
        if given is None:
            return Axis(name, levels, True, variable.dtype)
        by_text = {str(level): level for level in levels}
        values = [by_text.get(str(v)) for v in _listed(given)]
        if any(v is None for v in values):
            raise ParameterError(f"at= asks for {given!r} of {name}, whose levels are {list_some(levels)}")
        return Axis(name, values, True, variable.dtype)
    if given is not None:
        try:
            return Axis(name, [float(v) for v in _listed(given)], variable.coded, float)
        except (TypeError, ValueError) as error:
            raise ParameterError(f"at= needs numbers for {name}: {error}") from error
    return Axis(name, levels or [variable.mean], bool(levels), float)


def _listed(values: Any) -> list[Any]:
    if isinstance(values, str) or np.ndim(values) == 0:
        return [values]
    return list(values)


def marginal_means(
    encoding: EncodingSpec,
    known: Averages,
    specs: Sequence[str],
    by: Sequence[str],
    at: Mapping[str, Any] | None,
) -> MarginalMeans:
    """Return the means of the combinations of ``specs`` within those of ``by``.

    Offsets of the formula are evaluated on the grid; of others the mean over the rows is added.

    Raises
    ------
    ParameterError
        For a variable that is not in the fixed part.
    """
    grid_axes = {axis.name: axis for axis in axes(known.variables, at)}
    shown = [*specs, *by]
    for name in shown:
        if name not in grid_axes:
            used = f"which uses {list_some(list(grid_axes))}" if grid_axes else "which has none"
            raise ParameterError(f"{name!r} is not a variable of the fixed part, {used}")
    if len(set(shown)) < len(shown) or not specs:
        raise ParameterError("specs and by must name different variables, at least one of them in specs")
    order = [*shown, *(name for name in grid_axes if name not in shown)]
    sizes = [len(grid_axes[name].levels) for name in order]
    if np.prod([float(s) for s in sizes]) > MAX_CELLS:
        raise ParameterError(f"the reference grid would have {np.prod(sizes):,} cells; fix some variables with at=")
    # the first variable varies fastest
    index = [g.ravel() for g in np.meshgrid(*(np.arange(s) for s in reversed(sizes)), indexing="ij")][::-1]
    grid = pd.DataFrame({n: _column(grid_axes[n], i) for n, i in zip(order, index)})
    n_cells = int(np.prod(sizes[: len(shown)]))
    L = _averaged(encoding.apply_fixed(grid), n_cells)
    if known.spanned is not None:
        full = replace(encoding, kept=tuple(range(len(encoding.fixed.columns))))
        L[~estimable(_averaged(full.apply_fixed(grid), n_cells), known.spanned)] = np.nan
    extra = np.full(n_cells, known.offset)
    on_grid = encoding.apply_offset(grid)
    if on_grid is not None:
        extra += _averaged(on_grid[:, None], n_cells)[:, 0] - known.formula_offset
    cells = grid.iloc[:n_cells][shown].reset_index(drop=True)
    group_size = int(np.prod(sizes[: len(specs)]))
    return MarginalMeans(cells, L, extra, np.arange(n_cells) // group_size)


def _column(axis: Axis, index: IntArray) -> Any:
    levels = [axis.levels[i] for i in index]
    if isinstance(axis.dtype, pd.CategoricalDtype):
        return pd.Categorical(levels, dtype=axis.dtype)
    return np.array(levels, dtype=axis.dtype)


def _averaged(rows: FloatArray, n_cells: int) -> FloatArray:
    """Return the means over the slower variables, (n_cells, ...)."""
    return np.asarray(rows.reshape(-1, n_cells, rows.shape[1]).mean(axis=0))


def estimable(L: FloatArray, R: FloatArray) -> BoolArray:
    """Return which rows over all columns, (r, P), are combinations of rows of X, R its triangular factor."""
    scale = np.linalg.norm(R, axis=0)
    scale[scale == 0] = 1.0
    _, s, Vt = np.linalg.svd(R / scale)
    null = Vt[int((s > ESTIMABLE_TOL * s[0]).sum()) :]
    rows = L / scale
    size = np.maximum(np.linalg.norm(rows, axis=1), 1e-300)
    return np.asarray(np.linalg.norm(rows @ null.T, axis=1) < ESTIMABLE_TOL * size)


# --- contrasts between means -----------------------------------------------------------------------------


def contrast_rows(kind: ContrastKind, labels: Sequence[str]) -> dict[str, FloatArray]:
    """Return named coefficients for the means of one group.

    Parameters
    ----------
    kind : str or mapping
        ``"pairwise"``, ``"revpairwise"``, ``"trt.vs.ctrl"`` (against the first), ``"consec"``, ``"eff"``
        (against the average), or coefficients by name: in the order of the means, or by their labels.
    labels : sequence of str
        The means.

    Examples
    --------
    >>> contrast_rows("consec", ["a", "b", "c"])["c - b"].tolist()
    [0.0, -1.0, 1.0]
    >>> contrast_rows({"ends": {"a": -1, "c": 1}}, ["a", "b", "c"])["ends"].tolist()
    [-1.0, 0.0, 1.0]
    """
    k = len(labels)
    e = np.eye(k)
    if isinstance(kind, Mapping):
        return {str(name): _contrast(name, values, labels) for name, values in kind.items()}
    pairs = {
        "pairwise": [(i, j) for i in range(k) for j in range(i + 1, k)],
        "revpairwise": [(i, j) for i in range(k) for j in range(i)],
        "trt.vs.ctrl": [(i, 0) for i in range(1, k)],
        "consec": [(i, i - 1) for i in range(1, k)],
    }
    if kind == "eff":
        return {f"{label} effect": e[i] - 1.0 / k for i, label in enumerate(labels)}
    if not isinstance(kind, str) or kind not in pairs:
        raise ParameterError(f"unknown contrasts {kind!r}; there are {', '.join([*pairs, 'eff'])}, or a dict")
    return {f"{labels[i]} - {labels[j]}": e[i] - e[j] for i, j in pairs[kind]}


def _contrast(name: str, values: Sequence[float] | Mapping[str, float], labels: Sequence[str]) -> FloatArray:
    """Return the coefficients of one contrast, (k,)."""
    if isinstance(values, Mapping):
        unknown = [str(label) for label in values if str(label) not in labels]
        if unknown:
            raise ParameterError(f"the contrast {name!r} names {list_some(unknown)}; the means are {list_some(labels)}")
        given = {str(label): value for label, value in values.items()}
        values = [given.get(label, 0.0) for label in labels]
    try:
        row = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"the contrast {name!r} must hold a number for each mean: {error}") from error
    if row.shape != (len(labels),):
        raise ParameterError(f"the contrast {name!r} has {row.size} coefficients; there are {len(labels)} means")
    return row


def mean_labels(cells: pd.DataFrame, specs: Sequence[str]) -> list[str]:
    """Return a label per mean: its levels, those that look like numbers with the variable's name before."""
    parts = []
    for name in specs:
        texts = [f"{v:g}" if isinstance(v, float) else str(v) for v in cells[name]]
        parts.append([name + t if _is_number(t) else t for t in texts])
    return [" ".join(row) for row in zip(*parts)]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
