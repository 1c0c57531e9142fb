"""How the levels of a factor become columns: R's ``contr.*`` functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._typing import FloatArray
from sparselmm.data.tables.texts import level_text, r_level_text
from sparselmm.exceptions import DataError, ParameterError


@dataclass(frozen=True)
class Coding:
    """A contrast matrix with names.

    Attributes
    ----------
    matrix : (m, c) array
        Row l holds the values of the columns for level l.
    names : tuple of str
        Suffixes of the column names as formulaic writes them, for example ``"[T.b]"``.
    r_names : tuple of str
        Suffixes as R writes them, for example ``"b"``.
    """

    matrix: FloatArray
    names: tuple[str, ...]
    r_names: tuple[str, ...]


@dataclass(frozen=True)
class Contrast:
    """A request for a coding: its kind and, for treatment contrasts, the base level or its position from 1."""

    kind: str
    base: object = None
    position: float | None = None
    count: object = None

    def __call__(self, first: object = None, base: object = None, *, reference: object = None) -> Contrast:
        """Return the same kind with a base level.

        ``contr.treatment("b")`` and patsy's ``Treatment(reference="b")`` name the level; R's
        ``contr.treatment(5, base=2)`` has the number of levels first and counts to the base.
        """
        if first is not None and isinstance(base, int | float):
            return Contrast(self.kind, position=base, count=first)
        return Contrast(self.kind, next((level for level in (reference, base, first) if level is not None), None))


def full_dummies(levels: pd.Index) -> Coding:
    """Return one indicator column per level."""
    return Coding(np.eye(len(levels)), *_level_names(levels, "", list(range(len(levels)))))


def _level_names(levels: pd.Index, mark: str, kept: list[int]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return (
        tuple(f"[{mark}{level_text(levels[i])}]" for i in kept),
        tuple(r_level_text(levels[i]) for i in kept),
    )


def _level_at(levels: pd.Index, contrast: Contrast, name: str) -> object:
    """Return the base level, given by its position or by its name."""
    at, m = contrast.position, len(levels)
    if at is None:
        return contrast.base
    if isinstance(contrast.count, int | float) and contrast.count != m:
        raise DataError(f"the contrasts of {name!r} are for {contrast.count:g} levels, but it has {m}")
    if at not in range(1, m + 1):
        raise DataError(f"the base {at:g} of {name!r} must be a position from 1 to {m}, or a level in quotes")
    return levels[int(at) - 1]


def treatment(levels: pd.Index, base: object = None) -> Coding:
    """Return indicators of all levels but the base (the first unless named)."""
    position = 0
    if base is not None:
        matches = [i for i, level in enumerate(levels) if level == base or level_text(level) == str(base)]
        if not matches:
            raise DataError(
                f"the base level {base!r} is not among the levels: {', '.join(map(level_text, levels[:10]))}"
            )
        position = matches[0]
    kept = [i for i in range(len(levels)) if i != position]
    return Coding(np.eye(len(levels))[:, kept], *_level_names(levels, "T.", kept))


def sum_to_zero(levels: pd.Index) -> Coding:
    """Return R's ``contr.sum``: the last level is minus the sum of the others."""
    m = len(levels)
    matrix = np.vstack([np.eye(m - 1), -np.ones((1, m - 1))])
    names, _ = _level_names(levels, "S.", list(range(m - 1)))
    return Coding(matrix, names, tuple(str(i + 1) for i in range(m - 1)))


def helmert(levels: pd.Index) -> Coding:
    """Return R's ``contr.helmert``: each level against the mean of the earlier ones."""
    m = len(levels)
    matrix = np.zeros((m, m - 1))
    for j in range(1, m):
        matrix[:j, j - 1] = -1.0
        matrix[j, j - 1] = j
    names, _ = _level_names(levels, "H.", list(range(1, m)))
    return Coding(matrix, names, tuple(str(j) for j in range(1, m)))


