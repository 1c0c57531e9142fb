"""Many responses on a design with one grouping factor: Newton's method for all of them at once.

Without a Schur complement every response's M(θ) is a batch of K×K blocks, so the criterion, its exact
gradient and average information (theory page, section on derivatives) are array expressions over
responses × levels. The formulas are those of `sparselmm.likelihood.derivatives`, one response per row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sparselmm._typing import BoolArray, FloatArray, IntArray
from sparselmm.covariance import chain
from sparselmm.covariance.parameters import ParameterMap
from sparselmm.exceptions import NumericalError
from sparselmm.likelihood.criterion import Criterion
from sparselmm.likelihood.estimates import Estimates
from sparselmm.likelihood.starting import column_scales
from sparselmm.linalg.exact.batched import batched_cholesky, batched_lower_solve
from sparselmm.linalg.exact.elimination import eliminable_terms, eliminated_blocks
from sparselmm.optimize.newton import descend_many
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

    def take(self, rows: BoolArray | IntArray) -> BlockProducts:
        """Return the products of some responses."""
        return BlockProducts(self.D, self.ZX, self.ZY[rows], self.XX, self.XY[rows], self.YY[rows])


@dataclass(frozen=True)
class BlockState:
    """Criterion, derivatives and estimates of R responses at their own parameters.

    Attributes
    ----------
    value : (R,) array
        Criterion.
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
    products: BlockProducts, parameters: ParameterMap, par: FloatArray, criterion: Criterion, xp: CrossProducts
) -> BlockState:
    """Return the state at parameters (R, n_par); the value is infinite where rounding leaves no factor."""
    R, (m, K, p) = len(par), products.ZX.shape
    T, dOmega = merged(parameters, par)
    Tt = T.transpose(0, 2, 1)[:, None]
    M = Tt @ products.D @ T[:, None] + np.eye(K)
    L, sound = _factors(M, batched_cholesky)
    F = batched_lower_solve(L, np.broadcast_to(Tt, (R, m, K, K)).reshape(R * m, K, K)).reshape(R, m, K, K)
    ldL2 = 2.0 * np.log(np.einsum("ikk->ik", L)).reshape(R, -1).sum(axis=1)
    C = np.concatenate([np.broadcast_to(products.ZX, (R, m, K, p)), products.ZY[..., None]], axis=3)
    H = (F @ C).reshape(R, m * K, p + 1)
    HH = H.transpose(0, 2, 1) @ H
    Sxx = products.XX - HH[:, :p, :p]
    Sxy = products.XY - HH[:, :p, p]
    RX, regular = _factors(Sxx[:, None], _cholesky) if p else (np.zeros((R, 0, 0)), sound)
    c = np.linalg.solve(RX, Sxy[..., None])[..., 0] if p else Sxy
    pwrss = products.YY - HH[:, p, p] - (c**2).sum(axis=1)
    sound = sound & regular & (pwrss > 0)
    pwrss = np.where(sound, pwrss, products.YY)
    gamma = np.linalg.solve(RX.transpose(0, 2, 1), c[..., None])[..., 0] if p else c
    ldRX2 = 2.0 * np.log(np.einsum("rpp->rp", RX)).sum(axis=1) + (xp.basis.logdet if p else 0.0)
    value = criterion.value(ldL2=ldL2, ldRX2=ldRX2, pwrss=pwrss, n=xp.n, p=p, sum_log_weights=xp.sum_log_weights)
    value = np.where(sound, value, np.inf)
    df = criterion.df(xp.n, p)
    gradient, hessian, S = _derivatives(products, dOmega, F, C, RX, gamma, pwrss, df, criterion.reml)
    chain.add_curvature(hessian, parameters, par, term_blocks(parameters, S))
    return BlockState(value, gradient, hessian, gamma, pwrss, S)


def _factors(A: FloatArray, factor: Callable[[FloatArray], FloatArray]) -> tuple[FloatArray, BoolArray]:
    """Return the Cholesky factors of (R, m, k, k) matrices, (R*m, k, k), and for which of the R all exist.

    Where they do not, those of the identity stand in their place.
    """
    flat, sound = A.reshape(-1, *A.shape[2:]), np.ones(len(A), dtype=bool)
    try:
        return factor(flat), sound
    except (NumericalError, np.linalg.LinAlgError):
        A = A.copy()
    for r, blocks in enumerate(A):
        try:
            factor(blocks)
        except (NumericalError, np.linalg.LinAlgError):
            A[r], sound[r] = np.eye(A.shape[3]), False
    return factor(A.reshape(flat.shape)), sound


def _cholesky(A: FloatArray) -> FloatArray:
    """Return the lower Cholesky factors of (R, p, p) matrices."""
    return np.asarray(np.linalg.cholesky(A))


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


