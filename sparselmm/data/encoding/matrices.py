"""Model matrices with coded factors, learned once and applied to any rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._typing import FloatArray
from sparselmm.data.encoding.contrasts import Coding
from sparselmm.data.encoding.rules import RULES, CodingRules
from sparselmm.data.encoding.values import Columns, Value
from sparselmm.data.tables.columns import Factor, is_missing, list_some
from sparselmm.data.tables.matching import check_types, positions
from sparselmm.exceptions import DataError, DesignError
from sparselmm.formula.algebra import TermList
from sparselmm.formula.grammar import parse_expression
from sparselmm.formula.nodes import Name, R, render

Values = Callable[[str], Value]


@dataclass(frozen=True)
class Block:
    """The columns one variable contributes to one term.

    Attributes
    ----------
    variable : str
        The expression.
    suffixes : tuple of str
        What formulaic adds to the variable's name for each column (``""`` for a plain number).
    r_suffixes : tuple of str
        What R adds.
    levels : pandas.Index or None
        Levels of a factor.
    coding : Coding or None
        How they become columns.
    title : str
        The variable's name where it is not its text.
    """

    variable: str
    suffixes: tuple[str, ...]
    r_suffixes: tuple[str, ...]
    levels: pd.Index | None = None
    coding: Coding | None = None
    title: str = ""

    def names(self, r: bool = False) -> list[str]:
        """Return the names of the columns, in formulaic's or R's spelling."""
        node = parse_expression(self.variable)
        if r:
            return [render(node, R) + s for s in self.r_suffixes]
        text = self.title or (node.name if isinstance(node, Name) else self.variable)
        return [text + s for s in self.suffixes]

    def columns(self, value: Value) -> Iterator[FloatArray]:
        """Yield the columns, each (n,)."""
        if self.coding is not None and isinstance(value, Factor):
            for column in self.coding.matrix.T:
                yield column[value.codes]
        elif isinstance(value, Columns):
            yield from value.block.T
        elif isinstance(value, np.ndarray):
            yield value


@dataclass(frozen=True)
class MatrixEncoding:
    """How a list of terms becomes columns.

    Attributes
    ----------
    intercept : bool
        Whether the first column is constant.
    terms : tuple of tuple of Block
        For each term the blocks whose products are its columns, the first varying fastest.
    columns : tuple of str
        Names of all columns.
    """

    intercept: bool
    terms: tuple[tuple[Block, ...], ...]
    columns: tuple[str, ...]

    def r_columns(self) -> tuple[str, ...]:
        """Return the names R gives to the columns."""
        return _names(self.intercept, self.terms, r=True)

    def variables(self) -> list[str]:
        """Return the expressions that are needed, each once."""
        return list(dict.fromkeys(block.variable for term in self.terms for block in term))

    def build(self, values: Values, n: int) -> FloatArray:
        """Return the matrix (n, p) for rows whose factors have the learned levels."""
        matrix = np.empty((n, len(self.columns)))
        j = 0
        if self.intercept:
            matrix[:, 0] = 1.0
            j = 1
        for term in self.terms:
            for column in _products([(block, values(block.variable)) for block in term]):
                matrix[:, j] = column
                j += 1
        return matrix


def _products(parts: list[tuple[Block, Value]]) -> Iterator[FloatArray]:
    """Yield all products of one column from each part, the first part varying fastest."""
    block, value = parts[-1]
    if len(parts) == 1:
        yield from block.columns(value)
        return
    for last in block.columns(value):
        for rest in _products(parts[:-1]):
            yield rest * last


def _names(intercept: bool, terms: tuple[tuple[Block, ...], ...], r: bool) -> tuple[str, ...]:
    names = ["(Intercept)" if r else "Intercept"] if intercept else []
    for term in terms:
        for combination in product(*(block.names(r) for block in reversed(term))):
            names.append(":".join(reversed(combination)))
    return tuple(names)


def learn_matrix(
    terms: TermList,
    values: Values,
    contrasts: Mapping[str, Any],
    where: str,
    rules: CodingRules = RULES["R"],
    spellings: Mapping[str, str] | None = None,
) -> MatrixEncoding:
    """Return the encoding of a list of terms.

    Parameters
    ----------
    terms : TermList
        Terms in the order of the formula.
    values : callable
        The value of each variable on the rows of the model; factors without unused levels.
    contrasts : mapping
        Coding by variable; treatment contrasts where none is given.
    where : str
        What the matrix is, for messages.
    rules : CodingRules
        Order, coding and names of the columns.
    spellings : mapping, optional
        Names of variables where these are not their texts.
    """
    titles = spellings or {}
    blocks = tuple(
        tuple(
            replace(_block(v, values(v), contrasts.get(v), full, where, rules), title=titles.get(v, ""))
            for v, full in coded
        )
        for coded in rules.coded_terms(terms, lambda variable: isinstance(values(variable), Factor))
    )
    return MatrixEncoding(terms.intercept, blocks, _names(terms.intercept, blocks, r=False))


def _block(variable: str, value: Value, contrast: Any, full: bool, where: str, rules: CodingRules) -> Block:
    if isinstance(value, Columns):
        return Block(variable, rules.suffixes(value.names), value.names)
    if not isinstance(value, Factor):
        return Block(variable, ("",), ("",))
    if len(value.levels) < 2:
        raise DesignError(
            f"the factor {variable} in {where} has only one level ({list_some(value.levels)}) in the rows used; "
            "leave it out, or use data with at least two levels"
        )
    asked = value.contrast if value.contrast is not None else contrast
    chosen = rules.coding(value.levels, asked, variable, full)
    return Block(variable, chosen.names, chosen.r_names, value.levels, chosen)


def recode(value: Value, block: Block) -> Value:
    """Return new data of a variable in the levels that were learned.

    Raises
    ------
    DataError
        When the variable changed its type or its number of columns, or has levels that were not there before.
    """
    if block.levels is None:
        if not isinstance(value, Factor):
            width = value.block.shape[1] if isinstance(value, Columns) else 1
            if width != len(block.suffixes):
                made = len(block.suffixes)
                raise DataError(f"{block.variable} gives {width} column(s), and gave {made} when the model was made")
            return value
        if is_missing(value).all():
            return np.full(len(value), np.nan)
        raise DataError(f"{block.variable} was numeric when the model was made and is now text or categories")
    if isinstance(value, np.ndarray) and is_missing(value).all():
        return Factor(np.full(len(value), -1), block.levels)
    if not isinstance(value, Factor):
        raise DataError(f"{block.variable} was a factor when the model was made and is now numeric")
    value = value.drop_unused()
    position = positions(block.levels, value.levels)
    if (position < 0).any():
        check_types(block.variable, block.levels, value.levels)
        raise DataError(
            f"{block.variable} has levels the model has not seen: {list_some(value.levels[position < 0])}; "
            f"it was made with {list_some(block.levels)}"
        )
    return Factor(np.append(position, -1)[value.codes], block.levels)
