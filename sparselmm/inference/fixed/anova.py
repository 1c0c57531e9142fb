"""Hypotheses of an analysis of variance for a fit: from its encoding and its data to matrices L."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sparselmm._typing import FloatArray
from sparselmm.data.encoding.encoding import EncodingSpec
from sparselmm.exceptions import NumericalError, ParameterError
from sparselmm.inference.fixed.contrasts import WideTerm, type1, type2, type3
from sparselmm.inference.fixed.terms import (
    INTERCEPT,
    fixed_terms,
    joint_factor,
    matrix_terms,
    overparametrized,
    raw_rows,
    treatment_coded,
    upper_factor,
)
from sparselmm.likelihood.result import FitResult

RANK_TOL = 1e-9  # singular values of columns of unit length below this are rounding
FAR = 1e-7  # columns that R's rule would drop, kept because they are identified after centring


def aliased_note(encoding: EncodingSpec | None, kind: str) -> list[str]:
    """Return what should be known about type III hypotheses when columns were dropped."""
    if encoding is None or kind != "III" or not encoding.dropped_columns:
        return []
    return [
        f"the columns {', '.join(encoding.dropped_columns)} were dropped (empty cells or aliases): what type III tests "
        "then depends on which cells have rows"
    ]


def hypotheses(
    result: FitResult, encoding: EncodingSpec | None, table: Callable[[], Any], kind: str
) -> dict[str, FloatArray]:
    """Return the hypothesis of each term of the fixed part but the constant, L (r, p) by name.

    Parameters
    ----------
    result : FitResult
        The fit.
    encoding : EncodingSpec or None
        What was learned from the data; None for a model made from arrays.
    table : callable
        Returns the data; only called for type III with terms contained in others.
    kind : {"I", "II", "III"}
        The type.
    """
    if encoding is None:
        raise ParameterError("a model made from arrays has no terms; test its coefficients with f_test or wald_test")
    terms = fixed_terms(encoding)
    X = result.design.X
    if _is_far(X):
        if any(t.contains(u) and u.name != INTERCEPT for t in terms for u in terms):
            raise NumericalError(
                f"type {kind} hypotheses of terms with interactions are lost in rounding: a covariate lies far from "
                "zero; subtract its mean in the formula, as in I(t - mean(t))"
            )
        kind = "II" if kind == "III" else kind  # the same where no term contains another
    if kind == "I" or sum(t.name != INTERCEPT for t in terms) <= 1:
        return type1(X, terms)
    if kind == "II":
        return type2(X, terms)
    raw = raw_rows(encoding, table(), result.design.rows)
    wide = overparametrized(encoding.fixed)
    full, coded, own = joint_factor(encoding, (wide, treatment_coded(encoding.fixed), encoding.fixed), raw)
    kept = list(encoding.kept)
    coded, own = coded[:, kept], own[:, kept]
    size = np.linalg.norm(coded, axis=0)
    if np.linalg.matrix_rank(coded / np.where(size > 0, size, 1.0), tol=RANK_TOL) < len(kept):
        raise ParameterError(
            f"type III is not defined: the columns {', '.join(encoding.dropped_columns)} were dropped, and those left "
            "are dependent under treatment contrasts; fit with treatment contrasts, or use type='II'"
        )
    pairs = [WideTerm(t, w.columns) for t, w in zip(terms, matrix_terms(wide))]
    return type3(full, coded, own, pairs)


def _is_far(X: FloatArray) -> bool:
    """Whether a column is nearly a multiple of others, as a covariate far from zero is of the constant."""
    R = upper_factor(X)
    size = np.linalg.norm(R, axis=0)
    return bool(np.linalg.svd(R / np.where(size > 0, size, 1.0), compute_uv=False)[-1] < FAR)
