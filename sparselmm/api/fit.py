"""The fitted model: its parts put together, and its reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from sparselmm.api.components import Components
from sparselmm.api.diagnostics import Diagnostics
from sparselmm.api.inference import summary_table
from sparselmm.api.matrices import Matrices
from sparselmm.api.resampling import Resampling
from sparselmm.hints.names import fit_hint
from sparselmm.report import Summary, summarize


@dataclass(frozen=True, repr=False)
class MixedModelFit(Components, Diagnostics, Resampling, Matrices):
    """A fitted linear mixed model; nothing in it changes.

    Attributes
    ----------
    problem : Problem
        The model that was fitted.
    result : FitResult
        The numbers.
    source : ModelSource
        Formula and encoding.
    """

    def summary(self, correlation: bool = False, digits: int = 4, ddf: str | None = "auto") -> Summary:
        """Return the summary, which prints as text and shows as HTML in notebooks.

        Parameters
        ----------
        correlation : bool
            Whether to show the correlation of the fixed-effects estimates.
        digits : int
            Significant digits of the tables.
        ddf : str or None
            Degrees of freedom of the tests of the coefficients, as in `coef_table`; None shows t values
            without tests, as lme4 does; ``"auto"`` (default) is Satterthwaite's method where it takes seconds
            at most.
        """
        if ddf is None:
            return summarize(self, correlation=correlation, digits=digits)
        table, reason = summary_table(self, ddf)
        return summarize(
            self, correlation=correlation, digits=digits, coef_table=table, notes=(reason,) if reason else ()
        )

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    def to_latex(self) -> str:
        """Return the summary as LaTeX (booktabs)."""
        return self.summary().to_latex()

    def to_markdown(self) -> str:
        """Return the summary as Markdown."""
        return self.summary().to_markdown()

    def __repr__(self) -> str:
        kind = "REML" if self.reml else "ML"
        groups = ", ".join(f"{label}: {m}" for label, m in self.ngroups.items())
        return f"<MixedModelFit by {kind}: {self.formula}; {self.nobs} rows, {groups}; criterion {self.criterion:.4f}>"

    if not TYPE_CHECKING:  # type checkers know the names

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(fit_hint(name))

    def __dir__(self) -> Sequence[str]:
        return sorted(name for name in super().__dir__() if not name.startswith("_"))
