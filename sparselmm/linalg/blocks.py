"""Symmetric matrices stored as blocks between random terms.

Z'WZ of a model with terms of m_t levels and k_t coefficients has a sparse pattern of
k_t×k_s blocks, one for each pair of levels that occur together in a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

from sparselmm._typing import FloatArray, IntArray
from sparselmm.linalg.kernels.types import same_type
from sparselmm.linalg.products import CrossBlock
from sparselmm.linalg.threads import free_threads

DENSE_COLUMNS = 2_000
DENSE_SHARE = 0.2
HEAD = 1_000
MANY_CELLS = 2_000_000


@dataclass(frozen=True)
class BlockPairs:
    """Blocks between the levels of two terms, sorted by row then column, each pair once.

    Attributes
    ----------
    rows, cols : (nb,) int arrays
        Level of the first and of the second term; int32 from data, so widen before multiplying (`keys`).
    values : (nb, k_row, k_col) array
        The blocks; one read-only number for all of them where each is the single row of two intercepts.
    """

    rows: IntArray
    cols: IntArray
    values: FloatArray

    @cached_property
    def is_block_diagonal(self) -> bool:
        """Whether every block joins a level with itself."""
        if self.rows is self.cols:
            return True
        head = slice(HEAD)
        return np.array_equal(self.rows[head], self.cols[head]) and np.array_equal(self.rows, self.cols)

    def with_values(self, values: FloatArray) -> BlockPairs:
        """Return other blocks in the same places."""
        if values.shape != self.values.shape:
            raise ValueError(f"blocks of shape {values.shape} do not fit into the places of {self.values.shape}")
        return BlockPairs(self.rows, self.cols, values)

    def same_places(self, other: BlockPairs) -> bool:
        """Return whether other blocks lie in the same places and have the same size."""
        if self.values.shape != other.values.shape:
            return False
        ends = ((self.rows, other.rows), (self.cols, other.cols))
        return all(x is y or np.array_equal(x, y) for x, y in ends)

    def places(self, rows: IntArray, cols: IntArray) -> IntArray:
        """Return the positions of the blocks (row, col), (n,); all of them must be stored."""
        complete = self.is_block_diagonal and len(self.rows) > 0 and len(self.rows) == int(self.rows[-1]) + 1
        if complete and (rows is cols or np.array_equal(rows, cols)):
            return rows
        width = 1 + max(int(self.cols.max(initial=0)), int(cols.max(initial=0)))
        known, wanted = self.keys(width), rows.astype(np.int64) * width + cols
        out: IntArray = np.searchsorted(known, wanted)
        if len(wanted) and (not len(known) or np.any(known[np.minimum(out, len(known) - 1)] != wanted)):
            raise ValueError("a pair of levels of these rows is not in the pattern of the cross-products")
        return out

    def keys(self, width: int) -> IntArray:
        """Return ``row * width + col`` as int64, (nb,), increasing for a width above all columns."""
        out: IntArray = self.rows.astype(np.int64)
        out *= width
        out += self.cols
        return out

    def matrix(self, m_row: int, m_col: int) -> sp.csr_array | sp.bsr_array:
        """Return the blocks as one sparse matrix, (m_row*k_row, m_col*k_col), sharing the values where it can."""
        indptr = np.searchsorted(self.rows, np.arange(m_row + 1, dtype=self.rows.dtype))
        _, kr, kc = self.values.shape
        if kr == kc == 1:
            data = np.ascontiguousarray(self.values.reshape(-1))
            return sp.csr_array((data, self.cols, indptr), shape=(m_row, m_col))
        return sp.bsr_array((self.values, self.cols, indptr), shape=(m_row * kr, m_col * kc))


@dataclass(frozen=True)
class BlockGram:
    """The blocks of Z'WZ for all pairs of terms (i, j) with i >= j.

    Attributes
    ----------
    m, k : tuple of int
        Levels and coefficients of each term.
    pairs : dict
        ``pairs[i, j]`` for i >= j; the pairs (i, i) hold the lower triangle of levels.
    """

    m: tuple[int, ...]
    k: tuple[int, ...]
    pairs: dict[tuple[int, int], BlockPairs]

    @property
    def sizes(self) -> IntArray:
        """Columns of Z per term."""
        return np.array(self.m, dtype=np.int64) * np.array(self.k, dtype=np.int64)

    @cached_property
    def offsets(self) -> IntArray:
        """First column of each term in Z, and q at the end, (n_terms + 1,)."""
        return np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.int64)

    @property
    def q(self) -> int:
        """Columns of Z."""
        return int(self.offsets[-1])

    def with_values(self, values: Mapping[tuple[int, int], FloatArray]) -> BlockGram:
        """Return a matrix of the same pattern with other numbers, aligned with ``pairs``.

        What was found of the pattern is not found again.
        """
        out = replace(self, pairs={key: pair.with_values(values[key]) for key, pair in self.pairs.items()})
        known = self.__dict__
        out.__dict__.update({name: known[name] for name in ("offsets", "components") if name in known})
        if "_crosses" in known:
            out.__dict__["_crosses"] = {
                (i, j): block.with_values(out.pairs[i, j].rows, out.pairs[i, j].cols, out.pairs[i, j].values)
                for (i, j), block in self._crosses.items()
            }
        return out

    def refuse_other_pattern(self, other: BlockGram) -> None:
        """Raise an error unless another matrix has this pattern."""
        same = self.m == other.m and self.k == other.k and self.pairs.keys() == other.pairs.keys()
        if not (same and all(pair.same_places(other.pairs[key]) for key, pair in self.pairs.items())):
            raise ValueError("the numbers of Z'WZ can be changed only within its pattern: these have another one")

    def diagonal(self, t: int) -> FloatArray:
        """Return the (m, k, k) diagonal blocks of term t."""
        pair = self.pairs[t, t]
        if pair.is_block_diagonal and len(pair.rows) == self.m[t]:
            return pair.values
        out = np.zeros((self.m[t], self.k[t], self.k[t]))
        on = pair.rows == pair.cols
        out[pair.rows[on]] = pair.values[on]
        return out

    def __getstate__(self) -> dict[str, object]:
        return {"m": self.m, "k": self.k, "pairs": self.pairs}

    def cross(self, i: int, j: int) -> CrossBlock:
        """Return the block of two terms, i > j, ready for products; those with many cells are made once."""
        return self._crosses[i, j] if (i, j) in self._crosses else self._cross(i, j)

    def made_cross(self, i: int, j: int) -> CrossBlock | None:
        """Return the block of two terms with many cells if it was made, with the numbers of this matrix."""
        return self._crosses[i, j] if "_crosses" in self.__dict__ and (i, j) in self._crosses else None

    def _cross(self, i: int, j: int) -> CrossBlock:
        pair = self.pairs[i, j]
        return CrossBlock(pair.rows, pair.cols, pair.values, self.m[i], self.m[j], threads=free_threads())

    @cached_property
    def _crosses(self) -> dict[tuple[int, int], CrossBlock]:
        """The pairs of two terms with many cells."""
        return {(i, j): self._cross(i, j) for (i, j), pair in self.pairs.items() if i != j and _many(pair)}

    @cached_property
    def _matrices(self) -> list[tuple[int, int, sp.csr_array | sp.bsr_array]]:
        """The pairs as sparse matrices, without those of `_crosses`."""
        return [
            (i, j, pair.matrix(self.m[i], self.m[j]))
            for (i, j), pair in self.pairs.items()
            if len(pair.rows) and (i == j or not _many(pair))
        ]

    @cached_property
    def _dense(self) -> FloatArray | None:
        """Z'WZ as a dense array where it is small and well filled, else None."""
        stored = sum((1 if i == j else 2) * pair.values.size for (i, j), pair in self.pairs.items())
        if self.q > DENSE_COLUMNS or stored < DENSE_SHARE * self.q**2:
            return None
        A = np.zeros((self.q, self.q))
        for i, j in self.pairs:
            rows, cols = self.element_indices(i, j)
            A[rows, cols] = A[cols, rows] = self.pairs[i, j].values.ravel()
        return A

    def dot(self, B: FloatArray) -> FloatArray:
        """Return Z'WZ B, (q, r)."""
        if self._dense is not None:
            return np.asarray(self._dense @ B)
        return self._sparse_dot(B)

    def _sparse_dot(self, B: FloatArray) -> FloatArray:
        out, at = np.zeros_like(B), self.offsets
        for (i, j), block in self._crosses.items():
            out[at[i] : at[i + 1]] += block.dot(np.ascontiguousarray(B[at[j] : at[j + 1]]))
            out[at[j] : at[j + 1]] += block.tdot(np.ascontiguousarray(B[at[i] : at[i + 1]]))
        for i, j, A in self._matrices:
            out[at[i] : at[i + 1]] += A @ B[at[j] : at[j + 1]]
            if i != j:
                out[at[j] : at[j + 1]] += A.T @ B[at[i] : at[i + 1]]
            elif not self.pairs[i, i].is_block_diagonal:
                strict = self.pairs[i, i]
                below = strict.rows > strict.cols
                part = BlockPairs(strict.rows[below], strict.cols[below], strict.values[below])
                out[at[i] : at[i + 1]] += part.matrix(self.m[i], self.m[i]).T @ B[at[i] : at[i + 1]]
        return out

    @cached_property
    def components(self) -> tuple[IntArray, ...]:
        """The connected component of each level, per term, (m,): levels of different ones never share a block."""
        starts = np.concatenate([[0], np.cumsum(self.m)])
        joined = {key: pair for key, pair in self.pairs.items() if key[0] != key[1] or not pair.is_block_diagonal}
        many = sum(len(pair.rows) for pair in joined.values()) >= MANY_CELLS
        labels = (_labels_by_joining if many else _labels_of_graph)(joined, starts)
        return tuple(labels[a:b] for a, b in pairwise(starts))

    def column_batches(self, t: int, cells: int) -> Iterator[tuple[IntArray, IntArray, FloatArray]]:
        """Yield levels of term t, the place of each in the batch, and dense columns of Z'WZ, (q, b*k).

        Levels of different components share a place: their columns are added, and nothing that the solver
        does mixes them. So a nested design has as many places as its largest component has levels.
        """
        k, component = self.k[t], self.components[t]
        order = np.argsort(component, kind="stable")
        counts = np.bincount(component)
        place = np.empty(self.m[t], dtype=np.int64)
        place[order] = np.arange(self.m[t]) - np.repeat(np.cumsum(counts) - counts, counts)
        step = max(1, cells // max(self.q * k, 1))
        for first in range(0, int(place.max()) + 1, step):
            levels = np.flatnonzero((place >= first) & (place < first + step))
            within = place[levels] - first
            E = np.zeros((self.q, (int(within.max()) + 1) * k))
            for c in range(k):
                E[self.offsets[t] + levels * k + c, within * k + c] = 1.0
            yield levels, within, self.dot(E)

    def element_indices(self, i: int, j: int) -> tuple[IntArray, IntArray]:
        """Return the row and column in Z'WZ of each entry of ``pairs[i, j].values``, flattened."""
        pair = self.pairs[i, j]
        ki, kj = self.k[i], self.k[j]
        shape = (len(pair.rows), ki, kj)
        rows = self.offsets[i] + pair.rows[:, None, None] * ki + np.arange(ki)[None, :, None]
        cols = self.offsets[j] + pair.cols[:, None, None] * kj + np.arange(kj)[None, None, :]
        return np.broadcast_to(rows, shape).ravel(), np.broadcast_to(cols, shape).ravel()


def _many(pair: BlockPairs) -> bool:
    return len(pair.rows) >= MANY_CELLS


def _labels_of_graph(pairs: dict[tuple[int, int], BlockPairs], starts: IntArray) -> IntArray:
    """Return the connected component of each level of all terms, numbered from ``starts``."""
    ends = [(starts[i] + pair.rows, starts[j] + pair.cols) for (i, j), pair in pairs.items()]
    rows, cols = (np.concatenate(x) for x in zip(*ends)) if ends else (np.zeros(0, dtype=np.int64),) * 2
    graph = sp.coo_array((np.ones(len(rows), dtype=np.int8), (rows, cols)), shape=(int(starts[-1]),) * 2)
    labels: IntArray = connected_components(graph.tocsr(), directed=False)[1].astype(np.int64)
    return labels


def _labels_by_joining(pairs: dict[tuple[int, int], BlockPairs], starts: IntArray) -> IntArray:
    """Return the same without a copy of the cells."""
    from sparselmm.linalg.kernels._native import join_components

    parent = np.arange(starts[-1])
    for (i, j), pair in pairs.items():
        join_components(*same_type(pair.rows, pair.cols), int(starts[i]), int(starts[j]), parent)
    while not np.array_equal(parent, parent[parent]):
        parent = parent[parent]
    labels: IntArray = np.unique(parent, return_inverse=True)[1]
    return labels


Templates = tuple[FloatArray, ...]


def same_templates(a: Templates, b: Templates) -> bool:
    """Return whether two sets of templates are equal to the last bit."""
    return len(a) == len(b) and all(map(np.array_equal, a, b))


def scale_blocks(values: FloatArray, left: FloatArray, right: FloatArray) -> FloatArray:
    """Return left' B right for each block B, (nb, k_row, k_col)."""
    if left.shape == (1, 1) and right.shape == (1, 1):
        return np.asarray(values * (left[0, 0] * right[0, 0]))
    out: FloatArray = left.T @ values @ right
    return out


def apply_transposed(B: FloatArray, templates: Templates, gram: BlockGram) -> FloatArray:
    """Return Λ'B for a (q, r) matrix."""
    return _apply(B, tuple(T.T for T in templates), gram)


def apply_factor(B: FloatArray, templates: Templates, gram: BlockGram) -> FloatArray:
    """Return ΛB for a (q, r) matrix."""
    return _apply(B, templates, gram)


def _apply(B: FloatArray, matrices: Templates, gram: BlockGram) -> FloatArray:
    out = np.empty_like(B)
    r = B.shape[1]
    for t, T in enumerate(matrices):
        a, b = gram.offsets[t], gram.offsets[t + 1]
        if T.shape == (1, 1):
            np.multiply(B[a:b], T[0, 0], out=out[a:b])
        else:
            out[a:b] = (T @ B[a:b].reshape(gram.m[t], gram.k[t], r)).reshape(b - a, r)
    return out
