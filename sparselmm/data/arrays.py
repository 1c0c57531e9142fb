"""A design from ready arrays, without a formula."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from sparselmm._typing import AnyArray, FloatArray, frozen
from sparselmm.covariance import STRUCTURES
from sparselmm.data.assemble import RowData, assemble, check_weights
from sparselmm.data.design import Design
from sparselmm.data.encoding.values import Columns, Value
from sparselmm.data.row_selection import UsedRows, check_na_action, own, usable_rows
from sparselmm.data.rows import DesignTerm, GroupedTerm, SparseTerm, is_ones_column, ones_column
from sparselmm.data.tables.codes import as_codes
from sparselmm.data.tables.columns import Factor, to_grouping
from sparselmm.data.tables.foreign import as_series, is_column
from sparselmm.data.tables.labels import check_order
from sparselmm.exceptions import DataError, ParameterError

_KEYS = frozenset({"groups", "Z", "matrix", "k", "name", "structure", "columns", "levels"})


def _length(term: DesignTerm) -> int:
    return len(term.codes) if isinstance(term, GroupedTerm) else int(term.matrix.shape[0])


def _values(term: DesignTerm) -> list[Value]:
    """Return what must be present and finite."""
    if not isinstance(term, GroupedTerm):
        return []
    codes = Factor(term.codes, term.levels)
    return [codes] if is_ones_column(term.Z) else [Columns(term.Z, ()), codes]


def design_from_arrays(
    y: Any,
    X: Any,
    terms: Sequence[Any],
    *,
    weights: Any = None,
    offset: Any = None,
    column_names: Sequence[str] | None = None,
    na_action: str = "omit",
    response_name: str = "y",
) -> Design:
    """Return a design from arrays, with the same checks as for a formula.

    Parameters
    ----------
    y : (n,) array
        Response.
    X : (n, p) array or DataFrame, or None
        Fixed-effects matrix, the intercept included; None means no fixed effects.
    terms : sequence
        Random terms, each one of

        - ``(groups, Z)`` or ``(groups, Z, name)``: a label or code per row and an (n, k) matrix
          (None for an intercept);
        - ``(matrix, k)`` or ``(matrix, k, name)``: a ready sparse matrix (n, m*k), level by level;
        - a dict with the keys ``groups`` and ``Z``, or ``matrix`` and ``k``, and optionally
          ``name``, ``structure``, ``columns`` and ``levels``;
        - a `GroupedTerm` or `SparseTerm`.
    weights, offset : (n,) array, optional
        Prior weights (rows with weight zero are left out) and offset.
    column_names : sequence of str, optional
        Names of the columns of X; a DataFrame brings its own.
    na_action : {"omit", "exclude", "fail"}
        What happens to rows with missing values.
    response_name : str
        Name of the response in reports.
    """
    check_na_action(na_action)
    _check_rows(y, X, terms, weights, offset)
    response = _vector(y, "y")
    n = len(response)
    if n == 0:
        raise DataError("the data have no rows")
    index = y.index if isinstance(y, pd.Series) else pd.RangeIndex(n)
    matrix, names = _fixed(X, n, column_names)
    inputs = [_read_term(term, i, n) for i, term in enumerate(terms)]
    if not inputs:
        raise DataError("there are no random terms: a mixed model needs at least one")
    prior = None if weights is None else _vector(weights, "weights", n)
    shift = None if offset is None else _vector(offset, "offset", n)
    check_weights(prior, index)
    named: list[tuple[str, Value]] = [(response_name, response), ("X", Columns(matrix, ()))]
    named += [(f"the random term {term.label}", value) for term in inputs for value in _values(term)]
    named += [(name, v) for name, v in (("weights", prior), ("offset", shift)) if v is not None]
    rows, messages = usable_rows(named, prior, index, na_action)
    data = RowData(rows, index, na_action, response_name, response, prior, shift)
    ordered = _name_terms(sorted((_take(term, rows) for term in inputs), key=lambda term: -term.m))
    used = _copied(matrix, rows)
    constant = any(x[0] != 0 and bool((x == x[0]).all()) for x in used.T)
    return assemble(data, used, names, ordered, constant, messages)[1]


def _vector(values: Any, what: str, n: int | None = None) -> FloatArray:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{what} must be numeric: {error}") from error
    if array.ndim != 1 or (n is not None and len(array) != n):
        needed = "one dimension" if n is None else f"one value for each of the {n} rows"
        raise DataError(f"{what} has shape {array.shape}; it needs {needed}")
    return array


def _fixed(X: Any, n: int, column_names: Sequence[str] | None) -> tuple[FloatArray, list[str]]:
    if X is None:
        return np.zeros((n, 0)), []
    if sp.issparse(X):
        raise DataError("X is sparse; pass it as a dense array (X.toarray())")
    given = [str(c) for c in X.columns] if isinstance(X, pd.DataFrame) else None
    try:
        matrix = np.asarray(X, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"X must be numeric: {error}") from error
    matrix = matrix[:, None] if matrix.ndim == 1 else matrix
    if matrix.ndim != 2 or len(matrix) != n:
        raise DataError(f"X has shape {matrix.shape}; it needs {n} rows, one for each value of y")
    default = ["Intercept" if len(x) and (x == 1).all() else f"x{j}" for j, x in enumerate(matrix.T)]
    names = list(column_names) if column_names is not None else given or default
    if len(names) != matrix.shape[1]:
        raise DataError(f"column_names has {len(names)} names for the {matrix.shape[1]} columns of X")
    if len(set(names)) < len(names):
        raise DataError(f"the column names of X must differ: {', '.join(names)}")
    return matrix, names


def _read_term(given: Any, i: int, n: int) -> DesignTerm:
    """Return one random term from any of the accepted forms."""
    if isinstance(given, GroupedTerm | SparseTerm):
        term: DesignTerm = given
        if isinstance(given, GroupedTerm) and len(given.codes) and given.codes.max() >= given.m:
            raise DataError(f"the random term {given.label} has the code {given.codes.max()} for {given.m} levels")
    elif isinstance(given, Mapping):
        term = _from_dict(dict(given), i)
    elif isinstance(given, tuple) and len(given) in (2, 3):
        first, second = ("matrix", "k") if sp.issparse(given[0]) else ("groups", "Z")
        term = _from_dict(dict(zip((first, second, "name"), given)), i)
    else:
        raise ParameterError(f"random term {i} must be (groups, Z), (sparse matrix, k), a dict or a term object")
    if _length(term) != n:
        raise DataError(f"the random term {term.label} has {_length(term)} rows, but y has {n}")
    return term


def _from_dict(options: dict[str, Any], i: int) -> DesignTerm:
    unknown = set(options) - _KEYS
    if unknown or ("groups" in options) == ("matrix" in options):
        extra = f"; unknown: {', '.join(map(str, unknown))}" if unknown else ""
        raise ParameterError(f"random term {i} needs either 'groups' (with 'Z') or 'matrix' (with 'k'){extra}")
    name = str(options.get("name") or getattr(options.get("groups"), "name", None) or f"g{i}")
    structure = str(options.get("structure", STRUCTURES.default))
    return (_from_matrix if "matrix" in options else _from_groups)(options, name, structure)


def _check_rows(y: Any, X: Any, terms: Sequence[Any], weights: Any, offset: Any) -> None:
    """Refuse pandas objects of which some have the rows of others in another order."""
    given = [("y", y), ("X", X), ("weights", weights), ("offset", offset)]
    for i, term in enumerate(terms):
        parts = term.values() if isinstance(term, Mapping) else term if isinstance(term, tuple) else ()
        given += [(f"random term {i}", part) for part in parts]
    labelled = [(what, x) for what, x in given if isinstance(x, pd.Series | pd.DataFrame)]
    for what, x in labelled[1:]:
        check_order(x, labelled[0][1].index, what, labelled[0][0])


def _coefficients(options: dict[str, Any], name: str, k: int, intercept: bool) -> tuple[str, ...]:
    given = options.get("columns")
    if given is None:
        return ("Intercept",) if intercept else tuple(f"z{j}" for j in range(k))
    if len(given) != k:
        raise DataError(f"the random term {name} has {len(given)} column names for {k} columns")
    return tuple(map(str, given))


def _from_groups(options: dict[str, Any], name: str, structure: str) -> DesignTerm:
    groups, Z = options["groups"], options.get("Z")
    if not is_column(groups):
        raise DataError(f"the groups of the random term {name} must have one dimension, not {np.ndim(groups)}")
    factor = to_grouping(as_series(groups, name).reset_index(drop=True), name).drop_unused()
    intercept = Z is None
    try:
        values = ones_column(len(factor)) if intercept else np.array(Z, dtype=np.float64, order="C")
    except (TypeError, ValueError) as error:
        raise DataError(f"Z of the random term {name} must be numeric: {error}") from error
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or len(values) != len(factor) or values.shape[1] == 0:
        raise DataError(
            f"Z of the random term {name} has shape {values.shape}; it needs {len(factor)} rows and a column"
        )
    labels = options.get("columns") if not isinstance(Z, pd.DataFrame) else options.get("columns", list(Z.columns))
    columns = _coefficients({"columns": labels}, name, values.shape[1], intercept)
    return GroupedTerm(name, name, structure, columns, factor.levels, factor.codes, values)


def _from_matrix(options: dict[str, Any], name: str, structure: str) -> DesignTerm:
    try:
        matrix = sp.csr_array(options["matrix"], dtype=np.float64)
        k = int(options.get("k", 1))
    except (TypeError, ValueError) as error:
        raise DataError(f"the random term {name} needs a sparse matrix and a whole number k: {error}") from error
    if k < 1 or matrix.shape[1] % k:
        raise DataError(
            f"the matrix of the random term {name} has {matrix.shape[1]} columns, not a multiple of k = {k}"
        )
    if not np.isfinite(matrix.data).all():
        raise DataError(f"the matrix of the random term {name} has values that are not finite")
    m = matrix.shape[1] // k
    given = options.get("levels")
    levels = pd.Index(given) if given is not None else pd.RangeIndex(m)
    if len(levels) != m:
        raise DataError(f"the random term {name} has {len(levels)} level names for {m} levels")
    columns = _coefficients(options, name, k, intercept=k == 1)
    return SparseTerm(name, name, structure, columns, levels, matrix)


def _take(term: DesignTerm, rows: UsedRows) -> DesignTerm:
    """Return the rows used of a term, in arrays of its own, without levels that lost all rows."""
    if isinstance(term, SparseTerm):
        used = term.matrix if rows.mask is None else term.matrix[rows.mask]
        return replace(term, matrix=sp.csr_array(used, copy=rows.mask is None))
    factor = Factor(as_codes(rows.take(term.codes), term.m), term.levels).drop_unused()
    Z = ones_column(len(rows)) if is_ones_column(term.Z) else frozen(_copied(term.Z, rows))
    return replace(term, codes=own(factor.codes, term.codes), Z=Z, levels=factor.levels)


def _copied(matrix: AnyArray, rows: UsedRows) -> FloatArray:
    """Return the rows used of a matrix as an array of its own, C-ordered."""
    used = rows.take(matrix)
    return np.array(used, dtype=np.float64, order="C", copy=True if used is matrix else None)


def _name_terms(terms: Sequence[DesignTerm]) -> tuple[DesignTerm, ...]:
    """Give terms of the same label lme4's names: ``g``, ``g.1``, ..."""
    counts: Counter[str] = Counter()
    named = []
    for term in terms:
        count = counts[term.label]
        counts[term.label] += 1
        named.append(replace(term, name=f"{term.label}.{count}" if count else term.label))
    return tuple(named)
