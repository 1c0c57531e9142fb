"""The types that the compiled loops are made for."""

from __future__ import annotations

import numpy as np

from sparselmm._typing import IntArray


def same_type(a: IntArray, b: IntArray) -> tuple[IntArray, IntArray]:
    """Return two vectors of codes, contiguous and both int32, or both int64 where one of them is not int32."""
    short = a.dtype == b.dtype == np.int32
    dtype = np.int32 if short else np.int64
    return np.ascontiguousarray(a, dtype=dtype), np.ascontiguousarray(b, dtype=dtype)
