"""Products with the sparse block that couples two grouping factors."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np

from sparselmm._typing import AnyArray, FloatArray, IntArray

TILE = 32768  # input levels whose rows of 64 bytes fill a second-level cache of 2 MB (measured best of 16k to 64k)
LANE_BYTES = 64  # widest row that is gathered at once
CELLS_PER_SEGMENT = 8  # with fewer cells per output level and tile, the loop over tiles would cost more than it saves
CHUNKS_PER_THREAD = 4


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
    """Run the jobs on so many threads, this one among them, each taking the next job when it is free."""
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


def _holds(values: FloatArray, condition: Callable[[FloatArray], AnyArray], step: int = 1 << 18) -> bool:
    """Return whether the condition holds for all the values, looked at in pieces."""
    if not any(values.strides):
        values = values[:1]
    return all(bool(np.all(condition(values[k : k + step]))) for k in range(0, len(values), step))


class TiledPattern:
    """The cells of a block by output level, inside tiles of input levels small enough for the cache.

    Parameters
    ----------
    out_levels, in_levels : (nb,) integer arrays
        Levels of the cells; the cells of one output level come in ascending order of the input level.
    values : (nb, k_out, k_in) or None
        The cells; None means that all are the number 1.
    m_out, m_in : int
        Numbers of levels.
    threads : int
        Number of threads a product may use.
    """

    def __init__(
        self, out_levels: IntArray, in_levels: IntArray, values: AnyArray | None, m_out: int, m_in: int, threads: int
    ) -> None:
        from sparselmm.linalg.iterative import kernels

        self.m_out, self.m_in, self.threads, nb = m_out, m_in, threads, len(out_levels)
        self.k_out, self.k_in = (1, 1) if values is None else values.shape[1:]
        self.tile = TILE
        while self.tile < m_in and nb < CELLS_PER_SEGMENT * m_out * (m_in / self.tile):
            self.tile *= 2
        tiles = max(1, -(-m_in // self.tile))
        self.ptr = np.empty(tiles * m_out + 1, dtype=np.int64)
        self.idx = np.empty(nb, dtype=np.uint16 if self.tile <= 65536 else np.int32)
        kernels.count_cells(out_levels, in_levels, self.tile, m_out, self.ptr)
        kernels.place_cells(out_levels, in_levels, self.tile, m_out, self.ptr, self.idx)
        self.values = None
        if values is not None:
            self.values = np.empty((nb, self.k_out, self.k_in), dtype=values.dtype)
            kernels.place_values(out_levels, in_levels, self.tile, m_out, self.ptr, values, self.values)
        self._chunks = self._equal_chunks(tiles)

    def _equal_chunks(self, tiles: int) -> list[tuple[int, int]]:
        """Return ranges of output levels with about equally many cells."""
        if self.threads == 1:
            return [(0, self.m_out)]  # every tile is brought into the cache once
        work = np.cumsum(np.diff(self.ptr).reshape(tiles, self.m_out).sum(axis=0) + 8 * tiles)
        count = CHUNKS_PER_THREAD * self.threads
        cuts = np.searchsorted(work, work[-1] * np.arange(1, count) / count).tolist() if self.m_out else []
        return [(a, b) for a, b in zip([0, *cuts], [*cuts, self.m_out]) if a < b]

    @property
    def bytes(self) -> int:
        """Bytes of memory."""
        return self.ptr.nbytes + self.idx.nbytes + (0 if self.values is None else self.values.nbytes)

    def _on_chunks(self, kernel: Any, *args: Any) -> None:
        stored = [self.ptr, self.idx] + ([] if self.values is None else [self.values])

        def job(first: int, last: int) -> Callable[[], object]:
            return lambda: kernel(*stored, self.tile, *args, first, last)

        run_jobs([job(*chunk) for chunk in self._chunks], self.threads)

    def apply(self, X: AnyArray) -> AnyArray:
        """Return Σ_j a_ij X_j for all i, (m_out*k_out, c), in the dtype of X (m_in*k_in, c)."""
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
        from sparselmm.linalg.iterative import kernels

        if self.values is None:
            kernel = kernels.pattern_sums(X.shape[1])
        else:
            kernel = kernels.value_sums(X.shape[1], self.k_out, self.k_in)
        self._on_chunks(kernel, X.reshape(-1), Y.reshape(-1), Y.shape[1], column)

    def quadratic(self, B: FloatArray) -> FloatArray:
        """Return Σ_j a_ij B_j a_ij' for all i, (m_out, k_out, k_out), for B (m_in, k_in, k_in)."""
        if self.values is None:
            return self.apply(np.asarray(B, dtype=float).reshape(-1, 1)).reshape(-1, 1, 1)
        from sparselmm.linalg.iterative import kernels

        out = np.empty((self.m_out, self.k_out, self.k_out))
        if self.m_out:
            self._on_chunks(kernels.quadratic_sums(self.k_out, self.k_in), np.array(B, dtype=float, order="C"), out)
        return out


def _panel(X: AnyArray, start: int, n: int, width: int) -> AnyArray:
    """Return columns start to start + n of X with zeros to fill ``width`` columns, no row across two cache lines."""
    fits = X.ctypes.data % (width * X.dtype.itemsize) == 0 or width * X.dtype.itemsize <= 16
    if X.shape[1] == width and fits and X.flags.writeable and X.flags.c_contiguous:
        return X
    panel = aligned_empty((len(X), width), X.dtype)
    panel[:, :n] = X[:, start : start + n]
    panel[:, n:] = 0.0
    return panel


class CrossBlock:
    """The sparse block A = Z_left'WZ_right, (m_left*k_left, m_right*k_right), of k_left x k_right cells.

    The pattern is stored by left and by right level, with 2 bytes per cell and order where a factor is
    large enough to be cut into tiles, else 4. Cells that are all the number 1 need no values, others
    are stored twice in the smallest of 1-byte integers, float32 and float64 that holds them exactly.

    The result does not depend on the number of threads: each of its rows is one sum in a fixed order.
    Sums are in the dtype of the operand, one after the other within a tile of 32768 levels. In float32
    the relative error of a sum of n numbers of one sign is about 3e-8 √n, 1e-5 at most.

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
        stored = _stored_values(values)
        turned = None if stored is None else stored.transpose(0, 2, 1)

        def left() -> None:
            self._left = TiledPattern(rows, cols, stored, m_left, m_right, threads)

        def right() -> None:
            self._right = TiledPattern(cols, rows, turned, m_right, m_left, threads)

        run_jobs([left, right], threads)
        self.bytes = self._left.bytes + self._right.bytes

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
