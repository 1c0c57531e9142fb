"""Contrasts between means: coefficients by name, for one factor or for the product of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import product

import numpy as np
import pandas as pd

from sparselmm._typing import FloatArray
from sparselmm.data.encoding.contrasts import polynomial
from sparselmm.data.tables.columns import list_some
from sparselmm.exceptions import ParameterError

#: A name of contrasts, or coefficients by name: in the order of the means, or by their labels.
ContrastKind = str | Mapping[str, Sequence[float] | Mapping[str, float]]
#: The same for each variable.
InteractionKind = str | Sequence[ContrastKind] | Mapping[str, ContrastKind]

PAIRS = ("pairwise", "revpairwise")
_DEGREES = ("linear", "quadratic", "cubic", "quartic", "degree 5", "degree 6")
_NEARLY_WHOLE = 0.05


def contrast_rows(kind: ContrastKind, labels: Sequence[str], sign: str = " - ") -> dict[str, FloatArray]:
    """Return named coefficients for the means of one group.

    Parameters
    ----------
    kind : str or mapping
        ``"pairwise"``, ``"revpairwise"``, ``"trt.vs.ctrl"`` (against the first), ``"consec"``, ``"eff"``
        (against the average), ``"poly"`` (orthogonal polynomials of the place in the order, in whole
        numbers), or coefficients by name: in the order of the means, or by their labels.
    labels : sequence of str
        The means.
    sign : str
        What stands between the labels of two means.

    Examples
    --------
    >>> contrast_rows("consec", ["a", "b", "c"])["c - b"].tolist()
    [0.0, -1.0, 1.0]
    >>> contrast_rows({"ends": {"a": -1, "c": 1}}, ["a", "b", "c"])["ends"].tolist()
    [-1.0, 0.0, 1.0]
    >>> contrast_rows("poly", ["a", "b", "c", "d"])["cubic"].tolist()
    [-1.0, 3.0, -3.0, 1.0]
    """
    k = len(labels)
    e = np.eye(k)
    if isinstance(kind, Mapping):
        return {str(name): _contrast(name, values, labels) for name, values in kind.items()}
    pairs = {
        "pairwise": [(i, j) for i in range(k) for j in range(i + 1, k)],
        "revpairwise": [(i, j) for i in range(k) for j in range(i)],
        "trt.vs.ctrl": [(i, 0) for i in range(1, k)],
        "consec": [(i, i - 1) for i in range(1, k)],
    }
    if kind == "eff":
        return {f"{label} effect": e[i] - 1.0 / k for i, label in enumerate(labels)}
    if kind == "poly":
        columns = polynomial(pd.RangeIndex(k)).matrix.T if k > 1 else np.zeros((0, 1))
        return {name: _whole(column) for name, column in zip(_DEGREES, columns)}
    if not isinstance(kind, str) or kind not in pairs:
        raise ParameterError(f"unknown contrasts {kind!r}; there are {', '.join([*pairs, 'eff', 'poly'])}, or a dict")
    return {f"{labels[i]}{sign}{labels[j]}": e[i] - e[j] for i, j in pairs[kind]}


def _whole(column: FloatArray) -> FloatArray:
    """Return multiples of a column that are whole numbers, nearly the smallest ones: R's ``poly.emmc``."""
    column = column / column[column > 0.01].min()
    while (gap := float(np.abs(column - np.round(column)).max())) > _NEARLY_WHOLE:
        column = column / gap
    return np.asarray(np.round(column) + 0.0)


def _contrast(name: str, values: Sequence[float] | Mapping[str, float], labels: Sequence[str]) -> FloatArray:
    """Return the coefficients of one contrast, (k,)."""
    if isinstance(values, Mapping):
        unknown = [str(label) for label in values if str(label) not in labels]
        if unknown:
            raise ParameterError(f"the contrast {name!r} names {list_some(unknown)}; the means are {list_some(labels)}")
        given = {str(label): value for label, value in values.items()}
        values = [given.get(label, 0.0) for label in labels]
    try:
        row = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"the contrast {name!r} must hold a number for each mean: {error}") from error
    if row.shape != (len(labels),):
        raise ParameterError(f"the contrast {name!r} has {row.size} coefficients; there are {len(labels)} means")
    return row


def interaction_kinds(kind: InteractionKind, specs: Sequence[str]) -> list[ContrastKind]:
    """Return the contrasts of each variable: the same for all, in their order, or by name.

    Raises
    ------
    ParameterError
        When there are not as many as variables.
    """
    if isinstance(kind, str):
        return [kind] * len(specs)
    listed: list[ContrastKind] = list(kind.values()) if isinstance(kind, Mapping) else list(kind)
    if len(listed) != len(specs) or (isinstance(kind, Mapping) and set(kind) != set(specs)):
        raise ParameterError(f"interaction= needs contrasts for each of {list_some(list(specs))}, or one name for all")
    return [kind[name] for name in specs] if isinstance(kind, Mapping) else listed


def interaction_rows(
    kinds: Sequence[ContrastKind], cells: pd.DataFrame, specs: Sequence[str]
) -> tuple[pd.DataFrame, FloatArray]:
    """Return contrasts of contrasts: their names by variable, and coefficients (r, means).

    The means are those of all combinations, the first variable varying fastest: the coefficients are
    Kronecker products.
    """
    rows = [contrast_rows(kind, level_texts(cells[name].drop_duplicates())) for kind, name in zip(kinds, specs)]
    if len(cells) != np.prod([cells[name].nunique() for name in specs]):
        raise ParameterError("interaction= needs all combinations of the variables; some do not occur (nested factors)")
    C = reduce(lambda slow, fast: np.kron(slow, fast), [np.array(list(r.values())) for r in reversed(rows)])
    combinations = [combination[::-1] for combination in product(*(list(r) for r in reversed(rows)))]
    heads = [f"{name}_{kind if isinstance(kind, str) else 'custom'}" for name, kind in zip(specs, kinds)]
    return pd.DataFrame(combinations, columns=heads), C


def level_texts(levels: pd.Series) -> list[str]:
    """Return levels as they stand in names."""
    return [f"{v:g}" if isinstance(v, float) else str(v) for v in levels]


def mean_labels(cells: pd.DataFrame, specs: Sequence[str]) -> list[str]:
    """Return a label per mean: its levels, those that look like numbers with the variable's name before."""
    parts = [[name + t if _is_number(t) else t for t in level_texts(cells[name])] for name in specs]
    return [" ".join(row) for row in zip(*parts)] if parts else ["overall"] * len(cells)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
