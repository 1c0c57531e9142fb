"""The formula language: text to `ModelSpec`, without any data."""

from sparselmm.formula.parse import parse_formula
from sparselmm.formula.spec import ModelSpec, RandomTerm
from sparselmm.formula.update import render_spec, update_formula

__all__ = ["ModelSpec", "RandomTerm", "parse_formula", "render_spec", "update_formula"]
