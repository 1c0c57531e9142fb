"""Compiled sum of squares of a sparse product W'W, row by row."""

from __future__ import annotations

import numba as nb
import numpy as np

_jit = nb.njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})


@_jit
def squares_of_rows(  # type: ignore[no-untyped-def]
    back_ptr, back_idx, back_val, ptr, idx, val, r_ptr, r_idx, r_val, first, last
) -> float:
    """Return the sum of squares of the rows first to last of W'W - R.

    W is given by rows (ptr, idx, val) and by columns (back_ptr, ...), R by rows.
    """
    q = len(back_ptr) - 1
    row = np.zeros(q)
    total = 0.0
    for i in range(first, last):
        for e in range(back_ptr[i], back_ptr[i + 1]):
            u, w = back_idx[e], back_val[e]
            for f in range(ptr[u], ptr[u + 1]):
                row[idx[f]] += w * val[f]
        for e in range(r_ptr[i], r_ptr[i + 1]):
            row[r_idx[e]] -= r_val[e]
        for j in range(q):
            total += row[j] * row[j]
            row[j] = 0.0
    return total
