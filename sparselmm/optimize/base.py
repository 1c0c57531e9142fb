"""What an optimizer is given and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

import numpy as np

from sparselmm._typing import FloatArray
from sparselmm.exceptions import FitInterrupted, NumericalError


class Status(Enum):
    """How an optimization ended."""

    CONVERGED = "converged"
    MAX_EVALUATIONS = "maximum number of evaluations reached"
    STOPPED = "stopped before convergence"

    @property
    def ok(self) -> bool:
        """Whether the optimizer met its own tolerance."""
        return self is Status.CONVERGED


@dataclass(frozen=True)
class OptimizerReport:
    """How the fit was found.

    Attributes
    ----------
    name : str
        The optimizer.
    status : Status
        How it ended.
    message : str
        The same in words, with the reason for choosing this optimizer.
    n_evaluations : int
        Evaluations of the criterion.
    n_gradients : int
        Evaluations of its exact gradient.
    trace : tuple of (theta, criterion) pairs
        Every evaluation in order; theta is an (n_par,) array of free parameters.
    """

    name: str
    status: Status
    message: str
    n_evaluations: int
    n_gradients: int = 0
    trace: tuple[tuple[FloatArray, float], ...] = field(default=(), repr=False)


class SmoothProblem(Protocol):
    """A criterion with exact first and approximate second derivatives."""

    def value(self, par: FloatArray) -> float:
        """Return the criterion."""
        ...

    def derivatives(self, par: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        """Return criterion, gradient (n_par,) and Hessian (n_par, n_par)."""
        ...

    def typical(self, par: FloatArray) -> FloatArray:
        """Return the size of change in each parameter that matters, (n_par,)."""
        ...


class BoxedProblem(SmoothProblem, Protocol):
    """A smooth problem with the bounds that steps by its derivatives must keep."""

    @property
    def box(self) -> tuple[FloatArray, FloatArray] | None:
        """Lower and upper bounds, (n_par,) each, if any."""
        ...


class Optimizer(Protocol):
    """Minimizes a recorded problem from a start within lower bounds."""

    @property
    def name(self) -> str:
        """What it is called in reports."""
        ...

    def minimize(self, problem: Recorder, start: FloatArray, lower: FloatArray) -> tuple[FloatArray, Status, str]:
        """Return the best parameters, the status and a message."""
        ...


class Recorder:
    """Counts and keeps the evaluations of a problem, and its best point.

    Attributes
    ----------
    upper : (n_par,) array or None
        Upper bounds for a search without derivatives, beside the lower ones that an optimizer is given.
    box : pair of (n_par,) arrays or None
        What steps by derivatives must keep to.
    """

    def __init__(
        self,
        problem: SmoothProblem,
        listener: object | None = None,
        upper: FloatArray | None = None,
        box: tuple[FloatArray, FloatArray] | None = None,
    ) -> None:
        self._problem = problem
        self.upper = upper
        self.box = box
        self._listener = listener
        self.trace: list[tuple[FloatArray, float]] = []
        self.n_gradients = 0
        self.best_par: FloatArray | None = None
        self.best_value = np.inf

    def _record(self, par: FloatArray, value: float) -> None:
        self.trace.append((par, value))
        if value < self.best_value:
            self.best_par, self.best_value = par, value
        if callable(self._listener):
            self._listener(len(self.trace), value, self.best_value)

    def value(self, par: FloatArray) -> float:
        """Return the criterion at a copy of ``par``; +inf where the system breaks down."""
        par = np.array(par, dtype=float)
        try:
            value = self._problem.value(par)
        except NumericalError:
            if self.best_par is None:  # the start itself is unusable: say so
                raise
            value = np.inf
        self._record(par, value)
        return value

    def derivatives(self, par: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        """Return criterion, gradient and Hessian at a copy of ``par``."""
        par = np.array(par, dtype=float)
        value, gradient, hessian = self._problem.derivatives(par)
        self.n_gradients += 1
        if not self.trace or not np.array_equal(self.trace[-1][0], par):
            self._record(par, value)
        return value, gradient, hessian

    def forget_best(self) -> None:
        """Start the comparison of values anew, after the problem has changed a little."""
        self.best_value = np.inf  # the point is kept: an interrupt now still has something to tell

    def typical(self, par: FloatArray) -> FloatArray:
        """Return the size of change in each parameter that matters, (n_par,)."""
        return self._problem.typical(par)

    def interrupted(self, theta: Callable[[FloatArray], FloatArray]) -> FitInterrupted:
        """Return the exception that carries the best point so far, as ``theta`` reports it."""
        best = None if self.best_par is None else theta(self.best_par)
        return FitInterrupted(best, float(self.best_value), len(self.trace))
