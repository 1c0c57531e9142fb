"""What is learned from the data once, so that new rows can be encoded in the same way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._typing import BoolArray, FloatArray, IntArray
from sparselmm.data.encoding.evaluate import Evaluator, numeric
from sparselmm.data.encoding.grouping import GroupingEncoding, learn_grouping
from sparselmm.data.encoding.matrices import Block, MatrixEncoding, recode
from sparselmm.data.encoding.values import Columns, State, Value
from sparselmm.data.tables.columns import Factor, is_missing
from sparselmm.data.tables.frame import Frame, as_frame
from sparselmm.data.tables.matching import check_types, kind_of_levels
from sparselmm.exceptions import DataError
from sparselmm.formula.spec import ModelSpec


@dataclass(frozen=True)
class TermEncoding:
    """One random term: its grouping factor and the matrix of its left side."""

    name: str
    structure: str
    grouping: GroupingEncoding
    lhs: MatrixEncoding
    source: str

    @property
    def label(self) -> str:
        """Grouping label."""
        return self.grouping.label


@dataclass(frozen=True)
class TermRows:
    """Rows of new data as one random term sees them.

    Attributes
    ----------
    codes : (n,) int array
        Level of each row; -1 where the level was not seen or is missing.
    Z : (n, k) array
        Values that multiply the coefficients; NaN where a variable is missing.
    missing : (n,) bool array
        Rows without a value of the grouping factor (those with -1 but not here have new levels).
    unseen : tuple of str
        The new levels.
    """

    codes: IntArray
    Z: FloatArray
    missing: BoolArray
    unseen: tuple[str, ...]


@dataclass(frozen=True)
class EncodingSpec:
    """Everything learned from the data that later rows need.

    Attributes
    ----------
    spec : ModelSpec
        The formula.
    fixed : MatrixEncoding
        The fixed-effects matrix before dependent columns were dropped.
    kept : tuple of int
        Positions of the columns kept.
    terms : tuple of TermEncoding
        Random terms in the order of the design.
    kinds : mapping
        ``"numeric"`` or ``"factor"`` for every column of the data that is used.
    state : mapping
        What transforms remember, by the text of the call.
    context : mapping
        The caller's names and functions.
    na_action : str
        Rule for missing values.
    """

    spec: ModelSpec
    fixed: MatrixEncoding
    kept: tuple[int, ...]
    terms: tuple[TermEncoding, ...]
    kinds: Mapping[str, str]
    state: Mapping[str, State]
    context: Mapping[str, Any] = field(default_factory=dict)
    na_action: str = "omit"

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the p columns kept."""
        return tuple(self.fixed.columns[j] for j in self.kept)

    @property
    def dropped_columns(self) -> tuple[str, ...]:
        """Names of the columns dropped for rank deficiency."""
        kept = set(self.kept)
        return tuple(name for j, name in enumerate(self.fixed.columns) if j not in kept)

    def apply_fixed(self, newdata: Any) -> FloatArray:
        """Return the rows of X for new data, (n, p); NaN where a variable is missing.

        Raises
        ------
        DataError
            When a column is absent, changed its type, or has a level not seen before.
        """
        return self._matrix(self._evaluator(newdata), self.fixed)[:, list(self.kept)]

    def apply_offset(self, newdata: Any) -> FloatArray | None:
        """Return the sum of the formula's offsets for new data, (n,), or None without any."""
        evaluator = self._evaluator(newdata)
        values = [numeric(evaluator.variable(text), f"offset({text})") for text in self.spec.offsets]
        return np.asarray(sum(values), dtype=np.float64) if values else None

    def apply_response(self, newdata: Any) -> FloatArray:
        """Return the response of new data, (n,)."""
        return numeric(self._evaluator(newdata).variable(self.spec.response), f"the response {self.spec.response}")

    def apply_term(self, i: int, newdata: Any) -> TermRows:
        """Return new data as random term ``i`` (in the order of the design) sees them."""
        term = self.terms[i]
        evaluator = self._evaluator(newdata)
        factors = [evaluator.grouping(text) for text in term.grouping.factors]
        self._check_kinds(evaluator)
        codes = term.grouping.codes(factors)
        missing = np.logical_or.reduce([factor.codes < 0 for factor in factors])
        new = np.flatnonzero((codes < 0) & ~missing)
        for i, part in term.grouping.separate() if len(new) else ():
            check_types(term.grouping.factors[i], part, factors[i].drop_unused().levels)
        texts = (":".join(str(f.levels[f.codes[row]]) for f in factors) for row in new)
        return TermRows(codes, self._matrix(evaluator, term.lhs), missing, tuple(dict.fromkeys(texts)))

    def apply_lhs(self, i: int, newdata: Any) -> FloatArray:
        """Return the left side of random term ``i`` for new data, (n, k), without its grouping factor."""
        return self._matrix(self._evaluator(newdata), self.terms[i].lhs)

    def own_levels(self, i: int, newdata: Any) -> IntArray:
        """Return the level of random term ``i`` in each row of new data, (n,), numbered among these rows.

        Levels not seen before count like any other; -1 where the grouping factor is missing.
        """
        term = self.terms[i]
        evaluator = self._evaluator(newdata)
        factors = [evaluator.grouping(text) for text in term.grouping.factors]
        missing = np.logical_or.reduce([factor.codes < 0 for factor in factors])
        known = np.flatnonzero(~missing)
        codes = np.full(len(missing), -1, dtype=np.int64)
        codes[known] = learn_grouping(term.grouping.factors, term.label, [f.take(known) for f in factors])[1]
        return codes

    def r_names(self) -> dict[str, str]:
        """Return R's name of every fixed and random coefficient by the name used here."""
        return {
            name: r_name
            for matrix in (self.fixed, *(term.lhs for term in self.terms))
            for name, r_name in zip(matrix.columns, matrix.r_columns())
        }

    def _evaluator(self, newdata: Any) -> Evaluator:
        frame = as_frame(newdata)
        return Evaluator(frame, self.context, {key: dict(state) for key, state in self.state.items()}, self.kinds)

    def _matrix(self, evaluator: Evaluator, matrix: MatrixEncoding) -> FloatArray:
        blocks: dict[str, Block] = {block.variable: block for term in matrix.terms for block in term}
        values: dict[str, Value] = {}
        for text in blocks:
            values[text] = evaluator.variable(text)
        self._check_kinds(evaluator)
        values = {text: recode(value, blocks[text]) for text, value in values.items()}
        result = matrix.build(values.__getitem__, len(evaluator.frame))
        missing = any_missing(values.values(), len(evaluator.frame))
        if missing.any():
            result[missing] = np.nan
        return result

    def _check_kinds(self, evaluator: Evaluator) -> None:
        others = "text, categories or truth values"
        for name, kind in evaluator.learned_kinds().items():
            if self.kinds.get(name) != "numeric" or kind == "numeric" or _all_missing(evaluator.frame, name):
                continue
            if name in evaluator.used or kind_of_levels(evaluator.frame.grouping(name).levels) != "numbers":
                raise DataError(f"column {name!r} held numbers when the model was made, and is now {others}")


def _all_missing(frame: Frame, name: str) -> bool:
    return bool(pd.isna(frame.series(name)).all())


def any_missing(values: Iterable[Value], n: int) -> BoolArray:
    """Return which rows lack at least one of the values, (n,)."""
    missing = np.zeros(n, dtype=np.bool_)
    for value in values:
        missing |= np.isnan(value.block).any(axis=1) if isinstance(value, Columns) else is_missing(value)
    return missing


def r_names(columns: Iterable[str], encoding: EncodingSpec) -> dict[str, str]:
    """Return R's names of some coefficients: ``Intercept`` is ``(Intercept)``, ``f[T.b]`` is ``fb``."""
    known = encoding.r_names()
    return {name: known.get(name, name) for name in columns}


__all__ = ["EncodingSpec", "Factor", "TermEncoding", "TermRows", "any_missing", "r_names"]
