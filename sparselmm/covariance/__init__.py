"""Covariance structures of random terms and their registry."""

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
    "CovarianceStructure",
    "Diagonal",
    "HomogeneousDiagonal",
    "Unstructured",
    "make_structure",
]
