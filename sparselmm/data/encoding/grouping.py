"""Grouping factors: the levels observed, and each row's level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import pandas as pd

from sparselmm._typing import IntArray
from sparselmm.data.tables.codes import compress
from sparselmm.data.tables.columns import Factor
from sparselmm.data.tables.matching import positions
from sparselmm.data.tables.texts import level_text
from sparselmm.exceptions import DataError

MOST_KEYS = 2**62  # combinations that have numbers


@dataclass(frozen=True)
class GroupingEncoding:
    """A grouping factor or the interaction of several, with the levels learned.

    Attributes
    ----------
    factors : tuple of str
        The expressions that interact.
    label : str
        lme4's label, for example ``"b:a"``.
    parts : tuple of pandas.Index
        Levels of each expression. Where all their combinations are too many to number, the first part has the
        observed combinations of several leading expressions, by name.
    keys : (m,) int array
        Observed combinations, coded with the last expression varying fastest; increasing.
    levels : pandas.Index
        The m levels; combinations are named ``"b1:a1"``.
    """

    factors: tuple[str, ...]
    label: str
    parts: tuple[pd.Index, ...]
    keys: IntArray
    levels: pd.Index

    def codes(self, factors: Sequence[Factor]) -> IntArray:
        """Return the level of each row of new data, -1 where it is missing or was not seen."""
        aligned = []
        leading = len(factors) - len(self.parts) + 1
        for part, factor in zip(self.parts, [_folded(self.label, factors[:leading]), *factors[leading:]]):
            aligned.append(np.append(positions(part, factor.levels), -1)[factor.codes])
        keys = _combine(aligned, [len(part) for part in self.parts])
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        missing = np.logical_or.reduce([codes < 0 for codes in aligned])
        return np.where(missing | (self.keys[at] != keys), -1, at).astype(np.int64)

    def separate(self) -> list[tuple[int, pd.Index]]:
        """Return the positions and levels of the expressions that are parts by themselves."""
        leading = len(self.factors) - len(self.parts)
        return [(i + leading, part) for i, part in enumerate(self.parts) if i or not leading]


def _combine(codes: Sequence[IntArray], sizes: Sequence[int]) -> IntArray:
    keys = codes[0].astype(np.int64)
    for code, size in zip(codes[1:], sizes[1:]):
        keys *= size
        keys += code
    return keys


def learn_grouping(
    expressions: tuple[str, ...], label: str, factors: list[Factor]
) -> tuple[GroupingEncoding, IntArray]:
    """Return the encoding of a grouping factor and the code of each row.

    Combinations of several factors are those observed, ordered as R orders ``a:b``: the
    last factor varies fastest.
    """
    if len(factors) == 1:
        factor = factors[0].drop_unused()
        keys = np.arange(len(factor.levels), dtype=np.int64)
        return GroupingEncoding(expressions, label, (factor.levels,), keys, factor.levels), factor.codes
    while prod(len(factor.levels) for factor in factors) >= MOST_KEYS and len(factors) > 1:
        # two by two only those that occur need numbers
        factors = [_folded(label, factors[:2]), *factors[2:]]
    parts = tuple(factor.levels for factor in factors)
    sizes = [len(part) for part in parts]
    codes, keys = compress(_combine([factor.codes for factor in factors], sizes), prod(sizes))
    encoding = GroupingEncoding(expressions, label, parts, keys, _combined_levels(parts, keys))
    return encoding, codes


def _combined_levels(parts: tuple[pd.Index, ...], keys: IntArray) -> pd.Index:
    columns: list[list[str]] = []
    for part in reversed(parts):
        keys, position = np.divmod(keys, len(part))
        texts = [level_text(level) for level in part]
        columns.append([texts[i] for i in position])
    return pd.Index([":".join(texts) for texts in zip(*reversed(columns))], dtype=object)


def _folded(label: str, factors: Sequence[Factor]) -> Factor:
    """Return the combinations of factors that occur as one factor, named and ordered as in an interaction."""
    out = factors[0]
    for factor in factors[1:]:
        known = (out.codes >= 0) & (factor.codes >= 0)
        parts = (out.levels, factor.levels)
        pairs = [f.codes[known] for f in (out, factor)]
        codes = np.full(len(known), -1, dtype=np.int64)
        codes[known], keys = compress(_combine(pairs, [len(part) for part in parts]), prod(map(len, parts)))
        levels = _combined_levels(parts, keys)
        if not levels.is_unique:
            twice = levels[levels.duplicated()][0]
            raise DataError(
                f"different combinations of {label} have the name {twice!r}; take the colons out of the levels"
            )
        out = Factor(codes, levels)
    return out
