"""Exact gradient and average-information Hessian of the profiled criterion, without n-length work.

For a direction ``dΩ`` of the template product Ω_t = T_t T_t' of term t, with P the projection
of the (restricted) likelihood, r the residuals, s_l the level-l part of Z'Wr and df the divisor
of pwrss:

    S_t = Σ_l [Z'V⁻¹Z]_ll (REML: less its part explained by X) - (df/pwrss) Σ_l s_l s_l'
    first derivative   <S_t, dΩ>
    second derivative  df (w_i'P w_j / pwrss - (s'v_i)(s'v_j)/pwrss²),  v_i = dΩ_i s, w_i = Z v_i

The second is the average information; along the parameters Ω also curves, which adds <S_t, ∂_i∂_jΩ_t>
(`sparselmm.covariance.chain`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import lapack

from sparselmm._typing import FloatArray
from sparselmm.covariance import chain
from sparselmm.likelihood.criterion import Criterion
from sparselmm.likelihood.pls import PenalizedLeastSquares, PLSSolution
from sparselmm.linalg.blocks import apply_factor, apply_transposed


@dataclass(frozen=True)
class Derivatives:
    """Derivatives of the criterion at one parameter vector.

    Attributes
    ----------
    value : float
        The criterion.
    gradient : (n_par,) array
        Exact.
    hessian : (n_par, n_par) array
        Average information plus the exact curvature of Ω.
    S : tuple of (k, k) arrays
        Derivative with respect to Ω_t for each term; zero on the range of T_t and positive
        semidefinite at an optimum of an unstructured term.
    """

    value: float
    gradient: FloatArray
    hessian: FloatArray
    S: tuple[FloatArray, ...]


@dataclass(frozen=True)
class Scores:
    """Z'V⁻¹ applied to X and to the residuals, at one parameter vector.

    Attributes
    ----------
    s : (q,) array
        Z'V⁻¹(y - Xβ) = Z'Wr.
    ZtViX : (q, p) array
        Z'V⁻¹X, X transformed.
    B : (q, p) array
        Z'V⁻¹X RX⁻¹.
    """

    s: FloatArray
    ZtViX: FloatArray
    B: FloatArray


def scores(pls: PenalizedLeastSquares, solution: PLSSolution) -> Scores:
    """Return the scores; the system must be factored at the solution's parameters."""
    xp = pls.crossproducts
    Y = pls.system.solve(solution.scaled)
    G = xp.ZtWXy - xp.gram.dot(apply_factor(Y, solution.templates, xp.gram))
    s = G[:, -1] - G[:, :-1] @ solution.gamma
    X = G[:, :-1]
    B = lapack.dtrtrs(solution.RX, X.T, lower=0, trans=1)[0].T if xp.p else X
    return Scores(s, X, B)


def omega_derivatives(
    pls: PenalizedLeastSquares, solution: PLSSolution, criterion: Criterion, found: Scores
) -> tuple[FloatArray, ...]:
    """Return S_t for each term, (k, k)."""
    xp = pls.crossproducts
    df = criterion.df(xp.n, xp.p)
    out = []
    for t, total in enumerate(pls.system.information_sums()):
        a, b = xp.gram.offsets[t], xp.gram.offsets[t + 1]
        m, k = xp.gram.m[t], xp.gram.k[t]
        s = found.s[a:b].reshape(m, k)
        S = total - (df / solution.pwrss) * (s.T @ s)
        if criterion.reml and xp.p:
            B = found.B[a:b].reshape(m, k, xp.p)
            S = S - np.einsum("mip,mjp->ij", B, B)
        out.append((S + S.T) / 2.0)
    return tuple(out)


class Curvature:
    """The derivatives of the criterion at one solution.

    Attributes
    ----------
    solution : PLSSolution
        Where.
    scores : Scores
        Z'V⁻¹ applied to X and to the residuals.
    derivatives : Derivatives
        Value, exact gradient, Hessian and S_t.
    samples : (draws, n_par) array
        What each draw of an approximate system says of the uncertain part of the gradient; (0, n_par)
        for exact systems.
    """

    def __init__(self, pls: PenalizedLeastSquares, criterion: Criterion, solution: PLSSolution) -> None:
        self._pls, self._criterion = pls, criterion
        self.solution = solution
        pls.factor(solution.templates)
        self.scores = scores(pls, solution)
        self._domega = chain.domegas(pls.parameters, solution.par)
        S = omega_derivatives(pls, solution, criterion, self.scores)
        self.derivatives = self._along_par(S)
        self.samples = self._gradient_samples()

    def _gradient_samples(self) -> FloatArray:
        estimates = self._pls.system.monte_carlo
        if estimates is None:
            return np.zeros((0, self._pls.parameters.n_par))
        samples = estimates.information_samples()
        draws = max(len(x) for x in samples)
        parts = []
        for dOmega, drawn in zip(self._domega, samples):
            none = np.zeros((draws, len(dOmega)))
            parts.append(np.einsum("sij,nij->sn", drawn, dOmega) if len(drawn) else none)
        return np.hstack(parts)

    def _along_par(self, S: tuple[FloatArray, ...]) -> Derivatives:
        pls, solution = self._pls, self.solution
        V = chain.moved_scores(self._domega, self.scores.s, pls.crossproducts.gram.offsets)
        hessian = _average_information(pls, solution, self._criterion, self.scores, V)
        chain.add_curvature(hessian, pls.parameters, solution.par, S)
        return Derivatives(pls.value(solution, self._criterion), chain.along(self._domega, S), hessian, S)

    def along(self, t: int, direction: FloatArray) -> float:
        """Return the average information along a change of Ω_t, (k, k)."""
        gram = self._pls.crossproducts.gram
        v = np.zeros((gram.q, 1))
        here = slice(gram.offsets[t], gram.offsets[t + 1])
        v[here] = chain.moved(direction[None], self.scores.s[here])
        self._pls.factor(self.solution.templates)
        return float(_average_information(self._pls, self.solution, self._criterion, self.scores, v)[0, 0])


def _average_information(
    pls: PenalizedLeastSquares, solution: PLSSolution, criterion: Criterion, found: Scores, V: FloatArray
) -> FloatArray:
    """Return df (V'Z'PZV/pwrss - aa'/pwrss²), a = V's, (n_par, n_par)."""
    xp = pls.crossproducts
    AV = xp.gram.dot(V)
    K = V.T @ AV - pls.system.quadratic(apply_transposed(AV, solution.templates, xp.gram))[0]
    if xp.p:
        C = found.B.T @ V
        K -= C.T @ C
    a = V.T @ found.s
    a = a / solution.pwrss
    out: FloatArray = criterion.df(xp.n, xp.p) * (K / solution.pwrss - np.outer(a, a))
    return out


def differentiate(pls: PenalizedLeastSquares, criterion: Criterion, solution: PLSSolution) -> Derivatives:
    """Return the criterion and its derivatives at a solution."""
    return Curvature(pls, criterion, solution).derivatives
