"""The normalised Schur complement I - S of the penalized system at one θ.

With the eliminated group first, M = [D1, M12; M21, M22] and the Schur complement N = I + T'HT,
H = A22 - A21 Φ A12, Φ = T1 D1⁻¹ T1'. The diagonal blocks C = I + T'H_lT of N are factored, and
``I - S = L_C⁻¹ N L_C'⁻¹``: S has zero diagonal blocks, so tr S = 0 is known exactly, and
log|M| = Σlog|D1| + Σlog|C| + log|I - S|. A is Z'WZ; nothing divides by θ, so θ = 0 is no exception.
"""

from __future__ import annotations

import numpy as np

from sparselmm._typing import AnyArray, FloatArray
from sparselmm.exceptions import NumericalError
from sparselmm.linalg.blocks import Templates
from sparselmm.linalg.exact.batched import batched_cholesky, batched_lower_solve, batched_upper_solve
from sparselmm.linalg.iterative.layout import Layout

REGULAR = 1e8  # condition of a template up to which its inverse keeps half the digits


class Blocks:
    """Square blocks that multiply the levels of one group, in the precision of what they multiply."""

    def __init__(self, values: FloatArray) -> None:
        self.values = values
        self._single: AnyArray | None = None

    def __matmul__(self, X: AnyArray) -> AnyArray:
        return self._times(X, False)

    def transposed(self, X: AnyArray) -> AnyArray:
        """Return B'X."""
        return self._times(X, True)

    def _times(self, X: AnyArray, transpose: bool) -> AnyArray:
        B = self.values
        if X.dtype == np.float32:
            if self._single is None:
                self._single = self.values.astype(np.float32)
            B = self._single
        m, K, _ = B.shape
        if K == 1:
            return np.asarray(B.reshape(m, 1) * X)
        x, out = X.reshape(m, K, -1), np.empty_like(X)
        y = out.reshape(m, K, -1)
        for i in range(K):
            row = B[:, :, i] if transpose else B[:, i]
            np.multiply(row[:, 0, None], x[:, 0], out=y[:, i])
            for j in range(1, K):
                y[:, i] += row[:, j, None] * x[:, j]
        return out


def gain(A: FloatArray, T: FloatArray, L: FloatArray) -> FloatArray:
    """Return P = (I + A T T')⁻¹ per level, L the Cholesky factors of I + T'AT."""
    if np.linalg.cond(T) < REGULAR:  # T'⁻¹ (LL')⁻¹ T' keeps its digits at large θ
        Linv = batched_lower_solve(L, np.broadcast_to(np.eye(len(T)), L.shape))
        return np.asarray(np.linalg.inv(T.T) @ (Linv.transpose(0, 2, 1) @ Linv) @ T.T)
    F = batched_lower_solve(L, np.broadcast_to(T.T, L.shape))
    return np.asarray(np.eye(len(T)) - A @ (F.transpose(0, 2, 1) @ F))


def _log_diagonal(L: FloatArray) -> float:
    return 2.0 * float(np.log(np.einsum("mkk->mk", L)).sum())


def _factor(A: FloatArray, T: FloatArray) -> FloatArray:
    M = T.T @ A @ T
    diagonal = np.arange(len(T))
    M[:, diagonal, diagonal] += 1.0
    return batched_cholesky(M)


