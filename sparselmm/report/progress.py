"""What is shown while a fit runs."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TextIO

LONG_SECONDS = 4.0  # a fit that takes longer shows how far it is
TYPICAL_EVALUATIONS = 8  # of the criterion in a fit by derivatives


def shows_progress(stream: TextIO) -> bool:
    """Return whether someone watches: a terminal, or a notebook."""
    return stream.isatty() or "ipykernel" in sys.modules


@dataclass
class ProgressLine:
    """One line that is written over and over; silent until a fit turns out to be long.

    Attributes
    ----------
    verbose : int
        0: only for long fits that someone watches; 1 or more: one line per evaluation; negative: never.
    stream : file
        Where to write.
    """

    verbose: int = 0
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    _start: float = field(default_factory=lambda: time.perf_counter())
    _width: int = 0

    def __call__(self, count: int, value: float, best: float) -> None:
        """Report evaluation number ``count``."""
        if self.verbose < 0:
            return
        elapsed = time.perf_counter() - self._start
        if self.verbose >= 1:
            self.stream.write(
                f"evaluation {count:4d}  criterion {value:.6f}  best {best:.6f}  elapsed {elapsed:.1f} s\n"
            )
            return
        rest = elapsed / count * max(TYPICAL_EVALUATIONS - count, 1)
        if elapsed + rest < LONG_SECONDS or not shows_progress(self.stream):
            return
        line = f"evaluation {count}, criterion {best:.4f}, {elapsed:.0f} s elapsed, about {rest:.0f} s to go"
        self.stream.write("\r" + line.ljust(self._width))
        self.stream.flush()
        self._width = len(line)

    def close(self) -> None:
        """Wipe the line."""
        if self._width:
            self.stream.write("\r" + " " * self._width + "\r")
            self.stream.flush()
            self._width = 0


@contextmanager
def progress(verbose: int) -> Iterator[ProgressLine]:
    """Yield a listener for the evaluations of one fit; its line is gone afterwards."""
    line = ProgressLine(verbose)
    try:
        yield line
    finally:
        line.close()
