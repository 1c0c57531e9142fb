"""What a Schur factorisation sets up once: which terms to eliminate, in which order, and the blocks of Z'WZ."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from sparselmm._typing import FloatArray, IntArray
from sparselmm.linalg.blocks import BlockGram

Terms = tuple[int, ...]


def eliminable_terms(gram: BlockGram) -> tuple[int, ...]:
    """Return the terms to eliminate: the largest block-diagonal one and those on the same levels."""
    diagonal = [t for t in range(len(gram.m)) if gram.pairs[t, t].is_block_diagonal]
    if not diagonal:
        return ()
    best: tuple[int, ...] = ()
    for t in diagonal:
        mates = [s for s in diagonal if gram.m[s] == gram.m[t] and _same_levels(gram, s, t)]
        if sum(int(gram.sizes[s]) for s in mates) > sum(int(gram.sizes[s]) for s in best):
            best = tuple(mates)
    return best


def _same_levels(gram: BlockGram, s: int, t: int) -> bool:
    return s == t or gram.pairs[max(s, t), min(s, t)].is_block_diagonal


def eliminated_blocks(gram: BlockGram, first: Terms) -> FloatArray:
    """Return the merged (m, K, K) diagonal blocks of the eliminated terms."""
    starts = np.cumsum([0] + [gram.k[t] for t in first])
    D = np.zeros((gram.m[first[0]], int(starts[-1]), int(starts[-1])))
    for x, i in enumerate(first):
        for y, j in enumerate(first[: x + 1]):
            a, b = slice(starts[x], starts[x + 1]), slice(starts[y], starts[y + 1])
            pair = gram.pairs[i, j]
            D[pair.rows, a, b] = pair.values
            if i != j:
                D[pair.rows, b, a] = pair.values.transpose(0, 2, 1)
    return D


def cross_values(gram: BlockGram, first: Terms, rest: Terms) -> FloatArray:
    """Return the entries between eliminated terms and the rest, pair by pair, after a zero."""
    pairs = [gram.pairs[max(i, j), min(i, j)] for i in first for j in rest]
    return np.concatenate([np.zeros(1), *(pair.values.ravel() for pair in pairs)])


def cross_block(gram: BlockGram, first: Terms, rest: Terms, position: IntArray) -> tuple[sp.csr_array, IntArray]:
    """Return A12, (m*K, q2), and where in `cross_values` each of its stored entries comes from.

    ``position`` places each column of Z within its part.
    """
    K, q2 = sum(gram.k[t] for t in first), int(sum(gram.sizes[t] for t in rest))
    rows, cols = [], []
    for i in first:
        for j in rest:
            r, c = gram.element_indices(max(i, j), min(i, j))
            rows.append(position[r if i > j else c])
            cols.append(position[c if i > j else r])
    count = sum(map(len, rows))
    kind: Any = np.int32 if count < np.iinfo(np.int32).max else np.int64
    sources = [np.arange(1, count + 1, dtype=kind)]
    if len(first) > 1:  # explicit zeros give the K rows of a level one pattern; others keep their source
        level, column = np.concatenate(rows) // K, np.concatenate(cols)
        cell = np.unique(level * q2 + column)
        rows += [cell // q2 * K + a for a in range(K)]
        cols += [cell % q2] * K
        sources.append(np.zeros(K * len(cell), dtype=kind))
    places = (np.concatenate(rows), np.concatenate(cols))
    out = sp.csr_array(sp.coo_array((np.concatenate(sources), places), shape=(gram.m[first[0]] * K, q2)))
    out.sort_indices()
    source: IntArray = out.data
    values = np.take(cross_values(gram, first, rest), source)
    return sp.csr_array((values, out.indices, out.indptr), shape=out.shape), source


def dense_rest(gram: BlockGram, rest: Terms, position: IntArray, q2: int) -> FloatArray:
    """Return A22, (q2, q2), symmetric, dense and Fortran-ordered."""
    A = np.zeros((q2, q2), order="F")
    fill_rest(gram, rest, position, A)
    return A


def fill_rest(gram: BlockGram, rest: Terms, position: IntArray, A: FloatArray) -> None:
    """Write the entries of A22 into A, which is zero elsewhere."""
    q2 = len(A)
    flat = A.reshape(-1, order="F")
    for x, i in enumerate(rest):
        for j in rest[: x + 1]:
            r, c = gram.element_indices(i, j)
            r, c, values = position[r], position[c], gram.pairs[i, j].values.ravel()
            flat[c * q2 + r] = values
            flat[r * q2 + c] = values
