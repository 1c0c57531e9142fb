"""Kenward-Roger and Satterthwaite by dense (n, n) algebra, from the published formulas.

Kenward and Roger (1997, Biometrics 53, 983-997), sections 2 and 3, for a covariance that is linear in its
parameters; Fai and Cornelius (1996, J. Stat. Comput. Simul. 54, 363-378) for Satterthwaite's degrees of freedom.
Derivatives of the likelihood are finite differences here, on purpose.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class DenseKR:
    """Quantities of Kenward and Roger's paper.

    ``G`` are the derivatives of Σ in its parameters, (r, n, n); ``sigma`` is Σ, (n, n); ``X`` is (n, p).
    """

    X: np.ndarray
    sigma: np.ndarray
    G: np.ndarray

    def __post_init__(self):
        X, inverse = self.X, np.linalg.inv(self.sigma)
        phi = np.linalg.inv(X.T @ inverse @ X)
        r = len(self.G)
        P = [-X.T @ inverse @ g @ inverse @ X for g in self.G]
        Q = [[X.T @ inverse @ a @ inverse @ b @ inverse @ X for b in self.G] for a in self.G]
        information = np.empty((r, r))
        for i in range(r):
            for j in range(r):
                trace = np.trace(inverse @ self.G[i] @ inverse @ self.G[j])
                information[i, j] = 0.5 * (trace - 2 * np.trace(phi @ Q[i][j]) + np.trace(phi @ P[i] @ phi @ P[j]))
        W = np.linalg.inv(information)
        U = sum(W[i, j] * (Q[i][j] - P[i] @ phi @ P[j]) for i in range(r) for j in range(r))
        object.__setattr__(self, "phi", phi)
        object.__setattr__(self, "P", P)
        object.__setattr__(self, "W", W)
        object.__setattr__(self, "adjusted", phi + 2 * phi @ U @ phi)

    def test(self, L, beta, rhs=0.0):
        """Return F (scaled), denominator df and the scale for l rows of L."""
        phi, l = self.phi, len(L)
        theta = L.T @ np.linalg.inv(L @ phi @ L.T) @ L
        r = len(self.G)
        terms = [theta @ phi @ p @ phi for p in self.P]
        A1 = sum(self.W[i, j] * np.trace(terms[i]) * np.trace(terms[j]) for i in range(r) for j in range(r))
        A2 = sum(self.W[i, j] * np.trace(terms[i] @ terms[j]) for i in range(r) for j in range(r))
        B = (A1 + 6 * A2) / (2 * l)
        g = ((l + 1) * A1 - (l + 4) * A2) / ((l + 2) * A2)
        d = 3 * l + 2 * (1 - g)
        c1, c2, c3 = g / d, (l - g) / d, (l + 2 - g) / d
        E = 1 / (1 - A2 / l)
        V = 2 / l * (1 + c1 * B) / ((1 - c2 * B) ** 2 * (1 - c3 * B))
        rho = V / (2 * E**2)
        m = 4 + (l + 2) / (l * rho - 1)
        scale = m / (E * (m - 2))
        gap = L @ beta - rhs
        wald = gap @ np.linalg.inv(L @ self.adjusted @ L.T) @ gap / l
        return scale * wald, m, scale


def restricted_deviance(y, X, V_of, parameters, reml=True):
    """Return minus twice the (restricted) log-likelihood without its constant, β profiled out."""
    V = V_of(parameters)
    L = np.linalg.cholesky(V)
    A, z = np.linalg.solve(L, X), np.linalg.solve(L, y)
    M = A.T @ A
    r = z - A @ np.linalg.solve(M, A.T @ z)
    value = 2 * np.sum(np.log(np.diag(L))) + r @ r
    return value + (np.linalg.slogdet(M)[1] if reml else 0.0)


def hessian(f, x, step=1e-4):
    """Return second derivatives by central differences with one Richardson step."""
    return (4 * _hessian(f, x, step / 2) - _hessian(f, x, step)) / 3


def _hessian(f, x, step):
    k = len(x)
    E = np.eye(k) * step
    out = np.empty((k, k))
    for i in range(k):
        for j in range(k):
            up, down = x + E[i], x - E[i]
            out[i, j] = (f(up + E[j]) - f(up - E[j]) - f(down + E[j]) + f(down - E[j])) / (4 * step**2)
    return out


def gradient(f, x, step=1e-5):
    E = np.eye(len(x)) * step
    return np.array([(f(x + e) - f(x - e)) / (2 * step) for e in E])
