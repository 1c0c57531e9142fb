"""The exact sum of squares of S, which takes the second-order part of the log-determinant from the probes.

It costs one sparse product W'W, about the squared number of cells of each eliminated level. Where that is less
than the probes it saves, the variance falls from the second to the third power of the eigenvalues of S.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.sparse as sp

from sparselmm._typing import FloatArray
from sparselmm.linalg.iterative.layout import Coupling, Layout
from sparselmm.linalg.iterative.operator import ReducedSystem
from sparselmm.linalg.kernels._native import squares_of_rows
from sparselmm.linalg.products import run_jobs
from sparselmm.linalg.threads import free_threads

UPDATES_PER_PROBE = 1.0  # additions per cell that take as long as a probe's products
MOST_CELLS = 30_000_000
CHUNKS = 16


def cost_in_probes(layout: Layout) -> float:
    """Return what the sum of squares costs, in probes; infinite where W would take much memory."""
    cells = np.zeros(layout.first.m)
    for group, cross in zip(layout.rest, layout.to_first):
        cells += group.K * cross.counts()
    cells *= layout.first.K
    if cells.sum() > MOST_CELLS:
        return float("inf")
    return float((cells**2).sum() / layout.first.K / (cells.sum() * UPDATES_PER_PROBE))


def sum_of_squares(reduced: ReducedSystem) -> float:
    """Return the squared Frobenius norm of S."""
    layout, G = reduced.layout, [g.values for g in reduced.G]
    F = reduced.F.transpose(0, 2, 1)
    W = sp.csr_array(sp.hstack([_scaled(cross, F, g) for cross, g in zip(layout.to_first, G)], format="csr"))
    back, R = sp.csr_array(W.T.tocsr()), _within(reduced, G)
    kernel: Callable[..., float] = squares_of_rows
    index = np.result_type(back.indices, W.indices, R.indices)
    parts = [x for A in (back, W, R) for x in (A.indptr, A.indices.astype(index, copy=False), A.data)]
    found = np.zeros(CHUNKS)

    def job(c: int, first: int, last: int) -> Callable[[], object]:
        def work() -> None:
            found[c] = kernel(*parts, first, last)

        return work

    cuts = np.linspace(0, back.shape[0], CHUNKS + 1).astype(int)
    run_jobs([job(c, int(cuts[c]), int(cuts[c + 1])) for c in range(CHUNKS)], free_threads())
    total = float(found.sum())
    for explained, g in zip(reduced.explained, G):
        own = g.transpose(0, 2, 1) @ explained.values @ g
        total -= float((own**2).sum())
    return total


def _scaled(coupling: Coupling, left: FloatArray, right: FloatArray) -> sp.csr_array:
    """Return the block with each cell a as left'a right, sparse by elements."""
    pairs = coupling.pairs
    rows, cols = coupling.levels()
    values = left.transpose(0, 2, 1)[rows] @ coupling.cells() @ right[cols]
    if coupling.turned:
        values, left, right = values.transpose(0, 2, 1), right, left
    indptr = np.searchsorted(pairs.rows, np.arange(len(left) + 1))
    shape = (len(left) * left.shape[2], len(right) * right.shape[2])
    out = sp.csr_array(sp.bsr_array((np.ascontiguousarray(values), pairs.cols, indptr), shape=shape).tocsr())
    return sp.csr_array(out.T.tocsr()) if coupling.turned else out


def _within(reduced: ReducedSystem, G: list[FloatArray]) -> sp.csr_array:
    """Return G'AG of the blocks between groups of the rest, (q2, q2), symmetric."""
    starts, q2 = reduced.starts, reduced.q2
    out = sp.csr_array((q2, q2))
    for a, b, coupling in reduced.layout.within:
        part = sp.coo_array(_scaled(coupling, G[a], G[b]))
        i, j = part.row + starts[a], part.col + starts[b]
        ends = (np.concatenate([i, j]), np.concatenate([j, i]))
        out = out + sp.csr_array(sp.coo_array((np.tile(part.data, 2), ends), shape=(q2, q2)))
    return sp.csr_array(out)
