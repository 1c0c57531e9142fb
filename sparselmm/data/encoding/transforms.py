"""Functions that formulas may call: elementwise ones, factor makers, and transforms that remember their data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._typing import FloatArray
from sparselmm.data.encoding.contrasts import Contrast
from sparselmm.data.encoding.stateful import formulaic, natural_spline_columns, stateful
from sparselmm.data.encoding.summaries import SUMMARIES
from sparselmm.data.encoding.values import State, as_factor, numbers
from sparselmm.data.tables.codes import looked_up
from sparselmm.data.tables.columns import (
    Column,
    Factor,
    factor_from_texts,
    is_missing,
    list_some,
    logical,
)
from sparselmm.data.tables.matching import positions
from sparselmm.data.tables.texts import level_text, numbers_of, r_level_text
from sparselmm.exceptions import DataError, DesignError, FormulaError

MANY_INTERVALS = 1_000  # that cut() makes of fewer values
MANY_LABELS = 4_000_000  # texts of half a gigabyte


ELEMENTWISE: dict[str, np.ufunc] = {
    "exp": np.exp, "sqrt": np.sqrt, "log1p": np.log1p, "expm1": np.expm1, "log2": np.log2,
    "log10": np.log10, "exp2": np.exp2, "abs": np.abs, "sign": np.sign, "floor": np.floor, "ceiling": np.ceil,
    "ceil": np.ceil, "trunc": np.trunc, "sin": np.sin, "cos": np.cos, "tan": np.tan,
    "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh,
    "pmin": np.minimum, "pmax": np.maximum,
}  # fmt: skip

_CONTRASTS = {kind: Contrast(kind) for kind in ("treatment", "sum", "helmert", "poly")}
WORDS = ("TRUE", "True", "FALSE", "False", "NULL", "None")
CONSTANTS: dict[str, Any] = {
    "pi": float(np.pi), "Inf": float("inf"), "NULL": None, "None": None,
    "TRUE": True, "True": True, "T": True, "FALSE": False, "False": False, "F": False,
    **_CONTRASTS,
    **{f"contr.{kind}": contrast for kind, contrast in _CONTRASTS.items()},
    **{kind.capitalize(): contrast for kind, contrast in _CONTRASTS.items()},
}  # fmt: skip


# --- factor makers -----------------------------------------------------------------------


def make_factor(
    state: State,
    x: Any,
    levels: Sequence[Any] | None = None,
    labels: Sequence[Any] | None = None,
    ordered: bool = False,
) -> Factor:
    """R's ``factor()``: levels sorted unless given; values outside them are missing; ``ordered`` changes nothing."""
    factor = as_factor(x, "factor()").drop_unused()
    if levels is None:
        levels = state.setdefault("levels", factor.levels)
    texts = [level_text(level) for level in levels]
    position = {text: i for i, text in enumerate(texts)}
    lookup = np.array([position.get(level_text(level), -1) for level in factor.levels] + [-1], dtype=np.int64)
    names = levels if labels is None else labels
    if len(names) != len(texts):
        raise DataError(f"factor() was given {len(names)} labels for {len(texts)} levels")
    return Factor(lookup[factor.codes], names if isinstance(names, pd.Index) else pd.Index(names), factor.contrast)


def _in_learned_levels(state: State, factor: Factor) -> Factor:
    """Return a factor in the levels it had when the model was made, followed by those it had not."""
    learned = pd.Index(state.setdefault("levels", factor.levels))
    if learned.equals(factor.levels):
        return factor
    at = positions(learned, factor.levels)
    new = at < 0
    at[new] = len(learned) + np.arange(np.count_nonzero(new))
    levels = learned.append(factor.levels[new]) if new.any() else learned
    return replace(factor, codes=np.append(at, -1)[factor.codes], levels=levels)


def relevel(state: State, x: Any, ref: Any) -> Factor:
    """R's ``relevel()``: move one level to the front."""
    factor = _in_learned_levels(state, as_factor(x, "relevel()"))
    texts = [level_text(level) for level in factor.levels]
    if level_text(ref) not in texts:
        raise DataError(f"relevel(): {ref!r} is not among the levels {list_some(texts)}")
    first = texts.index(level_text(ref))
    order = [first, *(i for i in range(len(texts)) if i != first)]
    lookup = np.append(np.argsort(order), -1)
    return Factor(lookup[factor.codes], factor.levels[order], factor.contrast)


