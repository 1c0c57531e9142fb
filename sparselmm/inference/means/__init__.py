"""Estimated marginal means."""
