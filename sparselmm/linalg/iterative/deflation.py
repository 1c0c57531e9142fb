"""The directions of S that would dominate the variance of the probes, found by block Krylov iterations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular

from sparselmm._typing import AnyArray, FloatArray
from sparselmm.linalg.iterative.lanczos import remainder

KRYLOV_STEPS = 3
ROUNDING = {4: 1e-5, 8: 1e-11}  # of an image, in single and in double precision
DOMINANT = 0.25  # largest share of one direction in the variance that is left to the probes


@dataclass(frozen=True)
class Deflation:
    """Approximate eigenvectors of S.

    Attributes
    ----------
    Q : (q, k) array
        Orthonormal.
    values : (k,) array
        Rayleigh quotients, below 1.
    """

    Q: FloatArray
    values: FloatArray

    def precondition(self, R: FloatArray) -> FloatArray:
        """Return (I + Q diag(1/(1 - λ) - 1)Q')R, close to (I - S)⁻¹R."""
        gain = self.values / (1.0 - self.values)
        return np.asarray(R + self.Q @ (gain[:, None] * (self.Q.T @ R)))

    def project(self, Z: AnyArray) -> AnyArray:
        """Return (I - QQ')Z in the precision of Z."""
        Q = self.Q.astype(Z.dtype, copy=False)
        out = Z - Q @ (Q.T @ Z)
        return np.asarray(out - Q @ (Q.T @ out))


def orthonormal(V: FloatArray) -> FloatArray:
    """Return an orthonormal basis of the columns of V by two Cholesky factorisations of the Gram matrix.

    Dependent columns are dropped. (LAPACK's QR of tall blocks is slow beside other thread pools.)
    """
    for _ in range(2):
        norms = np.linalg.norm(V, axis=0)
        V = V[:, norms > 0] / norms[norms > 0]
        w, U = np.linalg.eigh(V.T @ V)
        keep = w > 1e-12 * max(float(w[-1]), 1e-300) if len(w) else w > 0
        V = V @ (U[:, keep] / np.sqrt(w[keep]))
    try:
        R = np.linalg.cholesky(V.T @ V).T
    except np.linalg.LinAlgError:  # pragma: no cover - a third pass is not known to be needed
        return np.linalg.qr(V)[0]
    return np.asarray(solve_triangular(R, V.T, trans="T", lower=False).T)


def ritz(V: FloatArray, SV: FloatArray, k: int, order: int, noise: float) -> FloatArray:
    """Return Ritz vectors of S in the span of V, (q, c) orthonormal: those that a probe's variance owes most.

    At most k, and no more than leave the variance of a probe below ``noise`` as far as the others tell, none of them
    with most of it: a few squares of normal numbers are skew, and their spread says little of their error.
    """
    H = V.T @ SV
    values, U = np.linalg.eigh((H + H.T) / 2.0)
    weight = np.abs(remainder(np.minimum(values, 1.0 - 1e-15), order))
    chosen = np.argsort(-weight, kind="stable")
    own = 2.0 * weight[chosen] ** 2
    left = np.cumsum(own[::-1])[::-1]  # variance of a probe by the directions from here on
    enough = np.append((left <= noise) & (own <= DOMINANT * left), True)
    return np.ascontiguousarray(V @ U[:, chosen[: min(k, max(1, int(np.argmax(enough))))]])


def _outside(V: FloatArray, basis: FloatArray, rounding: float) -> FloatArray:
    """Return an orthonormal basis of the columns of V as far as they leave the span of an orthonormal basis.

    Where levels meet regularly the images of a block lie in its span, and what projection leaves of them is rounding:
    no direction of its own, nor orthogonal to anything.
    """
    size = np.linalg.norm(V, axis=0)
    for _ in range(2):
        V = V - basis @ (basis.T @ V)
    V = V[:, np.linalg.norm(V, axis=0) > rounding * size]
    if V.shape[1]:
        V = orthonormal(V)  # magnifies what nearly dependent columns have left of the basis
        V = orthonormal(V - basis @ (basis.T @ V))
    return V


def krylov(
    apply: Callable[[AnyArray], AnyArray], start: FloatArray, k: int, order: int, noise: float, kind: type = np.float32
) -> FloatArray:
    """Return up to k directions from a block Krylov space with the given starting columns, (q, c).

    The products are in the precision ``kind``. See `ritz` for ``noise``.
    """
    blocks, images = [orthonormal(start)], []
    for _ in range(KRYLOV_STEPS):
        basis = np.hstack(blocks)
        images.append(np.asarray(apply(np.ascontiguousarray(blocks[-1], dtype=kind)), dtype=np.float64))
        W = _outside(images[-1], basis, ROUNDING[np.dtype(kind).itemsize])
        if not W.shape[1] or basis.shape[1] + W.shape[1] > len(start):
            break
        blocks.append(W)
    if len(images) < len(blocks):
        images.append(np.asarray(apply(np.ascontiguousarray(blocks[-1], dtype=kind)), dtype=np.float64))
    return ritz(np.hstack(blocks), np.hstack(images), k, order, noise)
