"""Cholesky factors and triangular solves of many small matrices at once, vectorised over the batch."""

from __future__ import annotations

import numpy as np

from sparselmm._typing import FloatArray
from sparselmm.exceptions import NumericalError


def batched_cholesky(A: FloatArray) -> FloatArray:
    """Return the lower Cholesky factors of (m, k, k) positive definite matrices."""
    if A.shape[1] == 1:
        if not np.all(A > 0):
            raise NumericalError("a diagonal block of the penalized system is not positive definite")
        return np.sqrt(A)
    try:
        return np.asarray(np.linalg.cholesky(A)) if len(A) < 200 or A.shape[1] > 6 else _by_columns(A)
    except np.linalg.LinAlgError as error:
        raise NumericalError("a diagonal block of the penalized system is not positive definite") from error


def _by_columns(A: FloatArray) -> FloatArray:
    k = A.shape[1]
    L = np.zeros_like(A)
    for j in range(k):
        pivot = A[:, j, j] - np.einsum("mi,mi->m", L[:, j, :j], L[:, j, :j])
        if not np.all(pivot > 0):
            raise NumericalError("a diagonal block of the penalized system is not positive definite")
        root = np.sqrt(pivot)
        L[:, j, j] = root
        for i in range(j + 1, k):
            L[:, i, j] = (A[:, i, j] - np.einsum("mi,mi->m", L[:, i, :j], L[:, j, :j])) / root
    return L


def batched_lower_solve(L: FloatArray, B: FloatArray) -> FloatArray:
    """Return L⁻¹B for (m, k, k) lower factors and (m, k, r) right-hand sides."""
    k = L.shape[1]
    X = np.empty_like(B)
    for j in range(k):
        rest = B[:, j] if j == 0 else B[:, j] - (L[:, j, None, :j] @ X[:, :j])[:, 0]
        X[:, j] = rest / L[:, j, j, None]
    return X


def batched_upper_solve(L: FloatArray, B: FloatArray) -> FloatArray:
    """Return L'⁻¹B for (m, k, k) lower factors and (m, k, r) right-hand sides."""
    k = L.shape[1]
    X = np.empty_like(B)
    for j in reversed(range(k)):
        below = L[:, j + 1 :, j]
        rest = B[:, j] if j == k - 1 else B[:, j] - (below[:, None, :] @ X[:, j + 1 :])[:, 0]
        X[:, j] = rest / L[:, j, j, None]
    return X
