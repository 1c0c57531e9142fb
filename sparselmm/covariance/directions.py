"""The covariances that a structure can take, as a linear space."""

from __future__ import annotations

import numpy as np
from scipy.linalg import qr

from sparselmm._typing import FloatArray
from sparselmm.covariance import CovarianceStructure

RANK_TOL = 1e-10  # of rows of unit length: what is left of a dependent one is rounding
SPAN_TOL = 1e-6  # of directions at points of order one


def independent_rows(A: FloatArray, tol: float = RANK_TOL) -> list[int]:
    """Return positions of rows that span all rows, in increasing order; rows count in units of their length."""
    size = np.linalg.norm(A, axis=1, keepdims=True)
    _, R, pivots = qr((A / np.where(size > 0, size, 1.0)).T, mode="economic", pivoting=True)
    diagonal = np.abs(np.diag(R))
    return sorted(int(i) for i in pivots[: len(diagonal)][diagonal > tol * diagonal[0]])


def covariance_basis(structure: CovarianceStructure) -> list[FloatArray]:
    """Return symmetric (k, k) matrices that span all covariances of a structure.

    Examples
    --------
    >>> from sparselmm.covariance import make_structure
    >>> len(covariance_basis(make_structure("us", 3))), len(covariance_basis(make_structure("diag", 3)))
    (6, 3)
    """
    start = structure.start()
    if structure.is_linear:
        return list(structure.directions(start))
    # changes of Ω at a few points: what they span, all changes span
    points = start + np.random.default_rng(0).standard_normal((structure.k**2, structure.n_par))
    low, high = structure.box()
    seen = structure.domega(np.clip(points, low, high)).reshape(-1, structure.k, structure.k)
    seen = seen[np.any(seen, axis=(1, 2))]
    return [np.asarray(seen[n]) for n in independent_rows(seen.reshape(len(seen), -1), SPAN_TOL)]
