"""Levels of two sets of rows together, and the numbers that each level has among them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sparselmm._typing import IntArray


def union(first: pd.Index, second: pd.Index) -> tuple[pd.Index, IntArray, IntArray]:
    """Return all levels, and where those of each set are among them.

    Two sorted sets give a sorted one. Levels in an order of their own (categories) keep the order of the first set;
    a new level of the second stands after the level it follows there.

    Examples
    --------
    >>> levels, a, b = union(pd.Index(["a", "c"]), pd.Index(["b", "c"]))
    >>> list(levels), a.tolist(), b.tolist()
    (['a', 'b', 'c'], [0, 2], [1, 2])
    """
    if first is second or first.equals(second):
        same = np.arange(len(first))
        return first, same, same
    levels = first.union(second, sort=False)
    if _is_sorted(first) and _is_sorted(second):
        levels = levels.sort_values()
    else:
        levels = _after_predecessors(first, second)
    return levels, levels.get_indexer(first), levels.get_indexer(second)


def _is_sorted(levels: pd.Index) -> bool:
    return not isinstance(levels, pd.CategoricalIndex) and bool(levels.is_monotonic_increasing)


def _after_predecessors(first: pd.Index, second: pd.Index) -> pd.Index:
    """Return the first levels with the new ones of the second, each after the level before it there."""
    known = first.get_indexer(second)
    new = np.flatnonzero(known < 0)
    before = np.maximum.accumulate(np.where(known < 0, -1, np.arange(len(second))))
    place = np.where(before[new] < 0, -1, known[before[new]])
    order = np.argsort(np.concatenate([np.arange(len(first)), place + 0.5]), kind="stable")
    joined: pd.Index = first.append(second[new])[order]
    return joined
