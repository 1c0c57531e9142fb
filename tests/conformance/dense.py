"""An oracle for linear mixed models: the marginal normal likelihood by dense algebra, n×n throughout.

Nothing here is taken from the package: y ~ N(Xβ + o, σ²V), V = W⁻¹ + Σ_t Z_t (I ⊗ T_tT_t') Z_t', with σ and β
profiled out. The arithmetic is extended precision (64-bit mantissa where the machine has it) by a plain
Cholesky factorisation without conjugation, so that the same code gives exact first derivatives by complex steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

REAL, COMPLEX = np.longdouble, np.clongdouble


def factor(A):
    """Return lower L with L L' = A (transpose, never conjugate)."""
    A = np.array(A)
    for j in range(len(A)):
        A[j:, j] = A[j:, j] / np.sqrt(A[j, j])
        if j + 1 < len(A):
            A[j + 1 :, j + 1 :] -= np.outer(A[j + 1 :, j], A[j + 1 :, j])
    return np.tril(A)


def forward(L, B):
    """Return L⁻¹B."""
    X = np.array(B, dtype=np.result_type(L, B))
    for j in range(len(L)):
        X[j] = X[j] / L[j, j]
        X[j + 1 :] -= np.multiply.outer(L[j + 1 :, j], X[j])
    return X


def backward(L, B):
    """Return L'⁻¹B."""
    return forward(L.T[::-1, ::-1], np.asarray(B)[::-1])[::-1]


def logdet(L):
    return 2 * np.sum(np.log(np.diag(L)))


@dataclass(frozen=True)
class DenseTerm:
    """Columns of Z, (n, m*k), level by level."""

    Z: np.ndarray
    m: int
    k: int

    def covariance(self, omega):
        """Return Z (I ⊗ Ω) Z'."""
        Z = self.Z.reshape(len(self.Z), self.m, self.k).astype(REAL)
        return np.tensordot(np.tensordot(Z, omega, axes=(2, 0)), Z, axes=((1, 2), (1, 2)))

    def blocks(self, A):
        """Return the (m, k, k) diagonal blocks of Z'AZ."""
        G = self.Z.astype(REAL).T @ A @ self.Z.astype(REAL)
        i = np.arange(self.m)
        return G.reshape(self.m, self.k, self.m, self.k)[i, :, i, :]


@dataclass(frozen=True)
class DenseModel:
    """Everything that defines a model, as dense arrays; ``weights`` and ``offset`` are full vectors."""

    y: np.ndarray
    X: np.ndarray
    terms: tuple[DenseTerm, ...]
    weights: np.ndarray
    offset: np.ndarray

    def at(self, templates, reml):
        """Return the profiled fit at one template per term."""
        return DenseFit(self, tuple(np.asarray(T) for T in templates), reml)


