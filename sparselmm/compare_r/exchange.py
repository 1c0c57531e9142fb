"""Data handed to R: CSV text in which nothing is left to guessing, and how to read each column."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from sparselmm.data.tables.columns import is_numeric, only_levels_hold, to_grouping
from sparselmm.exceptions import DataError

__all__ = ["ExchangeColumn", "ExchangeTable"]

_LONE_DOT = re.compile(r"(?<![\w.)\]`])\.(?![\w.])")


@dataclass(frozen=True)
class ExchangeColumn:
    """One column: its name, what R reads it as, and its levels or distinct texts in order."""

    name: str
    kind: Literal["numeric", "logical", "character", "factor"]
    levels: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExchangeTable:
    """The columns of a data frame that a model uses, in a form that R reads without loss.

    Attributes
    ----------
    columns : tuple of ExchangeColumn
        Names, kinds and level orders.
    lines : tuple of str
        CSV lines, the header first.
    missing : str
        What stands for a missing value; no level looks like it.
    """

    columns: tuple[ExchangeColumn, ...]
    lines: tuple[str, ...]
    missing: str

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, formula: str, also: Sequence[str] = ()) -> ExchangeTable:
        """Return the columns that `formula` mentions and those named in `also`."""
        names = [str(name) for name in frame.columns if str(name) in also or _mentioned(str(name), formula)]
        if not names:
            raise DataError(f"no column of the data occurs in the formula {formula!r}")
        described = [_describe(frame[name], name) for name in names]
        levels = {level for column, _ in described for level in column.levels}
        missing = next(m for m in ("NA", "<NA>", *(f"<NA{i}>" for i in range(len(levels) + 1))) if m not in levels)
        cells = [[missing if cell is None else cell for cell in values] for _, values in described]
        buffer = io.StringIO()
        writer = csv.writer(buffer, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(zip(*cells))
        return cls(tuple(column for column, _ in described), tuple(buffer.getvalue().splitlines()), missing)

    @property
    def text(self) -> str:
        """The CSV text."""
        return "\n".join(self.lines) + "\n"

    @property
    def sha256(self) -> str:
        """Checksum of the CSV text, to recognise R output made from other data."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def _mentioned(name: str, formula: str) -> bool:
    if _LONE_DOT.search(formula):
        return True
    return re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", formula) is not None


def _describe(column: pd.Series[Any], name: str) -> tuple[ExchangeColumn, list[str | None]]:
    if isinstance(column, pd.DataFrame):
        raise DataError(f"the data have more than one column called {name!r}")
    if isinstance(column.dtype, pd.CategoricalDtype):
        return _factor(column, name, list(column.cat.remove_unused_categories().cat.categories))
    if pd.api.types.is_bool_dtype(column.dtype):
        return ExchangeColumn(name, "logical"), [None if pd.isna(v) else ("TRUE" if v else "FALSE") for v in column]
    if is_numeric(column) and only_levels_hold(column):
        # identifiers that R's numbers would merge
        factor = to_grouping(column, name)
        texts = [*map(str, factor.levels), None]
        return ExchangeColumn(name, "factor", tuple(map(str, factor.levels))), [texts[code] for code in factor.codes]
    if pd.api.types.is_numeric_dtype(column.dtype):
        return ExchangeColumn(name, "numeric"), [None if pd.isna(v) else _number(v) for v in column]
    values = list(column.dropna().unique())
    if values and all(isinstance(v, (bool, np.bool_)) for v in values):
        return _describe(column.astype("boolean"), name)
    if values and all(isinstance(v, str) for v in values):
        # not as a factor: R's as.numeric() reads text, but counts the levels of a factor
        described, cells = _factor(column, name, sorted(values))
        return replace(described, kind="character"), cells
    try:
        levels = sorted(values)
    except TypeError:
        raise DataError(f"column {name!r} mixes values of different types") from None
    return _factor(column, name, levels)


def _factor(column: pd.Series[Any], name: str, levels: list[Any]) -> tuple[ExchangeColumn, list[str | None]]:
    texts = tuple(str(level) for level in levels)
    if len(set(texts)) < len(texts) or any(c in text for text in texts for c in "\r\n"):
        raise DataError(f"the levels of column {name!r} cannot be written to a CSV file")
    return ExchangeColumn(name, "factor", texts), [None if pd.isna(v) else str(v) for v in column]


def _number(value: Any) -> str:
    text = repr(float(value))
    return text[:-2] if text.endswith(".0") else text
