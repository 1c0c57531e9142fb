"""The exact log-determinant of a system that is treated by Monte Carlo, once, by a dense factorisation.

The normalised Schur complement I - S, (q2, q2), is kept as panels of columns from the diagonal down,
half of the full square. Each panel is formed by sparse products just before it is factored (left-looking
Cholesky), so nothing else of that size is needed.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import scipy.sparse as sp
from scipy.linalg import blas, lapack

from sparselmm._typing import FloatArray, IntArray
from sparselmm.exceptions import NumericalError
from sparselmm.linalg.audit.report import AuditCost
from sparselmm.linalg.blocks import BlockGram
from sparselmm.linalg.exact.batched import batched_lower_solve
from sparselmm.linalg.exact.elimination import cross_block
from sparselmm.linalg.iterative.layout import Layout
from sparselmm.linalg.iterative.operator import ReducedSystem
from sparselmm.linalg.kernels._native import subtract_products
from sparselmm.linalg.machine import SCATTER_RATE, available_memory

PANEL = 512
STRIP = 16  # columns that are formed together
TRIAL = 768  # size of the product from which the speed of the machine is read
REACHED = 0.6  # of that speed
CELL_BYTES = 72.0  # of the scaled cross block and the arrays it is made from, per cell
Listener = Callable[[float], None]


def audit_cost(layout: Layout) -> AuditCost:
    """Return the cost of `exact_logdet`; it takes a moment to measure the speed of matrix products."""
    q2 = float(sum(g.size for g in layout.rest))
    cells = float(sum(c.block.nnz for c in layout.to_first) + sum(c.block.nnz for *_, c in layout.within))
    K = layout.first.K * max(g.K for g in layout.rest)
    work = _pairs_of_cells(layout)
    flops = q2**3 / 3.0 + 2.0 * work
    stored = 4.0 * q2 * (q2 + PANEL) + CELL_BYTES * K * cells + 8.0 * STRIP * q2
    seconds = q2**3 / 3.0 / (REACHED * _speed()) + work / SCATTER_RATE
    return AuditCost(int(q2), stored, flops, seconds, available_memory())


def _pairs_of_cells(layout: Layout) -> float:
    """Return the updates of the Schur complement, half the sum of the squared entries per eliminated row."""
    first = layout.first
    counts = np.zeros(first.m)
    for group, cross in zip(layout.rest, layout.to_first):
        pairs = cross.pairs
        counts += group.K * np.bincount(pairs.cols if cross.turned else pairs.rows, minlength=first.m)
    return 0.5 * first.K * float((counts**2).sum())


def _speed() -> float:
    """Return the operations per second of a matrix product on this machine."""
    A = np.asfortranarray(np.random.default_rng(0).standard_normal((TRIAL, TRIAL)))
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        blas.dgemm(1.0, A, A)
        seconds.append(time.perf_counter() - start)
    return 2.0 * TRIAL**3 / min(seconds)


def exact_logdet(gram: BlockGram, reduced: ReducedSystem, listener: Listener | None = None) -> float:
    """Return log|M| without the border, by the Cholesky factorisation of I - S.

    Parameters
    ----------
    gram : BlockGram
        Z'WZ.
    reduced : ReducedSystem
        At the θ in question.
    listener : callable, optional
        Told the share of the work that is done.
    """
    cross, within = scaled_blocks(gram, reduced)
    widths = np.concatenate([np.full(g.m, g.K) for g in reduced.layout.rest])
    return reduced.logdet + tiled_logdet(cross, within, widths, listener=listener)


def scaled_blocks(gram: BlockGram, reduced: ReducedSystem) -> tuple[sp.csr_array, sp.csc_array]:
    """Return B and E with I - S = E - B'B outside the diagonal blocks, (q1, q2) and the lower part of (q2, q2)."""
    layout = reduced.layout
    rest = tuple(t for g in layout.rest for t in g.terms)
    position = np.zeros(gram.q, dtype=np.int64)
    position[layout.first.columns.ravel()] = np.arange(layout.first.size)
    columns = np.concatenate([g.columns.ravel() for g in layout.rest])
    position[columns] = np.arange(len(columns))
    G = sp.csr_array(sp.block_diag([_block_diagonal(x.values) for x in reduced.G], format="csr"))
    F = batched_lower_solve(reduced.L1, np.broadcast_to(reduced.T1.T, reduced.L1.shape))
    cross = sp.csr_array(_block_diagonal(F) @ cross_block(gram, layout.first.terms, rest, position)[0] @ G)
    cross.sort_indices()
    within = _within(gram, rest, position, len(columns))
    return cross, sp.csc_array(sp.tril(G.T @ within @ G, format="csc"))


