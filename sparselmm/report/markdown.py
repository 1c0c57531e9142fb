"""The summary as GitHub-flavoured Markdown."""

from __future__ import annotations

import re

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

__all__ = ["render_markdown"]


def render_markdown(content: SummaryContent, digits: int) -> str:
    """Return the summary as Markdown with pipe tables.

    Parameters
    ----------
    content : SummaryContent
        What to show; characters with a meaning in Markdown are escaped.
    digits : int
        Significant digits.
    """
    c = content.coefficients
    blocks = [
        f"**{_escape(content.title)}**",
        _head(content),
        _criterion(content),
        _table(statistics_table(content), "Fit statistics"),
        _table(quantile_table(content, digits), "Scaled residuals"),
        _table(random_table(content, digits), "Random effects"),
        _escape(groups_text(content).replace("  ", " ")),
        _table(fixed_table(c, digits), "Fixed effects") if c.names else "No fixed effects.",
        _escape(STARS_LEGEND) if c.p_value is not None and any(p < 0.1 for p in c.p_value) else "",
        _correlation(content),
        _notes(content),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _head(content: SummaryContent) -> str:
    lines = [f"Formula: {_code(content.formula)}"]
    if content.data_name:
        lines.append(f"Data: {_escape(content.data_name)}")
    if content.weights_name:
        lines.append(f"Weights: {_escape(content.weights_name)}")
    if content.offset_name:
        lines.append(f"Offset: {_escape(content.offset_name)}")
    return "  \n".join(lines)


def _criterion(content: SummaryContent) -> str:
    return "" if content.criterion is None else f"REML criterion at convergence: {content.criterion:.1f}"


def _correlation(content: SummaryContent) -> str:
    names = content.coefficients.names
    if content.correlation is None or len(names) < 2:
        return ""
    return _table(correlation_table(names, content.correlation), "Correlation of fixed effects")


def _table(table: Table | None, title: str) -> str:
    if table is None:
        return ""
    grid = [[_escape(cell) for cell in row] for row in (table.header, *table.rows)]
    widths = [max(3, *(len(row[j]) for row in grid)) for j in range(len(table.header))]
    lines = [_line(row, widths, table.align) for row in grid]
    rule = [":" + "-" * (w - 1) if side == "l" else "-" * (w - 1) + ":" for w, side in zip(widths, table.align)]
    return "\n".join([f"**{title}**", "", lines[0], "| " + " | ".join(rule) + " |", *lines[1:]])


def _line(row: list[str], widths: list[int], align: str) -> str:
    cells = [cell.ljust(w) if side == "l" else cell.rjust(w) for cell, w, side in zip(row, widths, align)]
    return "| " + " | ".join(cells) + " |"


def _notes(content: SummaryContent) -> str:
    lines = [f"- Convergence: {_escape(content.convergence)}"]
    if content.dropped_columns:
        lines.append(f"- Dropped for rank deficiency: {', '.join(map(_code, content.dropped_columns))}")
    lines += [f"- {note.severity.capitalize()}: {_escape(note.text)}" for note in content.notes]
    return "\n".join(lines)


def _escape(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>|#~$&])", r"\\\1", " ".join(text.splitlines()))


def _code(text: str) -> str:
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    space = " " if longest else ""
    return f"{fence}{space}{' '.join(text.splitlines())}{space}{fence}"
