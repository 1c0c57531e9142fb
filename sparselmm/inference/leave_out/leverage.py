"""Leverages and the deletion of single rows, from entries of ΛM⁻¹Λ' in the pattern of Z'WZ only.

The hat matrix maps the response to the conditional fitted values. With z, x the rows of Z and X,

    h_i = w_i (z_i'Λ M⁻¹ Λ'z_i + |RX'⁻¹ d_i|²),   d_i = x_i - (Z'WX)'ΛM⁻¹Λ'z_i

The first part needs M⁻¹ only for levels that occur together in a row; no q×n matrix is formed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular

from sparselmm._typing import FloatArray, frozen
from sparselmm.data.rows import GroupedTerm, Rows
from sparselmm.data.tables.codes import chunks
from sparselmm.exceptions import NumericalError
from sparselmm.inference.predict.error_variance import InverseEntries, prediction_errors
from sparselmm.inference.predict.new_rows import own_rows
from sparselmm.likelihood.engine import Engine
from sparselmm.likelihood.pls import PenalizedLeastSquares, PLSSolution
from sparselmm.likelihood.starting import column_scales
from sparselmm.linalg.blocks import BlockGram, BlockPairs, apply_factor
from sparselmm.linalg.protocol import Pairs
from sparselmm.statistics.transform import FixedTransform, with_centred_terms

ROUNDING = 1e-6  # that leverages may be outside 0 to 1
BECAUSE = (
    ". X and Z fit the rows exactly at these estimates and the residual variance is next to nothing beside that of the "
    "random effects, so that this is rounding error. Use fewer coefficients per level or fewer grouping factors"
)


@dataclass(frozen=True)
class RowGeometry:
    """How each row enters the fit at one θ.

    Attributes
    ----------
    hat : (n,) array
        Diagonal of the hat matrix.
    fixed : (n, p) array
        d_i: the row of X less what the random effects take of it, for the transformed X.
    RX : (p, p) array
        Upper triangular factor of X'V⁻¹X for the transformed X.
    basis : FixedTransform
        The transformation of X.
    weights : (n,) array
        Prior weights.
    """

    hat: FloatArray
    fixed: FloatArray
    RX: FloatArray
    basis: FixedTransform
    weights: FloatArray


def row_geometry(observed: Rows, engine: Engine, par: FloatArray) -> RowGeometry:
    """Return the leverages of rows at one parameter vector and what they are made of.

    Raises
    ------
    UnsupportedError
        For too many rows of a system without a factor.
    NumericalError
        Where X and Z fit all rows, σ² is next to nothing and rounding leaves nothing of the leverages.
    """
    parts, xp = own_rows(observed).parts, engine.crossproducts
    observed = with_centred_terms(observed, xp.centres)
    with engine.locked() as pls:
        solution = pls.solve(par)
        if pls.system.factorization is not None:
            hat = row_forms(observed, xp.gram, pls.system.factorization.covariance_pairs())
        else:
            hat = InverseEntries(prediction_errors(engine, par)).quadratic(parts, observed.n)
        pls.factor(solution.templates)
        absorbed = absorbed_fixed(pls, solution)
        weights = np.ones(observed.n) if observed.weights is None else observed.weights
        if pls.system.factorization is not None:
            _check_trace(pls, solution, float(hat @ weights))
    D = np.empty((observed.n, observed.p))
    for rows in chunks(observed.n):
        D[rows] = xp.basis.apply(observed.X[rows])
        subtract_random(observed, absorbed, xp.gram, rows, D[rows])
        hat[rows] += (solve_triangular(solution.RX, D[rows].T, trans=1) ** 2).sum(axis=0) if observed.p else 0.0
    hat = hat * weights
    if np.any((hat < -ROUNDING) | (hat > 1.0 + ROUNDING)):
        raise NumericalError(f"the leverages cannot be had: they come out {hat.min():.9g} to {hat.max():.9g}{BECAUSE}")
    return RowGeometry(frozen(hat), frozen(D), solution.RX, xp.basis, weights)


def _check_trace(pls: PenalizedLeastSquares, solution: PLSSolution, trace: float) -> None:
    """Raise where Σ w z'ΛM⁻¹Λ'z of the rows is not q - tr M⁻¹, which has no rounding error of the size of ΛZ'WZΛ."""
    gram = pls.crossproducts.gram
    largest = max(float(np.max(c * np.abs(T).max(axis=1))) for c, T in zip(column_scales(gram), solution.templates))
    if np.finfo(float).eps * largest**2 < ROUNDING**1.5:
        return
    expected = gram.q - sum(float(np.einsum("mkk->", M)) for M in pls.system.inverse_diagonal())
    if not abs(trace - expected) < ROUNDING * pls.crossproducts.n:
        raise NumericalError(
            f"the leverages cannot be had: their sum is {trace:.6g} by rows, {expected:.6g} by levels{BECAUSE}"
        )


