"""One column of data as the design needs it: numbers, or a factor with ordered levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pandas as pd

from sparselmm._typing import AnyArray, BoolArray, FloatArray, IntArray
from sparselmm.data.tables.codes import as_codes, code_type, compress, levels_present, looked_up, range_is_short
from sparselmm.exceptions import DataError

LOGICAL_LEVELS = pd.Index([False, True])
_TEMPORAL = "Mm"


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
        return self.levels.dtype == np.bool_

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


def factor_from_integers(values: AnyArray) -> Factor:
    """Return the factor of an integer array, levels in increasing order."""
    if len(values) == 0:
        return Factor(np.zeros(0, dtype=np.int32), pd.Index(np.zeros(0, dtype=np.int64)))
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


def factor_from_texts(values: Any) -> Factor:
    """Return the factor of a column of texts, levels in code-point order."""
    return replace(factor_from_values(values), text=True)


def factor_from_categories(codes: AnyArray, categories: pd.Index) -> Factor:
    """Return the factor of a categorical column, levels in category order."""
    return Factor(as_codes(codes, len(categories)), categories)


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
    """Return a column of Arrow type in pandas' own types."""
    if not isinstance(values.dtype, pd.ArrowDtype):
        return values
    import pyarrow as pa

    return pd.Series(pa.array(values.array).to_pandas().array, index=values.index)


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
    if kind in ("integer", "floating", "mixed-integer-float", "decimal", "empty"):
        plain = np.full(len(values), np.nan)
        try:
            plain[~missing] = values[~missing].to_numpy(dtype=np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(f"column {name!r} cannot be read as numbers: {error}") from error
        return plain
    if kind in ("datetime", "datetime64", "date", "time", "timedelta", "timedelta64", "period", "interval"):
        raise DataError(f"column {name!r} holds dates or times; turn it into a number or a text first")
    raise DataError(f"column {name!r} mixes types: {_types(values[~missing])}; give all its values one type")


def _types(values: pd.Series) -> str:
    first: dict[str, object] = {}
    for label, value in values.items():
        first.setdefault(type(value).__name__, label)
    return ", ".join(f"{kind} (first in row {label})" for kind, label in first.items())


def to_grouping(values: pd.Series, name: str) -> Factor:
    """Return a pandas column as a factor whatever its type; numbers and dates in increasing order."""
    values = _plain(values)
    dtype = values.dtype
    if isinstance(dtype, np.dtype) and dtype.kind in "iu":
        return factor_from_integers(values.to_numpy())
    if _is_temporal(values):
        return factor_from_values(values)
    column = to_column(values, name)
    return column if isinstance(column, Factor) else factor_from_values(column)