@dataclass(frozen=True)
class DenseFit:
    """The profiled likelihood at fixed templates, straight from its definition."""

    model: DenseModel
    templates: tuple[np.ndarray, ...]
    reml: bool

    @cached_property
    def V(self):
        T = self.templates
        kind = COMPLEX if any(np.iscomplexobj(t) for t in T) else REAL
        V = np.diag(1 / self.model.weights.astype(REAL)).astype(kind)
        for term, t in zip(self.model.terms, T):
            t = t.astype(kind)
            V = V + term.covariance(t @ t.T)
        return V

    @cached_property
    def L(self):
        return factor(self.V)

    @cached_property
    def LX(self):
        """L⁻¹X and the factor of X'V⁻¹X."""
        A = forward(self.L, self.model.X.astype(REAL))
        return A, factor(A.T @ A)

    @cached_property
    def beta(self):
        A, R = self.LX
        z = forward(self.L, (self.model.y.astype(REAL) - self.model.offset))
        return backward(R, forward(R, A.T @ z))

    @cached_property
    def r(self):
        return self.model.y.astype(REAL) - self.model.offset - self.model.X.astype(REAL) @ self.beta

    @cached_property
    def rss(self):
        """r'V⁻¹r, lme4's pwrss."""
        z = forward(self.L, self.r)
        return z @ z

    @property
    def df(self):
        n, p = self.model.X.shape
        return n - p if self.reml else n

    @property
    def criterion(self):
        value = logdet(self.L) + self.df * (1 + np.log(2 * np.pi * self.rss / self.df))
        return value + logdet(self.LX[1]) if self.reml else value

    @property
    def sigma(self):
        return np.sqrt(self.rss / self.df)

    @property
    def cov_beta(self):
        R = self.LX[1]
        return self.sigma**2 * backward(R, forward(R, np.eye(len(R), dtype=REAL)))

    @cached_property
    def Vir(self):
        return backward(self.L, forward(self.L, self.r))

    @cached_property
    def b(self):
        """Conditional means Λ Λ'Z'V⁻¹(y - o - Xβ), level by level and term by term."""
        parts = []
        for term, T in zip(self.model.terms, self.templates):
            s = (term.Z.T.astype(REAL) @ self.Vir).reshape(term.m, term.k)
            parts.append((s @ (T @ T.T).astype(REAL)).ravel())
        return np.concatenate(parts)

    @cached_property
    def fitted(self):
        Z = np.hstack([t.Z for t in self.model.terms]).astype(REAL)
        return self.model.offset + self.model.X.astype(REAL) @ self.beta + Z @ self.b

    @cached_property
    def Vi(self):
        half = forward(self.L, np.eye(len(self.L), dtype=REAL))
        return half.T @ half

    @cached_property
    def P(self):
        """V⁻¹ - V⁻¹X(X'V⁻¹X)⁻¹X'V⁻¹."""
        A = forward(self.LX[1], self.model.X.astype(REAL).T @ self.Vi)
        return self.Vi - A.T @ A

    @cached_property
    def S(self):
        """Derivatives with respect to T_tT_t', (k, k) each."""
        out = []
        for term in self.model.terms:
            s = (term.Z.T.astype(REAL) @ self.Vir).reshape(term.m, term.k)
            trace = term.blocks(self.P if self.reml else self.Vi).sum(axis=0)
            out.append(trace - self.df / self.rss * (s.T @ s))
        return out

    def gradient(self, directions):
        """Return derivatives along each direction, a tuple of template changes per term: 2 Σ_t <S_t, dT_t T_t'>."""
        terms = [zip(self.S, self.templates, direction) for direction in directions]
        return np.array([sum(2 * np.sum(S * (D @ T.T)) for S, T, D in zipped) for zipped in terms])

    def complex_step_gradient(self, directions):
        """Return the same without any formula for a derivative."""
        h = REAL(1e-30)
        out = []
        for direction in directions:
            moved = [T.astype(COMPLEX) + 1j * h * D for T, D in zip(self.templates, direction)]
            out.append(self.model.at(moved, self.reml).criterion.imag / h)
        return np.array(out)

    def average_information(self, directions):
        """Return df (q_i'P q_j / rss - a_i a_j / rss²) with q_i = dV_i V⁻¹r, a_i = r'V⁻¹q_i, and 2 tr(S dT_i dT_j')."""
        q, out = [], np.zeros((len(directions), len(directions)), dtype=REAL)
        for direction in directions:
            dV = sum(
                term.covariance((D @ T.T + T @ D.T).astype(REAL))
                for term, T, D in zip(self.model.terms, self.templates, direction)
            )
            q.append(dV @ self.Vir)
        a = [self.Vir @ x for x in q]
        for i, Di in enumerate(directions):
            for j, Dj in enumerate(directions):
                curvature = sum(2 * np.trace(S @ x @ z.T) for S, x, z in zip(self.S, Di, Dj))
                out[i, j] = self.df * (q[i] @ self.P @ q[j] / self.rss - a[i] * a[j] / self.rss**2) + curvature
        return out
