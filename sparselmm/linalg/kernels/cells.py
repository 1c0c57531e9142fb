"""Compiled loops over the rows of long data; imported only where there are many rows.

Matrices with one row that stands for all are passed as that row with a step of zero.
"""

from __future__ import annotations

import numba as nb
import numpy as np

_jit = nb.njit(cache=True, nogil=True)


@_jit
def level_starts(codes, m):  # type: ignore[no-untyped-def]
    """Return where each level starts among the rows sorted by level, (m + 1,)."""
    starts = np.zeros(m + 1, np.int64)
    for code in codes:
        starts[code + 1] += 1
    for level in range(m):
        starts[level + 1] += starts[level]
    return starts


@_jit
def place_distinct(a, b, a_starts, b_starts, by_b, cols):  # type: ignore[no-untyped-def]
    """Fill cols with the codes b sorted by (a, b); return False where a pair of codes occurs twice.

    Two counting sorts: ``by_b`` (n,) takes the codes a sorted by b.
    """
    at = b_starts.copy()
    for r in range(len(a)):
        by_b[at[b[r]]] = a[r]
        at[b[r]] += 1
    at = a_starts.copy()
    for col in range(len(b_starts) - 1):
        for e in range(b_starts[col], b_starts[col + 1]):
            row = by_b[e]
            place = at[row]
            if place > a_starts[row] and cols[place - 1] == col:
                return False
            cols[place] = col
            at[row] = place + 1
    return True


@_jit
def sort_by_pair(a, b, a_starts, b_starts, by_b, order):  # type: ignore[no-untyped-def]
    """Fill order with the rows sorted by (a, b), rows of one pair in their order; ``by_b`` (n,) is scratch."""
    at = b_starts.copy()
    for r in range(len(a)):
        by_b[at[b[r]]] = r
        at[b[r]] += 1
    at = a_starts.copy()
    for r in by_b:
        order[at[a[r]]] = r
        at[a[r]] += 1


@_jit
def count_cells(order, b, a_starts):  # type: ignore[no-untyped-def]
    """Return the distinct codes b of each level of a, (m_a,), for rows sorted by both."""
    counts = np.zeros(len(a_starts) - 1, np.int64)
    for row in range(len(counts)):
        last = -1
        for e in range(a_starts[row], a_starts[row + 1]):
            col = b[order[e]]
            if col != last:
                counts[row] += 1
                last = col
    return counts


@_jit
def fill_cells(order, b, a_starts, Za, step_a, Zb, step_b, w, step_w, cols, values):  # type: ignore[no-untyped-def]
    """Fill cols and values, (cells, k_a, k_b), with Σ w z_a z_b' of each pair; values start at zero."""
    cell = -1
    for row in range(len(a_starts) - 1):
        last = -1
        for e in range(a_starts[row], a_starts[row + 1]):
            r = order[e]
            if b[r] != last:
                last = b[r]
                cell += 1
                cols[cell] = last
            for i in range(Za.shape[1]):
                left = Za[r * step_a, i] * w[r * step_w]
                for j in range(Zb.shape[1]):
                    values[cell, i, j] += left * Zb[r * step_b, j]


@_jit
def add_level_products(codes, Z, step, right, step_right, w, step_w, out):  # type: ignore[no-untyped-def]
    """Add w z x' of each row to the block of its level in out, (m, k, r); x are rows of ``right``."""
    for r in range(len(codes)):
        level = codes[r]
        for i in range(Z.shape[1]):
            left = Z[r * step, i] * w[r * step_w]
            for j in range(right.shape[1]):
                out[level, i, j] += left * right[r * step_right, j]


@_jit
def join_components(rows, cols, first_row, first_col, parent):  # type: ignore[no-untyped-def]
    """Join the trees of both ends of each pair in ``parent``, where the smallest member is the root."""
    for e in range(len(rows)):
        x, y = first_row + rows[e], first_col + cols[e]
        while parent[x] != x:
            parent[x] = parent[parent[x]]
            x = parent[x]
        while parent[y] != y:
            parent[y] = parent[parent[y]]
            y = parent[y]
        if x < y:
            parent[y] = x
        elif y < x:
            parent[x] = y
