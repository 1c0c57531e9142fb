"""Functions that make one number of a column: learned once, so that new rows are held against the same number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sparselmm.exceptions import DataError, FormulaError

VALUE = "value"
_ROW_BY_ROW = {"min": "pmin", "max": "pmax"}


def learned(state: dict[str, Any], compute: Callable[[], float]) -> float:
    """Return the number that the call gave when the model was made."""
    if VALUE not in state:
        state[VALUE] = float(compute())
    number: float = state[VALUE]
    return number


def _summary(name: str, function: Callable[..., float], **fixed: Any) -> Callable[..., float]:
    """Return a function of a formula from one of numpy's."""

    def summary(state: dict[str, Any], x: Any, *others: Any, na_rm: bool = True, **options: Any) -> float:
        if others:
            other = f"; {_ROW_BY_ROW[name]}() compares row by row" if name in _ROW_BY_ROW else ""
            raise FormulaError(f"{name}() takes one column in a formula{other}")
        if getattr(x, "ndim", 0) != 1:
            raise DataError(f"{name}() needs one column of numbers")
        values = x[~np.isnan(x)] if na_rm else x
        if not len(values) and VALUE not in state:
            raise DataError(f"{name}() needs a column with values")
        return learned(state, lambda: function(values, **fixed, **options))

    return summary


_NUMPY = {
    **{name: getattr(np, name) for name in ("mean", "median", "min", "max", "sum", "std", "var")},
    **{f"nan{name}": getattr(np, name) for name in ("mean", "median", "min", "max", "sum", "std", "var")},
    "amin": np.min,
    "amax": np.max,
}
SUMMARIES: dict[str, Callable[..., float]] = {
    **{name: _summary(name, _NUMPY[name]) for name in ("mean", "median", "min", "max", "sum")},
    "sd": _summary("sd", np.std, ddof=1),
    "var": _summary("var", np.var, ddof=1),
    # numpy's std and var divide by n unless told otherwise
    **{f"{module}.{name}": _summary(name, function) for module in ("np", "numpy") for name, function in _NUMPY.items()},
}
