"""Products of pairs of levels, how many rows each pair has, and sums of two such sets by a linear merge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from sparselmm._typing import BoolArray, FloatArray, IntArray
from sparselmm.data.rows import DesignTerm, GroupedTerm
from sparselmm.linalg.blocks import BlockPairs, scale_blocks
from sparselmm.linalg.cells import CodedRows, cells, level_blocks
from sparselmm.statistics.moments import coded


@dataclass(frozen=True)
class PairSums:
    """The blocks of Z_a'WZ_b of two terms with the number of rows of each.

    Attributes
    ----------
    blocks : BlockPairs
        The nb blocks, sorted by row then column.
    counts : (nb,) int array or None
        Rows of each pair of levels; None where they were not counted.
    within : bool
        Whether both terms are one, of which the lower triangle of levels is stored.
    """

    blocks: BlockPairs
    counts: IntArray | None
    within: bool

    @classmethod
    def of(cls, a: DesignTerm, b: DesignTerm, weights: FloatArray | None, counted: bool) -> PairSums:
        """Sum the products of all rows."""
        blocks = pair_products(a, b, weights)
        return cls(blocks, _counts(a, b, blocks) if counted else None, a is b)

    def relabelled(self, row_map: IntArray, col_map: IntArray) -> PairSums:
        """Return the same sums under other numbers of the levels."""
        return self._sorted(row_map[self.blocks.rows], col_map[self.blocks.cols], self.blocks.values)

    def transposed(self) -> PairSums:
        """Return the sums with the two terms exchanged."""
        return self._sorted(self.blocks.cols, self.blocks.rows, self.blocks.values.transpose(0, 2, 1))

    def _sorted(self, rows: IntArray, cols: IntArray, values: FloatArray) -> PairSums:
        if self.within and np.any(upper := rows < cols):
            rows, cols = np.maximum(rows, cols), np.minimum(rows, cols)
            values = np.where(upper[:, None, None], values.transpose(0, 2, 1), values)
        keys = rows.astype(np.int64) * (1 + int(cols.max(initial=0))) + cols
        if np.all(keys[1:] > keys[:-1]):
            return PairSums(BlockPairs(rows, cols, values), self.counts, self.within)
        order = np.argsort(keys, kind="stable")
        counts = None if self.counts is None else self.counts[order]
        return PairSums(BlockPairs(rows[order], cols[order], values[order]), counts, self.within)

    def changed(self, left: FloatArray, right: FloatArray) -> PairSums:
        """Return left' B right for each block B: the sums in other coordinates."""
        blocks = BlockPairs(self.blocks.rows, self.blocks.cols, scale_blocks(self.blocks.values, left, right))
        return PairSums(blocks, self.counts, self.within)

    def merged(self, other: PairSums, sign: int) -> PairSums:
        """Return the sums plus or minus others, of the same levels, by one merge of the sorted pairs."""
        x, y = self.blocks, other.blocks
        width = 1 + max(int(x.cols.max(initial=0)), int(y.cols.max(initial=0)))
        keys = np.concatenate([x.keys(width), y.keys(width)])
        order = np.argsort(keys, kind="stable")  # two sorted runs: this sort finds and merges them
        keys = keys[order]
        first = np.ones(len(keys), dtype=np.bool_)
        np.not_equal(keys[1:], keys[:-1], out=first[1:])
        place = np.empty(len(keys), dtype=np.int64)
        place[order] = np.cumsum(first) - 1
        keys, mine, its = keys[first], place[: len(x.rows)], place[len(x.rows) :]
        values = np.zeros((len(keys), *x.values.shape[1:]))
        values[mine] = x.values
        values[its] += sign * y.values
        counts = None
        if self.counts is not None and other.counts is not None:
            counts = np.zeros(len(keys), dtype=np.int64)
            counts[mine] = self.counts
            counts[its] += sign * other.counts
        kind = x.rows.dtype
        blocks = BlockPairs((keys // width).astype(kind), (keys % width).astype(x.cols.dtype), values)
        return PairSums(blocks, counts, self.within)

    def without(self, gone: BoolArray) -> PairSums:
        """Return the sums without some pairs, (nb,)."""
        if not gone.any():
            return self
        keep, b = ~gone, self.blocks
        counts = None if self.counts is None else self.counts[keep]
        return PairSums(BlockPairs(b.rows[keep], b.cols[keep], b.values[keep]), counts, self.within)


def _counts(a: DesignTerm, b: DesignTerm, blocks: BlockPairs) -> IntArray:
    """Return the number of rows of each pair of levels that has a block."""
    if isinstance(a, GroupedTerm) and isinstance(b, GroupedTerm):
        left, right = (CodedRows(t.codes, t.m, None) for t in (a, b))
        ones = level_blocks(left, left, None) if a.codes is b.codes else cells(left, right, None)
        if len(ones.rows) == len(blocks.rows):
            return np.asarray(np.rint(np.broadcast_to(ones.values, (len(ones.rows), 1, 1))[:, 0, 0]), dtype=np.int64)
    C = sp.csr_array(_touched(a).T @ _touched(b)).tocoo()
    keys = C.row.astype(np.int64) * b.m + C.col
    order = np.argsort(keys)
    keys, found = keys[order], np.append(C.data[order], 0.0)
    wanted = blocks.keys(b.m)
    at = np.searchsorted(keys, wanted)
    known = np.append(keys, -1)[at] == wanted
    return np.asarray(np.where(known, found[at], 0.0), dtype=np.int64)


def _touched(term: DesignTerm) -> sp.csr_array:
    """Return which levels each row touches, (n, m), as ones."""
    Z = term.to_sparse().tocoo()
    places = np.unique(Z.row.astype(np.int64) * term.m + Z.col // term.k)
    return sp.csr_array((np.ones(len(places)), (places // term.m, places % term.m)), shape=(Z.shape[0], term.m))


def pair_products(a: DesignTerm, b: DesignTerm, weights: FloatArray | None) -> BlockPairs:
    """Return the blocks of Z_a'W Z_b (lower levels only when a is b)."""
    if not (isinstance(a, GroupedTerm) and isinstance(b, GroupedTerm)):
        return _sparse_products(a, b, weights)
    left = coded(a)
    if a is b or a.codes is b.codes:
        return level_blocks(left, left if a is b else coded(b), weights)
    return cells(left, coded(b), weights)


def _sparse_products(a: DesignTerm, b: DesignTerm, weights: FloatArray | None) -> BlockPairs:
    """Return the blocks of Z_a'W Z_b for terms given as sparse matrices."""
    left = a.to_sparse()
    if weights is not None:
        left = sp.diags_array(weights) @ left
    C = sp.coo_array(left.T @ b.to_sparse())
    rows, cols = C.row.astype(np.int64), C.col.astype(np.int64)
    br, bc = rows // a.k, cols // b.k
    values = C.data
    if a is b:
        keep = br >= bc
        rows, cols, br, bc, values = rows[keep], cols[keep], br[keep], bc[keep], values[keep]
    keys = br * b.m + bc
    if a is b:  # every diagonal block is stored, also of a level that no row touches
        keys = np.concatenate([keys, np.arange(a.m, dtype=np.int64) * (b.m + 1)])
    unique, inverse = np.unique(keys, return_inverse=True)
    blocks = np.zeros((len(unique), a.k, b.k))
    np.add.at(blocks, (inverse[: len(rows)], rows % a.k, cols % b.k), values)
    return BlockPairs(unique // b.m, unique % b.m, blocks)
