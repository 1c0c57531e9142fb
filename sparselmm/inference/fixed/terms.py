"""The terms of the fixed part: which columns of X belong to which, and which contain which."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._typing import FloatArray
from sparselmm.data.encoding.contrasts import Coding, full_dummies, treatment
from sparselmm.data.encoding.encoding import EncodingSpec
from sparselmm.data.encoding.matrices import Block, MatrixEncoding
from sparselmm.data.tables.frame import as_frame
from sparselmm.exceptions import DataError
from sparselmm.formula.grammar import parse_expression
from sparselmm.formula.nodes import names
from sparselmm.inference.sizes import CHUNK_ROWS

INTERCEPT = "Intercept"


@dataclass(frozen=True)
class FixedTerm:
    """One term of the fixed part.

    Attributes
    ----------
    name : str
        For example ``"recipe:temp"``.
    columns : tuple of int
        Positions among the columns of a matrix.
    factors, covariates : frozenset of str
        Its variables; those of several columns, as ``poly(x, 2)``, count as factors, as in lmerTest.
    """

    name: str
    columns: tuple[int, ...]
    factors: frozenset[str] = frozenset()
    covariates: frozenset[str] = frozenset()

    def contains(self, other: FixedTerm) -> bool:
        """Whether every effect of the other term is confounded with one of this: more factors, same covariates."""
        return other.factors < self.factors and other.covariates == self.covariates


def matrix_terms(matrix: MatrixEncoding) -> tuple[FixedTerm, ...]:
    """Return the terms of a matrix, the constant first where there is one."""
    out = [FixedTerm(INTERCEPT, (0,))] if matrix.intercept else []
    position = len(out)
    for blocks in matrix.terms:
        width = sum(1 for _ in product(*(block.names() for block in blocks)))
        factors = frozenset(b.variable for b in blocks if b.levels is not None or b.suffixes != ("",))
        out.append(
            FixedTerm(
                ":".join(b.variable for b in blocks),
                tuple(range(position, position + width)),
                factors,
                frozenset(b.variable for b in blocks) - factors,
            )
        )
        position += width
    return tuple(out)


def fixed_terms(encoding: EncodingSpec) -> tuple[FixedTerm, ...]:
    """Return the terms with the positions of their columns among the p kept; a term may have none left."""
    place = {column: j for j, column in enumerate(encoding.kept)}
    return tuple(
        replace(t, columns=tuple(place[c] for c in t.columns if c in place)) for t in matrix_terms(encoding.fixed)
    )


def recoded(matrix: MatrixEncoding, code: Callable[[Block], Coding]) -> MatrixEncoding:
    """Return the matrix of the same terms with other codings of the factors."""

    def change(block: Block) -> Block:
        if block.levels is None:
            return block
        coding = code(block)
        return replace(block, coding=coding, suffixes=coding.names, r_suffixes=coding.r_names)

    changed = replace(matrix, terms=tuple(tuple(change(block) for block in term) for term in matrix.terms))
    last = matrix_terms(changed)[-1:]
    width = last[0].columns[-1] + 1 if last else 0
    return replace(changed, columns=tuple(f"c{j}" for j in range(width)))


def overparametrized(matrix: MatrixEncoding) -> MatrixEncoding:
    """Return the matrix of the same terms with one column per combination of levels."""
    return recoded(matrix, lambda block: full_dummies(levels_of(block)))


def treatment_coded(matrix: MatrixEncoding) -> MatrixEncoding:
    """Return the matrix with treatment contrasts wherever it has contrasts at all."""

    def code(block: Block) -> Coding:
        levels = levels_of(block)
        full = block.coding is not None and block.coding.matrix.shape[1] == len(levels)
        return full_dummies(levels) if full else treatment(levels)

    return recoded(matrix, code)


def levels_of(block: Block) -> pd.Index:
    """Return the levels of a factor's block."""
    if block.levels is None:
        raise DataError(f"{block.variable} is not a factor")
    return block.levels


def raw_columns(encoding: EncodingSpec, offsets: bool = False) -> tuple[str, ...]:
    """Return the columns of the data that the fixed part (and its offsets) uses, in order of appearance."""
    texts = [*encoding.fixed.variables(), *(encoding.spec.offsets if offsets else ())]
    found = [name for text in texts for name in names(parse_expression(text))]
    return tuple(dict.fromkeys(name for name in found if name in encoding.kinds))


def raw_rows(encoding: EncodingSpec, table: Any, rows: Any, offsets: bool = False) -> pd.DataFrame:
    """Return these columns for some rows of the data."""
    frame = as_frame(table)
    return pd.DataFrame({name: frame.series(name).iloc[rows].array for name in raw_columns(encoding, offsets)})


def distinct_chunks(raw: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Yield the different rows, some at a time."""
    distinct = raw.drop_duplicates(ignore_index=True)
    for start in range(0, len(distinct), CHUNK_ROWS):
        yield distinct.iloc[start : start + CHUNK_ROWS]


def upper_factor(A: FloatArray) -> FloatArray:
    """Return R of A = QR."""
    return np.asarray(np.linalg.qr(A, mode="r"))


def joint_factor(encoding: EncodingSpec, matrices: Sequence[MatrixEncoding], raw: pd.DataFrame) -> list[FloatArray]:
    """Return Q'A for several matrices A on the different rows, Q orthogonal and common to all."""
    views = [replace(encoding, fixed=m, kept=tuple(range(len(m.columns)))) for m in matrices]
    widths = [len(m.columns) for m in matrices]
    R = np.zeros((0, sum(widths)))
    for chunk in distinct_chunks(raw):
        R = upper_factor(np.vstack([R, np.hstack([view.apply_fixed(chunk) for view in views])]))
    return np.split(R, np.cumsum(widths)[:-1], axis=1)
