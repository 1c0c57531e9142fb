"""The rows of a design: y, X, weights and offset, and for each random term codes and a small matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import scipy.sparse as sp

from sparselmm._typing import BoolArray, FloatArray, IntArray, frozen
from sparselmm.data.layout import TermLayout
from sparselmm.exceptions import RowsNeededError


def ones_column(n: int) -> FloatArray:
    """Return n ones as a read-only column, (n, 1), that takes the memory of one number."""
    return np.broadcast_to(np.float64(1.0), (n, 1))


def is_ones_column(Z: FloatArray) -> bool:
    """Whether a matrix was made by `ones_column`; does not look at the rows."""
    return Z.shape[1] == 1 and len(Z) > 1 and Z.strides[0] == 0 and Z[0, 0] == 1.0


@dataclass(frozen=True)
class GroupedTerm(TermLayout):
    """A random term given by one grouping factor and a small matrix.

    Attributes are those of `TermLayout`, with

    codes : (n,) int array
        Level of each row, 0 to m - 1; int32 where that is enough, so widen before multiplying.
    Z : (n, k) array
        Values that multiply the k coefficients of the row's level (`ones_column` for an intercept).
    """

    codes: IntArray
    Z: FloatArray

    def with_columns(self, keep: Sequence[int]) -> GroupedTerm:
        """Return the term with some of its coefficients."""
        columns = tuple(self.columns[j] for j in keep)
        return replace(self, columns=columns, Z=np.ascontiguousarray(self.Z[:, list(keep)]))

    def to_sparse(self) -> sp.csr_array:
        """Return this term's columns of Z, (n, m*k), level by level."""
        n, k = self.Z.shape
        indices = self.codes[:, None] * k + np.arange(k)[None, :]
        indptr = np.arange(n + 1) * k
        return sp.csr_array((self.Z.ravel(), indices.ravel(), indptr), shape=(n, self.m * k))


@dataclass(frozen=True)
class SparseTerm(TermLayout):
    """A random term given by a ready sparse Z whose columns go level by level.

    Attributes are those of `TermLayout`, with ``matrix`` (n, m*k).
    A row may touch several levels (multiple membership).
    """

    matrix: sp.csr_array

    def with_columns(self, keep: Sequence[int]) -> SparseTerm:
        """Return the term with some of its coefficients."""
        wanted = (np.arange(self.m)[:, None] * self.k + np.array(keep)).ravel()
        return replace(self, columns=tuple(self.columns[j] for j in keep), matrix=self.matrix[:, wanted])

    def to_sparse(self) -> sp.csr_array:
        """Return this term's columns of Z, (n, m*k), level by level."""
        return self.matrix


DesignTerm = GroupedTerm | SparseTerm


@dataclass(frozen=True)
class Rows:
    """All rows that enter the likelihood; rows with missing values or zero weight are gone.

    Attributes
    ----------
    y : (n,) array
        Response.
    X : (n, p) array
        Fixed-effects matrix of full column rank.
    weights : (n,) array or None
        Positive prior weights.
    offset : (n,) array or None
        Sum of all offsets.
    terms : tuple of DesignTerm
        Random terms in the order of the layout.
    frame_index : pandas.Index
        Labels of all rows of the data given.
    mask : (rows of the data,) bool array or None
        Which rows of the data given these are; None when all of them are used.
    """

    y: FloatArray
    X: FloatArray
    weights: FloatArray | None
    offset: FloatArray | None
    terms: tuple[DesignTerm, ...]
    frame_index: pd.Index
    mask: BoolArray | None

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.y)

    @property
    def p(self) -> int:
        """Number of columns of X."""
        return int(self.X.shape[1])

    @property
    def q(self) -> int:
        """Number of columns of Z."""
        return sum(t.m * t.k for t in self.terms)

    def scaled(self, values: FloatArray) -> FloatArray:
        """Return a vector of the rows times the square roots of their weights, (n,)."""
        return values if self.weights is None else values * np.sqrt(self.weights)

    @property
    def positions(self) -> IntArray:
        """Positions of the n rows in the data given, (n,)."""
        places: IntArray = frozen(np.arange(self.n) if self.mask is None else np.flatnonzero(self.mask))
        return places

    @property
    def index(self) -> pd.Index:
        """Labels of the n rows."""
        return self.frame_index if self.mask is None else self.frame_index[self.mask]


def needed(rows: Rows | None, what: str, instead: str = "") -> Rows:
    """Return the rows, or say what needs them and what may be passed instead.

    Raises
    ------
    RowsNeededError
        When they were dropped.
    """
    if rows is None:
        remedy = instead or "pass the data to fit.with_rows(data)"
        raise RowsNeededError(f"{what} need the rows of the data, which were dropped: {remedy}")
    return rows
