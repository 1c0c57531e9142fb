"""What expressions have for values: numbers, a factor, or several columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sparselmm._typing import FloatArray
from sparselmm.data.tables.columns import Column, Factor, factor_from_floats, list_some
from sparselmm.data.tables.texts import with_trouble
from sparselmm.exceptions import DataError

State = dict[str, Any]


@dataclass(frozen=True)
class Columns:
    """Several columns from one expression, such as ``poly(x, 2)``.

    Attributes
    ----------
    block : (n, c) array
        The columns.
    names : tuple of str
        Their suffixes, ``"1"``, ``"2"``, ...
    """

    block: FloatArray
    names: tuple[str, ...]


Value = Column | Columns


def numbers(value: Any, where: str) -> Any:
    """Return a value for arithmetic: arrays and scalars as they are, truth values as 0 and 1."""
    if isinstance(value, Factor):
        if not value.is_logical:
            what = f"{where} needs numbers, but was given a factor with levels {list_some(value.levels, 5)}"
            raise DataError(with_trouble(what, value.levels))
        return np.where(value.codes < 0, np.nan, value.codes.astype(np.float64))
    if isinstance(value, Columns):
        return value.block
    if isinstance(value, bool | int | float | np.ndarray):
        return value
    raise DataError(f"{where} needs numbers, not {type(value).__name__} {value!r}")


def as_factor(value: Any, where: str) -> Factor:
    """Return any column as a factor."""
    if isinstance(value, Factor):
        return value
    if isinstance(value, np.ndarray) and value.ndim == 1:
        return factor_from_floats(value, f"the argument of {where}" if where.endswith("()") else where)
    raise DataError(f"{where} needs a column, not {type(value).__name__}")
