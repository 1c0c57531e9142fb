"""Formatted tables shared by all renderers: strings in cells, no markup."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from sparselmm._typing import FloatArray
from sparselmm.report.content import Coefficients, SummaryContent
from sparselmm.report.numbers import (
    format_coefficients,
    format_common,
    format_df,
    format_p,
    format_quantiles,
    format_statistic,
)

__all__ = [
    "STARS_LEGEND",
    "Table",
    "correlation_table",
    "fixed_table",
    "groups_text",
    "quantile_table",
    "random_table",
    "statistics_table",
]

STARS_LEGEND = "Signif. codes: 0 '***' 0.001 '**' 0.01 '*' 0.05 '.' 0.1 ' ' 1"
_LEVEL = re.compile(r"\[(?:[A-Z]\.)?([^\[\]]+)\](?=:|$)")
_STARS = ((0.001, "***"), (0.01, "**"), (0.05, "*"), (0.1, "."))


@dataclass(frozen=True)
class Table:
    """A table of strings.

    Attributes
    ----------
    header : tuple of str
        Column titles; empty where a column has none.
    rows : tuple of tuple of str
        Cells.
    align : str
        One letter per column: ``l`` for text, ``r`` for numbers.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    align: str


def statistics_table(content: SummaryContent) -> Table:
    """Return AIC, BIC, logLik and so on as a table of one row."""
    names = tuple(name for name, _ in content.fit_statistics)
    cells = tuple(f"{v:.0f}" if name == "df.resid" else f"{v:.1f}" for name, v in content.fit_statistics)
    return Table(names, (cells,), "r" * len(names))


def quantile_table(content: SummaryContent, digits: int) -> Table | None:
    """Return the quantiles of the scaled residuals as a table of one row."""
    if content.quantiles is None:
        return None
    cells = tuple(format_quantiles(content.quantiles, digits))
    return Table(("Min", "1Q", "Median", "3Q", "Max"), (cells,), "rrrrr")


def random_table(content: SummaryContent, digits: int) -> Table:
    """Return groups, coefficients, variances, standard deviations and correlations."""
    width = max(len(row.corr) for row in content.random)
    variances = format_common([row.variance for row in content.random], digits)
    sds = format_common([row.sd for row in content.random], digits)
    rows = tuple(
        (row.group, row.name, variance, sd, *_pad([_correlation(r, 2) for r in row.corr], width))
        for row, variance, sd in zip(content.random, variances, sds)
    )
    header = ("Groups", "Name", "Variance", "Std.Dev.", *_pad(["Corr"] if width else [], width))
    return Table(header, rows, "llrr" + "r" * width)


def fixed_table(coefficients: Coefficients, digits: int) -> Table:
    """Return the fixed effects, with df, p-values and stars when there are tests: z tests where no df is finite."""
    c = coefficients
    letter = "z" if c.df is not None and all(map(math.isinf, c.df)) else "t"
    columns = [*format_coefficients((c.estimate, c.std_error), digits)]
    header = ["", "Estimate", "Std. Error"]
    if c.df is not None and letter == "t":
        columns.append(format_df(c.df))
        header.append("df")
    columns.append(format_statistic(c.statistic, digits))
    header.append(f"{letter} value")
    align = "l" + "r" * len(columns)
    if c.p_value is not None:
        columns += [format_p(c.p_value, digits), [stars(p) for p in c.p_value]]
        header += [f"Pr(>|{letter}|)", ""]
        align += "rl"
    return Table(tuple(header), tuple(zip(c.names, *columns)), align)


def correlation_table(names: tuple[str, ...], correlation: FloatArray) -> Table:
    """Return the lower triangle of the correlations of fixed effects, headed by short names."""
    p = len(names)
    rows = tuple(
        (names[i], *_pad([_correlation(float(correlation[i, j]), 3) for j in range(i)], p - 1)) for i in range(1, p)
    )
    return Table(("", *short_names(names)[:-1]), rows, "l" + "r" * (p - 1))


def groups_text(content: SummaryContent) -> str:
    """Return the line with the number of rows and the levels per grouping factor."""
    groups = "; ".join(f"{label}, {m}" for label, m in content.groups)
    return f"Number of obs: {content.nobs}, groups:  {groups}"


def stars(p: float) -> str:
    """Return the significance code of a p-value."""
    return next((mark for limit, mark in _STARS if p < limit), "")


def short_names(names: tuple[str, ...], width: int = 6) -> tuple[str, ...]:
    """Return distinct short forms: lower-case vowels go first, then other lower-case letters, from the end.

    The brackets of factor levels are left out: ``f[T.b]`` becomes ``fb``.
    """
    plain = tuple(_LEVEL.sub(r"\1", name) for name in names)
    for target in range(width, max(map(len, plain), default=0)):
        short = tuple(_shorten(name, target) for name in plain)
        if len(set(short)) == len(set(names)):
            return short
    return names


def _shorten(name: str, width: int) -> str:
    kept = list(name)
    for removable in ("aeiou", "bcdfghjklmnpqrstvwxyz"):
        for i in range(len(name) - 1, 0, -1):
            if sum(map(len, kept)) <= width:
                return "".join(kept)
            if kept[i] and kept[i] in removable and name[i - 1].isalnum():
                kept[i] = ""
    return "".join(kept)


def _correlation(r: float, decimals: int) -> str:
    text = f"{r:.{decimals}f}" if r == r else "NaN"
    return text[1:] if text.startswith("-") and not float(text) else text


def _pad(cells: list[str], width: int) -> tuple[str, ...]:
    return (*cells, *[""] * (width - len(cells)))
