"""Starts of a search: moment estimates of the variances, and others where the first end may be a local optimum.

With r the residuals of ordinary least squares and s = Z'Wr, each coefficient j of each term has
``E Σ_l s_lj²/d_lj = m σ² + Σ_j' φ_j' Σ_l Σ_l' a(lj, l'j')²/d_lj``, where a are entries of Z'WZ, d its
diagonal and φ the variances; with ``E r'Wr = n σ² + Σ_j φ_j tr_j(Z'WZ)`` this is a small linear
system (Henderson's method 1 without its correction for fixed effects), solved for φ >= 0.

The criterion can have several optima: where variances are zero, where there are more parameters than
the levels support, and where weights are uneven, so that few rows decide. The first search begins at
moment estimates. Others begin where all variances are far too large or too small, at drawn sizes and
directions, or at the best end so far with the covariance of one term replaced: often one term only is
in the wrong place. They are the same for the same model, whatever was fitted before.
"""

from __future__ import annotations

import numpy as np

from sparselmm._typing import FloatArray
from sparselmm.covariance.parameters import ParameterMap
from sparselmm.linalg.blocks import BlockGram, BlockPairs
from sparselmm.statistics.crossproducts import CrossProducts

#: Relative standard deviation, in units of a level's information, that starts are kept above: zero is a bad start.
FLOOR = 0.3
CEILING = 100.0  # and below
CHUNK_CELLS = 262_144  # cells of Z'WZ that are squared at a time: 2 MB per column
SIZES = (100.0, 10.0, 1.0)  # of SD(b)/σ, times the root of a column's mean square per level
LEAST_EXPONENT, LARGEST_EXPONENT = -1.0, 2.5  # of ten, for the drawn ones
ALMOST_NOTHING = 0.01
SEED = 20_111


def column_scales(gram: BlockGram) -> list[FloatArray]:
    """Return per term the root of the mean diagonal of Z'WZ for each coefficient, (k,)."""
    out = []
    for t in range(len(gram.m)):
        d = np.einsum("mkk->mk", gram.diagonal(t)).mean(axis=0)
        out.append(np.sqrt(np.where(d > 0, d, 1.0)))
    return out


def moment_start(xp: CrossProducts, parameters: ParameterMap) -> FloatArray:
    """Return parameters, (n_par,), with diagonal templates from moment estimates of the variances."""
    phi, sigma2 = moment_variances(xp)
    out = []
    for structure, scale in zip(parameters.structures, column_scales(xp.gram)):
        own, phi = phi[: structure.k], phi[structure.k :]
        sd = np.sqrt(own / sigma2) * scale if sigma2 > 0 else np.full(structure.k, CEILING)
        out.append(structure.nearest(np.diag((np.clip(sd, FLOOR, CEILING) / scale) ** 2)))
    return np.concatenate(out)


def moment_variances(xp: CrossProducts) -> tuple[FloatArray, float]:
    """Return moment estimates of the variances φ of all coefficients, (Σk,), and of σ²."""
    gram, scales = xp.gram, column_scales(xp.gram)  # columns of size one: no square overflows
    offsets = np.concatenate([[0], np.cumsum(gram.k)])
    total = int(offsets[-1])
    size = xp.XytWXy[-1, -1] / xp.n  # mean square of the residuals: the unit of all variances below
    coefficients, right = np.zeros((total + 1, total + 1)), np.zeros(total + 1)
    weights = []
    for t, scale in enumerate(scales):
        d = np.einsum("mkk->mk", gram.diagonal(t)) / scale**2
        weights.append(np.divide(1.0, d, out=np.zeros_like(d), where=d > 0))
        s = xp.ZtWXy[gram.offsets[t] : gram.offsets[t + 1], -1].reshape(d.shape) / (scale * np.sqrt(size))
        here = slice(offsets[t], offsets[t + 1])
        right[here] = (s**2 * weights[t]).sum(axis=0)
        coefficients[here, total] = (d > 0).sum(axis=0)
        coefficients[total, here] = d.sum(axis=0)
    right[total] = coefficients[total, total] = xp.n
    for (i, j), pair in gram.pairs.items():
        a, b = slice(offsets[i], offsets[i + 1]), slice(offsets[j], offsets[j + 1])
        by_row, by_col = _weighted_squares(pair, np.outer(scales[i], scales[j]), weights[i], weights[j], i == j)
        coefficients[a, b] += by_row
        coefficients[b, a] += by_col
    rows = np.abs(coefficients).max(axis=1)
    solution = nonnegative_solution(coefficients / rows[:, None], right / rows)
    return solution[:total] * size / np.concatenate(scales) ** 2, float(solution[total] * size)


