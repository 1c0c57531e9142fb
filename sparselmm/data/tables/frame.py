"""Any table the user may hand over, as named columns converted only when they are used."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from sparselmm.data.tables.columns import Column, Factor, to_column, to_grouping
from sparselmm.exceptions import DataError


class Frame:
    """Columns by name, with their rows' labels; each column is converted once, on first use.

    Attributes
    ----------
    names : tuple of str
        Column names.
    index : pandas.Index
        Labels of the rows.
    """

    def __init__(self, names: tuple[str, ...], index: pd.Index, get: Callable[[str], pd.Series]) -> None:
        self.names = names
        self.index = index
        self._get = get
        self._known = frozenset(names)
        self._repeated = set() if len(self._known) == len(names) else {n for n, k in Counter(names).items() if k > 1}
        self._columns: dict[str, Column] = {}

    def __len__(self) -> int:
        return len(self.index)

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def series(self, name: str) -> pd.Series:
        """Return a column as it was given, as a pandas Series.

        Raises
        ------
        DataError
            When the table has two columns of that name.
        """
        if name in self._repeated:
            raise DataError(f"the data have {self.names.count(name)} columns named {name!r}; column names must differ")
        return self._get(name)

    def column(self, name: str) -> Column:
        """Return a column as numbers or as a factor."""
        if name not in self._columns:
            self._columns[name] = to_column(self.series(name), name)
        return self._columns[name]

    def grouping(self, name: str) -> Factor:
        """Return a column as a factor, whatever its type."""
        known = self._columns.get(name)
        return known if isinstance(known, Factor) else to_grouping(self.series(name), name)

    def suggestion(self, name: str) -> str:
        """Return a hint with the names nearest to an unknown one."""
        reading = _reading_trouble(name, self.names)
        if reading:
            return reading
        lowered = {n.lower(): n for n in self.names}
        near = difflib.get_close_matches(name.lower(), list(lowered), n=3, cutoff=0.6)
        if not near:
            near = [n for n in lowered if name.lower() in re.split(r"\W+", n)][:3]
        if near:
            found = [lowered[n] for n in near]
            ticks = (
                " (names like this go in backticks)"
                if any(not n.replace(".", "_").isidentifier() for n in found)
                else ""
            )
            return "did you mean " + " or ".join(map(repr, found)) + f"?{ticks}"
        shown = ", ".join(self.names[:15]) + (", ..." if len(self.names) > 15 else "")
        return f"the columns are: {shown}" if self.names else "the data have no columns"


def _reading_trouble(name: str, names: tuple[str, ...]) -> str | None:
    """Return how to read a file again whose columns were not told apart, or whose names are not clean."""
    for separator in (";", "\t", "|"):
        if len(names) == 1 and name in [part.strip(' "\ufeff') for part in names[0].split(separator)]:
            return f"the columns are separated by {separator!r}: read the file again with sep={separator!r}"
    for other in names:
        if other == f"\ufeff{name}" or other == f"ï»¿{name}":
            return "a byte-order mark stands before the name: read the file again with encoding='utf-8-sig'"
        if other.strip() == name:
            return f"there are blanks in {other!r}: take them off with data.columns = data.columns.str.strip()"
    return None


def as_frame(data: Any) -> Frame:
    """Return pandas, polars or Arrow data, or a dict of columns, as a `Frame`.

    Raises
    ------
    DataError
        When the object is none of these, or its columns differ in length.
    """
    if isinstance(data, Frame):
        return data
    if isinstance(data, pd.DataFrame):
        return _from_pandas(data)
    module = type(data).__module__.partition(".")[0]
    if module == "polars":
        return _from_polars(data)
    if module == "pyarrow":
        return _from_arrow(data)
    if isinstance(data, Mapping):
        return _from_mapping(data)
    raise DataError(
        f"data must be a pandas or polars DataFrame, an Arrow table or a dict of columns, not {type(data).__name__}"
    )


def _from_pandas(data: pd.DataFrame) -> Frame:
    if isinstance(data.columns, pd.MultiIndex):
        raise DataError("the data have several levels of column names; flatten them to one name per column")
    labels = {str(label): label for label in data.columns}
    return Frame(tuple(map(str, data.columns)), data.index, lambda name: data[labels[name]])


def _from_mapping(data: Mapping[Any, Any]) -> Frame:
    columns: dict[str, pd.Series] = {}
    for key, values in data.items():
        array = values if isinstance(values, pd.Series | pd.Categorical | pd.Index) else _as_array(str(key), values)
        columns[str(key)] = pd.Series(array, copy=False)
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise DataError("the columns differ in length: " + ", ".join(f"{k!r} has {n}" for k, n in lengths.items()))
    index = _common_index({str(key): values.index for key, values in data.items() if isinstance(values, pd.Series)})
    if index is None:
        index = pd.RangeIndex(next(iter(lengths.values()), 0))
    return Frame(tuple(columns), index, lambda name: columns[name].set_axis(index))


def _common_index(indexes: dict[str, pd.Index]) -> pd.Index | None:
    """Return the labels that all Series of a dict have; None without any."""
    if not indexes:
        return None
    first, index = next(iter(indexes.items()))
    for name, other in indexes.items():
        if not other.equals(index):
            raise DataError(
                f"the columns {first!r} and {name!r} have different row labels, and rows go by their labels in pandas; "
                "make one table with pandas.DataFrame(...), or pass arrays where the order is right"
            )
    return index


def _as_array(name: str, values: Any) -> Any:
    if isinstance(values, str | bytes) or not hasattr(values, "__len__"):
        raise DataError(f"column {name!r} must be an array or a list, not {type(values).__name__}")
    if hasattr(values, "to_pandas") and not isinstance(values, np.ndarray):
        return values.to_pandas()
    if isinstance(values, np.ndarray):
        if values.ndim != 1:
            raise DataError(f"column {name!r} must have one dimension, not {values.ndim}")
        return values
    return list(values)


def _from_polars(data: Any) -> Frame:
    if type(data).__name__ == "LazyFrame":
        data = data.collect()
    if type(data).__name__ != "DataFrame":
        raise DataError(f"data must be a table; a polars {type(data).__name__} is not")
    index = pd.RangeIndex(data.height)
    return Frame(tuple(data.columns), index, lambda name: _polars_series(data.get_column(name), name))


def _polars_series(values: Any, name: str) -> pd.Series:
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
    if dtype.is_decimal():
        values = values.cast(pl.Float64)
    elif not (dtype.is_numeric() or dtype.is_temporal() or dtype in (pl.Boolean, pl.Null)):
        raise DataError(f"column {name!r} has the polars type {dtype}, which has no use in a model")
    if dtype == pl.Null:
        return pd.Series(np.full(len(values), np.nan))
    return pd.Series(values.to_numpy(), copy=False)


def _from_arrow(data: Any) -> Frame:
    import pyarrow as pa

    if isinstance(data, pa.RecordBatch):
        data = pa.Table.from_batches([data])
    if not isinstance(data, pa.Table):
        raise DataError(f"data must be a table; a pyarrow {type(data).__name__} is not")
    return Frame(
        tuple(data.column_names), pd.RangeIndex(data.num_rows), lambda name: _arrow_series(data.column(name), name)
    )


def _arrow_series(values: Any, name: str) -> pd.Series:
    import pyarrow as pa

    kind = values.type
    if pa.types.is_decimal(kind):
        values = values.cast(pa.float64())
    elif pa.types.is_nested(kind) or pa.types.is_binary(kind):
        raise DataError(f"column {name!r} has the Arrow type {kind}, which has no use in a model")
    if pa.types.is_dictionary(kind):
        # chunks may have dictionaries of their own
        values = values.unify_dictionaries() if hasattr(values, "unify_dictionaries") else values
    result: pd.Series = values.to_pandas()
    return result
