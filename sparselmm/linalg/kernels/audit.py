"""The compiled loop of the audit; imported only when one is made."""

from __future__ import annotations

import numba as nb


@nb.njit(cache=True, nogil=True)
def subtract_products(  # type: ignore[no-untyped-def]
    indptr, indices, data, column_ptr, rows, places, first, top, out
) -> None:
    """Subtract entries of B'B from out, (columns, rows from ``top`` on), for columns from ``first`` on.

    B is CSR with sorted indices; ``column_ptr``, ``rows`` and ``places`` list its entries by columns, with
    where they are in ``data``. Only entries on and below the diagonal are formed.
    """
    for c in range(len(out)):
        target = out[c]
        for e in range(column_ptr[first + c], column_ptr[first + c + 1]):
            value = data[places[e]]
            for x in range(places[e], indptr[rows[e] + 1]):
                target[indices[x] - top] -= value * data[x]
