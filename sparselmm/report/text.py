"""The text of a summary, with every number where R prints it."""

from __future__ import annotations

import textwrap
import unicodedata

from sparselmm.report.cells import (
    STARS_LEGEND,
    Table,
    correlation_table,
    fixed_table,
    groups_text,
    quantile_table,
    random_table,
    statistics_table,
)
from sparselmm.report.content import SummaryContent

__all__ = ["render_grid", "render_text"]

_LINE = 79  # columns of a terminal


def render_text(content: SummaryContent, digits: int) -> str:
    """Return the summary as text.

    Parameters
    ----------
    content : SummaryContent
        What to show.
    digits : int
        Significant digits.

    Returns
    -------
    str
        Lines without a final newline.
    """
    blocks = [
        _head(content),
        _criterion(content),
        _quantiles(content, digits),
        _random(content, digits),
        _fixed(content, digits),
        _correlation(content),
        _notes(content),
    ]
    return "\n\n".join("\n".join(lines) for lines in blocks if lines)


def render_grid(table: Table) -> list[str]:
    """Return the lines of a table: text to the left, numbers to the right."""
    grid = [table.header, *table.rows]
    widths = [max(display_width(row[j]) for row in grid) for j in range(len(table.header))]
    return [_join(row, widths, table.align) for row in grid]


def display_width(text: str) -> int:
    """Return the number of character cells of a text: 2 for wide letters, 0 for combining marks."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)


def _join(row: tuple[str, ...], widths: list[int], align: str) -> str:
    cells = []
    for cell, width, side in zip(row, widths, align):
        space = " " * (width - display_width(cell))
        cells.append(cell + space if side == "l" else space + cell)
    return " ".join(cells).rstrip()


def _head(content: SummaryContent) -> list[str]:
    lines = [content.title, *_wrap(f"Formula: {content.formula}", "    ")]
    if content.data_name:
        lines.append(f"   Data: {content.data_name}")
    if content.weights_name:
        lines.append(f"Weights: {content.weights_name}")
    if content.offset_name:
        lines.append(f" Offset: {content.offset_name}")
    return lines


def _wrap(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, _LINE, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _criterion(content: SummaryContent) -> list[str]:
    if content.criterion is not None:
        return [f"REML criterion at convergence: {content.criterion:.1f}"]
    table = statistics_table(content)
    width = max(map(len, (*table.header[:-1], *table.rows[0][:-1])))
    last = max(len(table.header[-1]), len(table.rows[0][-1]))
    widths = [width] * (len(table.header) - 1) + [last]
    return [_join(row, widths, table.align) for row in (table.header, table.rows[0])]


def _quantiles(content: SummaryContent, digits: int) -> list[str]:
    table = quantile_table(content, digits)
    if table is None:
        return []
    width = max(map(len, (*table.header, *table.rows[0])))
    return ["Scaled residuals:", *[_join(row, [width] * 5, table.align) for row in (table.header, table.rows[0])]]


def _random(content: SummaryContent, digits: int) -> list[str]:
    table = random_table(content, digits)
    # R sets numbers flush left below their titles, aligned among themselves
    columns = [_block(column) if side == "r" else list(column) for column, side in zip(zip(*table.rows), table.align)]
    flush = Table(table.header, tuple(zip(*columns)), "l" * len(table.align))
    return ["Random effects:", *[" " + line for line in render_grid(flush)], *_wrap(groups_text(content), "    ")]


def _block(column: tuple[str, ...]) -> list[str]:
    width = max(map(len, column))
    return [cell.rjust(width) for cell in column]


def _fixed(content: SummaryContent, digits: int) -> list[str]:
    if not content.coefficients.names:
        return ["No fixed effects."]
    lines = ["Fixed effects:", *render_grid(fixed_table(content.coefficients, digits))]
    if content.coefficients.p_value is not None and any(p < 0.1 for p in content.coefficients.p_value):
        lines += ["---", STARS_LEGEND]
    return lines


def _correlation(content: SummaryContent) -> list[str]:
    names = content.coefficients.names
    if content.correlation is None or len(names) < 2:
        return []
    return ["Correlation of Fixed Effects:", *_folded(correlation_table(names, content.correlation))]


def _folded(table: Table) -> list[str]:
    """Return the lines of a wide table in pieces that fit the line, each with the row names."""
    grid = [table.header, *table.rows]
    widths = [max(display_width(row[j]) for row in grid) for j in range(len(table.header))]
    lines: list[str] = []
    start = 1
    while start < len(widths):
        stop, used = start, widths[0]
        while stop < len(widths) and (stop == start or used + 1 + widths[stop] <= _LINE):
            used += 1 + widths[stop]
            stop += 1
        keep = [0, *range(start, stop)]
        rows = [tuple(row[j] for j in keep) for i, row in enumerate(grid) if i == 0 or i >= start]
        lines += [_join(row, [widths[j] for j in keep], "".join(table.align[j] for j in keep)) for row in rows]
        start = stop
    return lines


def _notes(content: SummaryContent) -> list[str]:
    lines = _wrap(f"Convergence: {content.convergence}", "    ")
    if content.dropped_columns:
        lines += _wrap(f"Dropped for rank deficiency: {', '.join(content.dropped_columns)}", "    ")
    for note in content.notes:
        lines += _wrap(f"{note.severity.capitalize()}: {note.text}", "    ")
    return lines
