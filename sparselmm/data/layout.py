"""The layout of a design: what its columns and terms are, without a row of the data."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from sparselmm.exceptions import Message


@dataclass(frozen=True)
class TermLayout:
    """What a random term is: its names, coefficients and levels.

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
    """

    name: str
    label: str
    structure: str
    columns: tuple[str, ...]
    levels: pd.Index

    @property
    def k(self) -> int:
        """Number of random coefficients per level."""
        return len(self.columns)

    @property
    def m(self) -> int:
        """Number of levels."""
        return len(self.levels)

    @property
    def layout(self) -> TermLayout:
        """The term without its rows."""
        return TermLayout(self.name, self.label, self.structure, self.columns, self.levels)


@dataclass(frozen=True)
class DesignLayout:
    """What the columns of X and the random terms are; its size does not depend on the number of rows.

    Attributes
    ----------
    columns : tuple of str
        Names of the p columns of X (formulaic's).
    terms : tuple of TermLayout
        Random terms by decreasing number of levels, ties in formula order.
    response_name : str
        The response as written.
    na_action : str
        ``"omit"``, ``"exclude"`` or ``"fail"``.
    dropped_columns : tuple of str
        Columns of X removed because they depend on earlier ones.
    messages : tuple of Message
        What happened on the way (rows dropped, columns dropped, scales).
    """

    columns: tuple[str, ...]
    terms: tuple[TermLayout, ...]
    response_name: str
    na_action: str
    dropped_columns: tuple[str, ...]
    messages: tuple[Message, ...] = ()

    @property
    def p(self) -> int:
        """Number of fixed-effects columns."""
        return len(self.columns)

    @property
    def q(self) -> int:
        """Number of random-effects columns."""
        return sum(t.m * t.k for t in self.terms)
