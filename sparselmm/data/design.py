"""A design: what its columns and terms are, and the rows that were observed."""

from __future__ import annotations

from dataclasses import dataclass

from sparselmm.data.layout import DesignLayout
from sparselmm.data.rows import Rows


@dataclass(frozen=True)
class Design:
    """The layout of a model and the rows that enter the likelihood.

    Attributes
    ----------
    layout : DesignLayout
        Names, levels, structures and messages.
    rows : Rows
        Response, matrices, weights, offset and labels.
    """

    layout: DesignLayout
    rows: Rows
