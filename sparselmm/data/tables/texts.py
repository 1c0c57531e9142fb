"""Numbers that came as text: how to tell, and what to do about it."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from sparselmm._typing import FloatArray

MOSTLY = 0.5
_DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+")
_POINT_THOUSANDS = re.compile(r"[-+]?\d{1,3}(\.\d{3})+,\d+")
_MAYBE_POINTS = re.compile(r"[-+]?(\d+|\d{1,3}(\.\d{3})+)(,\d+)?")
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?")
_WITH_UNIT = re.compile(r"[-+]?\d+(?:\.\d+)?\s*([^\d\s.,]+)")
_R_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?|[-+]?inf(?:inity)?|nan", re.ASCII | re.IGNORECASE)
_R_HEX = re.compile(r"[-+]?0x[\da-f]+(?:\.[\da-f]*)?(?:p[-+]?\d+)?", re.ASCII | re.IGNORECASE)
_R_SPACE = " \t\n\r\f\v"
_SHOWN = 5
_SHORT_DIGITS, _LONG_DIGITS = 1e15, 2.0**63  # between them 15 digits do not tell whole numbers apart


def number_trouble(levels: pd.Index) -> str | None:
    """Return why entries that look like numbers are text, with the remedy; None for other texts.

    Examples
    --------
    >>> number_trouble(pd.Index(["1.5", "absent", "2.5", "3"]))
    "all entries but 'absent' are numbers; read the file again with na_values=['absent']"
    >>> number_trouble(pd.Index(["1,5", "2,5"]))
    "the numbers have a decimal comma; read the file again with decimal=','"
    >>> number_trouble(pd.Index(["5 kg", "6.5 kg"]))
    "the numbers have a unit; take it off with data[...].str.removesuffix('kg').astype(float)"
    >>> number_trouble(pd.Index(["a", "b", "3"])) is None
    True
    """
    entries = [value for value in levels if isinstance(value, str)]
    if not entries or len(entries) < len(levels):
        return None
    texts = [entry.strip() for entry in entries]
    if all(map(_THOUSANDS.fullmatch, texts)):
        return "the numbers have commas between thousands; read the file again with thousands=','"
    if any(map(_POINT_THOUSANDS.fullmatch, texts)) and all(map(_MAYBE_POINTS.fullmatch, texts)):
        return (
            "the numbers have a decimal comma and points between thousands; read the file again with "
            "decimal=',', thousands='.'"
        )
    if any(map(_DECIMAL_COMMA.fullmatch, texts)) and all(_is_number(t.replace(",", ".")) for t in texts):
        return "the numbers have a decimal comma; read the file again with decimal=','"
    units = {found[1] if (found := _WITH_UNIT.fullmatch(text)) else None for text in texts}
    if len(units) == 1 and None not in units:
        return f"the numbers have a unit; take it off with data[...].str.removesuffix({units.pop()!r}).astype(float)"
    # as they stand in the file: pandas looks for them with their blanks
    bad = [entry for entry in entries if not _is_number(entry)]
    if not bad:
        return "its entries are numbers written as text; turn them into numbers with pandas.to_numeric"
    if len(bad) < MOSTLY * len(entries):
        return f"all entries but {_quoted(bad)} are numbers; read the file again with na_values={bad[:_SHOWN]}"
    return None


def level_text(level: object) -> str:
    """Return a level as it stands in names."""
    if isinstance(level, float | np.floating):
        number = float(level)
        whole = _SHORT_DIGITS <= abs(number) < _LONG_DIGITS and number.is_integer()
        return str(int(number)) if whole else f"{number:.15g}"
    return str(level)


def r_level_text(level: object) -> str:
    """Return a level as R would print it."""
    return str(level).upper() if isinstance(level, bool | np.bool_) else level_text(level)


def with_trouble(what: str, levels: pd.Index) -> str:
    """Return an error's text, with the reason why numbers are text where there is one."""
    trouble = number_trouble(levels)
    return f"{what}; {trouble}" if trouble else what


def numbers_of(levels: pd.Index) -> FloatArray:
    """Return what R's ``as.numeric`` makes of texts, (m,); blank ones and ``NA`` are missing.

    Raises
    ------
    ValueError
        When a text is not a number; R makes it missing with a warning.
    """
    values = np.full(len(levels), np.nan)
    bad: list[str] = []
    for i, level in enumerate(levels):
        text = str(level).strip(_R_SPACE)
        if _R_NUMBER.fullmatch(text):
            values[i] = float(text)
        elif _R_HEX.fullmatch(text):
            values[i] = float.fromhex(text)
        elif text not in ("", "NA"):
            bad.append(str(level))
    if bad:
        what = f"{_quoted(bad)} cannot be read as a number"
        raise ValueError(with_trouble(what, levels) + ". For the positions of the levels write as.numeric(factor(...))")
    return values


def is_written_number(levels: pd.Index) -> bool:
    """Whether every entry is a number as it stands, as after ``astype(str)``."""
    return all(isinstance(value, str) and _is_number(value) for value in levels)


def _quoted(texts: list[str]) -> str:
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return ", ".join(map(repr, texts[:_SHOWN])) + more


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
