"""A door for models written as for statsmodels' MixedLM; it translates them and adds nothing of its own."""

from sparselmm.statsmodels_door.model import MixedLM, mixedlm
from sparselmm.statsmodels_door.results import MixedLMResults

__all__ = ["MixedLM", "MixedLMResults", "mixedlm"]
