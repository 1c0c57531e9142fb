"""The reference grid: all levels of the factors of the fixed part crossed, covariates at their means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._typing import FloatArray, IntArray
from sparselmm.data.encoding.encoding import EncodingSpec
from sparselmm.data.tables.columns import Factor, list_some, only_levels_hold, to_column, to_grouping
from sparselmm.exceptions import ParameterError
from sparselmm.formula.grammar import parse_expression
from sparselmm.formula.nodes import names
from sparselmm.inference.fixed.terms import distinct_chunks, upper_factor
from sparselmm.inference.sizes import MAX_CELLS


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
    as_given : list or None
        The levels as they are, where numbers would not hold them.
    spread : float
        Range of a covariate; zero for a factor.
    """

    levels: list[Any]
    mean: float | None
    dtype: Any
    coded: bool
    as_given: list[Any] | None = None
    spread: float = 0.0


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
    factors : tuple of str
        Variables with levels.
    codes : (c, f) int array
        The combinations of their levels that occur, by position.
    counts : (c,) array
        Rows of each.
    """

    variables: dict[str, Variable]
    offset: float
    formula_offset: float
    spanned: FloatArray | None
    factors: tuple[str, ...]
    codes: IntArray
    counts: FloatArray


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
        Whether the grid averages over it.
    dtype : object
        What new data of this variable must look like.
    """

    name: str
    levels: list[Any]
    factor: bool
    dtype: Any


@dataclass(frozen=True)
class Grid:
    """The cells of a reference grid, the first variable varying fastest.

    Attributes
    ----------
    axes : dict
        Axis by name, in the order of the cells.
    index : dict
        For each variable the level of every cell, (N,).
    """

    axes: dict[str, Axis]
    index: dict[str, IntArray]

    def __len__(self) -> int:
        return int(np.prod([len(axis.levels) for axis in self.axes.values()], dtype=np.int64))

    @property
    def averaged(self) -> list[str]:
        """Variables with several values."""
        return [name for name, axis in self.axes.items() if len(axis.levels) > 1]

    def frame(self) -> pd.DataFrame:
        """Return the cells as new data."""
        columns = {name: self._column(axis) for name, axis in self.axes.items()}
        return pd.DataFrame(columns, index=pd.RangeIndex(len(self)))

    def _column(self, axis: Axis) -> Any:
        levels = [axis.levels[i] for i in self.index[axis.name]]
        if isinstance(axis.dtype, pd.CategoricalDtype):
            return pd.Categorical(levels, dtype=axis.dtype)
        return np.array(levels, dtype=axis.dtype)

    def key(self, some: Sequence[str]) -> IntArray:
        """Return one number for each combination of levels of some variables, (N,)."""
        out = np.zeros(len(self), dtype=np.int64)
        for name in reversed(some):
            out = out * len(self.axes[name].levels) + self.index[name]
        return out

    def summed(self, values: FloatArray, some: Sequence[str]) -> FloatArray:
        """Return the sum of values, (N,), over the cells that share the levels of some variables, (N,)."""
        key = self.key(some)
        return np.asarray(np.bincount(key, weights=values)[key])

    def counts(self, known: Averages) -> FloatArray:
        """Return how many rows of the data have the factor levels of each cell, (N,)."""
        codes = dict(zip(known.factors, known.codes.T))
        factors = [name for name, axis in self.axes.items() if axis.factor]
        here, key, size = np.ones(len(known.counts), dtype=np.bool_), np.zeros(len(known.counts), dtype=np.int64), 1
        for name in factors:
            place = {level: i for i, level in enumerate(self.axes[name].levels)}
            variable = known.variables[name]
            lookup = np.array([place.get(level, -1) for level in variable.as_given or variable.levels], dtype=np.int64)
            at = lookup[codes[name]]
            here &= at >= 0
            key += size * at
            size *= len(place)
        found = np.bincount(key[here], known.counts[here], minlength=size)
        return np.asarray(found[self.key(factors)], dtype=np.float64)


def make_grid(axes: Mapping[str, Axis], shown: Sequence[str]) -> Grid:
    """Return the grid with the variables shown first.

    Raises
    ------
    ParameterError
        For more than 200,000 cells.
    """
    order = [*shown, *(name for name in axes if name not in shown)]
    sizes = [len(axes[name].levels) for name in order]
    if np.prod([float(s) for s in sizes]) > MAX_CELLS:
        raise ParameterError(f"the reference grid would have {np.prod(sizes):,} cells; fix some variables with at=")
    index = [g.ravel() for g in np.meshgrid(*(np.arange(s) for s in reversed(sizes)), indexing="ij")][::-1]
    return Grid({name: axes[name] for name in order}, dict(zip(order, index)))


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
    on_mean = 0.0 if on_rows is None else float(np.mean(on_rows))
    return Averages(variables, offset, on_mean, spanned, *_combinations(variables, raw))


def _combinations(variables: Mapping[str, Variable], raw: pd.DataFrame) -> tuple[tuple[str, ...], IntArray, FloatArray]:
    """Return the factors, the combinations of their levels in the rows, and how often each occurs."""
    factors = tuple(name for name, variable in variables.items() if variable.levels)
    if not factors:
        return (), np.zeros((1, 0), dtype=np.int64), np.array([float(len(raw))])
    codes = np.column_stack([_positions(variables[name], raw[name], name) for name in factors])
    found, counts = np.unique(codes, axis=0, return_counts=True)
    return factors, found, counts.astype(np.float64)


def _positions(variable: Variable, series: pd.Series[Any], name: str) -> IntArray:
    """Return which level each row of the data has, (n,)."""
    column = to_column(series, name) if variable.as_given is None else to_grouping(series, name)
    if isinstance(column, Factor):
        place = {level: i for i, level in enumerate(variable.as_given or variable.levels)}
        lookup = np.array([*(place.get(level, -1) for level in column.levels), -1], dtype=np.int64)
        return np.asarray(lookup[column.codes])
    return np.asarray(np.searchsorted(variable.levels, column))


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
    levels, spread = [float(v) for v in distinct] if few else [], float(np.ptp(column))
    return Variable(levels, float(column.mean()), float, coded, exact, spread)


def axes(variables: Mapping[str, Variable], at: Mapping[str, Any] | None) -> dict[str, Axis]:
    """Return the variables of the grid with their values, those of ``at`` in place of those of the data."""
    wanted = dict(at or {})
    unknown = [name for name in wanted if name not in variables]
    if unknown:
        raise ParameterError(f"at= names {list_some(unknown)}, but the fixed part uses {list_some(list(variables))}")
    return {name: _axis(name, variable, wanted.get(name)) for name, variable in variables.items()}


def _axis(name: str, variable: Variable, given: Any) -> Axis:
    levels = variable.levels
    if given is None and variable.as_given is not None:
        return Axis(name, variable.as_given, True, object)
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


def as_covariate(axis: Axis, variable: Variable, given: bool) -> Axis:
    """Return the axis of a variable whose slope is asked for: at its mean, or at the values given.

    Raises
    ------
    ParameterError
        For a factor.
    """
    if variable.mean is None or variable.coded:
        raise ParameterError(f"{axis.name!r} is a factor and has no slope; ask for emmeans of it")
    return axis if given else replace(axis, levels=[variable.mean], factor=False)


def _listed(values: Any) -> list[Any]:
    if isinstance(values, str) or np.ndim(values) == 0:
        return [values]
    return list(values)
