"""Vectors of level codes as long as the data: their type, and work on them in pieces without long temporaries."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from sparselmm._typing import AnyArray, BoolArray, IntArray

CHUNK_ROWS = 262_144


def chunks(n: int, size: int | None = None) -> Iterator[slice]:
    """Yield ranges of so many rows that cover 0 .. n - 1."""
    size = size or CHUNK_ROWS
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def code_type(levels: int) -> type[np.signedinteger]:
    """Return the type that codes of so many levels are kept in: int32 where that is enough."""
    return np.int32 if levels <= np.iinfo(np.int32).max else np.int64


def as_codes(values: AnyArray, levels: int) -> IntArray:
    """Return integers in the type of codes, the same array where it has that type."""
    out: IntArray = values.astype(code_type(levels), copy=False)
    return out


def looked_up(table: AnyArray, codes: IntArray) -> AnyArray:
    """Return ``table[codes]``, (n,); a code of -1 takes the last entry."""
    out = np.empty(len(codes), dtype=table.dtype)
    for rows in chunks(len(codes)):
        out[rows] = table[codes[rows]]
    return out


def levels_present(codes: IntArray, levels: int) -> BoolArray:
    """Return which levels some row has, (levels,); codes of -1 are left out."""
    seen = np.zeros(levels + 1, dtype=np.bool_)
    for rows in chunks(len(codes)):
        seen[codes[rows]] = True
    return seen[:levels]


def range_is_short(size: int, n: int) -> bool:
    """Whether a table of so many entries costs less than to hash or sort n values."""
    return size <= max(4 * n, 1024)


def compress(keys: AnyArray, size: int, low: int = 0) -> tuple[IntArray, IntArray]:
    """Return codes and the sorted distinct values, less ``low``, of integers in low .. low + size - 1.

    A lookup table is several times faster than hashing when the range is not much wider
    than the data are long.
    """
    if not range_is_short(size, len(keys)):
        codes, distinct = pd.factorize(keys, sort=False)
        order = np.argsort(distinct)
        rank = np.empty(len(order), dtype=code_type(len(order)))
        rank[order] = np.arange(len(order))
        return looked_up(rank, codes), _above(distinct[order], low)
    seen = np.zeros(size, dtype=np.bool_)
    for rows in chunks(len(keys)):
        seen[_above(keys[rows], low)] = True
    distinct = np.flatnonzero(seen)
    place = (np.cumsum(seen) - 1).astype(code_type(size))
    codes = np.empty(len(keys), dtype=code_type(len(distinct)))
    for rows in chunks(len(keys)):
        above = _above(keys[rows], low)
        codes[rows] = above if len(distinct) == size else place[above]
    return codes, distinct


def _above(values: AnyArray, low: int) -> IntArray:
    """Return values - low as int64, also where the values themselves do not fit."""
    if values.dtype == np.uint64:
        return (values - np.uint64(low)).astype(np.int64)
    out: IntArray = values.astype(np.int64)
    out -= low
    return out
