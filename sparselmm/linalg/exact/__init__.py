"""Solvers with a factor of M."""
