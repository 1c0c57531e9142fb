"""Solvers of the penalized system and their registry."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sparselmm.exceptions import ParameterError
from sparselmm.linalg.blocks import BlockGram
from sparselmm.linalg.cholmod import CholmodSystem
from sparselmm.linalg.schur import SchurSystem, eliminable_terms
from sparselmm.linalg.system import PenalizedSystem

SYSTEMS: dict[str, Callable[[BlockGram], PenalizedSystem]] = {
    CholmodSystem.name: CholmodSystem,
    SchurSystem.name: SchurSystem,
}

SMALL_SCHUR = 300
LARGE_SCHUR = 20_000
SPARSE_SHARE = 0.1


def choose_system(gram: BlockGram) -> str:
    """Return the name of the system expected to be fastest for the pattern of Z'WZ."""
    first = eliminable_terms(gram)
    rest = [t for t in range(len(gram.m)) if t not in first]
    q2 = int(sum(gram.sizes[t] for t in rest))
    if not first or q2 > LARGE_SCHUR:
        return CholmodSystem.name
    if q2 <= SMALL_SCHUR:
        return SchurSystem.name
    per_level = np.zeros(gram.m[first[0]])
    for j in rest:
        pair = gram.pairs[max(first[0], j), min(first[0], j)]
        levels = pair.rows if first[0] > j else pair.cols
        per_level += gram.k[j] * np.bincount(levels, minlength=len(per_level))
    filled = float((per_level**2).sum())
    return SchurSystem.name if filled > SPARSE_SHARE * q2 * q2 else CholmodSystem.name


def make_system(gram: BlockGram, name: str | None = None) -> PenalizedSystem:
    """Return the named system for Z'WZ, or the one `choose_system` picks."""
    name = name or choose_system(gram)
    if name not in SYSTEMS:
        raise ParameterError(f"unknown solver {name!r}; there are {', '.join(SYSTEMS)}")
    return SYSTEMS[name](gram)


__all__ = ["SYSTEMS", "BlockGram", "CholmodSystem", "PenalizedSystem", "SchurSystem", "choose_system", "make_system"]
