"""The exact sum of squares of S, which takes the second-order part of the log-determinant from the probes.

It costs one sparse product W'W, about the squared number of cells of each eliminated level. Where that is
no more than the products of a few probes, the variance falls from the second to the third power of the
eigenvalues of S.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from sparselmm._typing import FloatArray
from sparselmm.linalg.iterative.layout import Coupling, Layout
from sparselmm.linalg.iterative.operator import ReducedSystem

WORTH = 64  # products of the cells with so many columns
CHUNK = 4_000_000  # entries of W'W formed at a time


def affordable(layout: Layout) -> bool:
    """Return whether W'W costs no more than a few probes."""
    cells = np.zeros(layout.first.m)
    for group, cross in zip(layout.rest, layout.to_first):
        cells += group.K * cross.counts()
    return bool((cells**2).sum() <= WORTH * cells.sum())


def sum_of_squares(reduced: ReducedSystem) -> float:
    """Return the squared Frobenius norm of S."""
    layout, G = reduced.layout, [g.values for g in reduced.G]
    W = sp.csr_array(
        sp.hstack(
            [_scaled(cross, reduced.F.transpose(0, 2, 1), g) for cross, g in zip(layout.to_first, G)], format="csr"
        )
    )
    R = _within(reduced, G)
    back = sp.csr_array(W.T.tocsr())
    total, rows = 0.0, max(1, int(CHUNK * back.shape[0] / max(_updates(W), 1)))
    for a in range(0, back.shape[0], rows):
        part = back[a : a + rows] @ W
        if R is not None:
            part = part - R[a : a + rows]
        total += float(part.data @ part.data)
    for explained, g in zip(reduced.explained, G):
        own = g.transpose(0, 2, 1) @ explained.values @ g
        total -= float((own**2).sum())
    return total


def _updates(W: sp.csr_array) -> float:
    return float((np.diff(W.indptr).astype(np.float64) ** 2).sum())


def _scaled(coupling: Coupling, left: FloatArray, right: FloatArray) -> sp.csr_array:
    """Return the block with each cell a as left'a right, sparse by elements."""
    rows, cols = coupling.levels()
    values = left.transpose(0, 2, 1)[rows] @ coupling.cells() @ right[cols]
    shape = (len(left) * left.shape[2], len(right) * right.shape[2])
    k, r = values.shape[1:]
    i = np.broadcast_to(rows[:, None, None] * k + np.arange(k)[:, None], values.shape)
    j = np.broadcast_to(cols[:, None, None] * r + np.arange(r), values.shape)
    return sp.csr_array(sp.coo_array((values.ravel(), (i.ravel(), j.ravel())), shape=shape))


def _within(reduced: ReducedSystem, G: list[FloatArray]) -> sp.csr_array | None:
    """Return G'AG of the blocks between groups of the rest, (q2, q2), symmetric; None where there are none."""
    if not reduced.layout.within:
        return None
    starts, q2 = reduced.starts, reduced.q2
    out = sp.csr_array((q2, q2))
    for a, b, coupling in reduced.layout.within:
        part = sp.coo_array(_scaled(coupling, G[a], G[b]))
        i, j = part.row + starts[a], part.col + starts[b]
        ends = (np.concatenate([i, j]), np.concatenate([j, i]))
        out = out + sp.csr_array(sp.coo_array((np.tile(part.data, 2), ends), shape=(q2, q2)))
    return sp.csr_array(out)
