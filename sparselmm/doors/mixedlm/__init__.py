"""A door for models written as for statsmodels' MixedLM; it translates them and adds nothing of its own."""

from sparselmm.doors.mixedlm.model import MixedLM, mixedlm
from sparselmm.doors.mixedlm.results import MixedLMResults

__all__ = ["MixedLM", "MixedLMResults", "mixedlm"]
