"""From a parsed formula and a table to the design."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._typing import FloatArray, IntArray, frozen
from sparselmm.data.assemble import RowData, assemble, check_weights
from sparselmm.data.design import Design
from sparselmm.data.encoding.contrasts import check_contrasts
from sparselmm.data.encoding.encoding import EncodingSpec, TermEncoding
from sparselmm.data.encoding.evaluate import Evaluator, numeric
from sparselmm.data.encoding.grouping import GroupingEncoding, learn_grouping
from sparselmm.data.encoding.matrices import MatrixEncoding, learn_matrix
from sparselmm.data.encoding.rules import RULES
from sparselmm.data.encoding.sizes import FIXED, check_size
from sparselmm.data.encoding.values import Value
from sparselmm.data.row_selection import UsedRows, check_na_action, missing_rows, usable_rows
from sparselmm.data.rows import GroupedTerm, ones_column
from sparselmm.data.tables.columns import Factor, describe_rows
from sparselmm.data.tables.frame import Frame, as_frame
from sparselmm.data.tables.labels import check_order
from sparselmm.data.tables.levels import check_names, check_numbers
from sparselmm.exceptions import DataError, DataWarning, Message, ParameterError, warn_user
from sparselmm.formula.algebra import TermList
from sparselmm.formula.grammar import parse_expression
from sparselmm.formula.nodes import Name, names
from sparselmm.formula.spec import ModelSpec

VectorInput = str | Sequence[float] | FloatArray | pd.Series | None


@dataclass(frozen=True)
class _Inputs:
    """All values the model uses, on all rows of the data."""

    y: FloatArray
    variables: dict[str, Value]
    factors: dict[str, Factor]
    weights: FloatArray | None
    offset: FloatArray | None

    def named(self, response: str) -> list[tuple[str, Value]]:
        """Return everything with a name for messages."""
        listed: list[tuple[str, Value]] = [(f"the response {response}", self.y)]
        listed += [(text, value) for text, value in self.variables.items()]
        listed += [(text, value) for text, value in self.factors.items() if text not in self.variables]
        listed += [
            (name, value) for name, value in (("weights", self.weights), ("offset", self.offset)) if value is not None
        ]
        return listed


def build_design(
    spec: ModelSpec,
    data: Any,
    *,
    weights: VectorInput = None,
    offset: VectorInput = None,
    contrasts: Mapping[str, Any] | None = None,
    na_action: str = "omit",
    context: Mapping[str, Any] | None = None,
    response: FloatArray | None = None,
) -> tuple[EncodingSpec, Design]:
    """Return the design of a model, and what later rows need to be encoded alike.

    Parameters
    ----------
    spec : ModelSpec
        The parsed formula.
    data : table
        pandas or polars DataFrame, Arrow table, or dict of columns.
    weights, offset : str or (n,) array, optional
        Prior weights (rows with weight zero are left out) and an offset, added to those in
        the formula: a column name or one value per row of the data.
    contrasts : dict, optional
        Coding of factors in the fixed part: ``"treatment"``, ``"sum"``, ``"helmert"``,
        ``"poly"`` or a matrix (levels, columns). As in lme4, random terms keep treatment
        contrasts.
    na_action : {"omit", "exclude", "fail"}
        What happens to rows with missing values.
    context : mapping, optional
        Names and functions the formula may use besides the columns.
    response : (rows of the data,) array, optional
        In place of the formula's response; NaN where it is missing.

    Raises
    ------
    DataError
        When the data do not fit the formula.
    DesignError
        When the model cannot be estimated from the data.
    """
    check_na_action(na_action)
    frame = as_frame(data)
    if len(frame) == 0:
        raise DataError("the data have no rows")
    evaluator = Evaluator(frame, context, {})
    fixed, sides = spec.fixed, [term.lhs for term in spec.random]
    own = evaluator.variable(spec.response) if response is None else response
    y = numeric(own, f"the response {spec.response}")
    inputs = _gather(spec, evaluator, [fixed, *sides], y, (weights, offset))
    _warn_about_gaps([spec.response] if response is None else [], inputs.variables, evaluator)
    texts = _check_texts(inputs.variables)
    rows, messages = usable_rows(inputs.named(spec.response), inputs.weights, frame.index, na_action)
    values = {text: rows.take_value(value) for text, value in inputs.variables.items()}
    X, fixed_encoding = _fixed_matrix(spec, values, len(rows), contrasts)
    encodings, terms = _random_terms(spec, sides, inputs.factors, values, rows)
    messages += [*texts, *_check_names(values, encodings, inputs)]
    plain = RowData(rows, frame.index, na_action, spec.response, inputs.y, inputs.weights, inputs.offset)
    kept, design = assemble(plain, X, fixed_encoding.columns, terms, fixed.intercept, messages)
    kinds = evaluator.learned_kinds()
    encoding = EncodingSpec(
        spec, fixed_encoding, tuple(kept), encodings, kinds, evaluator.state, dict(context or {}), na_action
    )
    return encoding, design


def _gather(
    spec: ModelSpec,
    evaluator: Evaluator,
    sides: list[TermList],
    y: FloatArray,
    given: tuple[VectorInput, VectorInput],
) -> _Inputs:
    """Evaluate everything the model uses on all rows, as R does before it drops any."""
    frame, (weights, offset) = evaluator.frame, given
    texts = dict.fromkeys(text for terms in sides for term in terms.terms for text in term)
    variables: dict[str, Value] = {text: evaluator.variable(text) for text in texts}
    factors: dict[str, Factor] = {text: evaluator.grouping(text) for term in spec.random for text in term.grouping}
    offsets = [numeric(evaluator.variable(text), f"offset({text})") for text in spec.offsets]
    shift = _vector(offset, "offset", frame)
    if shift is not None:
        offsets.append(shift)
    prior = _vector(weights, "weights", frame)
    check_weights(prior, frame.index)
    total = np.asarray(sum(offsets), dtype=np.float64) if offsets else None
    return _Inputs(y, variables, factors, prior, total)


def _vector(given: VectorInput, what: str, frame: Frame) -> FloatArray | None:
    """Return ``weights=`` or ``offset=`` as one number per row."""
    if given is None:
        return None
    if isinstance(given, str):
        if given not in frame:
            raise DataError(f"{what}={given!r} is not a column of the data; {frame.suggestion(given)}")
        return numeric(frame.column(given), f"the column {given!r} used as {what}")
    check_order(given, frame.index, what)
    try:
        values = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{what} must be a column name or one number per row: {error}") from error
    if values.shape != (len(frame),):
        raise DataError(f"{what} has shape {values.shape}; it needs one value for each of the {len(frame)} rows")
    return values


def _warn_about_gaps(response: list[str], variables: dict[str, Value], evaluator: Evaluator) -> None:
    """Warn when an expression has no value although its columns have one, as for log(-1)."""
    frame = evaluator.frame
    for text in dict.fromkeys([*response, *variables]):
        node = parse_expression(text)
        if isinstance(node, Name):
            continue
        missing = missing_rows(evaluator.variable(text))
        for column in names(node) if missing.any() else ():
            if column in frame:
                missing &= frame.series(column).notna().to_numpy()
        if missing.any():
            rows = describe_rows(np.flatnonzero(missing), frame.index)
            what = f"{text} has no value in {rows}, although its columns have; these rows are left out"
            warn_user(what, DataWarning)


def _check_texts(variables: dict[str, Value]) -> list[Message]:
    """Return messages about columns of numbers that became factors, because some entries could not be read."""
    factors = [(text, value) for text, value in variables.items() if isinstance(value, Factor)]
    return _warned(message for text, factor in factors for message in check_numbers(text, factor))


def _check_names(values: dict[str, Value], encodings: tuple[TermEncoding, ...], inputs: _Inputs) -> list[Message]:
    """Return messages about levels, of the rows used, that differ only by blanks or case."""
    levels = {text: value.levels for text, value in values.items() if isinstance(value, Factor)}
    for grouping in (term.grouping for term in encodings):
        single = len(grouping.factors) == 1
        # what is not text may have levels without rows
        parts = [(grouping.factors[i], part) for i, part in grouping.separate()]
        levels |= {text: part for text, part in parts if single or inputs.factors[text].text}
    return _warned(message for text, known in levels.items() for message in check_names(text, known))


def _warned(messages: Iterable[Message]) -> list[Message]:
    listed = list(messages)
    for message in listed:
        warn_user(message, DataWarning)
    return listed


def _fixed_matrix(
    spec: ModelSpec, values: dict[str, Value], n: int, contrasts: Mapping[str, Any] | None
) -> tuple[FloatArray, MatrixEncoding]:
    terms = spec.fixed
    asked = check_contrasts(contrasts)
    present = {variable for term in terms.terms for variable in term}
    for name in asked:
        if name not in present:
            called = [text for text in present if name in names(parse_expression(text))]
            hint = f"; the name there is {called[0]!r}" if called else ""
            warn_user(f"contrasts for {name!r} are ignored: it is not in the fixed part{hint}", DataWarning)
        elif not isinstance(values[name], Factor):
            raise ParameterError(f"contrasts were given for {name!r}, which is numeric; use factor({name})")
    check_size(terms, values.__getitem__, n, FIXED, asked)
    rules, titles = RULES[spec.rules], dict(spec.spellings)
    encoding = learn_matrix(terms, values.__getitem__, asked, FIXED, rules, titles)
    return encoding.build(values.__getitem__, n), encoding


def _random_terms(
    spec: ModelSpec, sides: list[TermList], factors: dict[str, Factor], values: dict[str, Value], rows: UsedRows
) -> tuple[tuple[TermEncoding, ...], tuple[GroupedTerm, ...]]:
    """Return the random terms by decreasing number of levels, ties in formula order."""
    groupings: dict[tuple[str, ...], tuple[GroupingEncoding, IntArray]] = {}
    matrices: dict[TermList, tuple[MatrixEncoding, FloatArray]] = {}
    rules, titles = RULES[spec.rules], dict(spec.spellings)
    for term, side in zip(spec.random, sides):
        if term.grouping not in groupings:
            parts = [rows.take_factor(factors[text]) for text in term.grouping]
            learned, codes = learn_grouping(term.grouping, term.label, parts)
            # a view is one of the caller's codes
            groupings[term.grouping] = learned, frozen(codes if codes.base is None else codes.copy())
        if term.lhs not in matrices:
            where = f"the random term {term.source}"
            check_size(side, values.__getitem__, len(rows), where)
            encoding = learn_matrix(side, values.__getitem__, {}, where, rules, titles)
            matrices[term.lhs] = encoding, _left_side(encoding, values, len(rows))
    order = sorted(range(len(sides)), key=lambda i: -len(groupings[spec.random[i].grouping][0].levels))
    encodings, designed = [], []
    counts: Counter[str] = Counter()
    for i in order:
        term = spec.random[i]
        grouping, codes = groupings[term.grouping]
        matrix, Z = matrices[term.lhs]
        name = term.label if not counts[term.label] else f"{term.label}.{counts[term.label]}"
        counts[term.label] += 1
        encodings.append(TermEncoding(name, term.structure, grouping, matrix, term.source))
        designed.append(GroupedTerm(name, term.label, term.structure, matrix.columns, grouping.levels, codes, Z))
    return tuple(encodings), tuple(designed)


def _left_side(encoding: MatrixEncoding, values: dict[str, Value], n: int) -> FloatArray:
    """Return the matrix of a random term, (n, k), read-only."""
    if encoding.intercept and not encoding.terms:
        return ones_column(n)
    Z: FloatArray = frozen(encoding.build(values.__getitem__, n))
    return Z
