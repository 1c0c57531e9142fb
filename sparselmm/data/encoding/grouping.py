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
        Levels of each expression.
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
        for part, factor in zip(self.parts, factors):
            aligned.append(np.append(positions(part, factor.levels), -1)[factor.codes])
        keys = _combine(aligned, [len(part) for part in self.parts])
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        missing = np.logical_or.reduce([codes < 0 for codes in aligned])
        return np.where(missing | (self.keys[at] != keys), -1, at).astype(np.int64)


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
    parts = tuple(factor.levels for factor in factors)
    sizes = [len(part) for part in parts]
    if prod(sizes) >= 2**62:
        raise DataError(f"the grouping factor {label} has too many possible combinations ({prod(sizes):.0e})")
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
