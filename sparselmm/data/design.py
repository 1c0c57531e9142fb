"""The design: rows of y, X, weights and offset, and for each random term codes and a small matrix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp

from sparselmm._typing import BoolArray, FloatArray, IntArray, frozen
from sparselmm.exceptions import Message


def ones_column(n: int) -> FloatArray:
    """Return n ones as a read-only column, (n, 1), that takes the memory of one number."""
    return np.broadcast_to(np.float64(1.0), (n, 1))


def is_ones_column(Z: FloatArray) -> bool:
    """Whether a matrix was made by `ones_column`; does not look at the rows."""
    return Z.shape[1] == 1 and len(Z) > 1 and Z.strides[0] == 0 and Z[0, 0] == 1.0


@dataclass(frozen=True)
class GroupedTerm:
    """A random term given by one grouping factor and a small matrix.

    Attributes
    ----------
    name : str
        Unique name, lme4's ``VarCorr`` name: the label, then ``label.1``, ... for further
        terms with the same grouping factor.
    label : str
        Grouping label, for example ``"Subject"`` or ``"cask:batch"``.
    structure : str
        Key of the covariance structure.
    columns : tuple of str
        Names of the k random coefficients.
    levels : pandas.Index
        The m levels in order.
    codes : (n,) int array
        Level of each row, 0 to m - 1; int32 where that is enough, so widen before multiplying.
    Z : (n, k) array
        Values that multiply the k coefficients of the row's level (`ones_column` for an intercept).
    """

    name: str
    label: str
    structure: str
    columns: tuple[str, ...]
    levels: pd.Index
    codes: IntArray
    Z: FloatArray

    @property
    def k(self) -> int:
        """Number of random coefficients per level."""
        return len(self.columns)

    @property
    def m(self) -> int:
        """Number of levels."""
        return len(self.levels)

    def to_sparse(self) -> sp.csr_array:
        """Return this term's columns of Z, (n, m*k), level by level."""
        n, k = self.Z.shape
        indices = self.codes[:, None] * k + np.arange(k)[None, :]
        indptr = np.arange(n + 1) * k
        return sp.csr_array((self.Z.ravel(), indices.ravel(), indptr), shape=(n, self.m * k))


@dataclass(frozen=True)
class SparseTerm:
    """A random term given by a ready sparse Z whose columns go level by level.

    Attributes are those of `GroupedTerm`, with ``matrix`` (n, m*k) in place of codes and Z.
    A row may touch several levels (multiple membership).
    """

    name: str
    label: str
    structure: str
    columns: tuple[str, ...]
    levels: pd.Index
    matrix: sp.csr_array

    @property
    def k(self) -> int:
        """Number of random coefficients per level."""
        return len(self.columns)

    @property
    def m(self) -> int:
        """Number of levels."""
        return len(self.levels)

    def to_sparse(self) -> sp.csr_array:
        """Return this term's columns of Z, (n, m*k), level by level."""
        return self.matrix


DesignTerm = GroupedTerm | SparseTerm


@dataclass(frozen=True)
class Design:
    """All rows that enter the likelihood; rows with missing values or zero weight are gone.

    Attributes
    ----------
    y : (n,) array
        Response.
    X : (n, p) array
        Fixed-effects matrix of full column rank.
    columns : tuple of str
        Names of the p columns (formulaic's).
    weights : (n,) array or None
        Positive prior weights.
    offset : (n,) array or None
        Sum of all offsets.
    terms : tuple of DesignTerm
        Random terms by decreasing number of levels, ties in formula order.
    frame_index : pandas.Index
        Labels of all rows of the data given.
    mask : (rows of the data,) bool array or None
        Which rows of the data given these are; None when all of them are used.
    na_action : str
        ``"omit"``, ``"exclude"`` or ``"fail"``.
    dropped_columns : tuple of str
        Columns of X removed because they depend on earlier ones.
    response_name : str
        The response as written.
    messages : tuple of Message
        What happened on the way (rows dropped, columns dropped, scales).
    """

    y: FloatArray
    X: FloatArray
    columns: tuple[str, ...]
    weights: FloatArray | None
    offset: FloatArray | None
    terms: tuple[DesignTerm, ...]
    frame_index: pd.Index
    mask: BoolArray | None
    na_action: str
    dropped_columns: tuple[str, ...]
    response_name: str
    messages: tuple[Message, ...] = ()

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.y)

    @property
    def rows(self) -> IntArray:
        """Positions of the n rows in the data given, (n,)."""
        positions: IntArray = frozen(np.arange(self.n) if self.mask is None else np.flatnonzero(self.mask))
        return positions

    @property
    def index(self) -> pd.Index:
        """Labels of the n rows."""
        return self.frame_index if self.mask is None else self.frame_index[self.mask]

    @property
    def p(self) -> int:
        """Number of fixed-effects columns."""
        return len(self.columns)

    @property
    def q(self) -> int:
        """Number of random-effects columns."""
        return sum(t.m * t.k for t in self.terms)
