"""Levels of new data among those that were learned: by value, then by text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from numbers import Number
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._typing import IntArray
from sparselmm.data.tables.columns import list_some
from sparselmm.data.tables.texts import level_text, r_level_text
from sparselmm.exceptions import DataError


def positions(known: pd.Index, new: pd.Index) -> IntArray:
    """Return where each of the new levels stands among the known ones, -1 where it does not, (m,).

    Numbers of different types are compared exactly. A text stands for the number, truth value or day
    that is written so, and these for the text.

    Examples
    --------
    >>> positions(pd.Index([1, 2**53 + 1]), pd.Index([2.0**53, 1.0])).tolist()
    [-1, 0]
    >>> positions(pd.Index([1, 2]), pd.Index(["2", "two"])).tolist()
    [1, -1]
    """
    alike = known.dtype == new.dtype and not pd.api.types.is_object_dtype(new.dtype)
    if alike or _are_times(known, new) or (_are_texts(known) and _are_texts(new)):
        found: IntArray = known.get_indexer(new).astype(np.int64)
        return found
    by_value = {value: i for i, value in enumerate(_plain(known))}
    by_text: dict[str, int] = {}
    for spelling in _SPELLINGS:
        for i, level in enumerate(known):
            by_text.setdefault(spelling(level), i)
    out = np.full(len(new), -1, dtype=np.int64)
    for j, value in enumerate(_plain(new)):
        at = by_value.get(value, -1)
        if at < 0 and isinstance(value, Decimal):
            at = by_value.get(float(value), -1)
        if at < 0 and any(isinstance(x, str) for x in (value, *known[:1])):
            at = next((by_text[text] for s in _SPELLINGS if (text := s(value)) in by_text), -1)
        out[j] = at
    return out


def check_types(text: str, known: pd.Index, new: pd.Index) -> None:
    """Refuse new levels of another type than the learned ones when none of them stands for one of these.

    Raises
    ------
    DataError
        Naming both types.
    """
    before, now = kind_of_levels(known), kind_of_levels(new)
    if before != now and not (positions(known, new) >= 0).any():
        what = text if "(" in text else f"column {text!r}"
        raise DataError(
            f"{what} held {before} when the model was made ({list_some(known, 3)}), and is now {now} "
            f"({list_some(new, 3)})"
        )


def kind_of_levels(levels: pd.Index) -> str:
    """Return in words what levels are."""
    if levels.dtype.kind in "iuf":
        return "numbers"
    if levels.dtype.kind in "Mm":
        return "dates or times"
    if levels.dtype == np.bool_:
        return "truth values"
    return "text" if _are_texts(levels) else "numbers" if all(isinstance(v, Number) for v in levels) else "categories"


def _are_texts(levels: pd.Index) -> bool:
    if isinstance(levels.dtype, pd.StringDtype):
        return True
    return pd.api.types.is_object_dtype(levels.dtype) and all(isinstance(v, str) for v in levels)


def _are_times(known: pd.Index, new: pd.Index) -> bool:
    if not (isinstance(known, pd.DatetimeIndex) and isinstance(new, pd.DatetimeIndex)):
        return False
    return (known.tz is None) == (new.tz is None)


def _plain(levels: pd.Index) -> Iterator[Any]:
    return (level.item() if isinstance(level, np.generic) else level for level in levels)


def _day(level: Any) -> str:
    """Return a time at which a day begins as that day's date."""
    if isinstance(level, pd.Timestamp) and level == level.normalize():
        return level.strftime("%Y-%m-%d")
    return str(level)


_SPELLINGS: tuple[Callable[[Any], str], ...] = (level_text, r_level_text, _day)
