"""Covariance structures of random terms and their registry."""

from sparselmm.covariance.base import CovarianceStructure
from sparselmm.covariance.centred import Centred
from sparselmm.covariance.diagonal import Diagonal
from sparselmm.covariance.homogeneous import HomogeneousDiagonal
from sparselmm.covariance.registry import STRUCTURES, Kind, make_structure
from sparselmm.covariance.unstructured import Unstructured

__all__ = [
    "STRUCTURES",
    "Centred",
    "CovarianceStructure",
    "Diagonal",
    "HomogeneousDiagonal",
    "Kind",
    "Unstructured",
    "make_structure",
]
