"""Cross-products of the same rows again and again, with other weights and another response.

Weights change the numbers of Z'WZ and never its pattern. So the block that each row adds to is looked up once for
every pair of terms, and each further set of weights is one pass over the rows that adds into blocks which are there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from sparselmm._typing import FloatArray, IntArray, frozen
from sparselmm.data.rows import DesignTerm, GroupedTerm, Rows
from sparselmm.data.tables.codes import chunks
from sparselmm.linalg.blocks import BlockGram, BlockPairs
from sparselmm.linalg.cells import CodedRows, level_blocks
from sparselmm.statistics.crossproducts import CrossProducts
from sparselmm.statistics.moments import CHUNK_ROWS, add_term_products, coded, sum_of_logs, transformed
from sparselmm.statistics.transform import with_centred_terms


@dataclass(frozen=True)
class RowCells:
    """The rows of two terms that have one level each: every row adds w z_a z_b' to one block.

    Attributes
    ----------
    left, right : CodedRows
        The rows of the terms, with the position of the block in place of the level.
    """

    left: CodedRows
    right: CodedRows

    def values(self, weights: FloatArray) -> FloatArray:
        """Return the blocks, (nb, k_a, k_b)."""
        return level_blocks(self.left, self.right, weights).values


@dataclass(frozen=True)
class EntryCells:
    """The rows of two terms of which one may have several levels in a row: pairs of entries add to one number each.

    Attributes
    ----------
    rows : (t,) int array
        Row of each pair of entries.
    places : (t,) int array
        Its place in the flattened blocks.
    products : (t,) array
        z_a z_b.
    shape : (int, int, int)
        Shape of the blocks, (nb, k_a, k_b).
    """

    rows: IntArray
    places: IntArray
    products: FloatArray
    shape: tuple[int, int, int]

    def values(self, weights: FloatArray) -> FloatArray:
        """Return the blocks, (nb, k_a, k_b)."""
        each = self.products * weights[self.rows]
        return np.asarray(np.bincount(self.places, each, int(np.prod(self.shape))), dtype=float).reshape(self.shape)


@dataclass(frozen=True)
class RowPositions:
    """Where each row adds to the cross-products of a design.

    Attributes
    ----------
    rows : Rows
        The rows, Z in the coordinates of the cross-products.
    known : CrossProducts
        Those of some weights and response; pattern, centres and scales are kept.
    cells : dict
        For each pair of terms (i, j), i >= j, the blocks of the rows.
    """

    rows: Rows
    known: CrossProducts
    cells: Mapping[tuple[int, int], RowCells | EntryCells]

    @classmethod
    def of(cls, observed: Rows, known: CrossProducts) -> RowPositions:
        """Look up the blocks of all rows.

        Raises
        ------
        ValueError
            When a row has a pair of levels that the cross-products do not have.
        """
        rows = with_centred_terms(observed, known.centres)
        cells = {
            (i, j): _cells(pair, rows.terms[i], rows.terms[j], i == j) for (i, j), pair in known.gram.pairs.items()
        }
        return cls(rows, known, cells)

    def reweight(self, weights: FloatArray) -> BlockGram:
        """Return Z'WZ, for weights (n,), in the pattern of the cross-products."""
        return self.known.gram.with_values({key: cells.values(weights) for key, cells in self.cells.items()})

    def Zt(self, r: FloatArray) -> FloatArray:
        """Return Z'r, (q, c), of columns (n, c)."""
        out, at = np.zeros((self.known.gram.q, r.shape[1])), self.known.gram.offsets
        for some in chunks(self.rows.n, CHUNK_ROWS):
            for t, term in enumerate(self.rows.terms):
                add_term_products(term, r[some], some, out[at[t] : at[t + 1]])
        return out

    def Zb(self, b: FloatArray) -> FloatArray:
        """Return Zb, (n, c), of columns (q, c)."""
        out, at = np.zeros((self.rows.n, b.shape[1])), self.known.gram.offsets
        for t, term in enumerate(self.rows.terms):
            part = b[at[t] : at[t + 1]]
            if isinstance(term, GroupedTerm):
                levels = part.reshape(term.m, term.k, -1)
                for a in range(term.k):
                    each = levels[term.codes, a]
                    out += each if coded(term).Z is None else term.Z[:, a, None] * each
            else:
                out += term.matrix @ part
        return out

    def crossproducts(self, weights: FloatArray, y: FloatArray) -> CrossProducts:
        """Return all cross-products of the rows for other weights and another response, (n,) each.

        Centres and scales stay; the pilot coefficients b0, which keep large common parts out of the sums, are those
        of the new weights.
        """
        p, rows = self.known.p, replace(self.rows, weights=weights, y=y)
        basis = replace(self.known.basis, b0=np.zeros(p))
        A = np.zeros((p + 1, p + 1))
        for some in chunks(rows.n, CHUNK_ROWS) if p else ():
            Xy, WXy = transformed(rows, basis, some)
            A += Xy.T @ WXy
        if p:
            basis = replace(basis, b0=frozen(np.linalg.lstsq(A[:p, :p], A[:p, p])[0]))
        ZtWXy, XytWXy = np.zeros((self.known.gram.q, p + 1)), np.zeros((p + 1, p + 1))
        at = self.known.gram.offsets
        for some in chunks(rows.n, CHUNK_ROWS):
            Xy, WXy = transformed(rows, basis, some)
            XytWXy += Xy.T @ WXy
            for t, term in enumerate(rows.terms):
                add_term_products(term, WXy, some, ZtWXy[at[t] : at[t + 1]])
        return replace(
            self.known,
            gram=self.reweight(weights),
            ZtWXy=frozen(ZtWXy),
            XytWXy=frozen(XytWXy),
            sum_log_weights=sum_of_logs(weights),
            basis=basis,
        )


def _cells(pair: BlockPairs, a: DesignTerm, b: DesignTerm, same: bool) -> RowCells | EntryCells:
    if not (isinstance(a, GroupedTerm) and isinstance(b, GroupedTerm)):
        return _entry_cells(pair, a, b, same)
    left, right = coded(a), coded(b)
    kind = np.int32 if len(pair.rows) <= np.iinfo(np.int32).max else np.int64
    places: IntArray = pair.places(left.codes, right.codes).astype(kind, copy=False)
    first = replace(left, codes=places, m=len(pair.rows))
    return RowCells(first, first if same else replace(right, codes=places, m=len(pair.rows)))


def _entry_cells(pair: BlockPairs, a: DesignTerm, b: DesignTerm, same: bool) -> EntryCells:
    """Return the pairs of entries of the rows of two sparse matrices of which the products are not zero."""
    A, B = sp.csr_array(a.to_sparse()), sp.csr_array(b.to_sparse())
    counts = np.diff(A.indptr) * np.diff(B.indptr)
    rows = np.repeat(np.arange(len(counts)), counts)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    width = np.diff(B.indptr)[rows]
    left, right = A.indptr[rows] + within // width, B.indptr[rows] + within % width
    products, i, j = A.data[left] * B.data[right], A.indices[left], B.indices[right]
    keep = products != 0.0
    if same:
        keep &= i // a.k >= j // b.k  # the lower triangle of levels is stored
    rows, products, i, j = rows[keep], products[keep], i[keep], j[keep]
    cells: IntArray = pair.places(i // a.k, j // b.k).astype(np.int64)
    shape = (len(pair.rows), a.k, b.k)
    return EntryCells(rows, (cells * a.k + i % a.k) * b.k + j % b.k, products, shape)
