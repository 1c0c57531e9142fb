"""Data: any table in, the rows of the model out."""

from sparselmm.data.arrays import design_from_arrays
from sparselmm.data.build import build_design
from sparselmm.data.design import Design
from sparselmm.data.encoding.encoding import EncodingSpec, r_names
from sparselmm.data.rows import DesignTerm, GroupedTerm, SparseTerm

__all__ = [
    "Design",
    "DesignTerm",
    "EncodingSpec",
    "GroupedTerm",
    "SparseTerm",
    "build_design",
    "design_from_arrays",
    "r_names",
]
