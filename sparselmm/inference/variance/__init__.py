"""Variance parameters: covariance, tables, shares."""
