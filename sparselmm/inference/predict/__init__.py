"""Prediction with exact variances, and simulation."""