def absorbed_fixed(pls: PenalizedLeastSquares, solution: PLSSolution) -> FloatArray:
    """Return ΛM⁻¹Λ'Z'WX for the transformed X, (q, p); the system must hold the solution's factor."""
    xp = pls.crossproducts
    if not xp.p:
        return np.zeros((xp.gram.q, 0))
    return apply_factor(pls.system.solve(np.ascontiguousarray(solution.scaled[:, :-1])), solution.templates, xp.gram)


def subtract_random(observed: Rows, absorbed: FloatArray, gram: BlockGram, rows: slice, out: FloatArray) -> None:
    """Subtract Z·absorbed from ``out`` for a range of rows, in place."""
    for t, term in enumerate(observed.terms):
        block = absorbed[gram.offsets[t] : gram.offsets[t + 1]]
        if isinstance(term, GroupedTerm):
            levels = block.reshape(term.m, term.k, -1)
            for a in range(term.k):
                out -= levels[term.codes[rows], a] * term.Z[rows, a, None]
        else:
            out -= term.matrix[rows] @ block


def row_forms(observed: Rows, gram: BlockGram, pairs: Pairs) -> FloatArray:
    """Return z_i'Ez_i for each row, (n,), E given in the pattern of Z'WZ."""
    out = np.zeros(observed.n)
    for (i, j), blocks in pairs.items():
        a, b = observed.terms[i], observed.terms[j]
        if not (isinstance(a, GroupedTerm) and isinstance(b, GroupedTerm)):
            out += _sparse_forms(observed, gram.pairs[i, j], blocks, i, j)
            continue
        times = 1.0 if i == j else 2.0
        for rows in chunks(observed.n):
            at = blocks[gram.pairs[i, j].places(a.codes[rows], b.codes[rows])]
            if a.k == b.k == 1:
                out[rows] += times * at[:, 0, 0] * a.Z[rows, 0] * b.Z[rows, 0]
            else:
                out[rows] += times * np.einsum("na,nab,nb->n", a.Z[rows], at, b.Z[rows], optimize=True)
    return out


def _sparse_forms(observed: Rows, pair: BlockPairs, blocks: FloatArray, i: int, j: int) -> FloatArray:
    """Return z_i'E_ij z_j (twice for i != j) for terms given as matrices."""
    a, b = observed.terms[i], observed.terms[j]
    E = BlockPairs(pair.rows, pair.cols, blocks).matrix(a.m, b.m)
    left, right = a.to_sparse(), b.to_sparse()
    out: FloatArray = 2.0 * np.asarray((left @ E).multiply(right).sum(axis=1)).ravel()
    if i == j:  # the lower triangle of levels is stored, the diagonal once
        on = pair.rows == pair.cols
        diagonal = BlockPairs(pair.rows[on], pair.cols[on], blocks[on]).matrix(a.m, a.m)
        out -= np.asarray((left @ diagonal).multiply(left).sum(axis=1)).ravel()
    return out


@dataclass(frozen=True)
class CaseDeletion:
    """What leaving out one row at a time does at fixed θ.

    Attributes
    ----------
    change : (n, p) array
        Fixed effects without the row, less those with it.
    se : (n, p) array
        Their standard errors without the row.
    sigma : (n,) array
        Residual standard deviation without the row.
    cook : (n,) array
        Squared length of the change in the metric of the covariance of β, per coefficient.
    """

    change: FloatArray
    se: FloatArray
    sigma: FloatArray
    cook: FloatArray


def delete_cases(geometry: RowGeometry, residuals: FloatArray, pwrss: float, df: int) -> CaseDeletion:
    """Return the effects of leaving out each row, NaN where a coefficient needs that row.

    ``residuals`` are the conditional ones, (n,); ``df`` is the divisor of pwrss in σ².
    """
    g, p = geometry, len(geometry.RX)
    left = np.where(g.hat < 1.0 - 1e-10, 1.0 - g.hat, np.nan)
    A = solve_triangular(g.RX, g.fixed.T, trans=1) if p else np.zeros((0, len(left)))  # RX'⁻¹ d_i
    step = A * (g.weights * residuals / left)
    inverse = g.basis.matrix @ solve_triangular(g.RX, np.eye(p)) if p else np.zeros((0, 0))
    pwrss_without = pwrss - g.weights * residuals**2 / left
    sigma = np.sqrt(np.maximum(pwrss_without, 0.0) / (df - 1))
    variance = (inverse**2).sum(axis=1)[:, None] + (inverse @ A) ** 2 * (g.weights / left)
    cook = (step**2).sum(axis=0) * df / pwrss / max(p, 1)
    return CaseDeletion(-(inverse @ step).T, (np.sqrt(variance) * sigma).T, sigma, cook)
