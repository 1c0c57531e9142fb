"""Errors of solvers that draw random vectors, and the exact value beside them."""
