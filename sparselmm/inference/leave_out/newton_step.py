"""One Newton step in θ for a fit without one group, from exact derivatives and without refitting.

With Q = Z'P restricted to the group's (compressed) rows and P_gg = LL' as in `deletion`,

    Z'PZ without g = Z'PZ - (QL'⁻¹)(QL'⁻¹)',    Z'Py without g = Z'Py - Q P_gg⁻¹ẽ

give S_t, the gradient and the average information without the group; for ML, V⁻¹ takes the place of
P in S_t. What the exact Hessian of all data has beyond its average information is added. The step
ΔΩ then moves β to first order and pwrss to second order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.linalg import solve_triangular

from sparselmm._typing import FloatArray, IntArray
from sparselmm.covariance import chain
from sparselmm.inference.leave_out.groups import Columns, FixedTheta, GroupRows, Kernel
from sparselmm.likelihood.criterion import Criterion
from sparselmm.likelihood.derivatives import Scores, differentiate, omega_derivatives, scores
from sparselmm.likelihood.information import exact_hessian
from sparselmm.likelihood.pls import PenalizedLeastSquares, PLSSolution
from sparselmm.likelihood.search import CriterionAt
from sparselmm.linalg.blocks import BlockGram, apply_transposed
from sparselmm.linalg.inverse_blocks import grouped_products
from sparselmm.optimize.newton import trust_region_step


@dataclass(frozen=True)
class FullData:
    """What the steps of all groups start from.

    Attributes
    ----------
    pls, solution, criterion :
        The fit.
    scores : Scores
        Z'Py, Z'V⁻¹X and Z'V⁻¹X RX⁻¹.
    information : tuple of (k, k) arrays
        Σ_l of the diagonal blocks of Z'PZ (REML) or Z'V⁻¹Z (ML) per term.
    BB : tuple of (k, k, p, p) arrays
        Σ_l B_l ⊗ B_l per term.
    typical : (n_par,) array
        Sizes of the parameters that matter.
    correction : (n_par, n_par) array
        Exact Hessian of the full data less its average information; added to that of the rest.
    """

    pls: PenalizedLeastSquares
    solution: PLSSolution
    criterion: Criterion
    scores: Scores
    information: tuple[FloatArray, ...]
    BB: tuple[FloatArray, ...]
    typical: FloatArray
    correction: FloatArray

    @property
    def gram(self) -> BlockGram:
        """Z'WZ."""
        return self.pls.crossproducts.gram


def full_data(pls: PenalizedLeastSquares, solution: PLSSolution, criterion: Criterion) -> FullData:
    """Return the starting point; the system must hold the solution's factor."""
    xp = pls.crossproducts
    at_theta = scores(pls, solution)
    df = criterion.df(xp.n, xp.p)
    S = omega_derivatives(pls, solution, criterion, at_theta)
    information, BB = [], []
    for t, (s, B) in enumerate(zip(_levels(xp.gram, at_theta.s[:, None]), _levels(xp.gram, at_theta.B))):
        information.append(S[t] + (df / solution.pwrss) * _outer(s)[:, :, 0, 0])
        BB.append(_outer(B))
    typical = CriterionAt(pls, criterion).typical(solution.par)
    correction = exact_hessian(pls, criterion, solution).profiled - differentiate(pls, criterion, solution).hessian
    return FullData(pls, solution, criterion, at_theta, tuple(information), tuple(BB), typical, correction)


@dataclass(frozen=True)
class WithoutGroup:
    """Derivatives' parts for the data without one group.

    Attributes
    ----------
    s : (q,) array
        Z'Py.
    S : tuple of (k, k) arrays
        Derivative of the criterion with respect to Ω_t.
    F : (r, c) array
        Rows of the group of V⁻¹Z, in the columns ``rows``.
    rows : (c,) int array or slice
        Columns of Z that the group is connected with.
    """

    s: FloatArray
    S: tuple[FloatArray, ...]
    F: FloatArray
    rows: IntArray | slice


