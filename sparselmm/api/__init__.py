"""The public front door: `lmer`, `LinearMixedModel` and the fitted model."""

from sparselmm.api.diagnostics import diagnose
from sparselmm.api.fit import MixedModelFit
from sparselmm.api.model import LinearMixedModel, fit_many, lmer
from sparselmm.api.simulation import simulate
from sparselmm.api.stored import FittedModel, load

__all__ = ["FittedModel", "LinearMixedModel", "MixedModelFit", "diagnose", "fit_many", "lmer", "load", "simulate"]