class Sweep:
    """Descents of R responses at once, each at its own parameters.

    Attributes
    ----------
    par : (R, n) array
        Where they are.
    state : BlockState
        There.
    converged : (R,) bool array
        Which have settled.
    """

    def __init__(
        self,
        products: BlockProducts,
        xp: CrossProducts,
        parameters: ParameterMap,
        criterion: Criterion,
        start: FloatArray,
        instead: FloatArray | None = None,
    ) -> None:
        R = len(products.YY)
        self._products, self._xp, self._parameters, self._criterion = products, xp, parameters, criterion
        self.par = np.broadcast_to(start, (R, start.shape[-1])).copy()
        self.state = evaluate_blocks(products, parameters, self.par, criterion, xp)
        lost = ~np.isfinite(self.state.value)
        if instead is not None and lost.any():
            self.par[lost] = instead
            self.state = evaluate_blocks(products, parameters, self.par, criterion, xp)
        self.converged = np.zeros(R, dtype=bool)
        self._typical = np.concatenate(
            [
                s.typical(x, 0.5 / scale)
                for s, x, scale in zip(parameters.structures, parameters.split(self.par[0]), column_scales(xp.gram))
            ]
        )
        self._box = parameters.box()

    def step(self, rows: IntArray, radius: FloatArray) -> tuple[FloatArray, BoolArray]:
        """Return damped Newton steps of some, final where they promise next to nothing."""
        par = self.par[rows]
        step, predicted = _steps(self.state, np.maximum(np.abs(par), self._typical), radius, rows)
        trial = par + step
        final = (predicted < DECREASE) & np.isfinite(self.state.value[rows])
        return trial if self._box is None else np.clip(trial, *self._box), final

    def move(self, rows: IntArray, trial: FloatArray, final: BoolArray) -> BoolArray:
        """Move to better or final points."""
        found = evaluate_blocks(self._products.take(rows), self._parameters, trial, self._criterion, self._xp)
        moved: BoolArray = (found.value < self.state.value[rows]) | (final & np.isfinite(found.value))
        self.par[rows[moved]] = trial[moved]
        self.state.update(rows, found, moved)
        self.converged[rows] = final
        return moved

    def take_better(self, rows: IntArray, other: Sweep) -> None:
        """Take over what another sweep from other starts found better for some responses."""
        better = other.converged & (other.state.value < self.state.value[rows])
        self.par[rows[better]] = other.par[better]
        self.state.update(rows, other.state, better)
        self.converged[rows[better]] = True

    def singular(self) -> BoolArray:
        """Return which responses have a (relatively) singular template, (R,)."""
        parameters, scales = self._parameters, column_scales(self._xp.gram)
        return parameters.is_singular(np.array([parameters.canonical(x) for x in self.par]), scales)

    def estimates(self) -> tuple[Estimates, BoolArray]:
        """Return the estimates, and which are proven: settled, and no term would gain from more variance, (R,)."""
        xp, parameters, singular = self._xp, self._parameters, self.singular()
        found = Estimates(
            np.array([parameters.canonical(x) for x in self.par]),
            self.state.gamma,
            np.sqrt(self.state.pwrss / self._criterion.df(xp.n, xp.p)),
            self.state.value,
            singular,
            self.converged,
            np.zeros(len(self.par), dtype=np.int64),
        )
        admits = admits_no_more(self.state, self.par, parameters, column_scales(xp.gram))
        return found, self.converged & (~singular | admits)


def minimize_blocks(
    products: BlockProducts,
    xp: CrossProducts,
    parameters: ParameterMap,
    criterion: Criterion,
    start: FloatArray,
    instead: FloatArray | None = None,
) -> Sweep:
    """Return the sweep of all responses to their optima; start is (n,) or (R, n).

    Responses whose start cannot be evaluated start from ``instead``, (n,).
    """
    sweep = Sweep(products, xp, parameters, criterion, start, instead)
    descend_many(sweep, len(products.YY), limit=MAX_ITERATIONS)
    return sweep


def _steps(state: BlockState, D: FloatArray, radius: FloatArray, rows: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return damped Newton steps in units D, (r, n), and the decreases they predict for some responses."""
    g = state.gradient[rows] * D
    w, Q = np.linalg.eigh(state.hessian[rows] * D[:, :, None] * D[:, None, :])
    c = np.einsum("rab,ra->rb", Q, g)
    step = -c / np.maximum(np.abs(w), 1e-8 * np.abs(w).max(axis=1, keepdims=True) + 1e-300)
    length = np.linalg.norm(step, axis=1)
    step *= np.minimum(1.0, radius / np.maximum(length, 1e-300))[:, None]
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
