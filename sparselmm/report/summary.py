"""The summary of a fit, shown as text, HTML, LaTeX or Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import pandas as pd

from sparselmm.exceptions import ParameterError
from sparselmm.report.content import SummaryContent, collect
from sparselmm.report.html import render_html
from sparselmm.report.latex import render_latex
from sparselmm.report.markdown import render_markdown
from sparselmm.report.protocol import SummarizableFit
from sparselmm.report.text import render_text

__all__ = ["Summary", "summarize"]

_STATSMODELS = {
    "as_latex": "summary.to_latex()",
    "as_html": "summary.to_html()",
    "as_text": "str(summary)",
    "tables": "fit.coef_table() and fit.varcorr.to_frame()",
}


@dataclass(frozen=True)
class Summary:
    """A printable summary of a fit.

    Attributes
    ----------
    content : SummaryContent
        The values shown.
    digits : int
        Significant digits of the tables.
    """

    content: SummaryContent
    digits: int = 4

    def __str__(self) -> str:
        return render_text(self.content, self.digits)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return self.to_html()

    def to_html(self) -> str:
        """Return a self-contained HTML fragment."""
        return render_html(self.content, self.digits)

    def to_latex(self, caption: str | None = None, label: str | None = None) -> str:
        """Return a LaTeX table (booktabs) with an optional caption and label."""
        return render_latex(self.content, self.digits, caption, label)

    def to_markdown(self) -> str:
        """Return GitHub-flavoured Markdown."""
        return render_markdown(self.content, self.digits)

    if not TYPE_CHECKING:  # type checkers know the names

        def __getattr__(self, name: str) -> NoReturn:
            """Refuse an unknown name; those of statsmodels' summaries with ours."""
            known = f"; write {_STATSMODELS[name]}" if name in _STATSMODELS else ""
            raise AttributeError(f"a summary has no attribute {name!r}{known}")


def summarize(
    fit: SummarizableFit,
    correlation: bool = False,
    digits: int = 4,
    coef_table: pd.DataFrame | None = None,
    notes: Sequence[str] = (),
) -> Summary:
    """Return the summary of a fit.

    Parameters
    ----------
    fit : object
        Anything with the public names of a fitted model.
    correlation : bool
        Whether to show the correlation of the fixed-effects estimates.
    digits : int
        Significant digits of the tables.
    coef_table : pandas.DataFrame, optional
        Tests of the fixed effects, one row per coefficient, with the columns ``estimate``,
        ``std_error``, ``df``, ``statistic`` and ``p_value``. Its ``attrs["title"]`` (or a phrase with
        ``attrs["method"]``) goes into the title, and ``attrs["notes"]`` follow the fit's messages.
    notes : sequence of str
        Further remarks.

    Returns
    -------
    Summary
        Prints as text; renders as HTML in notebooks.

    Raises
    ------
    ParameterError
        If `digits` is not between 1 and 15 or `coef_table` does not belong to the fit.
    """
    if not 1 <= digits <= 15:
        raise ParameterError(f"digits must be between 1 and 15, not {digits}")
    return Summary(collect(fit, correlation, coef_table, notes), digits)