def without(data: FullData, group: GroupRows, kernel: Kernel, columns: Columns, fixed: FixedTheta) -> WithoutGroup:
    """Return the parts of the derivatives without a group."""
    gram, criterion, B = data.gram, data.criterion, data.scores.B
    assert columns.AE is not None
    # F: the group's rows of V⁻¹Z, zero outside the columns it is connected with
    F = -np.asarray(group.Z @ columns.AE)
    place = group.touched if isinstance(columns.rows, slice) else np.searchsorted(columns.rows, group.touched)
    F[:, place] += group.Z.toarray() if isinstance(group.Z, sp.csr_array) else group.Z
    # without the group Z'Py loses Q'P_gg⁻¹(Py)_g, where Q = F - A B' are its rows of PZ and t = P_gg⁻¹(Py)_g
    s = data.scores.s + B @ (kernel.A.T @ kernel.t)
    s[columns.rows] -= F.T @ kernel.t
    if criterion.reml:
        # Z'PZ loses Q'P_gg⁻¹Q, and P_gg = L L'; where F is zero, that is B A'P_gg⁻¹A B' = B N B'
        Q = F - kernel.A @ B[columns.rows].T
        lost = _within(gram, solve_triangular(kernel.L, Q, lower=True, check_finite=False), columns.rows)
        N = kernel.half.T @ kernel.half
        inside = _within(gram, np.ascontiguousarray(B[columns.rows].T), columns.rows)
        lost = tuple(
            x + np.einsum("abij,ij->ab", total - part, N) for x, total, part in zip(
                _squares(lost), data.BB, (_outer(b) for b in inside))
        )  # fmt: skip
    else:
        # Z'V⁻¹Z loses F'(V⁻¹)_gg⁻¹F, and (V⁻¹)_gg = I - H
        K = -kernel.H
        K.flat[:: len(K) + 1] += 1.0
        half = solve_triangular(np.linalg.cholesky(K), F, lower=True, check_finite=False)
        lost = _squares(_within(gram, half, columns.rows))
    xp = data.pls.crossproducts
    df = criterion.df(xp.n - group.n_rows, xp.p)
    # ∂d/∂Ω = Σ_l of the blocks of Z'PZ (or Z'V⁻¹Z) less df/pwrss s_l s_l'
    S = []
    for base, less, here in zip(data.information, lost, _levels(gram, s[:, None])):
        S.append(base - less - (df / fixed.pwrss) * _outer(here)[:, :, 0, 0])
    return WithoutGroup(s, tuple(S), F, columns.rows)


def _levels(gram: BlockGram, C: FloatArray) -> list[FloatArray]:
    """Return a (q, r) matrix by term as (m, k, r)."""
    at = gram.offsets
    return [C[at[t] : at[t + 1]].reshape(gram.m[t], gram.k[t], C.shape[1]) for t in range(len(gram.m))]


def _within(gram: BlockGram, C: FloatArray, rows: IntArray | slice) -> tuple[FloatArray, ...]:
    """Return an (r, c) matrix over whole levels of Z by term as (levels, k, r)."""
    at = gram.offsets if isinstance(rows, slice) else np.searchsorted(rows, gram.offsets)
    r = len(C)
    return tuple(C[:, at[t] : at[t + 1]].T.reshape(-1, k, r) for t, k in enumerate(gram.k))


def _outer(C: FloatArray) -> FloatArray:
    """Return Σ_l C_la ⊗ C_lb, (k, k, r, r), for (m, k, r)."""
    return np.asarray(np.tensordot(C, C, (0, 0)).transpose(0, 2, 1, 3))


def _squares(parts: tuple[FloatArray, ...]) -> tuple[FloatArray, ...]:
    """Return Σ_l C_l C_l', (k, k), for each (m, k, r)."""
    return tuple(np.tensordot(C, C, ((0, 2), (0, 2))) for C in parts)


