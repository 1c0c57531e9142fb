"""The first step from one θ for many responses: one factorisation serves them all.

In V = φ V₀ + Σ a_i Z(I⊗B_i)Z' the covariance is linear, and Fisher scoring from V₀ solves

    [df      t'   ] [φ]   [pwrss]        t_i  = tr(P V_i),   T_ij = tr(P V_i P V_j),
    [t       T    ] [a] = [u    ]        u_i  = y'P V_i P y = Σ_l s_l'B_i s_l

(V₀⁻¹ for P in the traces, and n for df, under ML). The matrix does not depend on y. For balanced data
the solution is the REML estimate itself; elsewhere it is Rao's MINQUE at θ, a good start and a usable
approximation. V₀ is that of θ relative to σ², so σ² of the response is φ and Ω = Ω₀ + Σ a_i B_i/φ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular

from sparselmm._typing import FloatArray, frozen
from sparselmm.covariance.parameters import ParameterMap
from sparselmm.inference.bootstrap.draw_statistics import ResponseSums
from sparselmm.likelihood.criterion import Criterion
from sparselmm.likelihood.derivatives import scores
from sparselmm.likelihood.estimates import Estimates
from sparselmm.likelihood.information import Direction, omega_information
from sparselmm.likelihood.pls import PenalizedLeastSquares
from sparselmm.likelihood.starting import column_scales
from sparselmm.linalg.blocks import Templates, apply_factor, apply_transposed

INTERIOR = 0.1  # starts keep so much relative SD, in units of a level's information, in every direction


@dataclass(frozen=True)
class Shared:
    """What the first step of every response has in common.

    Attributes
    ----------
    par : (n_par,) array
        θ's free parameters.
    templates : tuple of (k, k) arrays
        T of each term.
    directions : tuple of (term, (k, k) array)
        B_i, spanning the covariances of the structures.
    matrix : (n + 1, n + 1) array
        The matrix of the equations.
    ZtViX : (q, p) array
        Z'V⁻¹X.
    RX : (p, p) array
        Factor of X'V⁻¹X.
    scaled_X : (q, p) array
        Λ'Z'WX.
    scales : tuple of (k,) arrays
        Lengths of the columns of Z.
    """

    par: FloatArray
    templates: Templates
    directions: tuple[Direction, ...]
    matrix: FloatArray
    ZtViX: FloatArray
    RX: FloatArray
    scaled_X: FloatArray
    scales: tuple[FloatArray, ...]


def prepare(pls: PenalizedLeastSquares, criterion: Criterion, par: FloatArray) -> Shared:
    """Return what all responses share at ``par``."""
    xp, structures = pls.crossproducts, pls.parameters.structures
    solution = pls.solve(par)
    pls.factor(solution.templates)
    parts = pls.parameters.split(par)
    directions = tuple((t, B) for t, (s, x) in enumerate(zip(structures, parts)) for B in s.directions(x))
    info = omega_information(pls, solution, directions)
    found = scores(pls, solution)
    log_parts = []
    for t, L in enumerate(pls.system.information_sums()):
        if criterion.reml and xp.p:
            B = found.B[xp.gram.offsets[t] : xp.gram.offsets[t + 1]].reshape(xp.gram.m[t], xp.gram.k[t], -1)
            L = L - np.einsum("mip,mjp->ij", B, B)
        log_parts.append((L + L.T) / 2.0)
    n = len(directions)
    matrix = np.empty((n + 1, n + 1))
    matrix[0, 0] = criterion.df(xp.n, xp.p)
    matrix[0, 1:] = matrix[1:, 0] = [float(np.sum(log_parts[t] * B)) for t, B in directions]
    matrix[1:, 1:] = info.projected_traces if criterion.reml else info.traces
    return Shared(
        frozen(np.array(par)),
        solution.templates,
        directions,
        matrix,
        found.ZtViX,
        solution.RX,
        solution.scaled[:, :-1],
        tuple(column_scales(xp.gram)),
    )


def first_steps(pls: PenalizedLeastSquares, shared: Shared, y: ResponseSums, interior: bool) -> Estimates:
    """Return the estimates after the first steps; ``interior`` keeps them a little inside the boundary, as for starts.

    Coefficients are those to first order in the step.
    """
    xp = pls.crossproducts
    gram = xp.gram
    pls.factor(shared.templates)
    C = apply_transposed(y.ZtWy, shared.templates, gram)
    Y = pls.system.solve(C)
    right = y.XtWy - shared.scaled_X.T @ Y
    half = solve_triangular(shared.RX, right, trans=1) if xp.p else right
    gamma = solve_triangular(shared.RX, half) if xp.p else right
    s = y.ZtWy - gram.dot(apply_factor(Y, shared.templates, gram)) - shared.ZtViX @ gamma
    pwrss = y.yWy - np.einsum("qr,qr->r", C, Y) - np.einsum("pr,pr->r", half, half)
    E = [_level_products(s[gram.offsets[t] : gram.offsets[t + 1]], gram.k[t]) for t in range(len(gram.m))]
    u = np.array([np.tensordot(E[t], B, ((1, 2), (0, 1))) for t, B in shared.directions])
    solved = np.linalg.lstsq(shared.matrix, np.vstack([pwrss, u]))[0]
    delta, omegas = _feasible(pls.parameters, shared, solved, interior)
    sigma2 = _scale(shared.matrix, solved, delta)
    moved = np.zeros_like(s)
    for t, change in enumerate(omegas):
        a, b = gram.offsets[t], gram.offsets[t + 1]
        block = s[a:b].reshape(gram.m[t], gram.k[t], -1)
        moved[a:b] = np.einsum("rij,mjr->mir", change, block).reshape(b - a, -1)
    if xp.p:
        back = solve_triangular(shared.RX, shared.ZtViX.T @ moved, trans=1)
        gamma = gamma - solve_triangular(shared.RX, back)
    par = _parameters(pls.parameters, shared.templates, omegas)
    r = len(par)
    singular = pls.parameters.is_singular(par, shared.scales)
    sigma = np.sqrt(np.maximum(sigma2, 0.0))
    return Estimates(par, gamma.T, sigma, np.full(r, np.nan), singular, np.ones(r, dtype=bool), np.zeros(r, dtype=int))


def _level_products(s: FloatArray, k: int) -> FloatArray:
    """Return Σ_l s_l s_l' of each response, (r, k, k)."""
    by_level = s.reshape(-1, k, s.shape[1])
    return np.asarray(np.einsum("mir,mjr->rij", by_level, by_level, optimize=True))


