"""Outer optimizers over the covariance parameters and their registry."""

from __future__ import annotations

from collections.abc import Callable

from sparselmm.exceptions import ParameterError
from sparselmm.optimize.base import Optimizer, OptimizerReport, Recorder, SmoothProblem, Status
from sparselmm.optimize.combined import PolishedBobyqa
from sparselmm.optimize.corrected import Differenced, Secant
from sparselmm.optimize.derivative_free import Nlopt
from sparselmm.optimize.newton import Newton

OPTIMIZERS: dict[str, Callable[[], Optimizer]] = {
    "bobyqa+newton": PolishedBobyqa,
    "newton": Newton,
    "bobyqa": lambda: Nlopt("bobyqa"),
    "nelder_mead": lambda: Nlopt("nelder_mead"),
}


def make_optimizer(optimizer: str | Optimizer) -> Optimizer:
    """Return the registered optimizer of a name, or the object itself."""
    if isinstance(optimizer, str):
        if optimizer not in OPTIMIZERS:
            raise ParameterError(f"unknown optimizer {optimizer!r}; there are {', '.join(OPTIMIZERS)}")
        return OPTIMIZERS[optimizer]()
    if not callable(getattr(optimizer, "minimize", None)):
        raise ParameterError(f"optimizer must be one of {', '.join(OPTIMIZERS)} or have a minimize method")
    return optimizer


__all__ = [
    "OPTIMIZERS",
    "Differenced",
    "Newton",
    "Nlopt",
    "Optimizer",
    "OptimizerReport",
    "PolishedBobyqa",
    "Recorder",
    "Secant",
    "SmoothProblem",
    "Status",
    "make_optimizer",
]