def with_contrast(
    state: State, x: Any, contrast: Any = None, levels: Sequence[Any] | None = None, base: Any = None
) -> Factor:
    """``C(f, contr.sum)``: a factor with a coding of its own; ``base`` of treatment contrasts counts from 1."""
    factor = make_factor(state, x, levels) if levels is not None else as_factor(x, "C()")
    if base is not None:
        if contrast is not None and getattr(contrast, "kind", None) != "treatment":
            raise FormulaError("C(): base is for treatment contrasts")
        contrast = Contrast("treatment", base) if isinstance(base, str) else Contrast("treatment", position=base)
    return Factor(factor.codes, factor.levels, contrast)


def interaction(state: State, *factors: Any, sep: str = ".") -> Factor:
    """R's ``interaction()``: all combinations, the first factor varying fastest."""
    if not factors:
        raise FormulaError("interaction() needs at least one column")
    parts = [as_factor(f, "interaction()") for f in factors]
    keys, size = np.zeros(len(parts[0]), dtype=np.int64), 1
    missing = np.zeros(len(parts[0]), dtype=np.bool_)
    labels: list[str] = [""]
    for i, part in enumerate(parts):
        keys += size * np.maximum(part.codes, 0, dtype=np.int64)
        size *= len(part.levels)
        if size > max(len(keys), MANY_LABELS):
            raise DataError(
                f"interaction() would have {size:,} combinations or more; use a:b, which keeps only those observed"
            )
        missing |= part.codes < 0
        labels = [(a + sep if i else "") + r_level_text(b) for b in part.levels for a in labels]
    keys[missing] = -1
    return Factor(keys, pd.Index(labels))


def cut(
    state: State, x: Any, breaks: Any, labels: Any = None, right: bool = True, include_lowest: bool = False
) -> Factor:
    """R's ``cut()``: intervals from break points, or from a number of equal ones over the range."""
    values = np.asarray(numbers(x, "cut()"), dtype=np.float64)
    if "breaks" not in state:
        state["breaks"] = _break_points(values, breaks)
    points = state["breaks"]
    # side="left" puts a value equal to a break into the interval that ends there
    codes = np.searchsorted(points, values, side="left" if right else "right") - 1
    if include_lowest:
        codes[values == (points[0] if right else points[-1])] = 0 if right else len(points) - 2
    codes[(codes < 0) | (codes >= len(points) - 1) | np.isnan(values)] = -1
    if labels is False:
        names: list[Any] = list(range(1, len(points)))
    elif labels is None:
        names = _interval_names(points, right, include_lowest)
    else:
        names = list(labels)
    if len(names) != len(points) - 1:
        raise DataError(f"cut() was given {len(names)} labels for {len(points) - 1} intervals")
    return Factor(codes.astype(np.int64), pd.Index(names))


def _break_points(values: FloatArray, breaks: Any) -> FloatArray:
    if isinstance(breaks, list | np.ndarray):
        return np.sort(np.asarray(breaks, dtype=np.float64))
    if not isinstance(breaks, int | float) or isinstance(breaks, bool) or breaks < 2 or breaks != int(breaks):
        raise DataError(f"cut(): breaks must be a whole number of at least 2 or c(...), not {breaks!r}")
    present = values[~np.isnan(values)]
    if len(present) == 0:
        raise DataError("cut(): the column has no values")
    if breaks > max(len(present), MANY_INTERVALS):
        raise DesignError(f"cut() is asked for {breaks:,.10g} intervals of {len(present):,} values")
    low, high = float(present.min()), float(present.max())
    width = (high - low) or abs(low)
    points = np.linspace(low, high if high > low else low + width, int(breaks) + 1)
    points[0], points[-1] = low - width / 1000, high + width / 1000
    return points


def _interval_names(points: FloatArray, right: bool, include_lowest: bool) -> list[str]:
    texts: list[str] = []
    for digits in range(3, 17):
        texts = [f"{p:.{digits}g}" for p in points]
        if len(set(texts)) == len(texts):
            break
    left_mark, right_mark = ("(", "]") if right else ("[", ")")
    names = [f"{left_mark}{a},{b}{right_mark}" for a, b in pairwise(texts)]
    if include_lowest and right:
        names[0] = "[" + names[0][1:]
    elif include_lowest:
        names[-1] = names[-1][:-1] + "]"
    return names