def _block_diagonal(blocks: FloatArray) -> sp.csr_array:
    m, K, _ = blocks.shape
    return sp.csr_array(sp.bsr_array((blocks, np.arange(m), np.arange(m + 1)), shape=(m * K, m * K)))


def _within(gram: BlockGram, rest: tuple[int, ...], position: IntArray, q2: int) -> sp.csr_array:
    """Return the blocks of Z'WZ between different levels of the rest, (q2, q2); diagonal blocks are not right."""
    out = sp.csr_array((q2, q2))
    for x in rest:
        for y in rest:
            if x < y or (x == y and gram.pairs[x, x].is_block_diagonal):
                continue
            r, c = gram.element_indices(x, y)
            part = sp.coo_array((gram.pairs[x, y].values.ravel(), (position[r], position[c])), shape=(q2, q2)).tocsr()
            out = out + part + part.T
    return sp.csr_array(out)


def tiled_logdet(
    cross: sp.csr_array,
    within: sp.csc_array,
    widths: IntArray,
    *,
    panel: int = PANEL,
    listener: Listener | None = None,
) -> float:
    """Return log|E - B'B| with the diagonal blocks, of the given widths, replaced by identities.

    Parameters
    ----------
    cross : (q1, q2) sparse array
        B, with sorted indices.
    within : (q2, q2) sparse array
        The lower triangle of E.
    widths : (blocks,) int array
        Sizes of the diagonal blocks.
    panel : int
        Columns per panel.
    listener : callable, optional
        Told the share of the work that is done.
    """
    q2 = cross.shape[1]
    former = _Former(cross, within, widths)
    panels: list[FloatArray] = []
    total = 0.0
    for start in range(0, q2, panel):
        stop = min(start + panel, q2)
        P = former.columns(start, stop)
        for k, L in enumerate(panels):
            left, right = L[start - k * panel : stop - k * panel], L[start - k * panel :]
            # in Fortran's order the transposes are contiguous, so that nothing is copied
            blas.dgemm(-1.0, left.T, right.T, beta=1.0, c=P.T, trans_a=1, overwrite_c=1)
        total += _factor_panel(P, stop - start)
        panels.append(P)
        if listener is not None:
            listener(1.0 - (1.0 - stop / q2) ** 2 * (1.0 + 2.0 * stop / q2))
    return total


def _factor_panel(P: FloatArray, width: int) -> float:
    """Replace a panel, (h, width), by its part of the Cholesky factor; return its part of the log-determinant."""
    head = P[:width].T
    _, info = lapack.dpotrf(head, lower=0, clean=0, overwrite_a=1)
    if info != 0:
        raise NumericalError(f"the Schur complement is not positive definite (column {info} of a panel)")
    if len(P) > width:
        blas.dtrsm(1.0, head, P[width:].T, side=0, lower=0, trans_a=1, overwrite_b=1)
    return 2.0 * float(np.log(np.diag(head)).sum())


class _Former:
    """Forms columns of the matrix from the diagonal down."""

    def __init__(self, cross: sp.csr_array, within: sp.csc_array, widths: IntArray) -> None:
        self._cross, self._within = cross, within
        places = sp.csr_array((np.arange(cross.nnz), cross.indices, cross.indptr), shape=cross.shape).tocsc()
        self._column_ptr, self._rows, self._places = places.indptr, places.indices, places.data
        self._ends = np.repeat(np.cumsum(widths), widths)  # where the diagonal block of each column ends

    def columns(self, start: int, stop: int) -> FloatArray:
        """Return rows from ``start`` on of columns start:stop, (q2 - start, stop - start), C-ordered."""
        q2, cross = self._cross.shape[1], self._cross
        out = np.empty((q2 - start, stop - start))
        for a in range(start, stop, STRIP):
            b = min(a + STRIP, stop)
            strip = np.zeros((b - a, q2 - start))
            piece = self._within[:, a:b].tocoo()
            strip[piece.col, piece.row - start] = piece.data
            subtract_products(
                cross.indptr, cross.indices, cross.data, self._column_ptr, self._rows, self._places, a, start, strip
            )
            for j in range(b - a):
                strip[j, a + j - start : self._ends[a + j] - start] = 0.0
                strip[j, a + j - start] = 1.0
            out[:, a - start : b - start] = strip.T
        return out
