"""The summary as LaTeX with booktabs rules."""

from __future__ import annotations

import re

from sparselmm.report.cells import (
    STARS_LEGEND,
    Table,
    correlation_table,
    fixed_table,
    quantile_table,
    random_table,
    statistics_table,
)
from sparselmm.report.content import SummaryContent

__all__ = ["escape_latex", "render_latex"]

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "~": r"{$\sim$}",
    "^": r"\textasciicircum{}",
    "|": r"\textbar{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    '"': "{''}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "[": r"{[}",
    "]": r"{]}",
    "*": r"{*}",
    "\n": " ",
}
_NUMBER = re.compile(r"(?P<sign>[-<]?) ?(?P<mantissa>\d+(?:\.\d+)?)(?:e(?P<exponent>[-+]\d+))?")


def escape_latex(text: str) -> str:
    """Return the text with every character that is special to LaTeX replaced."""
    return "".join(_SPECIAL.get(c, c) for c in text)


def render_latex(content: SummaryContent, digits: int, caption: str | None = None, label: str | None = None) -> str:
    r"""Return a ``table`` environment; the preamble needs ``\usepackage{booktabs}``.

    Names with letters that pdfLaTeX lacks (Greek, Chinese) need XeLaTeX or LuaLaTeX.

    Parameters
    ----------
    content : SummaryContent
        What to show; all texts are escaped.
    digits : int
        Significant digits.
    caption : str, optional
        Caption; the title of the summary when left out.
    label : str, optional
        Name for ``\ref``, used as it is.
    """
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}[htbp]",
        r"\centering",
        rf"\caption{{{escape_latex(caption if caption is not None else content.title)}}}",
        *([rf"\label{{{label}}}"] if label else []),
        r"\small",
        *_head(content),
        *_fixed(content, digits),
        *_tabular(random_table(content, digits), "Random effects"),
        *_correlation(content),
        *_tabular(quantile_table(content, digits), "Scaled residuals"),
        *_tabular(statistics_table(content), _criterion_title(content)),
        *_notes(content),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _head(content: SummaryContent) -> list[str]:
    groups = ", ".join(f"{escape_latex(label)} {m}" for label, m in content.groups)
    parts = [
        rf"\texttt{{{escape_latex(content.formula)}}}",
        *([f"Data: {escape_latex(content.data_name)}"] if content.data_name else []),
        *([f"Weights: {escape_latex(content.weights_name)}"] if content.weights_name else []),
        *([f"Offset: {escape_latex(content.offset_name)}"] if content.offset_name else []),
        f"Observations: {content.nobs}; groups: {groups}",
    ]
    return [r"\smallskip", *[rf"{part}\par" for part in parts], r"\medskip"]


def _criterion_title(content: SummaryContent) -> str:
    return "Fit statistics" if content.criterion is None else f"REML criterion: {content.criterion:.1f}"


def _fixed(content: SummaryContent, digits: int) -> list[str]:
    if not content.coefficients.names:
        return [r"No fixed effects.\par\medskip"]
    return _tabular(fixed_table(content.coefficients, digits), "Fixed effects")


def _correlation(content: SummaryContent) -> list[str]:
    names = content.coefficients.names
    if content.correlation is None or len(names) < 2:
        return []
    return _tabular(correlation_table(names, content.correlation), "Correlation of fixed effects")


def _tabular(table: Table | None, title: str) -> list[str]:
    if table is None:
        return []
    body = [" & ".join(map(_cell, row)) + r" \\" for row in table.rows]
    return [
        rf"\textbf{{{escape_latex(title)}}}\par\smallskip",
        rf"\begin{{tabular}}{{{table.align}}}",
        r"\toprule",
        " & ".join(map(escape_latex, table.header)) + r" \\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}\par\medskip",
    ]


def _cell(text: str) -> str:
    """Return a cell: numbers in mathematics with a true minus sign, other text escaped."""
    found = _NUMBER.fullmatch(text)
    if not found:
        return escape_latex(text)
    exponent = found["exponent"]
    power = rf" \times 10^{{{int(exponent)}}}" if exponent else ""
    return f"${found['sign']}{found['mantissa']}{power}$"


def _notes(content: SummaryContent) -> list[str]:
    p_value = content.coefficients.p_value
    notes = [STARS_LEGEND] if p_value is not None and any(p < 0.1 for p in p_value) else []
    notes.append(f"Convergence: {content.convergence}")
    if content.dropped_columns:
        notes.append(f"Dropped for rank deficiency: {', '.join(content.dropped_columns)}")
    notes += [f"{note.severity.capitalize()}: {note.text}" for note in content.notes]
    body = [rf"{escape_latex(note)}\par" for note in notes]
    return [r"\begin{minipage}{\linewidth}\footnotesize", *body, r"\end{minipage}"]
