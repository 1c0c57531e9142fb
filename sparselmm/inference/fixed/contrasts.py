"""Hypotheses of type I, II and III about the terms of the fixed part.

Type I and II come from the triangular factor R of X with its columns in a certain order: Rβ are the
effects of each column after the earlier ones, so the rows of a term's columns are its hypothesis,
whatever the covariance of y. Type III is defined on the overparametrized matrix with one column per
combination of levels (SAS/STAT User's Guide, "The Four Types of Estimable Functions"): among the
estimable functions that involve only a term and those containing it, the ones orthogonal to the
functions of the containing terms alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparselmm._typing import FloatArray
from sparselmm.exceptions import ParameterError
from sparselmm.inference.fixed.terms import INTERCEPT, FixedTerm, upper_factor

ROUNDING = 1e-12  # coefficients below this share of the largest are zero
TYPES = {"I": "I", "II": "II", "III": "III", "1": "I", "2": "II", "3": "III"}


@dataclass(frozen=True)
class WideTerm:
    """A term with its columns under treatment contrasts, and those of the overparametrized matrix."""

    term: FixedTerm
    wide: tuple[int, ...]


def anova_type(kind: str | int) -> str:
    """Return the type as a Roman number."""
    key = str(kind).upper()
    if key not in TYPES:
        raise ParameterError(f"type must be 'I', 'II' or 'III', not {kind!r}")
    return TYPES[key]


def sequential(X: FloatArray, order: Sequence[int], columns: Sequence[int]) -> FloatArray:
    """Return the hypothesis of some columns after those before them in an order, (len(columns), p).

    Each row has 1 for its own column.
    """
    R = upper_factor(X[:, list(order)])
    position = {c: i for i, c in enumerate(order)}
    L = np.zeros((len(columns), X.shape[1]))
    for row, c in enumerate(columns):
        i = position[c]
        L[row, list(order)[i:]] = R[i, i:] / R[i, i]
    return L


def type1(X: FloatArray, terms: Sequence[FixedTerm]) -> dict[str, FloatArray]:
    """Return for each term but the constant its hypothesis after the terms before it; no rows for a dropped one.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[1.0, 0], [1, 1], [1, 2]])
    >>> L = type1(X, [FixedTerm("Intercept", (0,)), FixedTerm("x", (1,))])["x"]
    >>> bool(L[0, 0] == 0), bool(L[0, 1] != 0)
    (True, True)
    """
    order = range(X.shape[1])
    R = upper_factor(X)  # one factor serves all terms
    return {t.name: sequential(R, order, t.columns) for t in terms if t.name != INTERCEPT}


def type2(X: FloatArray, terms: Sequence[FixedTerm]) -> dict[str, FloatArray]:
    """Return for each term its hypothesis after all terms that do not contain it."""
    out = {}
    R = upper_factor(X)
    for term in terms:
        if term.name == INTERCEPT:
            continue
        containing = [t for t in terms if t.contains(term)]
        if not containing:  # the last in the order: its own coefficients
            out[term.name] = np.eye(X.shape[1])[list(term.columns)]
            continue
        before = [c for t in terms if t is not term and t not in containing for c in t.columns]
        after = [c for t in containing for c in t.columns]
        out[term.name] = sequential(R, [*before, *term.columns, *after], term.columns)
    return out


def type3(wide: FloatArray, coded: FloatArray, X: FloatArray, terms: Sequence[WideTerm]) -> dict[str, FloatArray]:
    """Return for each term but the constant its type III hypothesis about the coefficients of X.

    A coefficient under treatment contrasts is an estimable function of the parameters of its own term
    and of the terms that contain it. Made orthogonal to the functions of the containing terms it is
    of type III.

    Parameters
    ----------
    wide : (r, w) array
        The overparametrized matrix, or anything from the left times it.
    coded : (r, p) array
        The same times the matrix under treatment contrasts.
    X : (r, p) array
        The same times X, which spans the same columns.
    terms : sequence of WideTerm
        The terms with their columns in the first two.
    """
    scale = np.ones(wide.shape[1])
    for t in terms:  # covariates in units of their own size, shared by all terms with the same ones
        group = [c for other in terms if other.term.covariates == t.term.covariates for c in other.wide]
        size = float(np.sqrt(np.mean(np.sum(wide[:, group] ** 2, axis=0)))) if group else 0.0
        scale[list(t.wide)] = 1.0 / size if size > 0 else 1.0
    functions = np.linalg.lstsq(coded, wide * scale)[0]
    coefficients = np.linalg.lstsq(coded, X)[0]
    coefficients[np.abs(coefficients) < ROUNDING * np.abs(coefficients).max()] = 0.0
    out: dict[str, FloatArray] = {}
    for t in terms:
        if t.term.name == INTERCEPT:
            continue
        own = list(t.term.columns)
        containing = [c for other in terms if other.term.contains(t.term) for c in other.term.columns]
        L = coefficients[own]
        if containing:
            share = np.linalg.lstsq(functions[containing].T, functions[own].T)[0]
            L = L - share.T @ coefficients[containing]
        out[t.term.name] = np.asarray(L)
    return out
