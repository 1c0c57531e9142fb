"""Additive sums over the rows of a design."""
