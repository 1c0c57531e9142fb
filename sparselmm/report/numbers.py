"""Turning numbers into short strings the way R's printing does: a shared number of decimals per column."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["format_coefficients", "format_common", "format_df", "format_p", "format_quantiles", "format_statistic"]

_EPS = 2.220446049250313e-16  # double precision; R prints smaller p-values as < 2e-16 too


@dataclass(frozen=True)
class _Decimal:
    """Where the significant digits of one number are: ``digits`` of them, the first at 10**exponent."""

    negative: bool
    exponent: int
    digits: int


def _decimal(x: float, digits: int) -> _Decimal:
    mantissa, exponent = f"{abs(x):.{digits - 1}e}".split("e")
    kept = mantissa.replace(".", "").rstrip("0")
    return _Decimal(x < 0, int(exponent), max(1, len(kept)))


def _special(x: float) -> str:
    if math.isnan(x):
        return "NaN"
    return "Inf" if x > 0 else "-Inf"


def format_common(values: Iterable[float], digits: int) -> list[str]:
    """Return strings with one common number of decimals, or all in scientific notation.

    As many decimals are shown as the most demanding value needs to display `digits`
    significant digits (trailing zeros not counted). Scientific notation is used when it
    is narrower than that.

    Parameters
    ----------
    values : iterable of float
        Numbers of one column.
    digits : int
        Significant digits, at least 1.

    Returns
    -------
    list of str
        Not padded.

    Examples
    --------
    >>> format_common([612.1002, 35.0717, 654.94], 4)
    ['612.10', '35.07', '654.94']
    """
    numbers = [float(v) for v in values]
    parts = [_decimal(v, digits) for v in numbers if math.isfinite(v)]
    if not parts:
        return [_special(v) for v in numbers]
    decimals = max(max(0, p.digits - p.exponent - 1) for p in parts)
    mantissa = max(p.digits for p in parts) - 1
    fixed_width = max(max(p.exponent, 0) + 1 + p.negative for p in parts) + (decimals + 1 if decimals else 0)
    power_width = 5 if any(abs(p.exponent) >= 100 for p in parts) else 4
    science_width = any(p.negative for p in parts) + 1 + (mantissa + 1 if mantissa else 0) + power_width
    style = f".{decimals}f" if fixed_width <= science_width else f".{mantissa}e"
    return [_plain_zero(format(v, style)) if math.isfinite(v) else _special(v) for v in numbers]


def _plain_zero(text: str) -> str:
    return text[1:] if text.startswith("-") and not any(c in "123456789" for c in text.split("e")[0]) else text


def format_coefficients(columns: Sequence[Sequence[float]], digits: int) -> list[list[str]]:
    """Return estimates and standard errors with decimals common to all of them.

    Values are rounded where the smallest one shows its first `digits` digits, so a single
    tiny coefficient does not push the whole table into scientific notation unless needed.
    A nonzero number that would show as 0 is given on its own with fewer digits.
    """
    sizes = [abs(v) for column in columns for v in column if math.isfinite(v) and v != 0]
    if not sizes:
        return [format_common(column, digits) for column in columns]
    decimals = max(1, digits - 1 - math.floor(math.log10(min(sizes))))
    flat = [float(v) for column in columns for v in column]
    cells = format_common([round(v, decimals) if math.isfinite(v) else v for v in flat], digits)
    lost = [i for i, v in enumerate(flat) if math.isfinite(v) and v != 0 and float(cells[i]) == 0]
    for i, text in zip(lost, format_common([flat[i] for i in lost], max(1, digits - 2))):
        cells[i] = text
    rows = len(columns[0])
    return [cells[start : start + rows] for start in range(0, len(flat), rows)]


def format_statistic(values: Sequence[float], digits: int) -> list[str]:
    """Return t values: at most `digits` - 1 decimals (never more than 5)."""
    decimals = max(1, min(5, digits - 1))
    return format_common([round(v, decimals) if math.isfinite(v) else v for v in map(float, values)], digits)


def format_df(values: Sequence[float]) -> list[str]:
    """Return degrees of freedom with 3 decimals; large ones, whose digits mean nothing, with 4 digits."""
    return [
        (f"{v:.3f}" if abs(v) < 1e4 else f"{v:.3e}") if math.isfinite(v) else _special(v) for v in map(float, values)
    ]


def format_p(values: Sequence[float], digits: int) -> list[str]:
    """Return p-values: below machine precision as ``< 2e-16``, small ones as 3.26e-06, others as decimals."""
    numbers = [float(v) for v in values]
    significant = max(1, min(5, digits - 1))
    cells = ["< 2e-16" if v < _EPS else "" for v in numbers]
    tiny = [i for i, v in enumerate(numbers) if _EPS <= v < 1e-3]
    rest = [i for i, v in enumerate(numbers) if not v < 1e-3]
    for group in (tiny, rest):
        for i, text in zip(group, format_common([numbers[i] for i in group], significant)):
            cells[i] = text
    return cells


def format_quantiles(values: Sequence[float], digits: int) -> list[str]:
    """Return quantiles with decimals relative to the largest: what is small beside it is rounded away."""
    numbers = [float(v) for v in values]
    largest = max((abs(v) for v in numbers if math.isfinite(v)), default=0.0)
    decimals = round(digits + 1 - math.log10(largest)) if largest > 0 else digits
    return format_common([round(v, decimals) if math.isfinite(v) else v for v in numbers], digits)
