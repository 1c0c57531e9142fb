"""Checks of designs and fits."""
