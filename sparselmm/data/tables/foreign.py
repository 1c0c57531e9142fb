"""Columns of polars and Arrow tables, and lists, as pandas Series that lose no digit of a whole number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._typing import AnyArray, BoolArray
from sparselmm.exceptions import DataError

EXACT = 2.0**53  # from here on floating point no longer holds every whole number
_SAFE_DIGITS = 15  # decimal numbers of so many digits differ as floating-point numbers, too


class UnusableTypeError(DataError):
    """A column is of a type that has no use in a model."""


def is_column(values: Any) -> bool:
    """Whether something has one dimension."""
    if type(values).__module__.partition(".")[0] in ("polars", "pyarrow"):
        return not hasattr(values, "columns")
    return np.ndim(values) == 1


def as_series(values: Any, name: str) -> pd.Series:
    """Return a list, an array, or a column of another package as a Series.

    Raises
    ------
    DataError
        When it is none of these, naming the column.
    """
    if isinstance(values, pd.Series | pd.Categorical | pd.Index):
        return pd.Series(values, copy=False)
    module, kind = type(values).__module__.partition(".")[0], type(values).__name__
    if module == "polars" and kind == "Series":
        return polars_series(values, name)
    if module == "pyarrow":
        return arrow_series(values, name)
    if isinstance(values, str | bytes) or not hasattr(values, "__len__"):
        raise DataError(f"column {name!r} must be an array or a list, not {kind}")
    if hasattr(values, "to_pandas") and not isinstance(values, np.ndarray):
        return pd.Series(values.to_pandas(), copy=False)
    if np.ndim(values) > 1 and isinstance(values, np.ndarray):
        raise DataError(f"column {name!r} must have one dimension, not {values.ndim}")
    if isinstance(values, np.ndarray | pd.api.extensions.ExtensionArray):
        return pd.Series(values, copy=False)
    listed = list(values)
    series = pd.Series(listed)
    if series.dtype.kind == "f" and bool((series.abs() >= EXACT).any()):
        # a missing value among whole numbers made them floating-point ones
        return pd.Series(listed, dtype=object)
    return series


def masked_integers(values: AnyArray, missing: BoolArray) -> pd.Series:
    """Return whole numbers of which some are missing, exactly."""
    return pd.Series(pd.arrays.IntegerArray(values, missing))


def polars_series(values: Any, name: str) -> pd.Series:
    """Convert one polars column without needing pyarrow."""
    import polars as pl

    dtype = values.dtype
    if dtype == pl.Enum:
        codes = values.to_physical().cast(pl.Int64).fill_null(-1).to_numpy()
        return pd.Series(pd.Categorical.from_codes(codes, dtype.categories.to_list()))
    if dtype == pl.Boolean and values.null_count():
        return pd.Series(values.to_list(), dtype="boolean")
    if dtype == pl.String:
        return pd.Series(np.asarray(values.to_list(), dtype=object))
    if dtype == pl.Categorical:
        # it keeps no order of its own; an Enum does
        return pd.Series(pd.Categorical(np.asarray(values.to_list(), dtype=object)))
    if dtype == pl.Null:
        return pd.Series(np.full(len(values), np.nan))
    if dtype.is_decimal() and (dtype.precision or _SAFE_DIGITS + 1) <= _SAFE_DIGITS:
        values = values.cast(pl.Float64)
    elif dtype.is_decimal() or (dtype.is_integer() and dtype not in _numpy_integers()):
        return pd.Series(values.to_list(), dtype=object)
    elif dtype.is_integer() and values.null_count():
        return masked_integers(values.fill_null(0).to_numpy(writable=True), values.is_null().to_numpy(writable=True))
    elif not (dtype.is_numeric() or dtype.is_temporal() or dtype == pl.Boolean):
        raise UnusableTypeError(f"column {name!r} has the polars type {dtype}, which has no use in a model")
    return pd.Series(values.to_numpy(), copy=False)


def _numpy_integers() -> frozenset[Any]:
    import polars as pl

    return frozenset({pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64})


def arrow_series(values: Any, name: str) -> pd.Series:
    """Convert one Arrow column."""
    import pyarrow as pa

    kind = values.type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind):
        raise UnusableTypeError(f"column {name!r} has the Arrow type {kind}, which has no use in a model")
    if pa.types.is_dictionary(kind):
        return _from_dictionary(values, name)
    if pa.types.is_decimal(kind) and kind.precision <= _SAFE_DIGITS:
        values = values.cast(pa.float64())
    elif pa.types.is_integer(kind) and values.null_count:
        return masked_integers(np.array(values.fill_null(0)), np.array(values.is_null()))
    return pd.Series(values.to_pandas(), copy=False)


def _from_dictionary(values: Any, name: str) -> pd.Series:
    # chunks may have dictionaries of their own
    values = values.unify_dictionaries() if hasattr(values, "unify_dictionaries") else values
    try:
        return pd.Series(values.to_pandas(), copy=False)
    except ValueError:
        # an entry of the dictionary is missing or occurs twice, which pandas does not have
        return arrow_series(values.cast(values.type.value_type), name)


def with_exact_numbers(frame: pd.DataFrame, read: Callable[[list[str]], pd.DataFrame]) -> pd.DataFrame:
    """Return a table whose long whole numbers, of which a missing one made floats or texts, are whole numbers again.

    Parameters
    ----------
    frame : DataFrame
        As pandas read it from a text file.
    read : callable
        Reads the columns of these names again, as text.
    """
    doubtful = [
        str(name)
        for name, column in frame.items()
        if (pd.api.types.is_float_dtype(column) and bool((column.abs() >= EXACT).any()))
        or (pd.api.types.is_string_dtype(column) and bool(column.astype(str).str.fullmatch(r"\d{19,}").any()))
    ]
    if not doubtful:
        return frame
    for name, texts in read(doubtful).items():
        if texts.dropna().str.fullmatch(r"\s*[-+]?\d+\s*").all():
            whole = [None if pd.isna(text) else int(text) for text in texts]
            frame[name] = pd.Series(whole, index=frame.index, dtype=object)
    return frame
