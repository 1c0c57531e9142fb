"""Prediction error variances from the marginal covariance, densely: small problems only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg as sl


@dataclass(frozen=True)
class Dense:
    """Covariance of (β̂ - β, b̂ - b), (p + q, p + q), and G, (q, q), all times σ²."""

    errors: np.ndarray
    G: np.ndarray


def dense_errors(fit) -> Dense:
    """Covariance of the errors of a fit, with b = Λu in the user's coordinates."""
    design = fit.result.rows
    X, Z, Lambda = fit.X, fit.Z.toarray(), fit.Lambda.toarray()
    w = np.ones(design.n) if design.weights is None else design.weights
    G = Lambda @ Lambda.T
    V = np.diag(1 / w) + Z @ G @ Z.T
    Vi = np.linalg.inv(V)
    C = sl.inv(X.T @ Vi @ X) if X.shape[1] else np.zeros((0, 0))
    P = Vi - Vi @ X @ C @ X.T @ Vi
    cross = -C @ X.T @ Vi @ Z @ G
    errors = np.block([[C, cross], [cross.T, G - G @ Z.T @ P @ Z @ G]])
    return Dense(fit.scale * errors, fit.scale * G)


def variance(dense: Dense, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Error variance of x'β + z'b for rows x (n, p) and z (n, q)."""
    rows = np.hstack([x, z])
    return np.einsum("ni,ij,nj->n", rows, dense.errors, rows)
