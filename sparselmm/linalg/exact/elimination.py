"""What a Schur factorisation sets up once: which terms to eliminate, in which order, and the blocks of Z'WZ."""

from __future__ import annotations

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


def cross_block(gram: BlockGram, first: Terms, rest: Terms, position: IntArray) -> sp.csr_array:
    """Return A12, (m*K, q2); ``position`` places each column of Z within its part."""
    K, q2 = sum(gram.k[t] for t in first), int(sum(gram.sizes[t] for t in rest))
    rows, cols, values = [], [], []
    for i in first:
        for j in rest:
            r, c = gram.element_indices(max(i, j), min(i, j))
            rows.append(position[r if i > j else c])
            cols.append(position[c if i > j else r])
            values.append(gram.pairs[max(i, j), min(i, j)].values.ravel())
    if len(first) > 1:  # explicit zeros give the K rows of a level one pattern
        level, column = np.concatenate(rows) // K, np.concatenate(cols)
        cell = np.unique(level * q2 + column)
        rows += [cell // q2 * K + a for a in range(K)]
        cols += [cell % q2] * K
        values += [np.zeros(len(cell))] * K
    coo = sp.coo_array(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(cols))), shape=(gram.m[first[0]] * K, q2)
    )
    out = coo.tocsr()
    out.sort_indices()
    return out


def dense_rest(gram: BlockGram, rest: Terms, position: IntArray, q2: int) -> FloatArray:
    """Return A22, (q2, q2), symmetric, dense and Fortran-ordered."""
    A = np.zeros((q2, q2), order="F")
    flat = A.reshape(-1, order="F")
    for x, i in enumerate(rest):
        for j in rest[: x + 1]:
            r, c = gram.element_indices(i, j)
            r, c, values = position[r], position[c], gram.pairs[i, j].values.ravel()
            flat[c * q2 + r] = values
            flat[r * q2 + c] = values
    return A
