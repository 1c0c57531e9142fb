"""Linear hypotheses about coefficients, written as arrays or as texts such as ``x = 0, f[T.b] = f[T.c]``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from sparselmm._typing import FloatArray
from sparselmm.exceptions import ParameterError
from sparselmm.inference.fixed.wald import check_hypothesis

NUMBER = re.compile(r"\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?")
SYMBOLS = "+-*/()=,;"
Hypothesis = str | Sequence[str] | npt.ArrayLike


@dataclass(frozen=True)
class LinearHypothesis:
    """L β = rhs.

    Attributes
    ----------
    L : (r, p) array
        One row per equation.
    rhs : (r,) array
        Right-hand sides.
    labels : tuple of str
        What each row says.
    """

    L: FloatArray
    rhs: FloatArray
    labels: tuple[str, ...]


def read_hypothesis(
    given: Hypothesis,
    names: Sequence[str],
    rhs: npt.ArrayLike | None = None,
    aliases: Mapping[str, str] | None = None,
    dropped: Sequence[str] = (),
) -> LinearHypothesis:
    """Return a hypothesis as arrays.

    Parameters
    ----------
    given : str, sequence of str or (r, p) array
        Equations separated by commas, or the matrix L. A Series or a DataFrame goes by its labels: the
        coefficients, in any order, those left out being zero.
    names : sequence of str
        The p coefficients.
    rhs : (r,) array, optional
        Right-hand sides of a matrix; zero by default.
    aliases : mapping, optional
        Other spellings of the names, such as R's.
    dropped : sequence of str
        Columns that were dropped for rank deficiency.

    Raises
    ------
    ParameterError
        For a wrong length, an unknown coefficient or an equation that is not linear.

    Examples
    --------
    >>> found = read_hypothesis("x = 0, 2*a = b + 1", ["x", "a", "b"])
    >>> found.L.tolist(), found.rhs.tolist()
    ([[1.0, 0.0, 0.0], [0.0, 2.0, -1.0]], [0.0, 1.0])
    """
    spellings = {**{a: n for n, a in (aliases or {}).items() if n in names}, **{n: n for n in names}}
    gone = {*dropped, *((aliases or {}).get(name, name) for name in dropped)} - set(spellings)
    texts = [given] if isinstance(given, str) else given
    if isinstance(texts, Sequence) and texts and all(isinstance(t, str) for t in texts):
        if rhs is not None:
            raise ParameterError("write the right-hand side into the text of the hypothesis, not into rhs=")
        rows = [row for text in texts for row in _Equations(str(text), names, spellings, gone).read()]
        return LinearHypothesis(np.array([r[0] for r in rows]), np.array([r[1] for r in rows]),
                                tuple(r[2] for r in rows))  # fmt: skip
    try:
        values = np.atleast_2d(np.asarray(by_name(given, names, spellings, gone), dtype=np.float64))
        if dropped and values.shape[-1] == len(names) + len(dropped):
            raise ParameterError(
                f"a hypothesis needs {len(names)} values per row, not {values.shape[-1]}: {_was_dropped(*dropped)}"
            )
        L = check_hypothesis(values, len(names))
        right = np.zeros(len(L)) if rhs is None else np.broadcast_to(np.asarray(rhs, dtype=np.float64), (len(L),))
    except (TypeError, ValueError) as error:
        if isinstance(error, ParameterError):
            raise
        raise ParameterError(f"a hypothesis is a text, a list of texts or a matrix of numbers: {error}") from error
    labels = tuple(_label(row, value, names) for row, value in zip(L, right))
    return LinearHypothesis(L, np.array(right), labels)


def by_name(given: Any, names: Sequence[str], spellings: Mapping[str, str], dropped: Collection[str] = ()) -> Any:
    """Return the values of a Series or DataFrame in the order of the coefficients; anything else as it is.

    Labels that are integers are positions.

    Raises
    ------
    ParameterError
        For a label that is not a coefficient, or that occurs twice.
    """
    if not isinstance(given, pd.Series | pd.DataFrame):
        return given
    labels = given.index if isinstance(given, pd.Series) else given.columns
    if pd.api.types.is_integer_dtype(labels.dtype):
        return given
    unknown = [str(label) for label in labels if label not in spellings]
    if unknown:
        hint = _was_dropped(unknown[0]) if unknown[0] in dropped else _nearest(unknown[0], spellings, names)
        raise ParameterError(f"the hypothesis has the label {unknown[0]!r}; {hint}")
    known = [spellings[label] for label in labels]
    if len(set(known)) < len(known):
        raise ParameterError(f"the hypothesis names a coefficient twice: {', '.join(known)}")
    values = np.atleast_2d(np.asarray(given, dtype=np.float64))
    L = np.zeros((len(values), len(names)))
    L[:, [list(names).index(name) for name in known]] = values
    return L


def _nearest(name: str, spellings: Mapping[str, str], names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, list(spellings), n=2)
    return f"did you mean {' or '.join(near)}?" if near else f"the coefficients are {', '.join(names)}"


def _was_dropped(*names: str) -> str:
    """Return why columns have no coefficients."""
    if len(names) == 1:
        return f"{names[0]} was dropped for rank deficiency: it depends on earlier columns and has no coefficient"
    return f"{', '.join(names)} were dropped for rank deficiency: they depend on earlier columns"


def _label(row: FloatArray, value: float, names: Sequence[str]) -> str:
    parts = []
    for w, name in zip(row, names):
        if w != 0:
            size = "" if abs(w) == 1 else f"{abs(w):.4g}*"
            parts.append(("- " if w < 0 else "+ ") + size + name)
    text = " ".join(parts).removeprefix("+ ") or "0"
    return text if value == 0 else f"{text} = {value:.4g}"


class _Equations:
    """A reader of linear equations; names are matched before anything else, the longest first."""

    def __init__(
        self, text: str, names: Sequence[str], spellings: Mapping[str, str], dropped: Collection[str] = ()
    ) -> None:
        self._text = text
        self._dropped = dropped
        self._names = list(names)
        self._spellings = spellings
        self._tokens = self._split()
        self._at = 0

    def _split(self) -> list[tuple[str, str, int]]:
        text, out, i = self._text, [], 0
        known = sorted([*self._spellings, *self._dropped], key=len, reverse=True)
        while i < len(text):
            if text[i].isspace():
                i += 1
                continue
            name = next((n for n in known if text.startswith(n, i) and not _continues(n, text, i + len(n))), None)
            number = NUMBER.match(text, i)
            if name in self._dropped:
                raise ParameterError(f"{name!r} in the hypothesis {text!r} is not there; {_was_dropped(str(name))}")
            if name is not None:
                out.append(("name", name, i))
                i += len(name)
            elif number:
                out.append(("number", number[0], i))
                i = number.end()
            elif text[i] in SYMBOLS:
                out.append((text[i].replace(";", ","), text[i], i))
                i += 1
            else:
                raise self._unknown(i)
        return [*out, ("end", "", len(text))]

    def _unknown(self, i: int) -> ParameterError:
        word = re.match(r"[^\s+*/=,;-]+", self._text[i:])
        name = word[0] if word else self._text[i]
        hint = _nearest(name, self._spellings, self._names)
        return ParameterError(f"{name!r} in the hypothesis {self._text!r} is not a coefficient; {hint}")

    def read(self) -> list[tuple[FloatArray, float, str]]:
        rows = []
        while True:
            start = self._tokens[self._at][2]
            left = self._sum()
            right = np.zeros(len(self._names) + 1)
            if self._take("="):
                right = self._sum()
            difference = left - right
            if not difference[:-1].any():
                raise ParameterError(f"the hypothesis {self._text!r} has an equation without any coefficient")
            label = self._text[start : self._tokens[self._at][2]].strip()
            rows.append((difference[:-1], float(0.0 - difference[-1]), label))
            if not self._take(","):
                break
        if self._tokens[self._at][0] != "end":
            raise self._error("an operator or a comma")
        return rows

    def _take(self, kind: str) -> bool:
        if self._tokens[self._at][0] == kind:
            self._at += 1
            return True
        return False

    def _error(self, wanted: str) -> ParameterError:
        kind, text, i = self._tokens[self._at]
        found = "its end" if kind == "end" else f"{text!r} at position {i + 1}"
        return ParameterError(f"cannot read the hypothesis {self._text!r}: expected {wanted}, found {found}")

    def _sum(self) -> FloatArray:
        sign = -1.0 if self._take("-") else (self._take("+"), 1.0)[1]
        total = sign * self._product()
        while True:
            if self._take("+"):
                total = total + self._product()
            elif self._take("-"):
                total = total - self._product()
            else:
                return total

    def _product(self) -> FloatArray:
        value = self._factor()
        while True:
            if self._take("*"):
                other = self._factor()
                if value[:-1].any() and other[:-1].any():
                    raise ParameterError(f"the hypothesis {self._text!r} multiplies coefficients; it must be linear")
                value = other * value[-1] if other[:-1].any() else value * other[-1]
            elif self._take("/"):
                other = self._factor()
                if other[:-1].any() or other[-1] == 0:
                    raise ParameterError(f"the hypothesis {self._text!r} divides by something that is not a number")
                value = value / other[-1]
            else:
                return value

    def _factor(self) -> FloatArray:
        kind, text, _ = self._tokens[self._at]
        out = np.zeros(len(self._names) + 1)
        if kind == "name":
            out[self._names.index(self._spellings[text])] = 1.0
        elif kind == "number":
            out[-1] = float(text)
        elif kind in "(-":
            self._at += 1
            inner = self._sum() if kind == "(" else -self._factor()
            if kind == "(" and not self._take(")"):
                raise self._error("')'")
            return inner
        else:
            raise self._error("a coefficient or a number")
        self._at += 1
        return out


def _continues(name: str, text: str, end: int) -> bool:
    """Return whether a word goes on after a name, so that the name is only a part of it."""
    return end < len(text) and (name[-1].isalnum() or name[-1] == "_") and (text[end].isalnum() or text[end] in "_[.:(")
