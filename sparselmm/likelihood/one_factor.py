"""Many responses on a design with one grouping factor: Newton's method for all of them at once.

Without a Schur complement every response's M(θ) is a batch of K×K blocks, so the criterion, its exact
gradient and average information (theory page, section on derivatives) are array expressions over
responses × levels. The formulas are those of `sparselmm.likelihood.derivatives`, one response per row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparselmm._typing import BoolArray, FloatArray, IntArray
from sparselmm.likelihood.criterion import Criterion
from sparselmm.likelihood.pls import ParameterMap
from sparselmm.likelihood.starting import column_scales
from sparselmm.linalg.exact.batched import batched_cholesky, batched_lower_solve
from sparselmm.linalg.exact.elimination import eliminable_terms, eliminated_blocks
from sparselmm.statistics.crossproducts import CrossProducts

MAX_ITERATIONS = 40
DECREASE = 1e-10
FLAT = 1e-4  # deviance per unit of relative variance that rounding may leave


def is_one_block(xp: CrossProducts) -> bool:
    """Return whether all terms share one set of levels, so that M is block diagonal."""
    return len(eliminable_terms(xp.gram)) == len(xp.gram.m)


@dataclass(frozen=True)
class BlockProducts:
    """Cross-products of R responses on m levels with K coefficients.

    Attributes
    ----------
    D : (m, K, K) array
        Z'WZ.
    ZX : (m, K, p) array
        Z'WX.
    ZY : (R, m, K) array
        Z'WY.
    XX : (p, p) array
        X'WX.
    XY : (R, p) array
        X'WY.
    YY : (R,) array
        Sums of squares of the responses.
    """

    D: FloatArray
    ZX: FloatArray
    ZY: FloatArray
    XX: FloatArray
    XY: FloatArray
    YY: FloatArray

    @classmethod
    def from_sums(cls, xp: CrossProducts, ZtWY: FloatArray, XtWY: FloatArray, YY: FloatArray) -> BlockProducts:
        """Arrange sums (q, R), (p, R) and (R,) by level."""
        gram, R = xp.gram, ZtWY.shape[1]
        m, K = gram.m[0], sum(gram.k)
        D = eliminated_blocks(gram, tuple(range(len(gram.m))))
        by_level = [np.arange(gram.offsets[t], gram.offsets[t + 1]).reshape(m, -1) for t in range(len(gram.m))]
        order = np.concatenate(by_level, axis=1)
        ZX = xp.ZtWXy[:, :-1][order]
        ZY = np.ascontiguousarray(ZtWY[order].transpose(2, 0, 1))
        return cls(D, ZX, ZY.reshape(R, m, K), xp.XytWXy[:-1, :-1], np.ascontiguousarray(XtWY.T), YY)

    def take(self, rows: BoolArray) -> BlockProducts:
        """Return the products of some responses."""
        return BlockProducts(self.D, self.ZX, self.ZY[rows], self.XX, self.XY[rows], self.YY[rows])


@dataclass(frozen=True)
class BlockState:
    """Criterion, derivatives and estimates of R responses at their own parameters.

    Attributes
    ----------
    value : (R,) array
        Criterion, without the part that no parameter changes.
    gradient : (R, n) array
    hessian : (R, n, n) array
    gamma : (R, p) array
        Coefficients of the transformed X.
    pwrss : (R,) array
    S : (R, K, K) array
        Derivative with respect to the merged Ω.
    """

    value: FloatArray
    gradient: FloatArray
    hessian: FloatArray
    gamma: FloatArray
    pwrss: FloatArray
    S: FloatArray

    def update(self, rows: IntArray, other: BlockState, better: BoolArray) -> None:
        """Take over the better of the other's rows, which stand for ``rows`` here."""
        for name in self.__dataclass_fields__:
            getattr(self, name)[rows[better]] = getattr(other, name)[better]