def polynomial(levels: pd.Index) -> Coding:
    """Return R's ``contr.poly``: orthonormal polynomials of the level's position."""
    m = len(levels)
    scores = np.arange(1.0, m + 1) - (m + 1) / 2
    Q, R = np.linalg.qr(scores[:, None] ** np.arange(m)[None, :])
    matrix = (Q * np.sign(np.diag(R)))[:, 1:]
    suffixes = [".L", ".Q", ".C", *(f"^{k}" for k in range(4, m))][: m - 1]
    return Coding(matrix, tuple(f"[{s}]" for s in suffixes), tuple(suffixes))


def _custom(levels: pd.Index, matrix: Any, name: str) -> Coding:
    labels = [str(c) for c in matrix.columns] if isinstance(matrix, pd.DataFrame) else None
    if isinstance(matrix, pd.DataFrame):
        matrix = _by_level(levels, matrix, name)
    try:
        values = np.asarray(matrix, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"the contrasts of {name!r} must be a matrix of numbers: {error}") from error
    m = len(levels)
    if values.ndim != 2 or values.shape[0] != m or not 1 <= values.shape[1] <= m - 1:
        raise ParameterError(
            f"the contrast matrix of {name!r} has shape {values.shape}; it needs one row for each of the {m} levels "
            f"and at most {m - 1} columns"
        )
    if not np.isfinite(values).all():
        raise ParameterError(f"the contrast matrix of {name!r} has values that are not finite")
    suffixes = labels or [str(j + 1) for j in range(values.shape[1])]
    return Coding(values, tuple(f"[{s}]" for s in suffixes), tuple(suffixes))


def _by_level(levels: pd.Index, matrix: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the rows of a contrast matrix in the order of the levels that label them."""
    texts, rows = [level_text(level) for level in levels], [level_text(label) for label in matrix.index]
    unknown = [row for row in rows if row not in texts]
    absent = [text for text in texts if text not in rows]
    if unknown or absent or len(set(rows)) < len(rows):
        wrong = f"; {', '.join(unknown[:10])} is not a level" if unknown else ""
        wrong += f"; there is no row for {', '.join(absent[:10])}" if absent else ""
        raise ParameterError(
            f"the contrasts of {name!r} need one row for each level in the rows used ({', '.join(texts[:10])}), named "
            f"by the index of the DataFrame{wrong or '; a name occurs twice'}. For rows by position pass an array"
        )
    return matrix.iloc[[rows.index(text) for text in texts]]


_KINDS = {"sum": sum_to_zero, "helmert": helmert, "poly": polynomial}


def coding(levels: pd.Index, contrast: Any, name: str) -> Coding:
    """Return the reduced coding of a factor.

    Parameters
    ----------
    levels : pandas.Index
        The levels in order, at least two.
    contrast : None, str, Contrast or matrix
        None means treatment contrasts; texts are R's names with or without ``contr.``.
    name : str
        The factor, for messages.
    """
    if isinstance(contrast, str):
        contrast = Contrast(contrast.removeprefix("contr.").lower())
    if contrast is None:
        return treatment(levels)
    if not isinstance(contrast, Contrast):
        return _custom(levels, contrast, name)
    if contrast.kind == "treatment":
        return treatment(levels, _level_at(levels, contrast, name))
    if contrast.kind not in _KINDS:
        raise ParameterError(
            f"unknown contrasts {contrast.kind!r} for {name!r}; use treatment, sum, helmert, poly or a matrix"
        )
    if contrast.position is not None or contrast.base not in (None, len(levels)):
        given = contrast.base if contrast.position is None else contrast.position
        raise ParameterError(
            f"contr.{contrast.kind} of {name!r} takes no base level ({given!r}); only contr.treatment has one, and "
            "factor(x, levels=c(...)) sets the order of the levels"
        )
    return _KINDS[contrast.kind](levels)


def check_contrasts(contrasts: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the ``contrasts=`` argument as a dict, or raise `ParameterError`."""
    if contrasts is None:
        return {}
    if not isinstance(contrasts, Mapping):
        raise ParameterError(f"contrasts must be a dict of factor names, not {type(contrasts).__name__}")
    return dict(contrasts)
