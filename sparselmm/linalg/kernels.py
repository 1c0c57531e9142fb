"""Compiled loops over sparse rows; imported only where a problem is large enough to need them."""

from __future__ import annotations

import numba as nb

_jit = nb.njit(cache=True, fastmath={"contract", "reassoc"}, nogil=True)


@_jit
def weighted_gram_lower(  # type: ignore[no-untyped-def]
    indptr, indices, left, right, col_ptr, col_rows, col_pos, d, out
) -> None:
    """Fill the lower triangle of A' diag(d) B, (q, q), C-ordered, where that product is symmetric.

    A and B are CSR with values ``left`` and ``right`` in one pattern with sorted indices.

    ``col_ptr, col_rows, col_pos`` list the entries of each column: row and position in data.
    Row c of the result is gathered in one pass over the rows that touch column c, so all writes
    stay in one cached row.
    """
    for c in range(len(col_ptr) - 1):
        row = out[c]
        row[: c + 1] = 0.0
        for e in range(col_ptr[c], col_ptr[c + 1]):
            r = col_rows[e]
            w = d[r] * left[col_pos[e]]
            if w != 0.0:
                for x in range(indptr[r], col_pos[e] + 1):
                    row[indices[x]] += w * right[x]


@_jit
def level_quadratic_forms(indptr, indices, data, K, inner, out) -> None:  # type: ignore[no-untyped-def]
    """Fill out[l] = A_l inner A_l' for groups of K rows with one pattern; the lower part of inner is read."""
    m = (len(indptr) - 1) // K
    for level in range(m):
        first = indptr[level * K]
        width = indptr[level * K + 1] - first
        for a in range(K):
            for b in range(K):
                out[level, a, b] = 0.0
        for x in range(width):
            cx = indices[first + x]
            for y in range(x + 1):
                value = inner[cx, indices[first + y]]
                for a in range(K):
                    for b in range(K):
                        left = data[indptr[level * K + a] + x] * data[indptr[level * K + b] + y]
                        out[level, a, b] += value * left
                        if y < x:
                            right = data[indptr[level * K + a] + y] * data[indptr[level * K + b] + x]
                            out[level, a, b] += value * right
