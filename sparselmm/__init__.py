"""Linear mixed-effects models for large crossed and nested designs.

>>> import sparselmm as slm
>>> fit = slm.lmer("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
>>> round(fit.sigma, 3)
25.592
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparselmm import exceptions as exceptions
    from sparselmm.api import FittedModel as FittedModel
    from sparselmm.api import LinearMixedModel as LinearMixedModel
    from sparselmm.api import MixedModelFit as MixedModelFit
    from sparselmm.api import diagnose as diagnose
    from sparselmm.api import fit_many as fit_many
    from sparselmm.api import lmer as lmer
    from sparselmm.api import load as load
    from sparselmm.api import simulate as simulate
    from sparselmm.api.comparison import anova as anova
    from sparselmm.api.comparison import information_weights as information_weights
    from sparselmm.api.resampling import bootstrap_lrt as bootstrap_lrt
    from sparselmm.compare_r import compare_with_r as compare_with_r
    from sparselmm.data import SparseTerm as SparseTerm
    from sparselmm.datasets import list_datasets as list_datasets
    from sparselmm.datasets import load_dataset as load_dataset
    from sparselmm.doors.mixedlm import MixedLM as MixedLM
    from sparselmm.doors.mixedlm import mixedlm as mixedlm
    from sparselmm.linalg.iterative.control import IterativeControl as IterativeControl
    from sparselmm.linalg.threads import set_threads as set_threads
    from sparselmm.report.explain import explain as explain
    from sparselmm.report.plots.profile import plot_profile as plot_profile
    from sparselmm.report.plots.profile import plot_profile_pairs as plot_profile_pairs

__version__ = "0.1.0"

_PUBLIC = {
    "FittedModel": "sparselmm.api",
    "IterativeControl": "sparselmm.linalg.iterative.control",
    "LinearMixedModel": "sparselmm.api",
    "MixedLM": "sparselmm.doors.mixedlm",
    "MixedModelFit": "sparselmm.api",
    "SparseTerm": "sparselmm.data",
    "anova": "sparselmm.api.comparison",
    "bootstrap_lrt": "sparselmm.api.resampling",
    "compare_with_r": "sparselmm.compare_r",
    "diagnose": "sparselmm.api",
    "explain": "sparselmm.report.explain",
    "fit_many": "sparselmm.api",
    "information_weights": "sparselmm.api.comparison",
    "lmer": "sparselmm.api",
    "load": "sparselmm.api",
    "simulate": "sparselmm.api",
    "list_datasets": "sparselmm.datasets",
    "load_dataset": "sparselmm.datasets",
    "mixedlm": "sparselmm.doors.mixedlm",
    "plot_profile": "sparselmm.report.plots.profile",
    "plot_profile_pairs": "sparselmm.report.plots.profile",
    "set_threads": "sparselmm.linalg.threads",
}

__all__ = ["__version__", "exceptions", *_PUBLIC]


if not TYPE_CHECKING:  # type checkers know the names

    def __getattr__(name: str) -> Any:
        if name in _PUBLIC:
            value = getattr(import_module(_PUBLIC[name]), name)
            globals()[name] = value
            return value
        if name == "exceptions":
            return import_module("sparselmm.exceptions")
        from sparselmm.hints.names import package_hint

        raise AttributeError(package_hint(name, lambda: __getattr__("MixedModelFit")))


def __dir__() -> list[str]:
    return sorted(__all__)
