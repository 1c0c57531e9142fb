"""Plots of a fit; matplotlib is imported when the first one is drawn."""

from sparselmm.report.plots.collection import Plots

__all__ = ["Plots"]
