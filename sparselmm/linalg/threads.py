"""How many BLAS threads a fit gets: one for small systems, those that are free for large ones."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from threading import Lock
from typing import Any

from sparselmm.exceptions import ParameterError

THREADED_FLOPS = 1e9  # a Cholesky factorisation below this gains nothing from a second thread (measured)
_override: list[int | None] = [None]


def set_threads(n: int | None) -> None:
    """Use ``n`` BLAS threads in every fit from now on; None lets each fit choose.

    Parameters
    ----------
    n : int or None
        Number of threads, at least 1.

    Examples
    --------
    >>> import sparselmm as slm
    >>> slm.set_threads(1)
    >>> slm.set_threads(None)
    """
    if n is not None and (not isinstance(n, int) or isinstance(n, bool) or n < 1):
        raise ParameterError(f"the number of threads must be a positive integer or None, not {n!r}")
    _override[0] = n


@lru_cache(maxsize=1)
def _controller() -> tuple[Any, int]:
    """Return the controller of the loaded BLAS libraries and the most threads any of them is set to use."""
    from threadpoolctl import ThreadpoolController

    controller = ThreadpoolController().select(user_api="blas")
    return controller, max((int(library["num_threads"]) for library in controller.info()), default=1)


def free_cores() -> int:
    """Return the cores that no other process keeps busy at this moment, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        with open("/proc/loadavg", encoding="ascii") as file:
            running = int(file.read().split()[3].split("/")[0])
    except (OSError, ValueError, IndexError):
        return cores
    return min(cores, max(1, cores - (running - 1)))  # this process is among the running ones


def free_threads() -> int:
    """Return the threads for loops of our own: those set by `set_threads`, else as many as cores are free."""
    return free_cores() if _override[0] is None else _override[0]


def at_most(threads: int) -> int:
    """Return so many threads, or those set by `set_threads` where these are fewer."""
    return threads if _override[0] is None else min(threads, _override[0])


def chosen_threads(flops: float) -> int:
    """Return the BLAS threads for a system with so many flops per factorisation."""
    _, limit = _controller()
    if _override[0] is not None:
        return _override[0]
    return 1 if flops < THREADED_FLOPS else min(limit, free_cores())


@contextmanager
def _control() -> Iterator[Any]:
    """Yield the controller while any thread may set the threads of OpenBLAS.

    threadpoolctl 3.8 heeds the first thread alone that sets them, and nobody else until that one ends. Here
    threads agree among themselves, so control is taken each time and given up at once.
    """
    controller = _controller()[0]
    name = "clear_controlling_thread"
    release = [getattr(library, name) for library in controller.lib_controllers if hasattr(library, name)]
    for clear in release:
        clear(force=True)
    try:
        yield controller
    finally:
        for clear in release:
            clear(force=True)


class _Limit:
    """The limit in force: the smallest that any of the fits running now asked for, restored by the last."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._wanted: list[int] = []
        self._original: Any = None

    def enter(self, flops: float) -> int:
        """Ask for the chosen threads and return them."""
        with self._lock:
            n = chosen_threads(flops)
            with _control() as controller:
                limiter = controller.limit(limits=min([*self._wanted, n]))
            if not self._wanted:
                self._original = limiter
            self._wanted.append(n)
            return n

    def leave(self, n: int) -> None:
        """Withdraw the wish for n threads."""
        with self._lock:
            self._wanted.remove(n)
            with _control() as controller:
                if self._wanted:
                    controller.limit(limits=min(self._wanted))
                else:
                    self._original.restore_original_limits()


_limit = _Limit()


@contextmanager
def blas_threads(flops: float) -> Iterator[int]:
    """Limit the BLAS libraries to the chosen threads; restored when the last of overlapping fits leaves."""
    n = _limit.enter(flops)
    try:
        yield n
    finally:
        _limit.leave(n)
