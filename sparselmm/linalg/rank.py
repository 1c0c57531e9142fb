"""Which columns of a tall matrix are linearly independent."""

from __future__ import annotations

import numpy as np
from scipy.linalg import lapack

from sparselmm._typing import FloatArray

CHUNK_ROWS = 65_536  # rows of X that are factored at a time, so that they stay in cache


def triangular_factor(X: FloatArray, chunk_rows: int = CHUNK_ROWS) -> FloatArray:
    """Return R (p, p), upper triangular with R'R = X'X, by a chunked QR decomposition.

    Never forms X'X, so columns are told apart down to rounding error. Cost n p².
    """
    p = X.shape[1]
    if X.size == 0:
        return np.zeros((p, p))
    R = np.zeros((0, p))
    for start in range(0, len(X), chunk_rows):
        block = np.vstack([R, X[start : start + chunk_rows]])
        qr, _, _, _ = lapack.dgeqrf(block, overwrite_a=True)
        R = np.triu(qr[:p])
    if len(R) < p:
        R = np.vstack([R, np.zeros((p - len(R), p))])
    return R


def independent_columns(X: FloatArray, tol: float = 1e-7) -> list[int]:
    """Return the positions of columns that do not depend on earlier ones.

    A column is dependent when the part of it orthogonal to the kept columns is shorter
    than ``tol`` times the column, the rule of R's ``qr``.
    """
    R = triangular_factor(np.asarray(X, dtype=np.float64))
    norms = np.sqrt((R**2).sum(axis=0))
    basis = np.zeros((R.shape[0], 0))
    kept: list[int] = []
    for j in range(R.shape[1]):
        r = R[:, j].copy()
        for _ in range(2):
            r -= basis @ (basis.T @ r)
        length = float(np.linalg.norm(r))
        if norms[j] > 0 and length > tol * norms[j]:
            kept.append(j)
            basis = np.column_stack([basis, r / length])
    return kept
