"""The audit of an approximate fit: its criterion beside the exact one."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

from sparselmm._typing import FloatArray
from sparselmm.exceptions import ParameterError
from sparselmm.inference.sizes import SILENT_SECONDS
from sparselmm.likelihood.engine import Engine
from sparselmm.likelihood.result import FitResult
from sparselmm.linalg.audit.dense import Listener
from sparselmm.linalg.audit.report import AuditCost
from sparselmm.linalg.threads import blas_threads

ROUNDING = 1e-12  # of the exact value: no standard error is smaller


@dataclass(frozen=True)
class Audit:
    """The criterion of an approximate fit and its exact value at the same θ.

    Attributes
    ----------
    criterion : float
        As the fit has it.
    exact_criterion : float
        From a dense factorisation.
    standard_error : float
        Monte Carlo standard error that the fit states.
    cost : AuditCost
        What was forecast.
    seconds : float
        What it took.
    """

    criterion: float
    exact_criterion: float
    standard_error: float
    cost: AuditCost
    seconds: float

    @property
    def exact(self) -> float:
        """The exact criterion."""
        return self.exact_criterion

    @property
    def error(self) -> float:
        """Criterion of the fit less the exact one."""
        return self.criterion - self.exact_criterion

    @property
    def ratio(self) -> float:
        """The error in standard errors, or in roundings of the criterion where these are larger; 2 or 3 are usual."""
        return self.error / max(self.standard_error, ROUNDING * abs(self.exact_criterion))

    def __str__(self) -> str:
        return (
            f"exact criterion {self.exact_criterion:.6f}; that of the fit is off by {self.error:.2g}, "
            f"{self.ratio:.2g} of its Monte Carlo standard errors ({self.standard_error:.2g}); {self.seconds:.2g} s"
        )

    __repr__ = __str__


def forecast(engine: Engine) -> AuditCost:
    """Return what the audit of a fit would cost.

    Raises
    ------
    ParameterError
        For an exact solver.
    """
    with engine.locked() as pls:
        drawn = pls.system.monte_carlo
        if drawn is None:
            raise ParameterError(
                f"the criterion is exact already: the solver {pls.system.name!r} factors the whole system"
            )
        return drawn.audit_cost()


def logdet_error(engine: Engine, par: FloatArray, progress: bool) -> tuple[float, float]:
    """Return by how much log|M| at some parameters is too large, and the standard error stated for it.

    Raises
    ------
    PlanError
        When the memory is not there, before anything is done.
    """
    with engine.locked() as pls:
        drawn = pls.system.monte_carlo
        if drawn is None:
            return 0.0, 0.0
        cost = drawn.audit_cost()
        cost.refuse_if_too_large()
        pls.factor(pls.parameters.templates(par))
        with _Line(cost, progress) as line, blas_threads(cost.flops):
            exact = drawn.exact_logdet(line)
        return pls.system.logdet() - exact, drawn.standard_error


def audit(result: FitResult, progress: bool = True) -> Audit:
    """Return the criterion of an approximate fit beside the exact one; see `MixedModelFit.audit`."""
    cost, started = forecast(result.engine), time.perf_counter()
    error, standard_error = logdet_error(result.engine, result.par, progress)
    seconds = time.perf_counter() - started
    return Audit(result.criterion, result.criterion - error, standard_error, cost, seconds)


class _Line:
    """Says on standard error what a long factorisation will take, and how far it is."""

    def __init__(self, cost: AuditCost, progress: bool) -> None:
        self._text = str(cost) if progress and cost.seconds > SILENT_SECONDS else ""
        self._started = time.monotonic()

    def __enter__(self) -> Listener:
        if self._text:
            sys.stderr.write(f"audit: {self._text}\n")
        return self._told

    def _told(self, share: float) -> None:
        if self._text:
            elapsed = time.monotonic() - self._started
            sys.stderr.write(f"\raudit: {100.0 * share:.0f} %, {elapsed:.0f} s")
            sys.stderr.flush()

    def __exit__(self, *_: object) -> None:
        if self._text:
            sys.stderr.write("\n")
