"""Many responses on a design with one grouping factor: Newton's method for all of them at once.

Without a Schur complement every response's M(θ) is a batch of K×K blocks, so the criterion, its exact
gradient and average information (theory page, section on derivatives) are array expressions over
responses × levels. The formulas are those of `sparselmm.likelihood.derivatives`, one response per row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparselmm._typing import BoolArray, FloatArray, IntArray
from sparselmm.covariance import chain
from sparselmm.covariance.parameters import ParameterMap
from sparselmm.likelihood.criterion import Criterion
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


def merged(parameters: ParameterMap, par: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the block-diagonal template of all terms, (R, K, K), and ∂Ω of its product, (R, n_par, K, K)."""
    K, start = sum(s.k for s in parameters.structures), 0
    T, dOmega = np.zeros((len(par), K, K)), np.zeros((*par.shape, K, K))
    for s, x, here in zip(parameters.structures, parameters.split(par), parameters.slices):
        own = slice(start, start + s.k)
        T[:, own, own], dOmega[:, here, own, own] = s.template(x), s.domega(x)
        start += s.k
    return T, dOmega


def term_blocks(parameters: ParameterMap, S: FloatArray) -> list[FloatArray]:
    """Return the part of each term, (R, k, k), of (R, K, K)."""
    ends = np.cumsum([s.k for s in parameters.structures])
    return [S[:, end - s.k : end, end - s.k : end] for s, end in zip(parameters.structures, ends)]


def evaluate_blocks(
    products: BlockProducts, parameters: ParameterMap, par: FloatArray, criterion: Criterion, n: int
) -> BlockState:
    """Return the state at parameters (R, n_par)."""
    R, (m, K, p) = len(par), products.ZX.shape
    T, dOmega = merged(parameters, par)
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
    gradient, hessian, S = _derivatives(products, dOmega, F, C, RX, gamma, pwrss, df, criterion.reml)
    chain.add_curvature(hessian, parameters, par, term_blocks(parameters, S))
    return BlockState(value, gradient, hessian, gamma, pwrss, S)


def _derivatives(
    products: BlockProducts,
    dOmega: FloatArray,
    F: FloatArray,
    C: FloatArray,
    RX: FloatArray,
    gamma: FloatArray,
    pwrss: FloatArray,
    df: int,
    reml: bool,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return gradients (R, n), average informations (R, n, n) and S (R, K, K); dOmega is (R, n, K, K)."""
    R, m, K, p = *F.shape[:3], gamma.shape[1]
    n = dOmega.shape[1]
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
    gradient = chain.along([dOmega], [S])
    V = (dOmega[:, None] @ s[:, :, None, :, None])[..., 0]  # (R, m, n, K)
    flat = V.transpose(0, 2, 1, 3).reshape(R, n, m * K)
    QDV = (V @ QD.transpose(0, 1, 3, 2)).transpose(0, 2, 1, 3).reshape(R, n, m * K)
    information = flat @ QDV.transpose(0, 2, 1)
    if p:
        BV = flat @ B
        information = information - BV @ BV.transpose(0, 2, 1)
    a = (flat @ s.reshape(R, m * K, 1))[..., 0]
    scale = (df / pwrss)[:, None, None]
    hessian = scale * (information - a[:, :, None] * a[:, None, :] / pwrss[:, None, None])
    return gradient, hessian, S


def minimize_blocks(
    products: BlockProducts, xp: CrossProducts, parameters: ParameterMap, criterion: Criterion, start: FloatArray
) -> tuple[FloatArray, BlockState, BoolArray]:
    """Return parameters (R, n), the state there, and which responses converged; start is (n,) or (R, n).

    Damped Newton steps; a response whose step is refused tries a quarter of it.
    """
    R = len(products.YY)
    par = np.broadcast_to(start, (R, start.shape[-1])).copy()
    typical = np.concatenate(
        [
            s.typical(x, 0.5 / scale)
            for s, x, scale in zip(parameters.structures, parameters.split(par[0]), column_scales(xp.gram))
        ]
    )
    state = evaluate_blocks(products, parameters, par, criterion, xp.n)
    active, radius = np.ones(R, dtype=bool), np.ones(R)
    for _ in range(MAX_ITERATIONS):
        step, predicted = _steps(state, np.maximum(np.abs(par), typical), radius, active)
        done = predicted < DECREASE
        trial = par[active] + step
        found = evaluate_blocks(products.take(active), parameters, trial, criterion, xp.n)
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


def admits_no_more(state: BlockState, par: FloatArray, parameters: ParameterMap, scales: list[FloatArray]) -> BoolArray:
    """Return for each response whether no term would gain from variance in any direction, (R,)."""
    out = np.ones(len(state.value), dtype=bool)
    for structure, x, S, scale in zip(
        parameters.structures, parameters.split(par), term_blocks(parameters, state.S), scales
    ):
        scaled = S / np.outer(scale, scale)
        out &= np.array([float(np.sum(s * structure.descent(at, s))) > -FLAT for at, s in zip(x, scaled)], dtype=bool)
    return out
