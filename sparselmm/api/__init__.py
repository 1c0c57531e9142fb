"""The public front door: `lmer`, `LinearMixedModel` and the fitted model; and what other doors build models with."""

from sparselmm.api.after import covariances_by_set
from sparselmm.api.diagnostics import diagnose
from sparselmm.api.fit import MixedModelFit
from sparselmm.api.inference import QUICK_SECONDS, trace_seconds
from sparselmm.api.model import LinearMixedModel, fit_many, lmer
from sparselmm.api.resampling import simulate
from sparselmm.api.stored import FittedModel, load
from sparselmm.data import patsy
from sparselmm.data.encoding.variables import Variables
from sparselmm.data.rows import GroupedTerm
from sparselmm.data.tables.columns import Factor, list_some, to_grouping
from sparselmm.data.tables.foreign import as_series, is_column
from sparselmm.data.tables.frame import Frame, as_frame
from sparselmm.data.tables.labels import check_order
from sparselmm.inference.fixed.hypotheses import by_name
from sparselmm.optimize import Optimizer

__all__ = [
    "QUICK_SECONDS",
    "Factor",
    "FittedModel",
    "Frame",
    "GroupedTerm",
    "LinearMixedModel",
    "MixedModelFit",
    "Optimizer",
    "Variables",
    "as_frame",
    "as_series",
    "by_name",
    "check_order",
    "covariances_by_set",
    "diagnose",
    "fit_many",
    "is_column",
    "list_some",
    "lmer",
    "load",
    "patsy",
    "simulate",
    "to_grouping",
    "trace_seconds",
]
