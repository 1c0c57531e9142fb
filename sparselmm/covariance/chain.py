"""The chain rule from Ω to the parameters of a model.

With S_t the derivative of a criterion with respect to Ω_t, ``<A, B> = tr(A B)``, and an average information
that is quadratic in the changes of Ω,

    gradient   <S_t, ∂_iΩ_t>
    Hessian    average information along the ∂_iΩ + <S_t, ∂_i∂_jΩ_t>,

the second part, the curvature of Ω along the parameters, within terms only. The average information needs
the vectors (I ⊗ ∂_iΩ_t) s_t, where s_t holds Z_t'V⁻¹ times residuals by level.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sparselmm._typing import FloatArray, IntArray
from sparselmm.covariance.parameters import Matrices, ParameterMap


def domegas(parameters: ParameterMap, par: FloatArray) -> Matrices:
    """Return ∂Ω of each term, (..., n_par of the term, k, k)."""
    return tuple(s.domega(x) for s, x in zip(parameters.structures, parameters.split(par)))


def along(domega: Sequence[FloatArray], S: Sequence[FloatArray]) -> FloatArray:
    """Return <S_t, ∂_iΩ_t>, (..., n_par)."""
    return np.concatenate([np.einsum("...ab,...nab->...n", s, d) for s, d in zip(S, domega)], axis=-1)


def add_curvature(out: FloatArray, parameters: ParameterMap, par: FloatArray, S: Sequence[FloatArray]) -> FloatArray:
    """Add <S_t, ∂_i∂_jΩ_t> to the blocks of a Hessian, (..., n_par, n_par), and return it."""
    for structure, here, s in zip(parameters.structures, parameters.slices, S):
        out[..., here, here] += structure.curvature(par[..., here], s)
    return out


def curvature(parameters: ParameterMap, par: FloatArray, S: Sequence[FloatArray]) -> FloatArray:
    """Return <S_t, ∂_i∂_jΩ_t> of all terms, (..., n_par, n_par)."""
    return add_curvature(np.zeros((*par.shape, par.shape[-1])), parameters, par, S)


def moved_scores(domega: Sequence[FloatArray], s: FloatArray, offsets: IntArray) -> FloatArray:
    """Return (I ⊗ ∂_iΩ_t) s_t, (q, n_par); term t has s[offsets[t]:offsets[t + 1]] of s, (q,), by level."""
    out = np.zeros((len(s), sum(map(len, domega))))
    start = 0
    for t, d in enumerate(domega):
        a, b, n = offsets[t], offsets[t + 1], len(d)
        out[a:b, start : start + n] = moved(d, s[a:b])
        start += n
    return out


def moved(domega: FloatArray, s: FloatArray) -> FloatArray:
    """Return (I ⊗ dΩ_i) s of one term for each change dΩ_i, (m*k, n); domega is (n, k, k), s (m*k,)."""
    n, k = domega.shape[:2]
    return np.asarray(np.tensordot(s.reshape(-1, k), domega, (1, 2)).transpose(0, 2, 1).reshape(len(s), n))
