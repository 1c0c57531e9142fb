"""A MixedLM model in the terms of this package, and where its parts are found in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._typing import IntArray
from sparselmm.api import LinearMixedModel, is_column
from sparselmm.exceptions import DataError, ParameterError

MISSING = {"drop": "omit", "none": "fail", "raise": "fail"}


@dataclass(frozen=True)
class Members:
    """The random effects of one term, in the order of its conditional modes.

    Attributes
    ----------
    term : int
        Position of the term in the design.
    groups : (m,) int array
        Group that each level of the term belongs to.
    names : tuple of str
        statsmodels' name of each of the m·k effects, level by level.
    """

    term: int
    groups: IntArray
    names: tuple[str, ...]


@dataclass(frozen=True)
class Translation:
    """A model that was stated in statsmodels' way.

    Attributes
    ----------
    lmm : LinearMixedModel
        The same model here.
    group_labels : pandas.Index
        The groups, in increasing order.
    group_codes : (n,) int array
        Group of each row used.
    re_names : tuple of str
        Names of the correlated random effects of a group; empty without any.
    re : Members or None
        Where these are.
    vc_names : tuple of str
        Names of the variance components, sorted.
    vcs : tuple of Members
        Where these are.
    endog_name : str
        The response.
    formula : str or None
        The formula of the fixed part as given; None for a model made from arrays.
    lmer_formula : str or None
        The model as a formula for `sparselmm.lmer`, where there is one that the data as given can be used with.
    plain : bool
        Whether results are arrays without labels, as in statsmodels where neither the response nor the fixed-effects
        matrix is of pandas; groups and ``exog_re`` do not matter there.
    """

    lmm: LinearMixedModel
    group_labels: pd.Index
    group_codes: IntArray
    re_names: tuple[str, ...]
    re: Members | None
    vc_names: tuple[str, ...]
    vcs: tuple[Members, ...]
    endog_name: str
    formula: str | None = None
    lmer_formula: str | None = None
    plain: bool = False


def na_action(missing: str) -> str:
    """Return our rule for missing values.

    >>> na_action("drop")
    'omit'
    """
    if missing not in MISSING:
        raise ParameterError(f"missing must be one of {', '.join(MISSING)}, not {missing!r}")
    return MISSING[missing]


def positions(labels: Sequence[str], terms: Sequence[Any]) -> list[int]:
    """Return where the terms with these labels, in the order given, are in the design.

    The design sorts terms by their number of levels and keeps the order of terms of the same label.
    """
    seen: Counter[str] = Counter()
    where = []
    for label in labels:
        same = [t for t, term in enumerate(terms) if term.label == label]
        where.append(same[seen[label]])
        seen[label] += 1
    return where


def check_length(values: Any, n: int, what: str) -> None:
    """Refuse groups that do not have one value per row."""
    length = len(values) if hasattr(values, "__len__") else None
    if length != n or not is_column(values):
        raise DataError(f"{what} must be one label for each of the {n} rows, not {np.shape(values)}")