@dataclass(frozen=True)
class Step:
    """A Newton step in the free parameters and where it leads.

    Attributes
    ----------
    par : (n_par,) array
        The new parameters.
    gamma : (p,) array
        Further change of the transformed coefficients.
    pwrss : float
        Penalized residual sum of squares there, to second order.
    """

    par: FloatArray
    gamma: FloatArray
    pwrss: float


def directions(data: FullData, s: FloatArray) -> FloatArray:
    """Return (I ⊗ ∂_iΩ) s for each free parameter i, (q, n_par)."""
    return chain.moved_scores(chain.domegas(data.pls.parameters, data.solution.par), s, data.gram.offsets)


def quadratic_forms(data: FullData, V: FloatArray, n_par: int) -> FloatArray:
    """Return V_g'Z'V⁻¹ZV_g for groups of n_par columns of V, (groups, n_par, n_par)."""
    gram = data.gram
    AV = gram.dot(V)
    explained = data.pls.system.quadratic(apply_transposed(AV, data.solution.templates, gram), n_par)
    return grouped_products(V, AV, n_par) - explained


def newton_step(
    data: FullData,
    group: GroupRows,
    kernel: Kernel,
    rest: WithoutGroup,
    fixed: FixedTheta,
    V: FloatArray,
    K: FloatArray,
) -> Step:
    """Return the step for one group.

    Parameters
    ----------
    data, group, kernel, rest, fixed :
        The fit and its parts without the group.
    V : (q, n_par) array
        From `directions`.
    K : (n_par, n_par) array
        From `quadratic_forms`.
    """
    xp = data.pls.crossproducts
    BV = data.scores.B.T @ V
    QV = solve_triangular(kernel.L, rest.F @ V[rest.rows] - kernel.A @ BV, lower=True)
    K = K - BV.T @ BV - QV.T @ QV
    df = data.criterion.df(xp.n - group.n_rows, xp.p)
    a = V.T @ rest.s
    parameters, par = data.pls.parameters, data.solution.par
    gradient = chain.along(chain.domegas(parameters, par), rest.S)
    hessian = (
        chain.curvature(parameters, par, rest.S)
        + df * (K / fixed.pwrss - np.outer(a, a) / fixed.pwrss**2)
        + data.correction
    )
    scale = np.maximum(np.abs(data.solution.par), data.typical)
    step, _ = trust_region_step(scale * gradient, scale[:, None] * hessian * scale, 1.0)
    step = step * scale
    v = _moved(data, step, rest.s)
    pwrss = fixed.pwrss - float(v @ rest.s) + float(step @ K @ step)
    # X'V⁻¹Z v without the group; for the transformed X
    KF = _without_row_part(kernel, rest.F @ v[rest.rows])
    right = data.scores.ZtViX.T @ v - data.solution.RX.T @ KF
    return Step(parameters.canonical(par + step), -(fixed.cov @ right), pwrss)


def _without_row_part(kernel: Kernel, Fv: FloatArray) -> FloatArray:
    """Return A'(I - H)⁻¹F v, (p,)."""
    K = -kernel.H
    K.flat[:: len(K) + 1] += 1.0
    return np.asarray(kernel.A.T @ np.linalg.solve(K, Fv))


def _moved(data: FullData, step: FloatArray, s: FloatArray) -> FloatArray:
    """Return (I ⊗ ΔΩ)s for a finite step in par, (q,)."""
    parts, gram = [], data.gram
    templates = data.pls.parameters.templates(data.solution.par + step)
    for t, (T, moved) in enumerate(zip(data.solution.templates, templates)):
        change = moved @ moved.T - T @ T.T
        parts.append((s[gram.offsets[t] : gram.offsets[t + 1]].reshape(-1, len(T)) @ change).ravel())
    return np.concatenate(parts)
