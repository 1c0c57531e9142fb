"""Rows to predict for: which random effects count, and the rows as the model sees them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from sparselmm._typing import BoolArray, FloatArray
from sparselmm.data import EncodingSpec
from sparselmm.data.encoding.encoding import TermEncoding
from sparselmm.data.encoding.evaluate import numeric
from sparselmm.data.formulas import parse_formula
from sparselmm.data.rows import GroupedTerm, Rows
from sparselmm.data.tables.columns import describe_rows, list_some
from sparselmm.data.tables.frame import Frame, as_frame
from sparselmm.data.tables.labels import check_order
from sparselmm.exceptions import DataError, FormulaError, ParameterError
from sparselmm.formula.algebra import TermList
from sparselmm.inference.predict.error_variance import MatrixPart, Part, TermPart

NO_EFFECTS = ("~0", "~-1", "na")
Selection = tuple[BoolArray, ...]


@dataclass(frozen=True)
class EncodedRows:
    """A chunk of rows.

    Attributes
    ----------
    X : (n, p) array
        Fixed-effects matrix; NaN where a variable is missing.
    shift : (n,) array
        Sum of the offsets.
    parts : tuple of TermPart, MatrixPart or None
        For each term its rows; None where they were not asked for. In a `TermPart`, -1 marks a
        level that was not seen (or a missing one, see ``missing``).
    missing : (n,) bool array
        Rows that lack the grouping factor of a term that counts.
    index : pandas.Index
        Labels of the rows.
    """

    X: FloatArray
    shift: FloatArray
    parts: tuple[Part | None, ...]
    missing: BoolArray
    index: pd.Index

    def __len__(self) -> int:
        return len(self.X)


def table_chunks(table: Any, chunk_rows: int) -> tuple[pd.Index, Iterator[Frame]]:
    """Return a table's row labels, and its pieces of at most ``chunk_rows`` rows, none a copy of the whole."""
    if type(table).__name__ == "LazyFrame":
        table = table.collect()
    whole = as_frame(table)
    n = len(whole)
    if n <= chunk_rows or isinstance(table, Frame):
        return whole.index, iter([whole])
    return whole.index, (as_frame(_piece(table, a, min(a + chunk_rows, n))) for a in range(0, n, chunk_rows))


def _piece(table: Any, a: int, b: int) -> Any:
    if isinstance(table, pd.DataFrame):
        return table.iloc[a:b]
    if isinstance(table, Mapping):
        return {name: values.iloc[a:b] if isinstance(values, pd.Series) else values[a:b]
                for name, values in table.items()}  # fmt: skip
    return table.slice(a, b - a)


# --- which random effects count ----------------------------------------------------------------


def select_effects(re_form: Any, encoding: EncodingSpec | None, sizes: tuple[int, ...]) -> Selection:
    """Return for each term which of its k coefficients count.

    Parameters
    ----------
    re_form : None, str or NaN
        None for all random effects, ``"~0"``, ``"NA"`` or NaN for none, or a one-sided formula with
        random terms of the model, for example ``"~(1 | g)"``.
    encoding : EncodingSpec or None
        Of the model; without one (a model made from arrays) only all or none can be chosen.
    sizes : tuple of int
        k of each term.
    """
    if re_form is None:
        return tuple(np.ones(k, dtype=np.bool_) for k in sizes)
    chosen = tuple(np.zeros(k, dtype=np.bool_) for k in sizes)
    if isinstance(re_form, float) and np.isnan(re_form):
        return chosen
    if not isinstance(re_form, str):
        raise ParameterError(f"re_form must be None, '~0' or a formula such as '~(1 | g)', not {re_form!r}")
    if "".join(re_form.split()).casefold() in NO_EFFECTS:
        return chosen
    if encoding is None:
        raise ParameterError("a model made from arrays has no formula: re_form can be None (all) or '~0' (none)")
    if not re_form.strip().startswith("~"):
        raise ParameterError(f"re_form must be None, '~0' or a one-sided formula such as '~(1 | g)', not {re_form!r}")
    asked = parse_formula(f"y {re_form.strip()}")
    if asked.fixed.terms or asked.offsets:
        raise FormulaError(f"re_form {re_form!r} may hold random terms only, such as '~(1 | g)'")
    for term in asked.random:
        same = [i for i, t in enumerate(encoding.terms) if set(t.grouping.factors) == set(term.grouping)]
        if not same:
            labels = ", ".join(dict.fromkeys(t.label for t in encoding.terms))
            raise FormulaError(f"re_form: the model has no random term for {term.label!r}; it has: {labels}")
        for position, found in _columns_asked(term.lhs, [encoding.terms[i] for i in same], term.source):
            chosen[same[position]][found] = True
    return chosen


