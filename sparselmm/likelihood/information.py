"""Second-order quantities of the likelihood: exact Hessian, information, and X'V⁻¹ products.

Everything here follows from R = Z'V⁻¹Z, Z'V⁻¹X and the scores s = Z'V⁻¹(y - Xβ), all in q-space.
Directions are changes of Ω_t = T_t T_t' of single terms, so V changes linearly: V_i = Z_t (I⊗B_i) Z_t'.
V is relative to σ² throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sparselmm._typing import FloatArray
from sparselmm.covariance import chain
from sparselmm.likelihood.criterion import Criterion
from sparselmm.likelihood.derivatives import omega_derivatives, scores
from sparselmm.likelihood.pls import PenalizedLeastSquares, PLSSolution
from sparselmm.linalg.blocks import apply_factor, apply_transposed

Direction = tuple[int, FloatArray]


@dataclass(frozen=True)
class OmegaInformation:
    """Products that second derivatives along n directions of Ω are made of; X is the transformed one.

    Attributes
    ----------
    directions : sequence of (term, (k, k) array)
        The directions.
    traces : (n, n) array
        tr(V⁻¹V_iV⁻¹V_j).
    U : (n, p, p) array
        RX⁻ᵀX'V⁻¹V_iV⁻¹X RX⁻¹.
    W : (n, n, p, p) array
        RX⁻ᵀX'V⁻¹V_iV⁻¹V_jV⁻¹X RX⁻¹.
    slopes : (n,) array
        y'PV_iPy.
    quadratics : (n, n) array
        y'PV_iPV_jPy.
    """

    directions: tuple[Direction, ...]
    traces: FloatArray
    U: FloatArray
    W: FloatArray
    slopes: FloatArray
    quadratics: FloatArray

    @cached_property
    def projected_traces(self) -> FloatArray:
        """tr(PV_iPV_j), (n, n)."""
        mixed = np.einsum("ijaa->ij", self.W)
        return np.asarray(self.traces - mixed - mixed.T + np.einsum("iab,jba->ij", self.U, self.U))


def omega_information(
    pls: PenalizedLeastSquares, solution: PLSSolution, directions: Sequence[Direction]
) -> OmegaInformation:
    """Return the products along the directions at a solution."""
    pls.factor(solution.templates)
    gram, p, n = pls.crossproducts.gram, pls.crossproducts.p, len(directions)
    at_theta = scores(pls, solution)
    # (I ⊗ B_i) applied to the scores and to Z'V⁻¹X RX⁻¹, one (q, p + 1) slab per direction
    C = np.concatenate([at_theta.B, at_theta.s[:, None]], axis=1)
    slabs = np.zeros((gram.q, n, p + 1))
    for i, (t, B) in enumerate(directions):
        a, b = gram.offsets[t], gram.offsets[t + 1]
        block = C[a:b].reshape(gram.m[t], gram.k[t], p + 1)
        slabs[a:b, i] = np.asarray(B @ block).reshape(b - a, p + 1)
    flat = slabs.reshape(gram.q, n * (p + 1))
    AV = gram.dot(flat)
    solved = apply_factor(pls.system.solve(apply_transposed(AV, solution.templates, gram)), solution.templates, gram)
    RV = (AV - gram.dot(solved)).reshape(gram.q, n, p + 1)
    first = np.einsum("qa,qib->iab", C, slabs, optimize=True)  # C'(I⊗B_i)C
    second = np.tensordot(slabs, RV, (0, 0)).transpose(0, 2, 1, 3)  # C'(I⊗B_i) R (I⊗B_j) C
    U, XB = first[:, :p, :p], first[:, :p, p]
    quadratics = second[:, :, p, p] - XB @ XB.T
    return OmegaInformation(
        tuple(directions),
        pls.system.trace_products(directions),
        U,
        second[:, :, :p, :p],
        first[:, p, p],
        quadratics,
    )


@dataclass(frozen=True)
class ExactHessian:
    """Exact second derivatives of the deviance in (par, σ), σ not profiled out.

    Attributes
    ----------
    hessian : (n_par + 1, n_par + 1) array
        Of ``logdet(θ) + df log(2πσ²) + pwrss(θ)/σ²``; the last row and column belong to σ.
    profiled : (n_par, n_par) array
        Of the profiled criterion.
    information : OmegaInformation
        Products along the derivatives of Ω in par.
    """

    hessian: FloatArray
    profiled: FloatArray
    information: OmegaInformation


def par_directions(pls: PenalizedLeastSquares, solution: PLSSolution) -> list[Direction]:
    """Return dΩ of each free parameter."""
    return [(t, d) for t, some in enumerate(chain.domegas(pls.parameters, solution.par)) for d in some]


def exact_hessian(pls: PenalizedLeastSquares, criterion: Criterion, solution: PLSSolution) -> ExactHessian:
    """Return the exact Hessians at a solution."""
    info = omega_information(pls, solution, par_directions(pls, solution))
    xp = pls.crossproducts
    df = criterion.df(xp.n, xp.p)
    pwrss = solution.pwrss
    sigma2 = pwrss / df
    S = omega_derivatives(pls, solution, criterion, scores(pls, solution))
    traces = info.projected_traces if criterion.reml else info.traces
    gradient_pwrss = -info.slopes
    n_par = len(info.directions)
    curved_S = chain.curvature(pls.parameters, solution.par, S)
    # S holds -(df/pwrss) ss', so curved_S is the curvature of log-determinants and pwrss/σ² together
    joint = -traces + 2.0 * info.quadratics / sigma2 + curved_S
    profiled = joint - df * np.outer(info.slopes, info.slopes) / pwrss**2
    hessian = np.zeros((n_par + 1, n_par + 1))
    hessian[:n_par, :n_par] = joint
    sigma = np.sqrt(sigma2)
    hessian[:n_par, n_par] = hessian[n_par, :n_par] = -2.0 * gradient_pwrss / sigma**3
    hessian[n_par, n_par] = -2.0 * df / sigma2 + 6.0 * pwrss / sigma2**2
    return ExactHessian(hessian, profiled, info)
