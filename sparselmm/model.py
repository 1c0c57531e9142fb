"""The immutable problem and its solution: problem × criterion × optimizer → result."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from sparselmm._typing import FloatArray
from sparselmm.covariance import Centred, Unstructured, make_structure
from sparselmm.criterion import Criterion
from sparselmm.crossproducts import CrossProducts
from sparselmm.data.design import Design
from sparselmm.derivatives import differentiate
from sparselmm.exceptions import (
    ConvergenceWarning,
    Message,
    ParameterError,
    SingularFitWarning,
    SparseLMMWarning,
)
from sparselmm.linalg import SYSTEMS, make_system
from sparselmm.optimize import Optimizer, OptimizerReport, Recorder, Status, make_optimizer
from sparselmm.pls import Engine, ParameterMap, PenalizedLeastSquares, PLSSolution
from sparselmm.result import FitResult, build_result, singular_terms
from sparselmm.starting import column_scales, moment_start

WARNING_CLASSES: dict[str, type[SparseLMMWarning]] = {
    "not_converged": ConvergenceWarning,
    "singular": SingularFitWarning,
}
BOUNDARY_TOL = 0.02


@dataclass(frozen=True)
class Problem:
    """A design with its cross-products and solver; nothing in it changes after it is made.

    Attributes
    ----------
    design : Design
        The rows.
    engine : Engine
        Cross-products, parameters and solver.
    """

    design: Design
    engine: Engine

    @classmethod
    def from_design(cls, design: Design, solver: str | None = None) -> Problem:
        """Form the cross-products of a design and choose its solver."""
        if solver is not None and solver not in SYSTEMS:
            raise ParameterError(f"unknown solver {solver!r}; there are {', '.join(SYSTEMS)}")
        crossproducts = CrossProducts.from_design(design)
        structures = []
        for term, centre in zip(design.terms, crossproducts.centres):
            structure = make_structure(term.structure, term.k)
            if centre is not None and isinstance(structure, Unstructured):
                structure = Centred(structure, centre.position, centre.multiples)
            structures.append(structure)
        parameters = ParameterMap(tuple(structures))
        return cls(design, Engine(crossproducts, parameters, partial(make_system, name=solver)))

    def with_response(self, y: FloatArray) -> Problem:
        """Return the same problem for another response, (n,)."""
        crossproducts = self.engine.crossproducts.with_response(self.design, y)
        return Problem(replace(self.design, y=y), self.engine.with_response(crossproducts))

    @property
    def theta_names(self) -> tuple[str, ...]:
        """Names of the entries of θ."""
        return tuple(
            name
            for s, t in zip(self.engine.parameters.structures, self.design.terms)
            for name in s.theta_names(t.label, t.columns)
        )


class CriterionAt:
    """The criterion of one model as a function of the free parameters, with its derivatives."""

    def __init__(self, pls: PenalizedLeastSquares, criterion: Criterion) -> None:
        self.pls = pls
        self.criterion = criterion
        self._scales = column_scales(pls.crossproducts.gram)
        self._last: PLSSolution | None = None

    def value(self, par: FloatArray) -> float:
        """Return the criterion."""
        self._last = None
        self._last = self.pls.solve(par)
        return self.pls.value(self._last, self.criterion)

    def derivatives(self, par: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        """Return criterion, gradient and Hessian; the factor of a preceding `value` is used again."""
        if self._last is None or not np.array_equal(self._last.par, par):
            self.value(par)
        assert self._last is not None
        found = differentiate(self.pls, self.criterion, self._last)
        return found.value, found.gradient, found.hessian

    def typical(self, par: FloatArray) -> FloatArray:
        """Return for each parameter the size of its template's rows, at least a fraction of its own scale."""
        parts = []
        parameters = self.pls.parameters
        for structure, x, scale in zip(parameters.structures, parameters.split(par), self._scales):
            rows = np.maximum(np.linalg.norm(structure.template(x), axis=1), 0.5 / scale)
            parts.append(np.einsum("iab,a->i", structure.dtemplate() != 0, rows) / np.maximum(
                (structure.dtemplate() != 0).sum(axis=(1, 2)), 1))
        return np.concatenate(parts)


def evaluate_at(problem: Problem, theta: FloatArray | Sequence[float], criterion: Criterion) -> FitResult:
    """Return the full result at a fixed θ."""
    par = problem.engine.parameters.par(theta)
    with problem.engine.locked() as pls:
        solution = pls.solve(par)
        value = pls.value(solution, criterion)
        report = OptimizerReport("fixed", Status.STOPPED, "theta was given, nothing was optimized", 1, 0, ((par, value),))
        return build_result(problem.design, problem.engine, pls, solution, criterion, report)


def fit_problem(
    problem: Problem,
    criterion: Criterion,
    *,
    start: FloatArray | Sequence[float] | None = None,
    optimizer: str | Optimizer | None = None,
    listener: Callable[[int, float, float], None] | None = None,
) -> FitResult:
    """Minimize the criterion over θ and return the result at the minimum."""
    parameters = problem.engine.parameters
    if start is None:
        first = moment_start(problem.engine.crossproducts, parameters)
    else:
        first = parameters.par(start)
    method = make_optimizer(optimizer or "bobyqa+newton")
    with problem.engine.locked() as pls:
        recorder = Recorder(CriterionAt(pls, criterion), listener)
        try:
            par, status, text = method.minimize(recorder, first, parameters.lower())
        except KeyboardInterrupt as error:
            raise recorder.interrupted() from error
        par = _snap(recorder, parameters, par)
        report = OptimizerReport(
            method.name, status, text, len(recorder.trace), recorder.n_gradients, tuple(recorder.trace)
        )
        result = build_result(problem.design, problem.engine, pls, pls.solve(par), criterion, report)
    return _with_messages(result)


def _snap(recorder: Recorder, parameters: ParameterMap, par: FloatArray) -> FloatArray:
    """Return the canonical parameters, those near a bound put on it where the criterion is not worse."""
    par = parameters.canonical(par)
    lower = parameters.lower()
    near = np.isfinite(lower) & (par > lower) & (par < lower + BOUNDARY_TOL * recorder.typical(par))
    if near.any():
        moved = parameters.canonical(np.where(near, lower, par))
        if recorder.value(moved) <= recorder.best_value:
            return moved
    return par


def _with_messages(result: FitResult) -> FitResult:
    """Add the messages of the fit and issue them as warnings."""
    found: list[Message] = []
    if not result.report.status.ok:
        found.append(
            Message(
                "not_converged",
                "warning",
                f"The optimizer stopped before it converged: {result.report.message}.",
                "Start again from fit.theta (start=), choose another optimizer, or rescale the predictors.",
            )
        )
    singular = singular_terms(result)
    if singular:
        found.append(
            Message(
                "singular",
                "note",
                f"Singular fit: the covariance of {', '.join(singular)} has a direction of zero variance.",
                "The model may be richer than the data can tell; a simpler random-effects part fits as well.",
            )
        )
    for message in found:
        warnings.warn(str(message), WARNING_CLASSES[message.code], stacklevel=4)
    return replace(result, messages=(*result.messages, *found))
