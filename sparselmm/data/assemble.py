"""The last steps of every design: dependent columns, checks, read-only arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sparselmm._typing import FloatArray, frozen
from sparselmm.data.checks import (
    check_aliased,
    check_column_names,
    check_magnitudes,
    check_response,
    check_scales,
    check_terms,
    drop_dependent,
)
from sparselmm.data.design import Design
from sparselmm.data.layout import DesignLayout
from sparselmm.data.row_selection import UsedRows, own
from sparselmm.data.rows import DesignTerm, Rows
from sparselmm.data.tables.columns import describe_rows
from sparselmm.exceptions import DataError, Message


@dataclass(frozen=True)
class RowData:
    """The vectors of a model on all rows of the data, and which rows are used.

    Attributes
    ----------
    rows : UsedRows
        The n rows used.
    index : pandas.Index
        Labels of all rows.
    na_action : str
        Rule for missing values.
    response_name : str
        The response as written.
    y : array
        Response on all rows.
    weights, offset : array or None
        On all rows.
    """

    rows: UsedRows
    index: pd.Index
    na_action: str
    response_name: str
    y: FloatArray
    weights: FloatArray | None
    offset: FloatArray | None

    def used(self, values: FloatArray) -> FloatArray:
        """Return the rows used of a vector, read-only and independent of the caller's data."""
        return own(self.rows.take(values), values)


def check_weights(weights: FloatArray | None, index: pd.Index) -> None:
    """Refuse negative weights."""
    if weights is not None and (weights < 0).any():
        raise DataError(f"weights must not be negative: {describe_rows(np.flatnonzero(weights < 0), index)}")


def assemble(
    data: RowData,
    X: FloatArray,
    names: Sequence[str],
    terms: tuple[DesignTerm, ...],
    has_intercept: bool,
    messages: Sequence[Message],
) -> tuple[list[int], Design]:
    """Return the positions of the columns kept, and the checked design.

    Parameters
    ----------
    data : RowData
        Vectors on all rows.
    X : (n, p) array
        Fixed-effects matrix on the rows used, owned by the caller of this function.
    names : sequence of str
        Names of its columns.
    terms : tuple of DesignTerm
        Random terms by decreasing number of levels.
    has_intercept : bool
        Whether a constant is among the columns.
    messages : sequence of Message
        What happened so far.
    """
    y = data.used(data.y)
    check_magnitudes(y, data.response_name, X, names, terms)
    kept, notes = drop_dependent(X, names)
    if len(kept) < len(names):
        X = np.ascontiguousarray(X[:, kept])
    columns = tuple(names[j] for j in kept)
    check_terms(terms, len(data.rows))
    check_column_names(columns, terms)
    notes += check_aliased(terms)
    offset = None if data.offset is None else data.used(data.offset)
    check_response(y if offset is None else y - offset, X, has_intercept, data.response_name)
    notes += check_scales(X, columns)
    rows = Rows(
        y=y,
        X=frozen(X),
        weights=None if data.weights is None else data.used(data.weights),
        offset=offset,
        terms=terms,
        frame_index=data.index,
        mask=None if data.rows.mask is None else frozen(data.rows.mask),
    )
    layout = DesignLayout(
        columns=columns,
        terms=tuple(term.layout for term in terms),
        response_name=data.response_name,
        na_action=data.na_action,
        dropped_columns=tuple(name for j, name in enumerate(names) if j not in set(kept)),
        messages=(*messages, *notes),
    )
    return kept, Design(layout, rows)
