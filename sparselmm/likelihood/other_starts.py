"""Other starts, for searches that may have ended at a local optimum.

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

SIZES = (100.0, 10.0, 1.0)  # of SD(b)/σ, times the root of a column's mean square per level
LEAST_EXPONENT, LARGEST_EXPONENT = -1.0, 2.5  # of ten, for the drawn ones
ALMOST_NOTHING = 0.01
SEED = 20_111


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
