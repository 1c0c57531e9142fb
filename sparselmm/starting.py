"""Starting values for the covariance parameters from moments of the cross-products.

With r the residuals of ordinary least squares and s = Z'Wr, each coefficient j of each term has
``E Σ_l s_lj²/d_lj = m σ² + Σ_j' φ_j' Σ_l Σ_l' a(lj, l'j')²/d_lj``, where a are entries of Z'WZ, d its
diagonal and φ the variances; with ``E r'Wr = n σ² + Σ_j φ_j tr_j(Z'WZ)`` this is a small linear
system (Henderson's method 1 without its correction for fixed effects), solved for φ >= 0.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

from sparselmm._typing import FloatArray
from sparselmm.crossproducts import CrossProducts
from sparselmm.linalg.blocks import BlockGram
from sparselmm.pls import ParameterMap

FLOOR = 0.3
CEILING = 100.0


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
    scales = column_scales(xp.gram)
    out = []
    for structure, scale in zip(parameters.structures, scales):
        k = structure.k
        own, phi = phi[:k], phi[k:]
        relative = np.sqrt(own / sigma2) if sigma2 > 0 else np.full(k, CEILING) / scale
        relative = np.clip(relative, FLOOR / scale, CEILING)
        out.append(structure.nearest(np.diag(relative**2)))
    return np.concatenate(out)


def moment_variances(xp: CrossProducts) -> tuple[FloatArray, float]:
    """Return moment estimates of the variances φ of all coefficients, (Σk,), and of σ²."""
    gram = xp.gram
    offsets = np.concatenate([[0], np.cumsum(gram.k)])
    total = int(offsets[-1])
    coefficients = np.zeros((total + 1, total + 1))
    right = np.zeros(total + 1)
    weights = []
    for t in range(len(gram.m)):
        d = np.einsum("mkk->mk", gram.diagonal(t))
        weights.append(np.divide(1.0, d, out=np.zeros_like(d), where=d > 0))
        s = xp.ZtWXy[gram.offsets[t] : gram.offsets[t + 1], -1].reshape(d.shape)
        here = slice(offsets[t], offsets[t + 1])
        right[here] = (s**2 * weights[t]).sum(axis=0)
        coefficients[here, total] = (d > 0).sum(axis=0)
        coefficients[total, here] = d.sum(axis=0)
    right[total], coefficients[total, total] = xp.XytWXy[-1, -1], xp.n
    for (i, j), pair in gram.pairs.items():
        squares = pair.values**2
        a, b = slice(offsets[i], offsets[i + 1]), slice(offsets[j], offsets[j + 1])
        coefficients[a, b] += np.einsum("nab,na->ab", squares, weights[i][pair.rows])
        if i != j:
            coefficients[b, a] += np.einsum("nab,nb->ba", squares, weights[j][pair.cols])
        elif not pair.is_block_diagonal:
            below = pair.rows > pair.cols
            coefficients[a, b] += np.einsum("nab,nb->ba", squares[below], weights[i][pair.cols[below]])
    size = np.abs(coefficients).max(axis=1)
    solution, _ = nnls(coefficients / size[:, None], right / size)
    return solution[:total], float(solution[total])
