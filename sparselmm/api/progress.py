"""What is shown while a fit runs."""

from __future__ import annotations

import sys
from collections.abc import Callable


def make_listener(verbose: int) -> Callable[[int, float, float], None] | None:
    """Return a function that reports each evaluation on standard error, or None for silence."""
    if verbose < 1:
        return None

    def report(count: int, value: float, best: float) -> None:
        sys.stderr.write(f"evaluation {count:4d}  criterion {value:.6f}  best {best:.6f}\n")

    return report
