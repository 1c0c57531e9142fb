"""Products with the sparse block that couples two grouping factors."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from functools import cache
from typing import Any

import numpy as np

from sparselmm._typing import AnyArray, FloatArray, IntArray
from sparselmm.linalg.kernels import _native as native
from sparselmm.linalg.kernels.types import same_type
from sparselmm.linalg.threads import at_most

TILE = 32768  # input levels whose rows of 64 bytes fill a second-level cache of 2 MB
LANE_BYTES = 64  # widest row that is gathered at once
CELLS_PER_SEGMENT = 12  # with fewer cells per output level and tile, the loop over tiles would cost more than it saves
CHUNKS_PER_THREAD = 4
NO_VALUES = np.empty((0, 1, 1), dtype=np.uint8)


def aligned_empty(shape: tuple[int, ...], dtype: Any) -> AnyArray:
    """Return an empty C-contiguous array that begins at a multiple of 64 bytes."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.empty(size + LANE_BYTES, dtype=np.uint8)
    start = -memory.ctypes.data % LANE_BYTES
    out: AnyArray = memory[start : start + size].view(dtype).reshape(shape)
    return out


@cache
def _pool(workers: int) -> ThreadPoolExecutor:
    """Return the pool of so many worker threads, shared by all blocks."""
    return ThreadPoolExecutor(workers, thread_name_prefix="sparselmm-products")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork


def run_jobs(jobs: list[Callable[[], object]], threads: int) -> None:
    """Run the jobs on so many threads, this one among them, each taking the next job when it is free.

    `sparselmm.set_threads` holds from then on for blocks that were made before, too.
    """
    threads = at_most(threads)
    waiting = deque(jobs)

    def work() -> None:
        while True:
            try:
                job = waiting.popleft()
            except IndexError:
                return
            job()

    helpers = min(threads, len(jobs)) - 1
    futures = [_pool(threads - 1).submit(work) for _ in range(helpers)]
    try:
        work()
    finally:
        waiting.clear()  # after an error here the others stop early
        for future in futures:
            if not future.cancel():  # a helper that has not begun is not needed any more
                future.result()


def _stored_values(values: FloatArray) -> AnyArray | None:
    """Return the values in the smallest type that holds them exactly; None where all cells are the number 1."""
    if values.shape[1:] == (1, 1) and _holds(values, lambda part: part == 1.0):
        return None
    if _holds(values, lambda part: (part >= 0.0) & (part <= 255.0) & (part == np.floor(part))):
        return values.astype(np.uint8)
    with np.errstate(over="ignore"):
        exact = _holds(values, lambda part: part.astype(np.float32) == part)
    return values.astype(np.float32) if exact else values


def _both_ways(values: FloatArray) -> tuple[AnyArray | None, AnyArray | None]:
    """Return the stored values and their transposes."""
    stored = _stored_values(values)
    return stored, None if stored is None else stored.transpose(0, 2, 1)


def _holds(values: FloatArray, condition: Callable[[FloatArray], AnyArray], step: int = 1 << 18) -> bool:
    """Return whether the condition holds for all the values, looked at in pieces."""
    if not any(values.strides):
        values = values[:1]
    return all(bool(np.all(condition(values[k : k + step]))) for k in range(0, len(values), step))


