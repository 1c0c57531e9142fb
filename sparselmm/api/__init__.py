"""The public front door: `lmer`, `LinearMixedModel` and the fitted model."""

from sparselmm.api.fit import MixedModelFit
from sparselmm.api.model import LinearMixedModel, lmer

__all__ = ["LinearMixedModel", "MixedModelFit", "lmer"]
