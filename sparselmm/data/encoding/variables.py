"""The variables of formulas on a table: which are factors, and their levels row by row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from sparselmm._typing import IntArray
from sparselmm.data.encoding.evaluate import Evaluator
from sparselmm.data.encoding.values import Columns
from sparselmm.data.tables.columns import Factor
from sparselmm.data.tables.frame import Frame
from sparselmm.data.tables.texts import level_text
from sparselmm.exceptions import DataError


class Variables:
    """What can be asked of expressions before a model is made.

    Parameters
    ----------
    frame : Frame
        The table.
    context : mapping, optional
        Names and functions that expressions may use besides the columns.
    """

    def __init__(self, frame: Frame, context: Mapping[str, Any] | None = None) -> None:
        self._frame = frame
        self._evaluator = Evaluator(frame, context, {})

    def is_factor(self, expression: str) -> bool:
        """Return whether an expression is a factor."""
        return isinstance(self._evaluator.variable(expression), Factor)

    def is_block(self, expression: str) -> bool:
        """Return whether an expression has several columns."""
        return isinstance(self._evaluator.variable(expression), Columns)

    def groups(self, name: str) -> tuple[pd.Index, IntArray]:
        """Return the levels of a column in increasing order, and the level of each row, (n,)."""
        factor = self._frame.grouping(name).drop_unused()
        return factor.levels, factor.codes

    def level_texts(self, expression: str, rows: IntArray) -> list[str]:
        """Return the level of a factor in each of some rows, as text."""
        value = self._evaluator.variable(expression)
        if not isinstance(value, Factor):
            raise DataError(f"{expression} is not a factor")
        texts = [level_text(level) for level in value.levels]
        return [texts[code] for code in value.codes[rows]]
