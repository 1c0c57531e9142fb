"""One column of data as the design needs it: numbers, or a factor with ordered levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pandas as pd

from sparselmm._typing import AnyArray, BoolArray, FloatArray, IntArray
from sparselmm.data.tables.codes import as_codes, code_type, compress, levels_present, looked_up, range_is_short
from sparselmm.data.tables.foreign import EXACT, arrow_series
from sparselmm.exceptions import DataError, DataWarning, warn_user

LOGICAL_LEVELS = pd.Index([False, True])
_TEMPORAL = "Mm"
_NUMBERS = ("integer", "floating", "mixed-integer-float", "decimal")
_TIMES = ("datetime", "datetime64", "date", "time", "timedelta", "timedelta64", "period", "interval")


@dataclass(frozen=True)
class Factor:
    """A categorical column.

    Attributes
    ----------
    codes : (n,) int array
        Position of each row's level; -1 where the value is missing.
    levels : pandas.Index
        The levels in order.
    contrast : object, optional
        Coding asked for in the formula by ``C(f, ...)``.
    text : bool
        Whether the column is text (R's character): `as.numeric` then reads the entries, and does not count levels.
    """

    codes: IntArray
    levels: pd.Index
    contrast: object = None
    text: bool = False

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def is_logical(self) -> bool:
        """Whether the column holds truth values."""
        return self.levels.dtype == np.bool_ and self.levels.tolist() == [False, True]

    def take(self, rows: IntArray | BoolArray) -> Factor:
        """Return the factor of some rows, by position or mask, with all levels kept."""
        return replace(self, codes=self.codes[rows])

    def drop_unused(self) -> Factor:
        """Return the factor without the levels that no row has."""
        used = levels_present(self.codes, len(self.levels))
        if used.all():
            return self
        position = np.append(np.cumsum(used) - 1, -1).astype(code_type(len(used)))
        return replace(self, codes=looked_up(position, self.codes), levels=self.levels[used])


Column = FloatArray | Factor


def logical(values: BoolArray, missing: BoolArray | None = None) -> Factor:
    """Return truth values as the two-level factor FALSE < TRUE."""
    codes = values.astype(np.int32)
    if missing is not None and missing.any():
        codes[missing] = -1
    return Factor(codes, LOGICAL_LEVELS)


def is_missing(column: Column) -> BoolArray:
    """Return which rows are missing, (n,)."""
    return column.codes < 0 if isinstance(column, Factor) else np.isnan(column)


def describe_rows(rows: AnyArray, index: pd.Index | None = None, limit: int = 10) -> str:
    """Return a short text that names rows by their index labels."""
    labels = [str(index[r]) if index is not None else str(r) for r in rows[:limit]]
    noun = "row" if len(rows) == 1 else "rows"
    more = f" and {len(rows) - limit} more" if len(rows) > limit else ""
    return f"{noun} {', '.join(labels)}{more}"


def list_some(values: Sequence[object] | pd.Index, limit: int = 10) -> str:
    """Return the first values as text, saying how many more there are."""
    more = f" and {len(values) - limit} more" if len(values) > limit else ""
    return ", ".join(str(v) for v in values[:limit]) + more


def factor_from_integers(values: AnyArray, missing: BoolArray | None = None) -> Factor:
    """Return the factor of an integer array, levels in increasing order; missing ones as -1."""
    if missing is not None and missing.any():
        present = factor_from_integers(values[~missing])
        codes = np.full(len(values), -1, dtype=present.codes.dtype)
        codes[~missing] = present.codes
        return replace(present, codes=codes)
    if len(values) == 0:
        return Factor(np.zeros(0, dtype=np.int32), pd.Index(np.zeros(0, dtype=np.int64)))
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    kind = np.uint64 if values.dtype == np.uint64 else np.int64
    low = int(values.min())
    size = int(values.max()) - low + 1
    if not range_is_short(size, len(values)):
        return factor_from_values(values.astype(kind, copy=False))
    codes, distinct = compress(values, size, low)
    return Factor(codes, pd.Index(distinct.astype(kind) + kind(low)))


def factor_from_values(values: Any) -> Factor:
    """Return the factor of any sortable values: numeric or code-point order, missing as -1."""
    codes, levels = pd.factorize(values, sort=True)
    levels = pd.Index(levels)
    if levels.dtype.kind == "f" and len(levels) and (levels == np.floor(levels)).all():
        # whole numbers that are floats only because something is missing
        with np.errstate(invalid="ignore"):
            whole = levels.to_numpy().astype(np.int64)
        levels = pd.Index(whole) if (whole == levels.to_numpy()).all() else levels
    return Factor(as_codes(codes, len(levels)), levels)


def factor_from_floats(values: FloatArray, what: str, digits: float = EXACT) -> Factor:
    """Return the factor of floating-point numbers, with a warning where neighbouring whole numbers are one.

    Parameters
    ----------
    values : (n,) array
        NaN where missing.
    what : str
        The column for the warning.
    digits : float
        From here on whole numbers are rounded.
    """
    factor = factor_from_values(values)
    if any(digits <= abs(level) < np.inf for level in (factor.levels[:1].append(factor.levels[-1:]))):
        warn_user(
            f"{what} holds floating-point numbers beyond {digits:.0f}, where neighbouring whole numbers become one: "
            "identifiers may have been merged before they came here. Read the column as text, or as whole numbers "
            "(in pandas dtype='Int64')",
            DataWarning,
        )
    return factor


def factor_from_objects(values: AnyArray, missing: BoolArray) -> Factor:
    """Return the factor of Python's numbers, told apart exactly, in increasing order."""
    listed = [v.item() if isinstance(v, np.generic) else v for v in values[~missing]]
    distinct = sorted(set(listed))
    position = {value: i for i, value in enumerate(distinct)}
    codes = np.full(len(values), -1, dtype=code_type(len(distinct)))
    codes[~missing] = [position[v] for v in listed]
    return Factor(codes, exact_index(distinct))


def exact_index(values: Sequence[Any]) -> pd.Index:
    """Return distinct numbers of Python as levels in the plainest type that keeps them apart.

    Examples
    --------
    >>> from decimal import Decimal
    >>> exact_index([Decimal(1), Decimal(2)]).dtype.name, exact_index([Decimal("0.1"), 2]).dtype.name
    ('int64', 'float64')
    >>> exact_index([2**64, 2**64 + 1])
    Index([18446744073709551616, 18446744073709551617], dtype='object')
    """
    plain = [_plainest(v) for v in values]
    kept: AnyArray = np.empty(len(plain), dtype=object)
    kept[:] = plain
    if all(isinstance(v, int) for v in plain):
        for kind in (np.int64, np.uint64):
            limits = np.iinfo(kind)
            if all(limits.min <= v <= limits.max for v in plain):
                kept = kept.astype(kind)
                break
    elif all(abs(v) <= EXACT for v in plain if isinstance(v, int)):
        floats = kept.astype(np.float64)
        kept = floats if len(np.unique(floats)) == len(floats) else kept
    return pd.Index(kept)


def _plainest(value: Any) -> Any:
    """Return a whole number as an int."""
    try:
        whole = int(value)
    except OverflowError:  # infinity
        return value
    return whole if whole == value else value


def factor_from_texts(values: Any) -> Factor:
    """Return the factor of a column of texts, levels in code-point order."""
    return replace(factor_from_values(values), text=True)


def factor_from_categories(codes: AnyArray, categories: pd.Index) -> Factor:
    """Return the factor of a categorical column, levels in category order."""
    return Factor(as_codes(codes, len(categories)), _plain_levels(categories))


def _plain_levels(categories: pd.Index) -> pd.Index:
    """Return categories that are numbers or dates in the types that columns of them have."""
    kind = pd.api.types.infer_dtype(categories) if categories.dtype == object else ""
    if kind in _NUMBERS:
        return exact_index(list(categories))
    if kind == "date":
        return _as_days(categories)
    if isinstance(categories.dtype, pd.ArrowDtype) or (
        not isinstance(categories.dtype, np.dtype) and pd.api.types.is_numeric_dtype(categories.dtype)
    ):
        numbers: pd.Index = to_grouping(pd.Series(categories), "the categories").levels
        return numbers
    return categories


def to_column(values: pd.Series, name: str) -> Column:
    """Return a pandas column as float64 numbers (missing as NaN) or as a factor.

    Raises
    ------
    DataError
        For dates, complex numbers and columns of mixed type, naming the column.
    """
    values = _plain(values)
    dtype = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        # not .cat.codes, which copies
        return factor_from_categories(cast(pd.Categorical, values.array).codes, dtype.categories)
    if pd.api.types.is_bool_dtype(dtype):
        missing = values.isna().to_numpy()
        plain = values.to_numpy() if dtype == np.bool_ else values.fillna(False).to_numpy(dtype=np.bool_)
        return logical(np.asarray(plain, dtype=np.bool_), missing)
    if pd.api.types.is_complex_dtype(dtype):
        raise DataError(f"column {name!r} holds complex numbers; mixed models need real ones")
    if pd.api.types.is_numeric_dtype(dtype):
        return _numbers(values)
    if _is_temporal(values):
        raise DataError(
            f"column {name!r} holds dates or times ({dtype}); turn it into a number or a text first, "
            "for example days since the first date"
        )
    if isinstance(dtype, pd.StringDtype):
        return factor_from_texts(values)
    return _from_objects(values, name)


def _plain(values: pd.Series) -> pd.Series:
    """Return a column of Arrow type, or of a sparse one, in pandas' own types."""
    if isinstance(values.dtype, pd.SparseDtype):
        return pd.Series(np.asarray(values), index=values.index)
    if not isinstance(values.dtype, pd.ArrowDtype):
        return values
    import pyarrow as pa

    plain: pd.Series = arrow_series(pa.array(values.array), str(values.name)).set_axis(values.index)
    return plain


def _is_temporal(values: pd.Series) -> bool:
    dtype = values.dtype
    return (
        getattr(dtype, "kind", "O") in _TEMPORAL
        or isinstance(dtype, pd.PeriodDtype | pd.IntervalDtype)
        or "timestamp" in str(dtype)
        or "date" in str(dtype)
    )


def _numbers(values: pd.Series) -> FloatArray:
    if isinstance(values.dtype, np.dtype):
        return np.asarray(values.to_numpy(), dtype=np.float64)
    return np.asarray(values.to_numpy(dtype=np.float64, na_value=np.nan), dtype=np.float64)


def _from_objects(values: pd.Series, name: str) -> Column:
    kind = pd.api.types.infer_dtype(values, skipna=True)
    missing = values.isna().to_numpy()
    if kind == "string":
        return factor_from_texts(values.where(~missing, None))
    if kind == "boolean":
        return logical(values.where(~missing, False).to_numpy(dtype=np.bool_), missing)
    if kind in _NUMBERS or kind == "empty":
        plain = np.full(len(values), np.nan)
        try:
            plain[~missing] = values[~missing].to_numpy(dtype=np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(f"column {name!r} cannot be read as numbers: {error}") from error
        return plain
    if kind in _TIMES:
        raise DataError(f"column {name!r} holds dates or times; turn it into a number or a text first")
    raise DataError(f"column {name!r} mixes types: {_types(values[~missing])}; give all its values one type")


def _types(values: pd.Series) -> str:
    first: dict[str, object] = {}
    for label, value in values.items():
        first.setdefault(type(value).__name__, label)
    return ", ".join(f"{kind} (first in row {label})" for kind, label in first.items())


def is_numeric(values: pd.Series) -> bool:
    """Whether a column holds numbers, truth values excepted."""
    values = _plain(values)
    if values.dtype == object:
        return pd.api.types.infer_dtype(values, skipna=True) in (*_NUMBERS, "empty")
    return pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_bool_dtype(values.dtype)


def is_temporal(values: pd.Series) -> bool:
    """Whether a column holds dates or times."""
    values = _plain(values)
    return _is_temporal(values) or (values.dtype == object and pd.api.types.infer_dtype(values, skipna=True) in _TIMES)


def only_levels_hold(values: pd.Series) -> bool:
    """Whether floating-point numbers are not what a column holds: dates, and whole numbers too long for them."""
    if is_temporal(values):
        return True
    return is_numeric(values) and bool((np.abs(np.asarray(to_column(values, str(values.name)))) >= EXACT).any())


def to_grouping(values: pd.Series, name: str) -> Factor:
    """Return a pandas column as a factor whatever its type; numbers and dates in increasing order.

    Whole numbers are told apart exactly, whatever their size and type.
    """
    values = _plain(values)
    dtype = values.dtype
    if pd.api.types.is_integer_dtype(dtype):
        if isinstance(dtype, np.dtype):
            return factor_from_integers(values.to_numpy())
        numbers = values.to_numpy(dtype=getattr(dtype, "numpy_dtype", np.int64), na_value=0)
        return factor_from_integers(numbers, values.isna().to_numpy())
    if _is_temporal(values):
        return factor_from_values(values)
    if pd.api.types.is_float_dtype(dtype):
        digits = np.finfo(getattr(dtype, "numpy_dtype", dtype)).nmant + 1
        return factor_from_floats(_numbers(values), f"the column {name}", min(EXACT, 2.0**digits))
    if pd.api.types.is_object_dtype(dtype):
        kind = pd.api.types.infer_dtype(values, skipna=True)
        if kind in _NUMBERS:
            return factor_from_objects(values.to_numpy(), values.isna().to_numpy())
        if kind in _TIMES:
            return _factor_of_times(values, kind)
    column = to_column(values, name)
    return column if isinstance(column, Factor) else factor_from_values(column)


def _factor_of_times(values: pd.Series, kind: str) -> Factor:
    factor = factor_from_values(values)
    if kind == "date":
        return replace(factor, levels=_as_days(factor.levels))
    return replace(factor, levels=pd.DatetimeIndex(factor.levels)) if kind.startswith("datetime") else factor


def _as_days(dates: pd.Index) -> pd.Index:
    """Return dates of Python as the times at which these days begin."""
    return pd.DatetimeIndex(np.array(list(dates), dtype="M8[D]").astype("M8[s]"))