class ReducedSystem:
    """I - S at one θ, and everything that depends on θ but not on probes.

    Attributes
    ----------
    logdet : float
        Σlog|D1| + Σlog|C|.
    F : (m, K, K) array
        L1⁻¹T1' of the eliminated group; Φ = F'F.
    phi : Blocks
        Φ.
    T2, L2, H : lists of arrays
        Per group of the rest, the template, the factors L_C and the diagonal blocks of H.
    explained, G : lists of Blocks
        Diagonal blocks of A21 Φ A12, and G = T L_C'⁻¹.
    """

    def __init__(self, layout: Layout, templates: Templates) -> None:
        self.layout = layout
        first = layout.first
        self.T1 = first.template(templates)
        self.L1 = _factor(first.diagonal, self.T1)
        F = batched_lower_solve(self.L1, np.broadcast_to(self.T1.T, self.L1.shape))
        self.F = F
        self.phi = Blocks(F.transpose(0, 2, 1) @ F)
        self.logdet = _log_diagonal(self.L1)
        self.starts = np.concatenate([[0], np.cumsum([g.size for g in layout.rest])]).astype(int)
        self.T2: list[FloatArray] = []
        self.L2: list[FloatArray] = []
        self.H: list[FloatArray] = []
        self.explained: list[Blocks] = []
        self.G: list[Blocks] = []
        for group, cross in zip(layout.rest, layout.to_first):
            T = group.template(templates)
            explained = cross.tforms(self.phi.values)
            H = group.diagonal - explained
            L = _factor(H, T)
            self.T2.append(T)
            self.L2.append(L)
            self.H.append(H)
            self.explained.append(Blocks(explained))
            back = batched_lower_solve(L, np.broadcast_to(T.T, L.shape))
            self.G.append(Blocks(np.ascontiguousarray(back.transpose(0, 2, 1))))
            self.logdet += _log_diagonal(L)
        if not np.isfinite(self.logdet):
            raise NumericalError("the penalized system is not finite")

    @property
    def smallest(self) -> float:
        """A lower bound of the eigenvalues of I - S: N - I is positive semidefinite, so it is 1 / max C."""
        largest = [float(np.abs(L @ L.transpose(0, 2, 1)).sum(axis=2).max()) for L in self.L2]
        return 1.0 / max(largest)

    @property
    def q2(self) -> int:
        """Size of S."""
        return int(self.starts[-1])

    def parts(self, X: AnyArray) -> list[AnyArray]:
        """Return the rows of X, (q2, c), by group."""
        return [X[a:b] for a, b in zip(self.starts[:-1], self.starts[1:])]

    def _first_rows(self, X: list[AnyArray]) -> AnyArray:
        out = self.layout.to_first[0].dot(X[0])
        for cross, x in zip(self.layout.to_first[1:], X[1:]):
            out += cross.dot(x)
        return out

    def raw(self, V: AnyArray) -> tuple[AnyArray, AnyArray]:
        """Return A12 G V, (q1, c), and H_o G V, (q2, c), H_o being H without its diagonal blocks."""
        X = [G @ v for G, v in zip(self.G, self.parts(V))]
        U = self._first_rows(X)
        W = self.phi @ U
        out = np.empty_like(V)
        Y = self.parts(out)
        for y, x, cross, explained in zip(Y, X, self.layout.to_first, self.explained):
            np.subtract(explained @ x, cross.tdot(W), out=y)
        for a, b, block in self.layout.within:
            Y[a] += block.dot(X[b])
            Y[b] += block.tdot(X[a])
        return U, out

    def apply(self, V: AnyArray) -> AnyArray:
        """Return S V, (q2, c), in the precision of V."""
        return self.finish(self.raw(V)[1])

    def finish(self, Y: AnyArray) -> AnyArray:
        """Return S V of H_o G V, in its place."""
        for G, y in zip(self.G, self.parts(Y)):
            np.negative(G.transposed(y), out=y)
        return Y

    def reduce(self, C1: FloatArray, C2: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return L1⁻¹C1 and L_C⁻¹(C2 - M21 D1⁻¹C1) of right-hand sides (q1, r), (q2, r)."""
        first = self.layout.first
        H1 = batched_lower_solve(self.L1, C1.reshape(first.m, first.K, -1))
        back = batched_upper_solve(self.L1, H1)
        W = _each(self.T1, back)
        out = np.empty_like(C2)
        for c, y, cross, T, L in zip(self.parts(C2), self.parts(out), self.layout.to_first, self.T2, self.L2):
            m, K = len(L), len(T)
            right = c.reshape(m, K, -1) - _each(T.T, cross.tdot(W.reshape(len(C1), -1)).reshape(m, K, -1))
            y[:] = batched_lower_solve(L, right).reshape(m * K, -1)
        return H1.reshape(C1.shape), out

    def expand(self, H1: FloatArray, X: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the solution (q1, r), (q2, r) from H1 of `reduce` and X = (I - S)⁻¹ of its second part."""
        first = self.layout.first
        out = np.empty_like(X)
        raw = []
        for x, y, T, L in zip(self.parts(X), self.parts(out), self.T2, self.L2):
            back = batched_upper_solve(L, x.reshape(len(L), len(T), -1))
            y[:] = back.reshape(y.shape)
            raw.append(np.ascontiguousarray(_each(T, back).reshape(y.shape)))
        cross = self._first_rows(raw).reshape(first.m, first.K, -1)
        right = H1.reshape(cross.shape) - batched_lower_solve(self.L1, _each(self.T1.T, cross))
        return batched_upper_solve(self.L1, right).reshape(H1.shape), out


def _each(T: FloatArray, X: FloatArray) -> FloatArray:
    """Return T x for each level, (m, k, r)."""
    if T.shape == (1, 1):
        return np.asarray(X * T[0, 0])
    return np.asarray(T @ X)
