"""Iterative solver of the penalized system for designs too large to factor."""
