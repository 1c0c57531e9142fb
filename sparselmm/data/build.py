"""From a parsed formula and a table to the design."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._typing import BoolArray, FloatArray, IntArray, frozen
from sparselmm.data.checks import check_response, check_scales, check_terms, drop_dependent
from sparselmm.data.columns import Factor, describe_rows, is_missing
from sparselmm.data.contrasts import check_contrasts
from sparselmm.data.design import Design, GroupedTerm
from sparselmm.data.encoding import EncodingSpec, TermEncoding
from sparselmm.data.evaluate import Evaluator, Value, numeric
from sparselmm.data.frame import Frame, as_frame
from sparselmm.data.grouping import GroupingEncoding, learn_grouping
from sparselmm.data.matrices import MatrixEncoding, learn_matrix
from sparselmm.data.transforms import Basis
from sparselmm.exceptions import DataError, DataWarning, Message, ParameterError
from sparselmm.formula.algebra import TermList, read_terms
from sparselmm.formula.grammar import parse_expression
from sparselmm.formula.nodes import Name, names
from sparselmm.formula.spec import ModelSpec

NA_ACTIONS = ("omit", "exclude", "fail")
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

    Raises
    ------
    DataError
        When the data do not fit the formula.
    DesignError
        When the model cannot be estimated from the data.
    """
    if na_action not in NA_ACTIONS:
        raise ParameterError(f"na_action must be one of {', '.join(NA_ACTIONS)}, not {na_action!r}")
    frame = as_frame(data)
    if len(frame) == 0:
        raise DataError("the data have no rows")
    evaluator = Evaluator(frame, context, {})
    fixed, sides = read_terms(spec.fixed), [read_terms(term.lhs) for term in spec.random]
    inputs = _gather(spec, evaluator, fixed, sides, weights, offset)
    rows, messages = _usable_rows(inputs, spec, frame, na_action)
    values = _take_values(inputs.variables, rows, len(frame))
    X, fixed_encoding = _fixed_matrix(fixed, values, len(rows), contrasts)
    kept, notes = drop_dependent(X, fixed_encoding.columns)
    messages += notes
    if notes:
        X = np.ascontiguousarray(X[:, kept])
    columns = tuple(fixed_encoding.columns[j] for j in kept)
    encodings, terms = _random_terms(spec, sides, inputs.factors, values, rows, len(frame))
    check_terms(terms, len(rows))
    y = _take(inputs.y, rows, len(frame))
    total = None if inputs.offset is None else _take(inputs.offset, rows, len(frame))
    check_response(y if total is None else y - total, X, fixed.intercept, spec.response)
    messages += check_scales(X, columns)
    design = Design(
        y=_own(y, inputs.y),
        X=frozen(X),
        columns=columns,
        weights=None if inputs.weights is None else _own(_take(inputs.weights, rows, len(frame)), inputs.weights),
        offset=None if total is None else frozen(total),
        terms=terms,
        index=frame.index if len(rows) == len(frame) else frame.index[rows],
        frame_index=frame.index,
        rows=frozen(rows),
        na_action=na_action,
        dropped_columns=tuple(name for j, name in enumerate(fixed_encoding.columns) if j not in set(kept)),
        response_name=spec.response,
        messages=tuple(messages),
    )
    encoding = EncodingSpec(
        spec, fixed_encoding, tuple(kept), encodings, evaluator.used, evaluator.state, dict(context or {}), na_action
    )
    return encoding, design


def _gather(
    spec: ModelSpec,
    evaluator: Evaluator,
    fixed: TermList,
    sides: list[TermList],
    weights: VectorInput,
    offset: VectorInput,
) -> _Inputs:
    """Evaluate everything the model uses on all rows, as R does before it drops any."""
    frame = evaluator.frame
    y = numeric(evaluator.variable(spec.response), f"the response {spec.response}")
    texts = dict.fromkeys(text for terms in (fixed, *sides) for term in terms.terms for text in term)
    variables = {text: evaluator.variable(text) for text in texts}
    factors = {text: evaluator.grouping(text) for term in spec.random for text in term.grouping}
    offsets = [numeric(evaluator.variable(text), f"offset({text})") for text in spec.offsets]
    given = _vector(offset, "offset", frame)
    if given is not None:
        offsets.append(given)
    prior = _vector(weights, "weights", frame)
    if prior is not None and (prior < 0).any():
        raise DataError(f"weights must not be negative: {describe_rows(np.flatnonzero(prior < 0), frame.index)}")
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
    if isinstance(given, pd.Series) and not given.index.equals(frame.index) and set(given.index) == set(frame.index):
        raise DataError(f"{what} has the rows of the data in another order; pass {what}.loc[data.index]")
    try:
        values = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{what} must be a column name or one number per row: {error}") from error
    if values.shape != (len(frame),):
        raise DataError(f"{what} has shape {values.shape}; it needs one value for each of the {len(frame)} rows")
    return values


