"""Starts spread over all sizes of the variances, for searches that may have ended at a local optimum.

The criterion can have several optima: where variances are zero, where there are more parameters than
the levels support, and where weights are uneven, so that few rows decide. The first search begins at
moment estimates; these starts begin where each variance alone leads, from far too small to far too
large. They are the same for the same model, whatever was fitted before.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sparselmm._typing import FloatArray
from sparselmm.covariance.parameters import ParameterMap

SIZES = (100.0, 10.0, 1.0)  # of SD(b)/σ, times the root of a column's mean square per level
LEAST_EXPONENT, LARGEST_EXPONENT = -1.0, 2.5  # of ten, for the drawn ones
SEED = 20_111


def spread_starts(parameters: ParameterMap, scales: list[FloatArray]) -> Iterator[FloatArray]:
    """Yield parameters, (n_par,): equal sizes of all coefficients, then drawn ones without end.

    ``scales`` are the roots of the mean diagonal of Z'WZ for each coefficient, (k,) per term.
    """
    for size in SIZES:
        yield parameters.nearest([np.diag((size / scale) ** 2) for scale in scales])
    rng = np.random.default_rng(SEED)
    while True:
        for diagonal in (False, True):
            factors = [_drawn_factor(rng, scale, diagonal) for scale in scales]
            yield parameters.nearest([A @ A.T for A in factors])


def _drawn_factor(rng: np.random.Generator, scale: FloatArray, diagonal: bool) -> FloatArray:
    """Return a factor whose principal axes have drawn directions (or those of the columns) and sizes."""
    axes = np.linalg.qr(rng.standard_normal((len(scale), len(scale))))[0]
    A = axes * 10.0 ** rng.uniform(LEAST_EXPONENT, LARGEST_EXPONENT, len(scale))
    if diagonal:
        A = np.diag(np.linalg.norm(A, axis=1))
    return np.asarray(A / scale[:, None])