def merged_derivatives(parameters: ParameterMap) -> FloatArray:
    """Return the derivatives of the block-diagonal template of all terms, (n_par, K, K)."""
    K = sum(s.k for s in parameters.structures)
    out, row, start = np.zeros((parameters.n_par, K, K)), 0, 0
    for s in parameters.structures:
        out[row : row + s.n_par, start : start + s.k, start : start + s.k] = s.dtemplate()
        row, start = row + s.n_par, start + s.k
    return out


def evaluate_blocks(
    products: BlockProducts, dT: FloatArray, par: FloatArray, criterion: Criterion, n: int
) -> BlockState:
    """Return the state at parameters (R, n_par)."""
    R, (m, K, p) = len(par), products.ZX.shape
    T = np.tensordot(par, dT, (1, 0))
    Tt = T.transpose(0, 2, 1)[:, None]
    M = Tt @ products.D @ T[:, None] + np.eye(K)
    L = batched_cholesky(M.reshape(R * m, K, K))
    F = batched_lower_solve(L, np.broadcast_to(Tt, (R, m, K, K)).reshape(R * m, K, K)).reshape(R, m, K, K)
    ldL2 = 2.0 * np.log(np.einsum("ikk->ik", L)).reshape(R, -1).sum(axis=1)
    C = np.concatenate([np.broadcast_to(products.ZX, (R, m, K, p)), products.ZY[..., None]], axis=3)
    H = (F @ C).reshape(R, m * K, p + 1)
    HH = H.transpose(0, 2, 1) @ H
    Sxx = products.XX - HH[:, :p, :p]
    Sxy = products.XY - HH[:, :p, p]
    RX = np.linalg.cholesky(Sxx) if p else np.zeros((R, 0, 0))
    c = np.linalg.solve(RX, Sxy[..., None])[..., 0] if p else Sxy
    pwrss = products.YY - HH[:, p, p] - (c**2).sum(axis=1)
    gamma = np.linalg.solve(RX.transpose(0, 2, 1), c[..., None])[..., 0] if p else c
    df = criterion.df(n, p)
    value = ldL2 + df * np.log(pwrss)
    if criterion.reml and p:
        value = value + 2.0 * np.log(np.einsum("rpp->rp", RX)).sum(axis=1)
    gradient, hessian, S = _derivatives(products, dT, T, F, C, RX, gamma, pwrss, df, criterion.reml)
    return BlockState(value, gradient, hessian, gamma, pwrss, S)


