"""Covariance structures of random terms and their registry."""

from sparselmm.covariance.centred import Centred
from sparselmm.covariance.structures import (
    STRUCTURES,
    CovarianceStructure,
    Diagonal,
    HomogeneousDiagonal,
    Unstructured,
    make_structure,
)

__all__ = [
    "STRUCTURES",
    "Centred",
    "CovarianceStructure",
    "Diagonal",
    "HomogeneousDiagonal",
    "Unstructured",
    "make_structure",
]
