"""Conjugate gradients on several right-hand sides, preconditioned by deflation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sparselmm._typing import FloatArray
from sparselmm.exceptions import NumericalError

RELATIVE = 1e-10  # norm of the residual, over that of the right-hand side
MAX_ITERATIONS = 2_000  # of conjugate gradients, far more than a preconditioned system needs


@dataclass(frozen=True)
class Solved:
    """Solutions of (I - S)X = B.

    Attributes
    ----------
    X, R : (q, r) arrays
        Solutions and residuals.
    relative : float
        Largest relative norm of a residual.
    """

    X: FloatArray
    R: FloatArray
    relative: float


def conjugate_gradients(
    apply: Callable[[FloatArray], FloatArray],
    precondition: Callable[[FloatArray], FloatArray],
    B: FloatArray,
    relative: float = RELATIVE,
) -> Solved:
    """Solve (I - S)X = B, (q, r), to the relative residual; each column has its own step lengths."""
    norms = np.linalg.norm(B, axis=0)
    target = relative * norms
    X, R = precondition(B), np.empty_like(B)
    np.subtract(B, X - apply(X), out=R)
    Z = precondition(R)
    P = Z.copy()
    rz = np.einsum("ij,ij->j", R, Z)
    for _ in range(MAX_ITERATIONS):
        left = np.linalg.norm(R, axis=0)
        if np.all(left <= target):
            break
        AP = P - apply(P)
        bend = np.einsum("ij,ij->j", P, AP)
        active = (left > target) & (rz > 0)
        if not np.all(bend[active] > 0):
            raise NumericalError("the Schur complement is not positive definite")
        if not active.any():
            break
        step = np.divide(rz, bend, out=np.zeros_like(rz), where=active)
        X += P * step
        R -= AP * step
        Z = precondition(R)
        new = np.einsum("ij,ij->j", R, Z)
        P *= np.divide(new, rz, out=np.zeros_like(rz), where=active)
        P += Z
        rz = new
    worst = np.divide(np.linalg.norm(R, axis=0), norms, out=np.zeros_like(norms), where=norms > 0)
    return Solved(X, R, float(worst.max(initial=0.0)))