def _columns_asked(asked: TermList, terms: list[TermEncoding], source: str) -> Iterator[tuple[int, list[int]]]:
    """Yield the terms and columns that the left side of one bar stands for."""
    for position, term in enumerate(terms):
        mine = {frozenset(b.variable for b in product) for product in term.lhs.terms}
        if asked.intercept == term.lhs.intercept and {frozenset(t) for t in asked.terms} == mine:
            yield position, list(range(len(term.lhs.columns)))
            return
    wanted: list[tuple[str, ...]] = ([()] if asked.intercept else []) + list(asked.terms)
    for variables in wanted:
        found = [(i, c) for i, term in enumerate(terms) if (c := _positions(term, frozenset(variables), asked))]
        if not found:
            what = ":".join(variables) or "the intercept"
            have = ", ".join(name for term in terms for name in term.lhs.columns)
            raise FormulaError(f"re_form: {what} of {source} is not a random effect of the model, which has: {have}")
        yield from found


def _positions(term: TermEncoding, variables: frozenset[str], asked: TermList) -> list[int]:
    """Return the columns of a product of variables; factors must be coded as in the model."""
    start = int(term.lhs.intercept)
    if not variables:
        return [0] if start else []
    for product in term.lhs.terms:
        width = int(np.prod([len(block.suffixes) for block in product]))
        if frozenset(block.variable for block in product) == variables:
            coded = any(block.levels is not None for block in product)
            return [] if coded and asked.intercept != term.lhs.intercept else list(range(start, start + width))
        start += width
    return []


# --- rows of new data ---------------------------------------------------------------------------


def encode_rows(
    encoding: EncodingSpec, frame: Frame, selection: Selection, allow_new_levels: bool, all_terms: bool
) -> EncodedRows:
    """Return new data as the model sees them.

    Parameters
    ----------
    encoding : EncodingSpec
        Of the model.
    frame : Frame
        The rows.
    selection : tuple of bool arrays
        Which coefficients count.
    allow_new_levels : bool
        Whether levels that were not seen are let through.
    all_terms : bool
        Whether the left sides of terms that do not count are needed too; their grouping factors never are.

    Raises
    ------
    DataError
        For absent columns and, unless allowed, new levels, which it names.
    """
    n = len(frame)
    parts: list[Part | None] = []
    missing, unseen = np.zeros(n, dtype=np.bool_), {}
    for i, chosen in enumerate(selection):
        if chosen.any():
            rows = encoding.apply_term(i, frame)
            # the level of a row without one is a new one, too
            missing |= rows.missing & (not allow_new_levels)
            if rows.unseen:
                unseen[encoding.terms[i].label] = rows.unseen
            parts.append(TermPart(rows.codes, rows.Z))
        elif all_terms:
            parts.append(TermPart(np.full(n, -1, dtype=np.int64), encoding.apply_lhs(i, frame)))
        else:
            parts.append(None)
    if unseen and not allow_new_levels:
        named = "; ".join(f"{label}: {list_some(levels)}" for label, levels in unseen.items())
        raise DataError(
            f"the new data have levels that the model has not seen ({named}); "
            "allow_new_levels=True predicts for them with a random effect of zero"
        )
    shift = encoding.apply_offset(frame)
    X = encoding.apply_fixed(frame) if encoding.fixed.columns else np.zeros((n, 0))
    return EncodedRows(X, np.zeros(n) if shift is None else shift, tuple(parts), missing, frame.index)


def own_rows(observed: Rows) -> EncodedRows:
    """Return the rows of a fit."""
    parts = tuple(
        TermPart(t.codes, t.Z) if isinstance(t, GroupedTerm) else MatrixPart(t.matrix) for t in observed.terms
    )
    shift = np.zeros(observed.n) if observed.offset is None else observed.offset
    return EncodedRows(observed.X, shift, parts, np.zeros(observed.n, dtype=np.bool_), observed.index)


class RowVector:
    """Weights or an offset for new rows: the name of a column, one number, or one number per row.

    Parameters
    ----------
    given : str, number or (n,) array
        As the caller gave it.
    what : str
        Its name for messages.
    index : pandas.Index
        Labels of the n new rows.
    """

    def __init__(self, given: str | npt.ArrayLike, what: str, index: pd.Index) -> None:
        self._what, n = what, len(index)
        check_order(given, index, what, "newdata")
        self._column = given if isinstance(given, str) else None
        if self._column is None:
            try:
                values = np.asarray(given, dtype=np.float64)
            except (TypeError, ValueError) as error:
                raise DataError(f"{what} must be a column name, a number or one number per row: {error}") from error
            if values.shape not in ((), (n,)):
                raise DataError(f"{what} has shape {values.shape}; the new data have {n} rows")
            self._values = np.broadcast_to(values, (n,))

    def take(self, frame: Frame, start: int) -> FloatArray:
        """Return the values of a chunk that begins at row ``start``."""
        name = self._column
        if name is None:
            return self._values[start : start + len(frame)]
        if name not in frame:
            raise DataError(f"the new data need the column {name!r} ({self._what}); {frame.suggestion(name)}")
        return numeric(frame.column(name), f"the column {name!r} used as {self._what}")


def check_positive(weights: FloatArray, index: pd.Index) -> FloatArray:
    """Refuse weights that are zero or negative; missing ones are let through."""
    bad = np.flatnonzero(weights <= 0)
    if len(bad):
        raise DataError(f"weights of new observations must be positive: {describe_rows(bad, index)}")
    return weights
