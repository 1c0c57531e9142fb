"""Which columns of Z the iterative solver eliminates, works on and borders, and the blocks between them.

Terms on the same levels form one group of K coefficients per level. The largest group with a
block-diagonal cross-product is eliminated, terms with few columns form a dense border, and the
rest is where the iterations work.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from sparselmm._typing import BoolArray, FloatArray, IntArray
from sparselmm.linalg.blocks import BlockGram, BlockPairs, Templates
from sparselmm.linalg.exact.elimination import eliminable_terms, eliminated_blocks
from sparselmm.linalg.products import CrossBlock
from sparselmm.linalg.threads import free_threads

BORDER_COLUMNS = 64


@dataclass(frozen=True)
class Group:
    """Random terms that share their levels.

    Attributes
    ----------
    terms : tuple of int
        The terms.
    m, K : int
        Levels, and coefficients per level of all terms together.
    columns : (m, K) int array
        Their columns in Z.
    diagonal : (m, K, K) array
        Diagonal blocks of Z'WZ.
    """

    terms: tuple[int, ...]
    m: int
    K: int
    columns: IntArray
    diagonal: FloatArray

    @classmethod
    def of(cls, gram: BlockGram, terms: tuple[int, ...]) -> Group:
        """Collect the terms."""
        m = gram.m[terms[0]]
        columns = np.concatenate(
            [gram.offsets[t] + np.arange(m)[:, None] * gram.k[t] + np.arange(gram.k[t]) for t in terms], axis=1
        )
        if len(terms) == 1:
            diagonal = np.asarray(gram.diagonal(terms[0]), dtype=np.float64)
        else:
            diagonal = eliminated_blocks(gram, terms)
        return cls(terms, m, columns.shape[1], columns, diagonal)

    @property
    def size(self) -> int:
        """Columns of Z."""
        return self.m * self.K

    def template(self, templates: Templates) -> FloatArray:
        """Return the block-diagonal template of the group, (K, K)."""
        out, start = np.zeros((self.K, self.K)), 0
        for t in self.terms:
            k = len(templates[t])
            out[start : start + k, start : start + k] = templates[t]
            start += k
        return out


@dataclass(frozen=True)
class Coupling:
    """A block of Z'WZ between two groups of terms.

    Attributes
    ----------
    block : CrossBlock
        Its products.
    turned : bool
        Whether its rows belong to the second group.
    pairs : BlockPairs
        Its cells.
    source : callable
        Returns the values of the cells, of Z'WZ.
    shared : (int, int) or None
        The pair of terms of Z'WZ that it is, where it is one.
    """

    block: CrossBlock
    turned: bool
    pairs: BlockPairs
    source: Callable[[BlockGram], FloatArray]
    shared: tuple[int, int] | None = None

    def updated(self, gram: BlockGram) -> Coupling:
        """Return the block of other numbers of Z'WZ in the same pattern."""
        pairs = self.pairs.with_values(self.source(gram))
        block = None if self.shared is None else gram.made_cross(*self.shared)
        return replace(self, pairs=pairs, block=block or self.block.with_values(pairs.rows, pairs.cols, pairs.values))

    def counts(self) -> IntArray:
        """Return the number of cells of each level of the first group."""
        return self.block.counts_right() if self.turned else self.block.counts_left()

    def levels(self) -> tuple[IntArray, IntArray]:
        """Return the levels of each cell in the first and in the second group."""
        pairs = self.pairs
        return (pairs.cols, pairs.rows) if self.turned else (pairs.rows, pairs.cols)

    def cells(self) -> FloatArray:
        """Return the cells, (nb, K of the first group, K of the second)."""
        values = self.pairs.values
        return np.asarray(values.transpose(0, 2, 1) if self.turned else values)

    def dot(self, X: FloatArray) -> FloatArray:
        """Return A X from columns of the second group to rows of the first."""
        return self.block.tdot(X) if self.turned else self.block.dot(X)

    def tdot(self, Y: FloatArray) -> FloatArray:
        """Return A'Y."""
        return self.block.dot(Y) if self.turned else self.block.tdot(Y)

    def forms(self, B: FloatArray) -> FloatArray:
        """Return the sums over cells of a B a' for blocks B of the second group, by level of the first."""
        return self.block.quadratic_right(B) if self.turned else self.block.quadratic_left(B)

    def tforms(self, B: FloatArray) -> FloatArray:
        """Return the sums over cells of a'B a for blocks B of the first group, by level of the second."""
        return self.block.quadratic_left(B) if self.turned else self.block.quadratic_right(B)


