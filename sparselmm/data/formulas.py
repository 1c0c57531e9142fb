"""Formulas in the grammar of lme4 with the covariance structures that there are."""

from __future__ import annotations

from collections.abc import Sequence

from sparselmm import formula as grammar
from sparselmm.covariance import STRUCTURES
from sparselmm.formula import ModelSpec


def parse_formula(formula: str, columns: Sequence[str] | None = None) -> ModelSpec:
    """Return what a formula says; ``columns`` of the data are what ``.`` stands for."""
    return grammar.parse_formula(formula, STRUCTURES, columns)


def update_formula(old: ModelSpec | str, new: str) -> str:
    """Return a formula changed as another one says, in which ``.`` means "as before"."""
    return grammar.update_formula(old, new, STRUCTURES)