# --- other functions of whole columns ------------------------------------------------------


def as_numeric(state: State, x: Any) -> FloatArray:
    """R's ``as.numeric()``: text is read; a factor becomes the positions of its levels, counted from 1."""
    if isinstance(x, Factor) and x.text:
        read: FloatArray = looked_up(np.append(numbers_of(x.levels), np.nan), x.codes)
        return read
    if isinstance(x, Factor) and not x.is_logical:
        factor = _in_learned_levels(state, x)
        new = np.unique(factor.codes[factor.codes >= len(state["levels"])])
        if len(new):
            raise DataError(f"as.numeric(): the model has not seen the levels {list_some(factor.levels[new])}")
        return np.where(factor.codes < 0, np.nan, factor.codes + 1.0)
    return np.asarray(numbers(x, "as.numeric()"), dtype=np.float64)


def as_integer(state: State, x: Any) -> FloatArray:
    """R's ``as.integer()``: like ``as.numeric()``, and what follows the decimal point is cut off."""
    return np.trunc(as_numeric(state, x))


def as_character(state: State, x: Any) -> Factor:
    """R's ``as.character()``: text in place of numbers, truth values or categories."""
    factor = as_factor(x, "as.character()").drop_unused()
    if factor.text:
        return factor
    texts = [r_level_text(level) for level in factor.levels]
    levels = sorted(set(texts))
    position = {text: i for i, text in enumerate(levels)}
    lookup = np.array([*map(position.__getitem__, texts), -1], dtype=np.int64)
    return Factor(lookup[factor.codes], pd.Index(levels, dtype=object), text=True)


def if_else(state: State, condition: Any, yes: Any, no: Any) -> Column:
    """R's ``ifelse()`` for numbers, truth values and texts."""
    if not isinstance(condition, Factor) or not condition.is_logical:
        raise DataError("ifelse() needs a condition such as x > 0 as its first argument")
    missing = condition.codes < 0
    if isinstance(yes, str | Factor) or isinstance(no, str | Factor):
        chosen = np.where(condition.codes == 1, _values(yes, len(condition)), _values(no, len(condition)))
        chosen[missing] = None
        return factor_from_texts(chosen)
    result = np.where(condition.codes == 1, numbers(yes, "ifelse()"), numbers(no, "ifelse()"))
    return np.where(missing, np.nan, result)


def _values(value: Any, n: int) -> Any:
    if isinstance(value, Factor):
        return np.array([*value.levels, None], dtype=object)[value.codes]
    return np.full(n, value, dtype=object)


def is_na(state: State, x: Any) -> Factor:
    """R's ``is.na()``."""
    return logical(is_missing(x))


def identity(state: State, x: Any) -> Any:
    """``I(x)``."""
    return x


def collect(state: State, *values: Any) -> list[Any]:
    """``c(1, 2, 3)``."""
    return list(values)


def log(state: State, x: Any, base: float = float(np.e)) -> Any:
    """R's ``log(x, base)``."""
    if not isinstance(base, int | float) or base <= 0 or base == 1:
        raise DataError(f"log(): the base must be a positive number other than 1, not {base!r}")
    values = np.log(numbers(x, "log()"))
    return values if base == float(np.e) else values / np.log(base)


def round_to(state: State, x: Any, digits: float = 0) -> Any:
    """R's ``round(x, digits)``."""
    return np.round(numbers(x, "round()"), int(digits))


#: Functions that take levels, not numbers.
FACTOR_MAKERS = ("factor", "as.factor", "ordered", "as.character", "relevel", "C", "interaction")
_FORMULAIC = ("poly", "bs", "cs", "cr", "cc", "scale", "center", "standardize")
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "factor": make_factor, "as.factor": make_factor, "ordered": make_factor, "as.character": as_character,
    "relevel": relevel, "C": with_contrast, "interaction": interaction, "cut": cut, "as.numeric": as_numeric,
    "as.integer": as_integer, "ifelse": if_else, "is.na": is_na, "I": identity, "c": collect, "log": log,
    "round": round_to, **SUMMARIES,
    "ns": stateful("ns", natural_spline_columns),
    **{name: stateful(name, formulaic(name)) for name in _FORMULAIC},
}  # fmt: skip