def _weighted_squares(
    pair: BlockPairs, scale: FloatArray, row_weights: FloatArray, col_weights: FloatArray, within: bool
) -> tuple[FloatArray, FloatArray]:
    """Return Σ (B/scale)² over the blocks, weighted by row, (k_i, k_j), and by column, (k_j, k_i).

    ``within`` one term only blocks below the diagonal count by column: they stand for two.
    """
    by_row, by_col = np.zeros(scale.shape), np.zeros(scale.shape[::-1])
    mirrored = not (within and pair.is_block_diagonal)
    for first in range(0, len(pair.rows), CHUNK_CELLS):
        cells = slice(first, first + CHUNK_CELLS)
        rows, cols, squares = pair.rows[cells], pair.cols[cells], (pair.values[cells] / scale) ** 2
        by_row += np.einsum("nab,na->ab", squares, row_weights[rows])
        if mirrored:
            twice = rows > cols if within else slice(None)
            by_col += np.einsum("nab,nb->ba", squares[twice], col_weights[cols[twice]])
    return by_row, by_col


def nonnegative_solution(A: FloatArray, b: FloatArray) -> FloatArray:
    """Return the solution of Ax = b; the most negative unknown leaves with its equation until there is none."""
    keep = np.arange(len(b))
    while len(keep):
        x = np.linalg.lstsq(A[np.ix_(keep, keep)], b[keep])[0]
        if np.all(x >= 0):
            out = np.zeros(len(b))
            out[keep] = x
            return out
        keep = np.delete(keep, np.argmin(x))
    return np.zeros(len(b))


class OtherStarts:
    """Makes start after start for one search.

    Parameters
    ----------
    parameters : ParameterMap
        The parameters of the terms.
    scales : list of (k,) arrays
        Roots of the mean diagonal of Z'WZ for each coefficient of a term.
    """

    def __init__(self, parameters: ParameterMap, scales: list[FloatArray]) -> None:
        self._parameters, self._scales = parameters, scales
        self._rng = np.random.default_rng(SEED)
        self._made = 0

    def next(self, best: FloatArray) -> FloatArray:
        """Return the next start, (n_par,); ``best`` are the parameters of the best end so far."""
        self._made += 1
        if self._made <= len(SIZES):
            size = SIZES[self._made - 1]
            return self._parameters.nearest([np.diag((size / scale) ** 2) for scale in self._scales])
        if self._made % 2:
            return self._parameters.nearest([self._drawn(scale) for scale in self._scales])
        omegas = [T @ T.T for T in self._parameters.templates(best)]
        t = int(self._rng.integers(len(omegas)))
        omegas[t] = self._replacement(self._scales[t])
        return self._parameters.nearest(omegas)

    def _replacement(self, scale: FloatArray) -> FloatArray:
        """Return next to no variance, very much, or drawn ones, (k, k)."""
        kind = self._rng.integers(3)
        if kind == 2:
            return self._drawn(scale)
        return np.diag(((ALMOST_NOTHING, SIZES[0])[kind] / scale) ** 2)

    def _drawn(self, scale: FloatArray) -> FloatArray:
        """Return a covariance, (k, k), whose axes have drawn sizes and drawn directions or those of the columns."""
        axes = np.linalg.qr(self._rng.standard_normal((len(scale), len(scale))))[0]
        A = axes * 10.0 ** self._rng.uniform(LEAST_EXPONENT, LARGEST_EXPONENT, len(scale))
        if self._rng.random() < 0.5:
            A = np.diag(np.linalg.norm(A, axis=1))
        A = A / scale[:, None]
        return np.asarray(A @ A.T)