@dataclass(frozen=True)
class Layout:
    """The parts of Z and the blocks between them.

    Attributes
    ----------
    first : Group
        Eliminated.
    rest : tuple of Group
        Where the iterations work.
    border : (qb,) int array
        Columns of Z of the border.
    to_first : tuple of Coupling
        Per group of the rest, the block from it to the eliminated group.
    within : tuple of (int, int, Coupling)
        Blocks between two groups of the rest, and off the diagonal of one.
    border_terms : tuple of int
        Terms of the border.
    """

    first: Group
    rest: tuple[Group, ...]
    border: IntArray
    to_first: tuple[Coupling, ...]
    within: tuple[tuple[int, int, Coupling], ...]
    border_terms: tuple[int, ...]

    @classmethod
    def of(cls, gram: BlockGram) -> Layout:
        """Divide the columns of Z; None of them is copied more than once."""
        groups, border_terms = divide(gram)
        first, rest = Group.of(gram, groups[0]), tuple(Group.of(gram, g) for g in groups[1:])
        border = [np.arange(gram.offsets[t], gram.offsets[t + 1]) for t in border_terms]
        within = []
        for a, group in enumerate(rest):
            for b in range(a):
                found = coupling(gram, group.terms, rest[b].terms)
                if found is not None:
                    within.append((a, b, found))
            own = _off_diagonal(gram, group.terms)
            if own is not None:
                within.append((a, a, own))
        return cls(
            first,
            rest,
            np.concatenate(border) if border else np.zeros(0, dtype=np.int64),
            tuple(_required(coupling(gram, first.terms, g.terms)) for g in rest),
            tuple(within),
            border_terms,
        )

    def updated(self, gram: BlockGram) -> Layout:
        """Return the parts of other numbers of Z'WZ in the same pattern."""
        return replace(
            self,
            first=Group.of(gram, self.first.terms),
            rest=tuple(Group.of(gram, group.terms) for group in self.rest),
            to_first=tuple(c.updated(gram) for c in self.to_first),
            within=tuple((a, b, c.updated(gram)) for a, b, c in self.within),
        )


def divide(gram: BlockGram) -> tuple[list[tuple[int, ...]], tuple[int, ...]]:
    """Return the groups of terms, the eliminated one first, and the terms of the border.

    Without two groups there is nothing to iterate on: the list is then shorter than two.
    """
    first = eliminable_terms(gram)
    if not first:
        return [], ()
    left = [t for t in range(len(gram.m)) if t not in first]
    left.sort(key=lambda t: -int(gram.sizes[t]))
    border = tuple(sorted(t for t in left[1:] if gram.sizes[t] <= BORDER_COLUMNS))
    groups: list[tuple[int, ...]] = []
    for t in sorted(x for x in left if x not in border):
        for i, group in enumerate(groups):
            if _same_levels(gram, group[0], t):
                groups[i] = (*group, t)
                break
        else:
            groups.append((t,))
    return [first, *groups], border


def _same_levels(gram: BlockGram, s: int, t: int) -> bool:
    same = gram.m[s] == gram.m[t] and gram.pairs[s, s].is_block_diagonal and gram.pairs[t, t].is_block_diagonal
    return same and gram.pairs[max(s, t), min(s, t)].is_block_diagonal


def coupling(gram: BlockGram, a: tuple[int, ...], b: tuple[int, ...]) -> Coupling | None:
    """Return the block of Z'WZ between two groups of terms, None where no row joins them."""
    if len(a) == len(b) == 1:
        i, j = max(a[0], b[0]), min(a[0], b[0])
        pair = gram.pairs[i, j]
        if not len(pair.rows):
            return None
        return Coupling(gram.cross(i, j), i != a[0], pair, partial(_of_pair, (i, j), None), (i, j))
    keys, corners, width = [], [], gram.m[b[0]]
    row = 0
    for i in a:
        col = 0
        for j in b:
            pair = gram.pairs[max(i, j), min(i, j)]
            rows, cols = (pair.rows, pair.cols) if i > j else (pair.cols, pair.rows)
            keys.append(rows.astype(np.int64) * width + cols)
            corners.append((i, j, row, col))
            col += gram.k[j]
        row += gram.k[i]
    unique, inverse = np.unique(np.concatenate(keys), return_inverse=True)
    if not len(unique):
        return None
    places = np.split(inverse, np.cumsum([len(part) for part in keys])[:-1])
    source = partial(_merged, (len(unique), row, col), tuple(zip(corners, places)))
    return _coupling(BlockPairs(unique // width, unique % width, source(gram)), gram.m[a[0]], width, source)


def _merged(
    shape: tuple[int, int, int], parts: tuple[tuple[tuple[int, int, int, int], IntArray], ...], gram: BlockGram
) -> FloatArray:
    """Return cells, (nb, K_a, K_b), of pairs of terms (i, j), each with its corner in the cells that it belongs to."""
    out = np.zeros(shape)
    for (i, j, row, col), places in parts:
        values = gram.pairs[max(i, j), min(i, j)].values
        values = values if i > j else values.transpose(0, 2, 1)
        out[places, row : row + gram.k[i], col : col + gram.k[j]] = values
    return out


def _of_pair(key: tuple[int, int], chosen: BoolArray | None, gram: BlockGram) -> FloatArray:
    """Return the cells of one pair of terms, or the chosen ones of them."""
    values = gram.pairs[key].values
    return values if chosen is None else values[chosen]


def _coupling(pairs: BlockPairs, m_row: int, m_col: int, source: Callable[[BlockGram], FloatArray]) -> Coupling:
    block = CrossBlock(pairs.rows, pairs.cols, pairs.values, m_row, m_col, threads=free_threads())
    return Coupling(block, False, pairs, source)


def _off_diagonal(gram: BlockGram, terms: tuple[int, ...]) -> Coupling | None:
    """Return the strictly lower blocks of a group whose rows touch several levels, else None."""
    if len(terms) > 1 or gram.pairs[terms[0], terms[0]].is_block_diagonal:
        return None
    t = terms[0]
    pair = gram.pairs[t, t]
    below = pair.rows > pair.cols
    if not below.any():
        return None
    lower = BlockPairs(pair.rows[below], pair.cols[below], pair.values[below])
    return _coupling(lower, gram.m[t], gram.m[t], partial(_of_pair, (t, t), below))


def _required(found: Coupling | None) -> Coupling:
    assert found is not None, "two terms of one model meet in every row"
    return found
