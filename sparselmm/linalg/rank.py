"""Which columns of a tall matrix are linearly independent."""

from __future__ import annotations

import numpy as np
from scipy.linalg import lapack

from sparselmm._typing import FloatArray

CHUNK_ROWS = 65_536  # rows of X that are factored at a time, so that they stay in cache
EPS = float(np.finfo(np.float64).eps)
ROUNDINGS = 16.0  # sums of a few stored numbers differ from exact ones by a fraction of so many units


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

    A column is dependent when the part of it orthogonal to the kept columns is shorter than ``tol`` times
    the column, the rule of R's ``qr``. That rule takes a column far from zero, such as seconds since 1970, for a
    multiple of the constant. Where it drops one, all are compared again without what earlier constants and
    indicators explain of them; then a column also depends when no more is left of it than rounding.
    """
    X = np.asarray(X, dtype=np.float64)
    R = triangular_factor(X)
    sizes = np.sqrt((R**2).sum(axis=0))
    kept = _independent(R, tol)
    if not any(not _is_indicator(X[:, j]) for j in set(range(X.shape[1])) - set(kept)):
        return kept
    indicators = np.flatnonzero([_is_indicator(x) for x in X.T])
    cells = indicators[_independent(R[:, indicators], tol)]
    centred = X.copy()
    for j in set(range(X.shape[1])) - set(indicators.tolist()):
        earlier = cells[cells < j]
        if len(earlier):
            centred[:, j] -= X[:, earlier] @ np.linalg.lstsq(R[:, earlier], R[:, j])[0]
    return _independent(triangular_factor(centred), tol, sizes)


def _is_indicator(x: FloatArray) -> bool:
    """Whether a column is zero or plus or minus one number: a constant, an indicator or a sum contrast."""
    size = np.abs(x)
    return bool(((size == 0) | (size == size.max())).all())


def _independent(R: FloatArray, tol: float, sizes: FloatArray | None = None) -> list[int]:
    """Return the columns of R that do not depend on earlier ones.

    Parameters
    ----------
    R : (p, r) array
        Columns.
    tol : float
        Relative length of the part orthogonal to earlier columns from which on a column is kept.
    sizes : (r,) array, optional
        Lengths of the columns as they were stored, which say how much of these is rounding; with it a column is
        kept only when its orthogonal part is longer than that.
    """
    norms = np.sqrt((R**2).sum(axis=0))
    basis, noise = np.zeros((R.shape[0], 0)), np.zeros(0)  # noise: errors of the directions of the basis
    kept: list[int] = []
    for j in range(R.shape[1]):
        r, along = R[:, j].copy(), np.zeros(len(noise))
        for _ in range(2):
            step = basis.T @ r
            r -= basis @ step
            along += step
        length = float(np.linalg.norm(r))
        rounding = 0.0 if sizes is None else EPS * sizes[j] + float(np.abs(along) @ noise)
        if norms[j] > 0 and length > max(tol * norms[j], ROUNDINGS * rounding):
            kept.append(j)
            basis = np.column_stack([basis, r / length])
            noise = np.append(noise, rounding / length)
    return kept
