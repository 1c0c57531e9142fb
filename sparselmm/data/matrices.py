"""Model matrices with R's coding of factors, learned once and applied to any rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._typing import FloatArray
from sparselmm.data.columns import Factor, list_some
from sparselmm.data.contrasts import Coding, coding, full_dummies
from sparselmm.data.transforms import Basis, Value
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
    """

    variable: str
    suffixes: tuple[str, ...]
    r_suffixes: tuple[str, ...]
    levels: pd.Index | None = None
    coding: Coding | None = None

    def names(self, r: bool = False) -> list[str]:
        """Return the names of the columns, in formulaic's or R's spelling."""
        node = parse_expression(self.variable)
        if r:
            return [render(node, R) + s for s in self.r_suffixes]
        text = node.name if isinstance(node, Name) else self.variable
        return [text + s for s in self.suffixes]

    def columns(self, value: Value) -> Iterator[FloatArray]:
        """Yield the columns, each (n,)."""
        if self.coding is not None and isinstance(value, Factor):
            for column in self.coding.matrix.T:
                yield column[value.codes]
        elif isinstance(value, Basis):
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


def full_coding(terms: TermList, is_factor: Callable[[str], bool]) -> list[list[bool]]:
    """Return for each variable of each term whether R codes it by full dummies.

    R's rule (``TermCode`` in its model.c): a factor is coded by contrasts when what is left
    of the term without it is contained in an earlier term, or is empty; without an
    intercept the first factor met is coded in full.
    """
    sets = [frozenset(term) for term in terms.terms]
    full = []
    for i, term in enumerate(terms.terms):
        rests = [sets[i] - {variable} for variable in term]
        full.append([bool(rest) and not any(rest <= earlier for earlier in sets[:i]) for rest in rests])
    if not terms.intercept:
        for i, term in enumerate(terms.terms):
            first = next((j for j, variable in enumerate(term) if is_factor(variable)), None)
            if first is not None:
                full[i][first] = True
                break
    return full


def learn_matrix(terms: TermList, values: Values, contrasts: Mapping[str, Any], where: str) -> MatrixEncoding:
    """Return the encoding of a list of terms.

    Parameters
    ----------
    terms : TermList
        Terms in R's order.
    values : callable
        The value of each variable on the rows of the model; factors without unused levels.
    contrasts : mapping
        Coding by variable; treatment contrasts where none is given.
    where : str
        What the matrix is, for messages.
    """
    full = full_coding(terms, lambda variable: isinstance(values(variable), Factor))
    blocks = tuple(
        tuple(_block(variable, values(variable), contrasts.get(variable), f, where) for variable, f in zip(term, flags))
        for term, flags in zip(terms.terms, full)
    )
    return MatrixEncoding(terms.intercept, blocks, _names(terms.intercept, blocks, r=False))


def _block(variable: str, value: Value, contrast: Any, full: bool, where: str) -> Block:
    if isinstance(value, Basis):
        return Block(variable, tuple(f"[{name}]" for name in value.names), value.names)
    if not isinstance(value, Factor):
        return Block(variable, ("",), ("",))
    if len(value.levels) < 2:
        raise DesignError(
            f"the factor {variable} in {where} has only one level ({list_some(value.levels)}) in the rows used; "
            "leave it out, or use data with at least two levels"
        )
    asked = value.contrast if value.contrast is not None else contrast
    chosen = full_dummies(value.levels) if full else coding(value.levels, asked, variable)
    return Block(variable, chosen.names, chosen.r_names, value.levels, chosen)


def recode(value: Value, block: Block) -> Value:
    """Return new data of a variable in the levels that were learned.

    Raises
    ------
    DataError
        When the variable changed its type, or has levels that were not there before.
    """
    if block.levels is None:
        if isinstance(value, Factor):
            raise DataError(f"{block.variable} was numeric when the model was made and is now text or categories")
        return value
    if not isinstance(value, Factor):
        raise DataError(f"{block.variable} was a factor when the model was made and is now numeric")
    value = value.drop_unused()
    position = block.levels.get_indexer(value.levels)
    if (position < 0).any():
        raise DataError(
            f"{block.variable} has levels the model has not seen: {list_some(value.levels[position < 0])}; "
            f"it was made with {list_some(block.levels)}"
        )
    return Factor(np.append(position, -1)[value.codes], block.levels)
