"""The one list of covariance structures: key → constructor."""

from __future__ import annotations

from collections.abc import Callable

from sparselmm.covariance.base import CovarianceStructure
from sparselmm.covariance.centred import Centred
from sparselmm.covariance.diagonal import Diagonal
from sparselmm.covariance.homogeneous import HomogeneousDiagonal
from sparselmm.covariance.unstructured import Unstructured
from sparselmm.exceptions import UnsupportedError

STRUCTURES: dict[str, Callable[[int], CovarianceStructure]] = {
    "us": Unstructured,
    "diag": Diagonal,
    "homdiag": HomogeneousDiagonal,
}


def make_structure(key: str, k: int, centre: tuple[int, tuple[float, ...]] | None = None) -> CovarianceStructure:
    """Return the registered structure for a term with k coefficients.

    With a centre, the position of a constant column and the multiples, (k,), of it that were taken from each
    column of Z, it is in the coordinates of the centred columns; unrestricted structures only.
    """
    if key not in STRUCTURES:
        raise UnsupportedError(f"covariance structure {key!r} is not yet supported; there are {', '.join(STRUCTURES)}")
    return STRUCTURES[key](k) if centre is None else Centred(k, *centre)
