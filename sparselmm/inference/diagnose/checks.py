"""Checks of a design and of a fit; each takes numbers and returns the findings it has.

Codes and severities are stable: ``"warning"`` asks for a change of the model or the data, ``"note"``
for a thought, ``"info"`` describes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

from sparselmm._typing import FloatArray, IntArray
from sparselmm.data.rows import GroupedTerm, Rows
from sparselmm.exceptions import Message
from sparselmm.linalg.rank import triangular_factor

FEW_LEVELS = 5  # levels; with fewer a variance is hardly estimated (Gelman and Hill 2007, section 12.9)
MOSTLY = 0.5  # share of the levels that makes a remark worth while
HIGH_VIF = 10.0  # the usual rule of thumb (Marquardt 1970)
HIGH_CONDITION = 30.0  # of X with columns of unit length, from which dependences harm (Belsley, Kuh and Welsch 1980)
#: Standard deviations of the mean of a slope's variable from zero: intercept and slope correlate by construction.
FAR_FROM_ZERO = 5.0
NAMED = 3  # things that a sentence lists before it says how many more


def grouped(observed: Rows) -> list[GroupedTerm]:
    """Return one term per grouping factor."""
    found: dict[str, GroupedTerm] = {}
    for term in observed.terms:
        if isinstance(term, GroupedTerm):
            found.setdefault(term.label, term)
    return list(found.values())


def some(values: Sequence[object], limit: int = NAMED) -> str:
    """Return the first values as text, and how many more there are."""
    shown = ", ".join(str(v) for v in values[:limit])
    return shown if len(values) <= limit else f"{shown} and {len(values) - limit} more"


# --- levels --------------------------------------------------------------------------------------


def check_levels(term: GroupedTerm) -> Iterator[Message]:
    """Few levels, and levels with a single row."""
    counts = np.bincount(term.codes, minlength=term.m)
    if term.m < FEW_LEVELS:
        what = f"{term.label} has only {term.m} levels: its variance rests on {term.m} values and is very uncertain."
        yield Message("few_levels", "note", what, "Read its interval, not its estimate; a fixed effect may do as well.")
    single = np.flatnonzero(counts == 1)
    if not len(single):
        return
    share = len(single) / term.m
    what = (
        f"{len(single)} of {term.m} levels of {term.label} ({100 * share:.0f} %) have a single row "
        f"({some(list(term.levels[single]))})."
    )
    if share > MOSTLY:
        how = "Their variance is hard to tell from the residual variance; the other levels must do it."
        yield Message("single_rows", "warning", what, how)
    else:
        yield Message("single_rows", "info", what, "They add to the fixed effects, little to the variances.")


def check_coefficients(term: GroupedTerm) -> Iterator[Message]:
    """Random slopes that the rows of a level cannot determine, or that lie far from zero."""
    if term.k == 1:
        return
    poor = np.flatnonzero(level_ranks(term) < term.k)
    name = f"({' + '.join(term.columns)} | {term.label})"
    if len(poor) == term.m:
        constant = [c for c, a in zip(term.columns, range(term.k)) if _constant_within(term, a) and not _flat(term, a)]
        why = f"{some(constant)} does not vary within any level" if constant else "no level has enough distinct rows"
        how = f"Remove {some(constant)} from the term." if constant else "Use fewer coefficients per level."
        what = f"The {term.k} coefficients of {name} cannot be told apart within levels: {why}."
        yield Message("slope_not_identified", "warning", what, how)
    elif len(poor) > MOSTLY * term.m:
        what = (
            f"In {len(poor)} of {term.m} levels the rows cannot determine the {term.k} coefficients of {name} "
            f"({some(list(term.levels[poor]))})."
        )
        yield Message("few_rows_per_level", "note", what, "Variances and correlations rest on the other levels.")
    for a, column in enumerate(term.columns):
        mean, sd = float(term.Z[:, a].mean()), float(term.Z[:, a].std())
        if sd > 0 and abs(mean) > FAR_FROM_ZERO * sd and any(_flat(term, b) for b in range(term.k)):
            what = (
                f"{column} in {name} lies far from zero (mean {mean:.4g}, SD {sd:.3g}): its random intercept is the "
                "value at zero, so the correlation of intercept and slope will be near -1 or 1."
            )
            yield Message("far_from_zero", "note", what, f"Subtract the mean of {column}, or a value of interest.")


def level_ranks(term: GroupedTerm) -> IntArray:
    """Return the rank of the rows of Z of each level, (m,)."""
    scale = np.abs(term.Z).max(axis=0)
    Z = term.Z / np.where(scale > 0, scale, 1.0)
    k = term.k
    gram = np.empty((term.m, k, k))
    for a in range(k):
        for b in range(a + 1):
            gram[:, a, b] = gram[:, b, a] = np.bincount(term.codes, weights=Z[:, a] * Z[:, b], minlength=term.m)
    values = np.linalg.eigvalsh(gram)
    return np.asarray((values > 1e-10 * np.maximum(values[:, -1:], 1e-300)).sum(axis=1))


def _flat(term: GroupedTerm, a: int) -> bool:
    return bool(np.ptp(term.Z[:, a]) == 0)


def _constant_within(term: GroupedTerm, a: int) -> bool:
    first = np.zeros(term.m)
    first[term.codes[::-1]] = term.Z[::-1, a]
    return bool(np.array_equal(first[term.codes], term.Z[:, a]))


# --- how grouping factors lie to each other -------------------------------------------------------


def check_pairs(observed: Rows) -> Iterator[Message]:
    """Identical, nested, crossed and disconnected grouping factors."""
    for a, b in combinations(grouped(observed), 2):
        cells: IntArray = np.asarray(pd.unique(a.codes * np.int64(b.m) + b.codes), dtype=np.int64)
        per_a, per_b = np.bincount(cells // b.m, minlength=a.m), np.bincount(cells % b.m, minlength=b.m)
        if a.m == b.m == len(cells):
            what = f"{a.label} and {b.label} describe the same {a.m} groups: their variances cannot be told apart."
            yield Message("confounded_terms", "warning", what, "Keep one of them.")
        elif per_a.max() == 1 or per_b.max() == 1:
            inner, outer = (a, b) if per_a.max() == 1 else (b, a)
            if not set(outer.label.split(":")) < set(inner.label.split(":")):
                yield _nested(inner, outer)
        else:
            yield from _crossed(a, b, cells, observed.n)


def _nested(inner: GroupedTerm, outer: GroupedTerm) -> Message:
    what = f"{inner.label} is nested in {outer.label}: each of its {inner.m} levels occurs in one level of it."
    return Message(
        "nested", "info", what, f"Labels are unique, so (1 | {outer.label}/{inner.label}) is the same model."
    )


def _crossed(a: GroupedTerm, b: GroupedTerm, cells: IntArray, n: int) -> Iterator[Message]:
    sizes = component_sizes(cells // b.m, cells % b.m, a.m, b.m)
    if len(sizes) > 1:
        what = (
            f"The levels of {a.label} and {b.label} fall into {len(sizes)} parts that share no rows "
            f"(levels per part: {some([int(s) for s in sizes], 5)})."
        )
        how = "Levels of different parts are compared through the common mean only, not through shared partners."
        yield Message("disconnected", "note", what, how)
    filled = len(cells) / (a.m * b.m)
    simple = ":" not in a.label and ":" not in b.label
    swapped = (cells % b.m) * a.m + cells // b.m
    for inner, outer, keys in ((b, a, cells), (a, b, swapped)) if simple else ():
        if _reused_labels(inner, outer, keys):
            yield _labels_reused(inner, outer)
            return
    inner, outer = (a, b) if a.m <= b.m else (b, a)
    text = "completely crossed" if len(cells) == a.m * b.m else f"crossed, {100 * filled:.3g} % of the cells filled"
    what = f"{a.label} and {b.label} are {text} ({n / len(cells):.3g} rows per filled cell)."
    how = ""
    if simple and len(cells) == a.m * b.m and n > len(cells):
        how = (
            f"If a level of {inner.label} means something else in each level of {outer.label}, "
            f"write (1 | {outer.label}/{inner.label})."
        )
    yield Message("crossed", "info", what, how)


def _labels_reused(inner: GroupedTerm, outer: GroupedTerm) -> Message:
    what = (
        f"Each level of {outer.label} uses the first few labels of {inner.label} ({some(list(inner.levels))}): "
        f"these look like labels used again, not like the same {inner.m} things everywhere."
    )
    nested = f"(1 | {outer.label}/{inner.label})"
    how = f"If {inner.label} {inner.levels[0]} differs between levels of {outer.label}, write {nested}."
    return Message("labels_reused", "warning", what, how)


def component_sizes(rows: IntArray, cols: IntArray, m_row: int, m_col: int) -> IntArray:
    """Return the numbers of levels in the connected parts of a bipartite graph, largest first."""
    graph = sp.coo_array((np.ones(len(rows)), (rows, m_row + cols)), shape=(m_row + m_col, m_row + m_col))
    _, labels = connected_components(graph.tocsr(), directed=False)
    return np.sort(np.bincount(labels))[::-1]


def _reused_labels(inner: GroupedTerm, outer: GroupedTerm, cells: IntArray) -> bool:
    """Whether every outer level holds the inner labels 1..j, with different j; cells are outer*m_inner + inner."""
    top = np.full(outer.m, -1, dtype=np.int64)
    np.maximum.at(top, cells // inner.m, cells % inner.m)
    count = np.bincount(cells // inner.m, minlength=outer.m)
    return bool(np.array_equal(count, top + 1) and len(np.unique(count)) > 1 and outer.m > 2 and count.min() > 1)


def check_fixed_groups(observed: Rows) -> Iterator[Message]:
    """Grouping factors whose levels the fixed effects already tell apart."""
    for term in grouped(observed):
        if term.m > observed.p:
            continue
        Z = np.zeros((observed.n, term.m))
        Z[np.arange(observed.n), term.codes] = 1.0
        R = triangular_factor(np.column_stack([observed.X, Z]))
        left = np.sqrt((R[observed.p :, observed.p :] ** 2).sum(axis=0)) / np.sqrt(np.bincount(term.codes))
        if left.max() < 1e-7:
            what = (
                f"The fixed effects hold a parameter for each level of {term.label}; nothing is left for its variance."
            )
            yield Message(
                "fixed_and_random", "warning", what, f"Take {term.label} out of the fixed or the random part."
            )


# --- the fixed part ----------------------------------------------------------------------------------


def variance_inflation(X: FloatArray) -> tuple[FloatArray, float]:
    """Return the variance inflation factor of each column, (p,), and the condition number of the scaled X.

    Constant columns have NaN; the other columns are centred for the factors where there is one.
    """
    R = triangular_factor(X)
    norms = np.sqrt((R**2).sum(axis=0))
    condition = float(np.linalg.cond(R / norms)) if X.shape[1] else 1.0
    constant = np.ptp(X, axis=0) == 0
    vif = np.full(X.shape[1], np.nan)
    varying = np.flatnonzero(~constant)
    if len(varying):
        rest = X[:, varying] - (X[:, varying].mean(axis=0) if constant.any() else 0.0)
        inner = triangular_factor(rest)
        inverse = np.linalg.inv(inner / np.sqrt((inner**2).sum(axis=0)))
        vif[varying] = (inverse**2).sum(axis=1)
    return vif, condition


def check_fixed(X: FloatArray, columns: Sequence[str]) -> Iterator[Message]:
    """Collinearity of the fixed effects."""
    if len(columns) < 2:
        return
    vif, condition = variance_inflation(X)
    high = [f"{c} ({v:.3g})" for c, v in zip(columns, vif) if v > HIGH_VIF]
    if high:
        what = f"Fixed effects nearly depend on each other; variance inflation factors: {some(high, 6)}."
        how = (
            "Their separate estimates are imprecise, their sum is not; centre before products and powers, or drop one."
        )
        yield Message("collinear", "note", what, how)
    elif condition > HIGH_CONDITION:
        what = f"The condition number of the scaled fixed-effects matrix is {condition:.3g}."
        yield Message("condition", "note", what, "Centring covariates usually lowers it; estimates stay correct.")
