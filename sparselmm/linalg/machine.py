"""What the machine has and reaches: memory, and operations per second."""

from __future__ import annotations

import os
import sys

GIGA = 1e9
MEMORY_SHARE = 0.9  # of the available memory that may be used
# flops (or updates) per second of one thread that the kinds of work reach on ordinary machines
DENSE_RATE = 3e10
SCATTER_RATE = 8e8
SPARSE_RATE = 6e9
SPARSE_GRADIENT_RATE = 5e8
ITERATIVE_RATE = 7e9  # cells of Z'WZ times columns
VECTOR_RATE = 2e8  # columns of Z times columns of single precision (half of it of double), which leave the cache
TRACE_RATE = 2e9  # of tr(Z'V⁻¹Z B Z'V⁻¹Z B) with a factor
ITERATIVE_TRACE_RATE = 2e10  # of the same by iterations
OVERHEAD = 1e-4  # seconds, of a call


def available_memory() -> float | None:
    """Return the bytes of memory that can be had without swapping, None where unknown."""
    if sys.platform.startswith("linux"):
        try:
            with open("/proc/meminfo", encoding="ascii") as lines:
                for line in lines:
                    if line.startswith("MemAvailable:"):
                        return _within_cgroup(1024.0 * float(line.split()[1]))
        except (OSError, ValueError):
            return None
    try:
        return float(os.sysconf("SC_PHYS_PAGES")) * float(os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):
        return None


def _within_cgroup(available: float) -> float:
    """Return the smaller of the machine's and the container's room."""
    try:
        with (
            open("/sys/fs/cgroup/memory.max", encoding="ascii") as limit,
            open("/sys/fs/cgroup/memory.current", encoding="ascii") as used,
        ):
            return min(available, float(limit.read()) - float(used.read()))
    except (OSError, ValueError):
        return available