def _derivatives(
    products: BlockProducts,
    dT: FloatArray,
    T: FloatArray,
    F: FloatArray,
    C: FloatArray,
    RX: FloatArray,
    gamma: FloatArray,
    pwrss: FloatArray,
    df: int,
    reml: bool,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return gradients (R, n), Hessians (R, n, n) and S (R, K, K)."""
    R, m, K, p = *F.shape[:3], gamma.shape[1]
    Q = np.eye(K) - products.D @ (F.transpose(0, 1, 3, 2) @ F)
    QD = Q @ products.D
    G = Q @ C
    s = G[..., p] - (G[..., :p] @ gamma[:, None, :, None])[..., 0]
    S = QD.sum(axis=1) - (df / pwrss)[:, None, None] * (s.transpose(0, 2, 1) @ s)
    B = np.zeros((R, m * K, p))
    if p:
        B = np.linalg.solve(RX, G[..., :p].reshape(R, m * K, p).transpose(0, 2, 1)).transpose(0, 2, 1)
        if reml:
            by_level = B.reshape(R, m, K, p).transpose(0, 2, 1, 3).reshape(R, K, m * p)
            S = S - by_level @ by_level.transpose(0, 2, 1)
    half = dT[None] @ T.transpose(0, 2, 1)[:, None]
    dOmega = half + half.transpose(0, 1, 3, 2)
    gradient = np.einsum("rab,rnab->rn", S, dOmega)
    V = (dOmega[:, None] @ s[:, :, None, :, None])[..., 0]  # (R, m, n, K)
    flat = V.transpose(0, 2, 1, 3).reshape(R, len(dT), m * K)
    QDV = (V @ QD.transpose(0, 1, 3, 2)).transpose(0, 2, 1, 3).reshape(R, len(dT), m * K)
    information = flat @ QDV.transpose(0, 2, 1)
    if p:
        BV = flat @ B
        information = information - BV @ BV.transpose(0, 2, 1)
    a = (flat @ s.reshape(R, m * K, 1))[..., 0]
    scale = (df / pwrss)[:, None, None]
    hessian = scale * (information - a[:, :, None] * a[:, None, :] / pwrss[:, None, None])
    moved = np.tensordot(S, dT, (2, 1)).transpose(0, 2, 1, 3).reshape(R, len(dT), K * K)
    return gradient, hessian + 2.0 * moved @ dT.reshape(len(dT), K * K).T, S


def minimize_blocks(
    products: BlockProducts, xp: CrossProducts, parameters: ParameterMap, criterion: Criterion, start: FloatArray
) -> tuple[FloatArray, BlockState, BoolArray]:
    """Return parameters (R, n), the state there, and which responses converged; start is (n,) or (R, n).

    Damped Newton steps; a response whose step is refused tries a quarter of it.
    """
    dT, R = merged_derivatives(parameters), len(products.YY)
    par = np.broadcast_to(start, (R, start.shape[-1])).copy()
    typical = np.concatenate(
        [
            np.max(np.abs(s.dtemplate()) * (0.5 / scale)[:, None], axis=(1, 2))
            for s, scale in zip(parameters.structures, column_scales(xp.gram))
        ]
    )
    state = evaluate_blocks(products, dT, par, criterion, xp.n)
    active, radius = np.ones(R, dtype=bool), np.ones(R)
    for _ in range(MAX_ITERATIONS):
        step, predicted = _steps(state, np.maximum(np.abs(par), typical), radius, active)
        done = predicted < DECREASE
        trial = par[active] + step
        found = evaluate_blocks(products.take(active), dT, trial, criterion, xp.n)
        rows = np.flatnonzero(active)
        better = (found.value < state.value[rows]) | done
        radius[rows] = np.where(better, np.minimum(2.0 * radius[rows], 1.0), 0.25 * radius[rows])
        par[rows[better]] = trial[better]
        state.update(rows, found, better)
        active[rows[done]] = False
        if not active.any():
            break
    return par, state, ~active


def _steps(state: BlockState, scale: FloatArray, radius: FloatArray, rows: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Return damped Newton steps and the decreases they predict for some responses."""
    D = scale[rows]
    g = state.gradient[rows] * D
    w, Q = np.linalg.eigh(state.hessian[rows] * D[:, :, None] * D[:, None, :])
    c = np.einsum("rab,ra->rb", Q, g)
    step = -c / np.maximum(np.abs(w), 1e-8 * np.abs(w).max(axis=1, keepdims=True) + 1e-300)
    length = np.linalg.norm(step, axis=1)
    step *= np.minimum(1.0, radius[rows] / np.maximum(length, 1e-300))[:, None]
    predicted = -(c * step + w * step**2 / 2.0).sum(axis=1)
    return np.einsum("rab,rb->ra", Q, step) * D, np.abs(predicted)


def admits_no_more(state: BlockState, parameters: ParameterMap, scales: list[FloatArray]) -> BoolArray:
    """Return for each response whether no term would gain from variance in any direction, (R,)."""
    out = np.ones(len(state.value), dtype=bool)
    start = 0
    for structure, scale in zip(parameters.structures, scales):
        block = state.S[:, start : start + structure.k, start : start + structure.k] / np.outer(scale, scale)
        start += structure.k
        out &= np.array([float(np.sum(S * structure.descent(S))) > -FLAT for S in block])
    return out
