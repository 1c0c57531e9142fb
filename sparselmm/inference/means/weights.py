"""How the cells of the reference grid count: equally or as often as they occur, nested factors within their own.

A factor is nested in others when each of its levels occurs with one combination of theirs. A mean over it is
taken over the levels that occur there: the other cells of the grid exist in no data and no model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from sparselmm._typing import FloatArray
from sparselmm.exceptions import ParameterError
from sparselmm.inference.means.grid import Grid

WEIGHTS = ("equal", "proportional", "cells")
COMPLETE = 1e-8  # by how much the weights of a mean may miss one

Nesting = dict[str, tuple[str, ...]]


def check_weights(weights: str) -> str:
    """Return the name of a way to weight, or raise `ParameterError`."""
    if weights not in WEIGHTS:
        raise ParameterError(f"unknown weights {weights!r}; there are {', '.join(WEIGHTS)}")
    return weights


def find_nesting(grid: Grid, counts: FloatArray) -> Nesting:
    """Return for each nested factor the factors in which it lies, as the rows of the data show.

    Of two factors with the same grouping the first is nested in the second.
    """
    factors = [name for name in grid.averaged if grid.axes[name].factor]
    found: Nesting = {}
    for inner in factors:
        outer = [
            name
            for name in factors
            if name != inner and inner not in found.get(name, ()) and _lies_in(grid, counts, inner, name)
        ]
        if outer:
            found[inner] = tuple(outer)
    return _closed(found)


def _lies_in(grid: Grid, counts: FloatArray, inner: str, outer: str) -> bool:
    pairs = np.unique(grid.key([inner, outer])[counts > 0])
    return len(pairs) == len(np.unique(grid.key([inner])[counts > 0]))


def given_nesting(nesting: str | Mapping[str, str | Sequence[str]], grid: Grid) -> Nesting:
    """Return the nesting that the user gives: ``{"strain": "geno"}`` or ``"strain %in% geno"``; empty for none.

    Raises
    ------
    ParameterError
        For names that are no factors of the grid.
    """
    if isinstance(nesting, str):
        parts = [part.split("%in%") for part in nesting.split(",") if part.strip()]
        if any(len(part) != 2 for part in parts):
            raise ParameterError(f"nesting={nesting!r} must be like 'strain %in% geno' or {{'strain': 'geno'}}")
        nesting = {inner.strip(): re.split(r"[\s*:+]+", outer.strip()) for inner, outer in parts}
    found = {str(k): (v,) if isinstance(v, str) else tuple(map(str, v)) for k, v in nesting.items()}
    for name in (n for inner, outer in found.items() for n in (inner, *outer)):
        if name not in grid.axes or not grid.axes[name].factor:
            known = ", ".join(n for n, axis in grid.axes.items() if axis.factor)
            raise ParameterError(f"nesting= names {name!r}, which is no factor of the fixed part; these are {known}")
    return _closed(found)


def _closed(nesting: Nesting) -> Nesting:
    """Return the nesting with the factors in which the outer ones lie in their turn; no factor in itself."""
    out = {}
    for inner, outer in nesting.items():
        all_of = dict.fromkeys([*(n for name in outer for n in nesting.get(name, ())), *outer])
        if inner not in all_of:
            out[inner] = tuple(all_of)
    return out


def occurs(grid: Grid, counts: FloatArray, nesting: Nesting, shown: Sequence[str]) -> FloatArray:
    """Return which cells have shown levels that occur together, as far as these are nested, (N,) of 0 and 1."""
    keep = np.ones(len(grid))
    for name in (n for n in shown if n in nesting):
        keep *= grid.summed(counts, [name, *nesting[name]]) > 0
    return keep


def cell_weights(grid: Grid, counts: FloatArray, nesting: Nesting, shown: Sequence[str], weights: str) -> FloatArray:
    """Return the weight of each cell in the mean of its shown combination, (N,).

    One factor is averaged after the other, those nested most deeply first, within the factors in which they lie;
    all others at once. ``"proportional"`` weights by how often the levels averaged occur in all rows,
    ``"cells"`` by how often they occur in the combination shown.
    """
    if weights == "cells":
        return _shares(counts, grid.summed(counts, shown))
    out, left = np.ones(len(grid)), [name for name in grid.axes if name not in shown]
    while left:
        nested = sorted((n for n in left if n in nesting), key=lambda n: -len(nesting[n]))
        within = dict.fromkeys([*nesting[nested[0]], *nested[1:]]) if nested else {}
        now = [name for name in left if name not in within]
        out *= _step(grid, counts, now, list(within), nested[:1], weights)
        left = [name for name in left if name in within]
    return out


def _step(
    grid: Grid, counts: FloatArray, now: Sequence[str], within: Sequence[str], nested: Sequence[str], weights: str
) -> FloatArray:
    """Return weights of the levels averaged now, which sum to one for each combination of ``within``, (N,)."""
    size: FloatArray
    if weights == "proportional":
        size = grid.summed(counts, [*now, *within])
    else:
        size = (grid.summed(counts, [*nested, *within]) > 0).astype(np.float64) if nested else np.ones(len(grid))
    cells = np.prod([len(grid.axes[name].levels) for name in (*now, *within)], dtype=np.float64)
    return _shares(size, grid.summed(size, within) * cells / len(grid))


def _shares(part: FloatArray, whole: FloatArray) -> FloatArray:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
