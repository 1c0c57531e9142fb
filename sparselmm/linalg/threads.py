"""How many BLAS threads a fit gets: one for small systems, those that are free for large ones."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from threading import Lock, get_ident
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
    """The limit in force: the smallest of what the threads at work want, each by its innermost call.

    The libraries are told only where the limit changes, so a call inside another costs next to nothing.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._wanted: dict[int, list[int]] = {}
        self._original: Any = None
        self._current = 0

    def enter(self, flops: float) -> int:
        """Ask for the chosen threads and return them."""
        with self._lock:
            n = chosen_threads(flops)
            self._wanted.setdefault(get_ident(), []).append(n)
            try:
                self._settle()
            except BaseException:
                self._withdraw()
                raise
            return n

    def leave(self) -> None:
        """Withdraw what this thread asked for last."""
        with self._lock:
            self._withdraw()
            self._settle()

    def _withdraw(self) -> None:
        mine = self._wanted[get_ident()]
        mine.pop()
        if not mine:
            del self._wanted[get_ident()]

    def before_fork(self) -> None:
        """Wait until nobody changes limits: a lock here or in threadpoolctl that is held would stay so in the child."""
        self._lock.acquire()

    def after_fork(self) -> None:
        """Let others change limits again."""
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Forget the other threads, which a child does not have."""
        self._lock.release()
        self._wanted = {thread: calls for thread, calls in self._wanted.items() if thread == get_ident()}

    def _settle(self) -> None:
        """Tell the libraries what is wanted now; the lock is held."""
        most = _controller()[1]
        wanted = min((calls[-1] for calls in self._wanted.values()), default=most)
        if self._original is None and wanted == most == 1:
            return  # the libraries have one thread each anyhow
        if not self._wanted:
            if self._original is not None:
                with _control():
                    self._original.restore_original_limits()
            self._original, self._current = None, 0
        elif wanted != self._current:
            with _control() as controller:
                limiter = controller.limit(limits=wanted)
            self._original, self._current = self._original or limiter, wanted


_limit = _Limit()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_limit.before_fork, after_in_parent=_limit.after_fork, after_in_child=_limit.after_fork_in_child
    )


@contextmanager
def blas_threads(flops: float) -> Iterator[int]:
    """Limit the BLAS libraries to the chosen threads; restored when the last of overlapping calls leaves.

    Inside another call the innermost decides for its thread: a large factorisation may use more than the call
    around it.
    """
    n = _limit.enter(flops)
    try:
        yield n
    finally:
        _limit.leave()