class TiledPattern:
    """The cells of a block by output level, inside tiles of input levels small enough for the cache.

    Parameters
    ----------
    outs, ins : (nb,) integer arrays
        Levels of the cells, for which rows are summed and of which they are sums.
    values : (nb, k_out, k_in) or None
        The cells; None means that all are the number 1.
    m_out, m_in : int
        Numbers of levels.
    threads : int
        Number of threads a product may use.
    """

    def __init__(
        self, outs: IntArray, ins: IntArray, values: AnyArray | None, m_out: int, m_in: int, threads: int
    ) -> None:
        self.m_out, self.m_in, self.threads, nb = m_out, m_in, threads, len(outs)
        self.k_out, self.k_in = (1, 1) if values is None else values.shape[1:]
        self.tile = _tile(nb, m_out, m_in)
        self.tiles = max(1, -(-m_in // self.tile))
        self.ptr = np.empty(self.tiles * m_out + 1, dtype=np.int64)
        self.idx = np.empty(nb, dtype=np.uint16 if self.tile <= 65536 else np.int32)
        where = (*same_type(outs, ins), self.tile, m_out, self.ptr)
        native.count_tile_cells(*where)
        native.place_tile_cells(*where, self.idx)
        self._place(outs, ins, values)
        self._chunks = self._equal_chunks()

    def _place(self, outs: IntArray, ins: IntArray, values: AnyArray | None) -> None:
        self.ones, self.values = values is None, NO_VALUES
        if values is not None:
            self.values = np.empty((len(outs), self.k_out, self.k_in), dtype=values.dtype)
            where = (*same_type(outs, ins), self.tile, self.m_out, self.ptr)
            native.place_tile_values(*where, np.ascontiguousarray(values), self.values)

    def with_values(self, outs: IntArray, ins: IntArray, values: AnyArray | None) -> TiledPattern:
        """Return other values of the same cells."""
        out = copy(self)
        out._place(outs, ins, values)
        return out

    def counts(self) -> IntArray:
        """Return the number of cells of each output level, (m_out,)."""
        return np.asarray(np.diff(self.ptr).reshape(self.tiles, self.m_out).sum(axis=0))

    def _equal_chunks(self) -> list[tuple[int, int]]:
        """Return ranges of output levels with about equal work."""
        if self.threads == 1 or self.m_out == 0:
            return [(0, self.m_out)]  # every tile is brought into the cache once
        work = np.cumsum(self.counts() + 8 * self.tiles)  # to begin a sum takes as long as some cells
        count = CHUNKS_PER_THREAD * self.threads
        cuts = np.searchsorted(work, work[-1] * np.arange(1, count) / count).tolist()
        return [(a, b) for a, b in zip([0, *cuts], [*cuts, self.m_out]) if a < b]

    @property
    def bytes(self) -> int:
        """Bytes of memory."""
        return self.ptr.nbytes + self.idx.nbytes + self.values.nbytes

    def _on_chunks(self, kernel: Callable[..., None], before: tuple[int, ...], *after: Any) -> None:
        def job(first: int, last: int) -> Callable[[], object]:
            return lambda: kernel(*before, self.ptr, self.idx, self.values, self.tile, *after, first, last)

        run_jobs([job(*chunk) for chunk in self._chunks], self.threads)

    def apply(self, X: AnyArray) -> AnyArray:
        """Return Σ_j a_ij X_j for all i, (m_out*k_out, c), in the dtype of X (m_in*k_in, c)."""
        if X.dtype not in (np.float32, np.float64) or len(X) != self.m_in * self.k_in:
            raise ValueError(f"the product needs {self.m_in * self.k_in} rows of floats, not {X.shape} of {X.dtype}")
        c, widest = X.shape[1], LANE_BYTES // X.dtype.itemsize
        result = aligned_empty((self.m_out * self.k_out, c), X.dtype)
        for start in range(0, c if self.m_out else 0, widest):
            n = min(widest, c - start)
            width = 1 if n == 1 else max(4, 1 << (n - 1).bit_length())  # columns of zeros cost less than a second pass
            panel = _panel(X, start, n, width)
            if n == width:
                self._apply_panel(panel, result, start)
            else:
                part = aligned_empty((len(result), width), X.dtype)
                self._apply_panel(panel, part, 0)
                result[:, start:] = part[:, :n]
        return result

    def _apply_panel(self, X: AnyArray, Y: AnyArray, column: int) -> None:
        """Fill as many columns of Y as X has, from ``column`` on."""
        kind = (X.shape[1], self.k_out, self.k_in, int(self.ones))
        self._on_chunks(native.cell_sums, kind, X.reshape(-1), Y.reshape(-1), Y.shape[1], column)

    def quadratic(self, B: FloatArray) -> FloatArray:
        """Return Σ_j a_ij B_j a_ij' for all i, (m_out, k_out, k_out), for B (m_in, k_in, k_in)."""
        B = np.asarray(B, dtype=float)
        if B.shape != (self.m_in, self.k_in, self.k_in):
            raise ValueError(f"the forms need {(self.m_in, self.k_in, self.k_in)} numbers, not {B.shape}")
        if self.ones:
            return self.apply(B.reshape(-1, 1)).reshape(-1, 1, 1)
        out = np.empty((self.m_out, self.k_out, self.k_out))
        if self.m_out:
            self._on_chunks(native.quadratic_sums, (self.k_out, self.k_in), np.ascontiguousarray(B), out)
        return out


def _panel(X: AnyArray, start: int, n: int, width: int) -> AnyArray:
    """Return n columns of X with zeros up to ``width``, no row across two cache lines."""
    size = width * X.dtype.itemsize
    ready = X.flags.writeable and X.flags.c_contiguous and (size <= 16 or X.ctypes.data % size == 0)
    if X.shape[1] == width and ready:
        return X
    panel = aligned_empty((len(X), width), X.dtype)
    panel[:, :n] = X[:, start : start + n]
    panel[:, n:] = 0.0
    return panel


def _tile(nb: int, m_out: int, m_in: int) -> int:
    """Return the number of input levels per tile."""
    tile = TILE
    while tile < m_in and nb < CELLS_PER_SEGMENT * m_out * (m_in / tile):
        tile *= 2
    return tile


class CrossBlock:
    """The sparse block A = Z_left'WZ_right, (m_left*k_left, m_right*k_right), of k_left x k_right cells.

    The pattern is stored by left and by right level, with 2 bytes per cell and order (4 where a level
    has few cells among many levels of the other factor). Cells that are all the number 1 need no values,
    others are stored twice in the smallest of 1-byte integers, float32 and float64 that holds them exactly.

    The result does not depend on the number of threads: each of its rows is one sum in a fixed order.
    Sums are in the dtype of the operand, but compensated: in float32 the relative error of a sum of
    numbers of one sign is about 5e-8, and 1e-6 in the worst case (all equal), however long it is.

    Parameters
    ----------
    rows, cols : (nb,) integer arrays
        Levels of the cells, sorted by row, then by column.
    values : (nb, k_left, k_right) float64
        The cells; may be a broadcast of one value.
    m_left, m_right : int
        Numbers of levels.
    threads : int
        Number of threads the products may use.
    """

    def __init__(
        self, rows: IntArray, cols: IntArray, values: FloatArray, m_left: int, m_right: int, threads: int = 1
    ) -> None:
        self.nnz = len(rows)
        self.m_left, self.m_right, self.threads = m_left, m_right, threads
        self.k_left, self.k_right = values.shape[1:]
        rows, cols = np.ascontiguousarray(rows), np.ascontiguousarray(cols)
        stored, turned = _both_ways(values)

        def left() -> None:
            self._left = TiledPattern(rows, cols, stored, m_left, m_right, threads)

        def right() -> None:
            self._right = TiledPattern(cols, rows, turned, m_right, m_left, threads)

        run_jobs([left, right], threads)

    def with_values(self, rows: IntArray, cols: IntArray, values: FloatArray) -> CrossBlock:
        """Return other values of the same cells, whose pattern is not sorted again."""
        rows, cols = np.ascontiguousarray(rows), np.ascontiguousarray(cols)
        stored, turned = _both_ways(values)
        out = copy(self)

        def left() -> None:
            out._left = self._left.with_values(rows, cols, stored)

        def right() -> None:
            out._right = self._right.with_values(cols, rows, turned)

        run_jobs([left, right], self.threads)
        return out

    @property
    def bytes(self) -> int:
        """Bytes of memory."""
        return self._left.bytes + self._right.bytes

    def counts_left(self) -> IntArray:
        """Return the number of cells of each row, (m_left,)."""
        return self._left.counts()

    def counts_right(self) -> IntArray:
        """Return the number of cells of each column, (m_right,)."""
        return self._right.counts()

    def dot(self, X: AnyArray) -> AnyArray:
        """Return A X, (m_left*k_left, c), for X (m_right*k_right, c), float32 or float64, in the dtype of X."""
        return self._left.apply(X)

    def tdot(self, Y: AnyArray) -> AnyArray:
        """Return A'Y, (m_right*k_right, c), for Y (m_left*k_left, c), float32 or float64, in the dtype of Y."""
        return self._right.apply(Y)

    def quadratic_left(self, B: FloatArray) -> FloatArray:
        """Return Σ_j a_ij B_j a_ij' per row i, (m_left, k_left, k_left), for B (m_right, k_right, k_right)."""
        return self._left.quadratic(B)

    def quadratic_right(self, B: FloatArray) -> FloatArray:
        """Return Σ_i a_ij' B_i a_ij per column j, (m_right, k_right, k_right), for B (m_left, k_left, k_left)."""
        return self._right.quadratic(B)
