"""The covariances that a structure can take, as a linear space."""

from __future__ import annotations

import numpy as np
from scipy.linalg import qr

from sparselmm._typing import FloatArray
from sparselmm.covariance import CovarianceStructure

RANK_TOL = 1e-10


def independent_rows(A: FloatArray, tol: float = RANK_TOL) -> list[int]:
    """Return positions of rows that span all rows, in increasing order; rows count in units of their length."""
    size = np.linalg.norm(A, axis=1, keepdims=True)
    _, R, pivots = qr((A / np.where(size > 0, size, 1.0)).T, mode="economic", pivoting=True)
    diagonal = np.abs(np.diag(R))
    return sorted(int(i) for i in pivots[: len(diagonal)][diagonal > tol * diagonal[0]])


def covariance_basis(structure: CovarianceStructure) -> list[FloatArray]:
    """Return symmetric (k, k) matrices that span all T T' of a structure.

    T is linear in its parameters, so T T' is a combination of the products of the derivatives of T.

    Examples
    --------
    >>> from sparselmm.covariance import make_structure
    >>> len(covariance_basis(make_structure("us", 3))), len(covariance_basis(make_structure("diag", 3)))
    (6, 3)
    """
    dT = structure.dtemplate()
    i, j = np.triu_indices(len(dT))
    products = dT[i] @ dT[j].transpose(0, 2, 1)
    products = (products + products.transpose(0, 2, 1)) / 2.0
    products = products[np.any(products, axis=(1, 2))]
    keep = independent_rows(products.reshape(len(products), -1))
    return [np.asarray(products[n]) for n in keep]