def _usable_rows(inputs: _Inputs, spec: ModelSpec, frame: Frame, na_action: str) -> tuple[IntArray, list[Message]]:
    """Return the positions of complete rows with positive weight, and messages about the others."""
    n = len(frame)
    named = inputs.named(spec.response)
    missing_in = {name: missing for name, value in named if (missing := _missing(value)).any()}
    missing = np.zeros(n, dtype=np.bool_)
    for mask in missing_in.values():
        missing |= mask
    messages: list[Message] = []
    if missing.any():
        messages = _report_missing(missing, missing_in, frame, na_action)
    usable = ~missing
    if inputs.weights is not None and (inputs.weights == 0).any():
        zero = usable & (inputs.weights == 0)
        usable &= inputs.weights > 0
        what = f"{int(zero.sum())} of {n} rows have weight zero and are left out."
        messages.append(Message("zero_weights", "info", what))
    if not usable.any():
        reason = "; ".join(f"{name} is missing in {int(mask.sum())}" for name, mask in missing_in.items())
        raise DataError(f"none of the {n} rows can be used: {reason or 'all weights are zero'}")
    _check_finite(named, usable, frame)
    return np.flatnonzero(usable), messages


def _missing(value: Value) -> BoolArray:
    return np.isnan(value.values).any(axis=1) if isinstance(value, Basis) else is_missing(value)


def _report_missing(
    missing: BoolArray, missing_in: dict[str, BoolArray], frame: Frame, na_action: str
) -> list[Message]:
    rows = np.flatnonzero(missing)
    where = ", ".join(f"{name} ({int(mask.sum())})" for name, mask in missing_in.items())
    if na_action == "fail":
        raise DataError(
            f"{len(rows)} of {len(frame)} rows have missing values, in {where}: {describe_rows(rows, frame.index)}"
        )
    for name, mask in missing_in.items():
        _warn_about_new_gaps(name, mask, frame)
    what = f"{len(rows)} of {len(frame)} rows have missing values, in {where}: {describe_rows(rows, frame.index, 50)}."
    return [Message("rows_dropped", "info", what, "They are left out of the fit.")]


def _warn_about_new_gaps(name: str, missing: BoolArray, frame: Frame) -> None:
    """Warn when an expression has no value although its columns have one, as for log(-1)."""
    text = name.removeprefix("the response ")
    if text in frame or name in ("weights", "offset"):
        return
    node = parse_expression(text)
    if isinstance(node, Name):
        return
    present = missing.copy()
    for column in names(node):
        if column in frame:
            present &= ~is_missing(frame.column(column))
    if present.any():
        rows = describe_rows(np.flatnonzero(present), frame.index)
        warnings.warn(
            f"{text} has no value in {rows}, although its columns have; these rows are left out",
            DataWarning,
            stacklevel=2,
        )


def _check_finite(named: list[tuple[str, Value]], usable: BoolArray, frame: Frame) -> None:
    for name, value in named:
        if isinstance(value, Factor):
            continue
        plain = value.values if isinstance(value, Basis) else value
        infinite = np.isinf(plain)
        if infinite.ndim == 2:
            infinite = infinite.any(axis=1)
        infinite &= usable
        if infinite.any():
            raise DataError(f"{name} is infinite in {describe_rows(np.flatnonzero(infinite), frame.index)}")


def _take(values: FloatArray, rows: IntArray, n: int) -> FloatArray:
    return values if len(rows) == n else values[rows]


def _own(values: FloatArray, source: FloatArray) -> FloatArray:
    """Return a read-only array that shares no memory with the caller's data."""
    own = values.copy() if values is source else values
    own = np.ascontiguousarray(own)
    own.flags.writeable = False
    return own


def _take_values(variables: dict[str, Value], rows: IntArray, n: int) -> dict[str, Value]:
    """Return the values on the usable rows; factors lose the levels no row has."""
    taken: dict[str, Value] = {}
    for text, value in variables.items():
        if isinstance(value, Factor):
            taken[text] = (value if len(rows) == n else value.take(rows)).drop_unused()
        elif isinstance(value, Basis):
            taken[text] = value if len(rows) == n else Basis(value.values[rows], value.names)
        else:
            taken[text] = _take(value, rows, n)
    return taken


def _fixed_matrix(
    terms: TermList, values: dict[str, Value], n: int, contrasts: Mapping[str, Any] | None
) -> tuple[FloatArray, MatrixEncoding]:
    asked = check_contrasts(contrasts)
    for name in asked:
        if not isinstance(values.get(name), Factor):
            raise ParameterError(f"contrasts were given for {name!r}, which is not a factor of the fixed part")
    encoding = learn_matrix(terms, values.__getitem__, asked, "the fixed part")
    return encoding.build(values.__getitem__, n), encoding


def _random_terms(
    spec: ModelSpec, sides: list[TermList], factors: dict[str, Factor], values: dict[str, Value], rows: IntArray, n: int
) -> tuple[tuple[TermEncoding, ...], tuple[GroupedTerm, ...]]:
    """Return the random terms by decreasing number of levels, ties in formula order."""
    groupings: dict[tuple[str, ...], tuple[GroupingEncoding, IntArray]] = {}
    matrices: dict[str, tuple[MatrixEncoding, FloatArray]] = {}
    for term, side in zip(spec.random, sides):
        if term.grouping not in groupings:
            parts = [factors[text] if len(rows) == n else factors[text].take(rows) for text in term.grouping]
            groupings[term.grouping] = learn_grouping(term.grouping, term.label, parts)
        if term.lhs not in matrices:
            encoding = learn_matrix(side, values.__getitem__, {}, f"the random term {term.source}")
            matrices[term.lhs] = encoding, frozen(encoding.build(values.__getitem__, len(rows)))
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
        codes.flags.writeable = False
        designed.append(GroupedTerm(name, term.label, term.structure, matrix.columns, grouping.levels, codes, Z))
    return tuple(encodings), tuple(designed)
