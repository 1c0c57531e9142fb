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
from sparselmm.data.tables.foreign import UnusableTypeError, arrow_series, as_series, polars_series
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
        self._latest: tuple[str, pd.Series] | None = None  # converted once where it is asked for several times

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
        if self._latest is not None and self._latest[0] == name:
            return self._latest[1]
        series = self._get(name)
        if isinstance(series.dtype, np.dtype) and not series.dtype.isnative:
            # pandas takes no rows of a column in the byte order of another machine
            series = pd.Series(series.to_numpy().astype(series.dtype.newbyteorder("=")), series.index, name=series.name)
        self._latest = (name, series)
        return series

    def readable(self) -> dict[str, pd.Series]:
        """Return all columns but those of types that no model takes."""
        columns = {}
        for name in self.names:
            try:
                columns[name] = self.series(name)
            except UnusableTypeError:
                continue
        return columns

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
        if name in map(str, self.index.names):
            return f"{name!r} is in the index of the data; make it a column with data.reset_index()"
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


def as_pandas(data: Any) -> pd.DataFrame:
    """Return a table as a pandas DataFrame without loss; columns of types that no model takes are left out."""
    if isinstance(data, pd.DataFrame):
        return data
    frame = as_frame(data)
    return pd.DataFrame(frame.readable(), index=frame.index)


def _from_pandas(data: pd.DataFrame) -> Frame:
    if isinstance(data.columns, pd.MultiIndex):
        raise DataError("the data have several levels of column names; flatten them to one name per column")
    labels = {str(label): label for label in data.columns}
    return Frame(tuple(map(str, data.columns)), data.index, lambda name: data[labels[name]])


def _from_mapping(data: Mapping[Any, Any]) -> Frame:
    columns: dict[str, pd.Series] = {}
    for key, values in data.items():
        columns[str(key)] = as_series(values, str(key))
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


def _from_polars(data: Any) -> Frame:
    if type(data).__name__ == "LazyFrame":
        data = data.collect()
    if type(data).__name__ != "DataFrame":
        raise DataError(f"data must be a table; a polars {type(data).__name__} is not")
    index = pd.RangeIndex(data.height)
    return Frame(tuple(data.columns), index, lambda name: polars_series(data.get_column(name), name))


def _from_arrow(data: Any) -> Frame:
    import pyarrow as pa

    if isinstance(data, pa.RecordBatch):
        data = pa.Table.from_batches([data])
    if not isinstance(data, pa.Table):
        raise DataError(f"data must be a table; a pyarrow {type(data).__name__} is not")
    return Frame(
        tuple(data.column_names), pd.RangeIndex(data.num_rows), lambda name: arrow_series(data.column(name), name)
    )
