"""Compiled loops over sparse rows; imported only where a problem is large enough to need them."""

from __future__ import annotations

import numba as nb
import numpy as np

_jit = nb.njit(cache=True, fastmath={"contract", "reassoc"}, nogil=True)


@_jit
def weighted_gram_lower(  # type: ignore[no-untyped-def]
    indptr, indices, left, right, panel_ptr, panel_rows, panel_first, width, d, out
) -> None:
    """Fill the lower triangle of A' diag(d) B, (q, q), C-ordered, where that product is symmetric.

    A and B are CSR with values ``left`` and ``right`` in one pattern with sorted indices. Rows of the
    result are gathered in panels of ``width``, small enough to stay in cache: ``panel_rows`` lists the
    rows of A that touch each panel and ``panel_first`` their first entry in it.
    """
    q = len(out)
    for p in range(len(panel_ptr) - 1):
        stop = min((p + 1) * width, q)
        for c in range(p * width, stop):
            out[c, : c + 1] = 0.0
        for item in range(panel_ptr[p], panel_ptr[p + 1]):
            r, e = panel_rows[item], panel_first[item]
            first, last = indptr[r], indptr[r + 1]
            while e < last and indices[e] < stop:
                row = out[indices[e]]
                w = d[r] * left[e]
                for x in range(first, e + 1):
                    row[indices[x]] += w * right[x]
                e += 1


@_jit
def two_weighted_grams_lower(  # type: ignore[no-untyped-def]
    indptr, indices, data, panel_ptr, panel_rows, panel_first, width, d, e2, out, other
) -> None:
    """Fill the lower triangles of A' diag(d) A and A' diag(e2) A in one pass, as `weighted_gram_lower` does."""
    q = len(out)
    for p in range(len(panel_ptr) - 1):
        stop = min((p + 1) * width, q)
        for c in range(p * width, stop):
            out[c, : c + 1] = 0.0
            other[c, : c + 1] = 0.0
        for item in range(panel_ptr[p], panel_ptr[p + 1]):
            r, e = panel_rows[item], panel_first[item]
            first, last = indptr[r], indptr[r + 1]
            while e < last and indices[e] < stop:
                row, second = out[indices[e]], other[indices[e]]
                v, w = d[r] * data[e], e2[r] * data[e]
                for x in range(first, e + 1):
                    column = indices[x]
                    row[column] += v * data[x]
                    second[column] += w * data[x]
                e += 1


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


@_jit
def pattern_products(ptr, columns, values, inner, out) -> None:  # type: ignore[no-untyped-def]
    """Fill out[x] = Σ_y inner[c_x, c_y] values[y] over the cells y of the level of cell x."""
    for level in range(len(ptr) - 1):
        for x in range(ptr[level], ptr[level + 1]):
            row = inner[columns[x]]
            for y in range(ptr[level], ptr[level + 1]):
                value = row[columns[y]]
                for a in range(values.shape[1]):
                    out[x, a] += value * values[y, a]


@_jit
def takahashi(indptr, indices, L, cut, dense, out) -> None:  # type: ignore[no-untyped-def]
    """Fill out with the entries of (LL')⁻¹ in the pattern of the columns of L before ``cut``.

    L is CSC with sorted rows and a pattern closed under elimination; ``dense`` is the part of the
    inverse from row and column ``cut`` on.
    """
    longest = 0
    for j in range(cut):
        longest = max(longest, indptr[j + 1] - indptr[j])
    scaled, sums = np.zeros(longest), np.zeros(longest)
    for j in range(cut - 1, -1, -1):
        first, last = indptr[j] + 1, indptr[j + 1]
        width = last - first
        pivot = L[first - 1]
        for a in range(width):
            scaled[a] = L[first + a] / pivot
            sums[a] = 0.0
        for b in range(width):
            c = indices[first + b]
            if c >= cut:
                for a in range(b, width):
                    value = dense[indices[first + a] - cut, c - cut]
                    sums[a] += value * scaled[b]
                    if a > b:
                        sums[b] += value * scaled[a]
                continue
            p = indptr[c]
            for a in range(b, width):
                row = indices[first + a]
                while indices[p] < row:
                    p += 1
                value = out[p]
                sums[a] += value * scaled[b]
                if a > b:
                    sums[b] += value * scaled[a]
        total = 1.0 / (pivot * pivot)
        for a in range(width):
            out[first + a] = -sums[a]
            total += sums[a] * scaled[a]
        out[first - 1] = total


@_jit
def column_counts(indptr, indices, q):  # type: ignore[no-untyped-def]
    """Return the entries per column of L for the rows of a lower triangle given by rows (CSR).

    Row k of L is the union of the paths from its nonzeros to k in the elimination tree, which is
    grown on the way (Davis 2006, Direct Methods for Sparse Linear Systems, section 4.1).
    """
    parent = np.full(q, -1, np.int64)
    mark = np.full(q, -1, np.int64)
    counts = np.ones(q, np.int64)
    for k in range(q):
        mark[k] = k
        for e in range(indptr[k], indptr[k + 1]):
            i = indices[e]
            while i < k and mark[i] != k:
                if parent[i] == -1:
                    parent[i] = k
                counts[i] += 1
                mark[i] = k
                i = parent[i]
    return counts
