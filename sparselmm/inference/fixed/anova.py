"""Hypotheses of an analysis of variance for a fit: from its encoding and its data to matrices L."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

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
    treatment_coded,
    upper_factor,
)

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


def type3_factors(encoding: EncodingSpec, raw: pd.DataFrame) -> tuple[FloatArray, ...]:
    """Return what type III hypotheses are found from: Q'A for three codings A of the fixed part.

    A has one column per combination of levels, is coded by treatment contrasts, or as the model is; Q is
    orthogonal and common to them. ``raw`` are the columns of the fixed part on the rows used.
    """
    matrices = overparametrized(encoding.fixed), treatment_coded(encoding.fixed), encoding.fixed
    return tuple(joint_factor(encoding, matrices, raw))


def hypotheses(
    encoding: EncodingSpec | None, X: FloatArray, factors: Callable[[], tuple[FloatArray, ...]], kind: str
) -> dict[str, FloatArray]:
    """Return the hypothesis of each term of the fixed part but the constant, L (r, p) by name.

    Parameters
    ----------
    encoding : EncodingSpec or None
        What was learned from the data; None for a model made from arrays.
    X : (r, p) array
        Fixed-effects matrix, or its triangular factor.
    factors : callable
        Returns `type3_factors`; only called for type III with terms contained in others.
    kind : {"I", "II", "III"}
        The type.
    """
    if encoding is None:
        raise ParameterError("a model made from arrays has no terms; test its coefficients with f_test or wald_test")
    terms = fixed_terms(encoding)
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
    full, coded, own = factors()
    kept = list(encoding.kept)
    coded, own = coded[:, kept], own[:, kept]
    size = np.linalg.norm(coded, axis=0)
    if np.linalg.matrix_rank(coded / np.where(size > 0, size, 1.0), tol=RANK_TOL) < len(kept):
        raise ParameterError(
            f"type III is not defined: the columns {', '.join(encoding.dropped_columns)} were dropped, and those left "
            "are dependent under treatment contrasts; fit with treatment contrasts, or use type='II'"
        )
    wide = matrix_terms(overparametrized(encoding.fixed))
    pairs = [WideTerm(t, w.columns) for t, w in zip(terms, wide)]
    return type3(full, coded, own, pairs)


def _is_far(X: FloatArray) -> bool:
    """Whether a column is nearly a multiple of others, as a covariate far from zero is of the constant."""
    R = upper_factor(X)
    size = np.linalg.norm(R, axis=0)
    return bool(np.linalg.svd(R / np.where(size > 0, size, 1.0), compute_uv=False)[-1] < FAR)
