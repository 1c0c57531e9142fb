"""The tables that compare fits, which show the formulas above the numbers."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

import pandas as pd


class ComparisonTable(pd.DataFrame):
    """A data frame with a row per fit; ``attrs["formulas"]``, by the name of the row, are shown above it.

    Examples
    --------
    >>> table = ComparisonTable({"npar": [3]}, index=["m1"])
    >>> table.attrs["formulas"] = {"m1": "y ~ 1 + (1 | g)"}
    >>> table
    m1: y ~ 1 + (1 | g)
    <BLANKLINE>
        npar
    m1     3
    """

    @property
    def _constructor(self) -> Callable[..., ComparisonTable]:
        return ComparisonTable

    def _models(self) -> list[str]:
        """Return the lines that say what the rows are."""
        formulas = self.attrs.get("formulas", {})
        return [f"{name}: {formulas[name]}" for name in self.index if name in formulas]

    def __repr__(self) -> str:
        models, shown = self._models(), pd.DataFrame(self)
        if not models or len(shown) > pd.get_option("display.max_rows"):
            return "\n".join([*models, repr(shown)])
        # wide tables are folded: pandas would leave out columns in the middle, which hold the test
        return "\n".join([*models, "", shown.to_string(line_width=pd.get_option("display.width"))])

    def _repr_html_(self) -> str | None:
        models, numbers = self._models(), super()._repr_html_()  # type: ignore[misc]
        return f"<p>{'<br>'.join(map(escape, models))}</p>{numbers}" if models and numbers else numbers
