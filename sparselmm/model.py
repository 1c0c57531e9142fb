"""The immutable problem and its solution: problem × criterion × optimizer → result."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from sparselmm._typing import FloatArray
from sparselmm.covariance import Centred, Unstructured, make_structure
from sparselmm.convergence import Convergence, certify, is_singular, leave_boundary, singular_directions
from sparselmm.criterion import Criterion
from sparselmm.crossproducts import CrossProducts
from sparselmm.data.design import Design
from sparselmm.derivatives import Curvature
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
from sparselmm.result import FitResult, build_result
from sparselmm.starting import column_scales, moment_start

WARNING_CLASSES: dict[str, type[SparseLMMWarning]] = {
    "not_converged": ConvergenceWarning,
    "singular": SingularFitWarning,
}
BOUNDARY_TOL = 0.02
MAX_RESTARTS = 3
CLOSE = 1e-3
MANY_PARAMETERS = 8
EXPENSIVE_FLOPS = 2e7


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
        self.latest: Curvature | None = None

    def value(self, par: FloatArray) -> float:
        """Return the criterion."""
        return self.pls.value(self.pls.solve(par), self.criterion)

    def derivatives(self, par: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        """Return criterion, gradient and Hessian; the factor of a preceding `value` is used again."""
        solution = self.pls.solve(par)
        self.latest = Curvature(self.pls, self.criterion, solution)
        d = self.latest.derivatives
        return d.value, d.gradient, d.hessian

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
    with problem.engine.locked() as pls:
        method, reason = choose_optimizer(pls, optimizer)
        target = CriterionAt(pls, criterion)
        recorder = Recorder(target, listener)
        try:
            par, status, text = method.minimize(recorder, first, parameters.lower())
            par, solution, certificate, text = _certified(target, recorder, par, text, problem)
        except KeyboardInterrupt as error:
            raise recorder.interrupted(parameters.theta) from error
        report = OptimizerReport(
            method.name, status, f"{text} ({reason})", len(recorder.trace), recorder.n_gradients, tuple(recorder.trace)
        )
        result = build_result(problem.design, problem.engine, pls, solution, criterion, report, certificate)
    return _with_messages(result)


def choose_optimizer(pls: PenalizedLeastSquares, optimizer: str | Optimizer | None) -> tuple[Optimizer, str]:
    """Return the optimizer asked for, or the one that suits the size of the problem, and why."""
    if optimizer is not None:
        return make_optimizer(optimizer), "chosen by the caller"
    n_par, cost = pls.parameters.n_par, pls.system.flops
    if n_par > MANY_PARAMETERS:
        return make_optimizer("newton"), f"{n_par} parameters"
    if cost > EXPENSIVE_FLOPS:
        return make_optimizer("newton"), f"{cost:.1e} flops per evaluation"
    return make_optimizer("bobyqa+newton"), "few parameters, cheap evaluations"


def _certified(
    target: CriterionAt, recorder: Recorder, par: FloatArray, text: str, problem: Problem
) -> tuple[FloatArray, PLSSolution, Convergence, str]:
    """Return canonical parameters and their certificate; leave a false boundary optimum by Newton steps."""
    pls, parameters = target.pls, problem.engine.parameters
    scales = column_scales(pls.crossproducts.gram)
    names = tuple(t.name for t in problem.design.terms)
    for attempt in range(MAX_RESTARTS + 1):
        par = _snap(recorder, parameters, par)
        certificate = certify(
            _curvature_near(target, par, scales), parameters.structures, names, scales, recorder.typical(par)
        )
        if certificate.boundary_decrease < certificate.tolerance or attempt == MAX_RESTARTS:
            break
        start = leave_boundary(parameters.structures, parameters.templates(par), certificate.terms)
        par, _, finish = make_optimizer("newton").minimize(recorder, start, parameters.lower())
        text += f"; left a false boundary optimum ({finish})"
    solution = pls.solve(par)
    columns = tuple(t.columns for t in problem.design.terms)
    directions = singular_directions(names, columns, parameters.reported_templates(par), scales)
    return par, solution, replace(certificate, singular=directions), text


def _curvature_near(target: CriterionAt, par: FloatArray, scales: list[FloatArray]) -> Curvature:
    """Return the derivatives at ``par``, or those of the last Newton step to it where they prove the same.

    That step was taken because it gains next to nothing; it is not worth another inverse unless a
    template is singular, where signs of small numbers decide.
    """
    latest = target.latest
    if latest is not None:
        near = np.all(np.abs(latest.solution.par - par) < CLOSE * target.typical(par))
        if near and not any(map(is_singular, target.pls.parameters.templates(par), scales)):
            return latest
    return Curvature(target.pls, target.criterion, target.pls.solve(par))


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
    certificate = result.convergence
    if certificate is not None and not certificate.certified:
        found.append(
            Message(
                "not_converged",
                "warning",
                f"The fit is not at an optimum ({result.report.message}): exact derivatives predict a further decrease "
                f"of the criterion by {certificate.remaining:.3g}.",
                "Start again from fit.theta (start=), choose another optimizer, or rescale the predictors.",
            )
        )
    if certificate is not None and certificate.singular:
        facts = "; ".join(f"{d.combination} of {d.term} has zero variance" for d in certificate.singular)
        simpler = "; ".join(dict.fromkeys(d.simpler for d in certificate.singular))
        found.append(Message("singular", "note", f"Singular fit: {facts}.", f"The fit equals {simpler}."))
    for message in found:
        warnings.warn(str(message), WARNING_CLASSES[message.code], stacklevel=4)
    return replace(result, messages=(*result.messages, *found))