def _feasible(
    parameters: ParameterMap, shared: Shared, solved: FloatArray, interior: bool
) -> tuple[FloatArray, list[FloatArray]]:
    """Return the changes of Ω along the directions (n, r) and per term (r, k, k), eigenvalues kept from below zero."""
    sigma2 = np.where(solved[0] > 0, solved[0], np.inf)  # no step where the equations give no variance
    delta = solved[1:] / sigma2
    floor, out, start = (INTERIOR**2 if interior else 0.0), [], 0
    for t, T in enumerate(shared.templates):
        B = np.array([b for term, b in shared.directions if term == t])
        scale = shared.scales[t]
        omega = T @ T.T
        moved = (omega + np.tensordot(delta[start : start + len(B)].T, B, 1)) * np.outer(scale, scale)
        w, Q = np.linalg.eigh(moved)
        if np.any(w < floor):
            moved = (Q * np.maximum(w, floor)[:, None, :]) @ Q.transpose(0, 2, 1)
        change = moved / np.outer(scale, scale) - omega
        flat = B.reshape(len(B), -1)
        delta[start : start + len(B)] = np.linalg.lstsq(flat.T, change.reshape(len(change), -1).T)[0]
        out.append(np.tensordot(delta[start : start + len(B)].T, B, 1))
        start += len(B)
    return delta, out


def _scale(matrix: FloatArray, solved: FloatArray, delta: FloatArray) -> FloatArray:
    """Return φ nearest to the solution when Ω is given: the minimum of its Fisher distance, (r,)."""
    d = np.vstack([np.ones(delta.shape[1]), delta])
    Fd = matrix @ d
    return np.asarray(np.einsum("nr,nr->r", Fd, solved) / np.einsum("nr,nr->r", Fd, d))


def _parameters(parameters: ParameterMap, templates: Templates, changes: list[FloatArray]) -> FloatArray:
    """Return the free parameters of Ω plus its changes, (r, n_par)."""
    parts = [
        np.array([structure.nearest(T @ T.T + change) for change in some])
        for structure, T, some in zip(parameters.structures, templates, changes)
    ]
    return np.concatenate(parts, axis=1)
