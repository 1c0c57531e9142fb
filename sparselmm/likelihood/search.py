"""The search for θ: start, optimizer, certificate, and what is tried where the end may be a local optimum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from sparselmm._typing import FloatArray
from sparselmm.covariance.parameters import ParameterMap
from sparselmm.exceptions import NumericalError
from sparselmm.likelihood.certificate import Convergence, certify, leave_boundary, singular_directions
from sparselmm.likelihood.criterion import Criterion
from sparselmm.likelihood.derivatives import Curvature
from sparselmm.likelihood.pls import PenalizedLeastSquares, PLSSolution
from sparselmm.likelihood.starting import OtherStarts, column_scales, moment_start
from sparselmm.linalg.iterative.control import Effort
from sparselmm.linalg.protocol import MonteCarloEstimates
from sparselmm.optimize import (
    Differenced,
    Newton,
    Optimizer,
    OptimizerReport,
    Recorder,
    Secant,
    Status,
    make_optimizer,
)

BOUNDARY_TOL = 0.02
MAX_RESTARTS = 3
CLOSE = 1e-3
MANY_PARAMETERS = 8
EXPENSIVE_FLOPS = 2e7
RESTART_FLOPS = 1e9
FLOPS_OF_OVERHEAD = 5e5  # what the calls of one evaluation of the smallest model cost, half a millisecond
LEVELS_PER_PARAMETER = (
    3  # of every grouping factor, from which on a regular optimum of many parameters is taken as it is
)
FEW_STARTS = 2  # other starts after a singular end that is not cheap
EXPLORING_STEPS = 15  # Newton steps from another start before the Hessian is corrected
CORRECTED_STEPS = 100
FLAT = 0.1  # deviance units that moving a parameter by its own size costs
EXPENSIVE_RTOL = 1e-13  # of the criterion; far below what another expensive step could show
BETTER = 1e-9
MONTE_CARLO_DECREASE = 10.0  # that draws can feign, for errors of the parameters of one of their own standard errors
PARAMETER_AIM = 1e-3  # Monte Carlo error of a parameter, as a share of its standard error


class CriterionAt:
    """The criterion of one model as a function of the free parameters, with its derivatives."""

    def __init__(self, pls: PenalizedLeastSquares, criterion: Criterion) -> None:
        self.pls = pls
        self.criterion = criterion
        self.scales = column_scales(pls.crossproducts.gram)
        self.latest: Curvature | None = None
        self._solved: PLSSolution | None = None

    def solution(self, par: FloatArray) -> PLSSolution:
        """Return the solution at ``par``; that of the last point is kept."""
        if self._solved is None or not np.array_equal(self._solved.par, par):
            self._solved = self.pls.solve(par)
        return self._solved

    def use(self, effort: Effort) -> None:
        """Evaluate with this effort from now on; what was found with another is dropped."""
        self.pls = replace(self.pls, effort=effort)
        self.latest = self._solved = None

    def value(self, par: FloatArray) -> float:
        """Return the criterion."""
        return self.pls.value(self.solution(par), self.criterion)

    def derivatives(self, par: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        """Return criterion, gradient and Hessian; the factor of a preceding `value` is used again."""
        self.latest = Curvature(self.pls, self.criterion, self.solution(par))
        d = self.latest.derivatives
        return d.value, d.gradient, d.hessian

    def typical(self, par: FloatArray) -> FloatArray:
        """Return changes of the parameters that matter, (n_par,)."""
        return self.pls.parameters.typical(par, self.scales)


@dataclass(frozen=True)
class Term:
    """What the search needs to know of a random term to name it."""

    name: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """The end of a search.

    Attributes
    ----------
    solution : PLSSolution
        At canonical parameters; the system is factored there.
    certificate : Convergence
        The proof.
    report : OptimizerReport
        How it was found.
    pls : PenalizedLeastSquares
        The problem with the effort that was found to suit it.
    flat : bool
        Whether some change of the parameters hardly moves the criterion.
    """

    solution: PLSSolution
    certificate: Convergence
    report: OptimizerReport
    pls: PenalizedLeastSquares
    flat: bool


def search(
    pls: PenalizedLeastSquares,
    criterion: Criterion,
    terms: tuple[Term, ...],
    *,
    start: FloatArray | None = None,
    optimizer: str | Optimizer | None = None,
    listener: Callable[[int, float, float], None] | None = None,
) -> Found:
    """Minimize the criterion from ``start``, (n_par,), by default from moment estimates."""
    parameters = pls.parameters
    method, reason = choose_optimizer(pls, optimizer)
    target = CriterionAt(pls, criterion)
    recorder = Recorder(target, listener, parameters.upper(), parameters.box())
    drawn = pls.system.monte_carlo
    try:
        first = moment_start(pls.crossproducts, parameters) if start is None else start
        if drawn is not None and pls.effort is None:
            target.use(drawn.adapt(parameters.templates(first), grow=False))
        par, status, text = method.minimize(recorder, first, parameters.lower())
        par, certificate, notes = _certified(target, recorder, par, terms)
        for _ in range(MAX_RESTARTS):
            if not status.ok or certificate.certified or drawn is not None:
                break
            # converged by its own measure, not by that of the certificate: again from where it ended
            par, status, again = method.minimize(recorder, par, parameters.lower())
            target.latest = None  # derivatives near the end before prove nothing of this one
            par, certificate, more = _certified(target, recorder, par, terms)
            notes += f"; again: {again}{more}"
        flat = _is_flat(target, par)
        count = _number_of_other_starts(pls, certificate, status, flat, chosen=optimizer is not None)
        if count:
            par, status, certificate, more = _from_other_starts(
                target, recorder, par, status, certificate, terms, count
            )
            notes += more
        if drawn is not None:
            par, certificate, more = _with_full_effort(target, recorder, drawn, par, certificate, terms)
            notes += more
    except KeyboardInterrupt as error:
        raise recorder.interrupted(parameters.theta) from error
    solution = target.solution(par)
    if drawn is not None:
        certificate = _with_monte_carlo(target, drawn, par, certificate)
    report = OptimizerReport(
        method.name,
        status,
        f"{text}{notes} ({reason})",
        len(recorder.trace),
        recorder.n_gradients,
        tuple(recorder.trace),
    )
    return Found(solution, certificate, report, target.pls, flat)


def _with_monte_carlo(
    target: CriterionAt, drawn: MonteCarloEstimates, par: FloatArray, certificate: Convergence
) -> Convergence:
    """Return the certificate of an optimum that is known within Monte Carlo errors only.

    Criterion and gradient are two estimates with the same draws; their optima differ by such errors.
    """
    found = replace(drawn.report(), theta=parameter_errors(_curvature_near(target, par, target.scales)))
    tolerance = max(certificate.tolerance, MONTE_CARLO_DECREASE * float(found.theta @ found.theta))
    certified = certificate.remaining < tolerance
    return replace(certificate, monte_carlo=found, tolerance=tolerance, certified=certified)


def _with_full_effort(
    target: CriterionAt,
    recorder: Recorder,
    drawn: MonteCarloEstimates,
    par: FloatArray,
    certificate: Convergence,
    terms: tuple[Term, ...],
) -> tuple[FloatArray, Convergence, str]:
    """Return the optimum with as many draws as the standard error needs, known only where it is small enough."""
    parameters = target.pls.parameters
    target.value(par)
    share = float(parameter_errors(_curvature_near(target, par, target.scales)).max(initial=0.0))
    if drawn.exhausted or (drawn.standard_error <= drawn.aim and share <= PARAMETER_AIM):
        return par, certificate, ""
    target.use(drawn.adapt(parameters.templates(par), target.pls.effort, more=(share / PARAMETER_AIM) ** 2))
    recorder.forget_best()
    par, _, _ = Newton(rtol=EXPENSIVE_RTOL).minimize(recorder, par, parameters.lower())
    return _certified(target, recorder, par, terms)


def parameter_errors(curvature: Curvature) -> FloatArray:
    """Return the Monte Carlo standard errors of the parameters as shares of their own, (n_par,), if any."""
    if len(curvature.samples) < 2:
        return np.zeros(0)
    H = curvature.derivatives.hessian
    w, U = np.linalg.eigh((H + H.T) / 2.0)
    inverse = (U / np.maximum(w, 1e-12 * max(float(np.abs(w).max()), 1e-300))) @ U.T
    moved = curvature.samples @ inverse
    own = np.sqrt(2.0 * np.diag(inverse))
    return np.asarray(moved.std(axis=0, ddof=1) / np.sqrt(len(moved)) / own)


def choose_optimizer(pls: PenalizedLeastSquares, optimizer: str | Optimizer | None) -> tuple[Optimizer, str]:
    """Return the optimizer asked for, or the one that suits the size of the problem, and why."""
    if optimizer is not None:
        return make_optimizer(optimizer), "chosen by the caller"
    return suitable_optimizer(pls.parameters.n_par, pls.system.flops)


def suitable_optimizer(n_par: int, cost: float) -> tuple[Optimizer, str]:
    """Return the optimizer for so many parameters and operations per evaluation, and why."""
    if n_par > MANY_PARAMETERS:
        return make_optimizer("newton"), f"{n_par} parameters"
    if cost > EXPENSIVE_FLOPS:
        return Newton(rtol=EXPENSIVE_RTOL), f"{cost:.1e} flops per evaluation"
    return make_optimizer("bobyqa+newton"), "few parameters, cheap evaluations"


def _number_of_other_starts(
    pls: PenalizedLeastSquares, certificate: Convergence, status: Status, flat: bool, chosen: bool
) -> int:
    """Return how many other starts are worth their cost after the first search has ended.

    None after an end that is regular, curved and found without complaint, where parameters are few or each factor has
    many levels for them, nor after a ``chosen`` optimizer that gave up. Elsewhere the more, the more parameters there
    are, as far as evaluations are cheap.
    """
    n_par, flops, singular = pls.parameters.n_par, pls.system.flops, bool(certificate.singular)
    if flops * max(1.0, n_par / MANY_PARAMETERS) >= RESTART_FLOPS or (chosen and not status.ok):
        return 0
    determined = n_par <= MANY_PARAMETERS or min(pls.crossproducts.gram.m) >= LEVELS_PER_PARAMETER * n_par
    if status.ok and not singular and determined and not flat:
        return 0
    if pls.system.monte_carlo is not None:
        return FEW_STARTS if singular and n_par <= MANY_PARAMETERS else 0
    affordable = int(EXPENSIVE_FLOPS / (flops + FLOPS_OF_OVERHEAD))
    return max(FEW_STARTS if singular else 0, min(FEW_STARTS + n_par**2, affordable))


def _is_flat(target: CriterionAt, par: FloatArray) -> bool:
    """Return whether some change of the parameters by their own size hardly moves the criterion."""
    unit = target.typical(par)
    hessian = _curvature_near(target, par, target.scales).derivatives.hessian
    return bool(np.linalg.eigvalsh(unit[:, None] * hessian * unit)[0] < FLAT)


def _certified(
    target: CriterionAt, recorder: Recorder, par: FloatArray, terms: tuple[Term, ...]
) -> tuple[FloatArray, Convergence, str]:
    """Return canonical parameters and their certificate; leave a false boundary optimum by Newton steps."""
    parameters, notes = target.pls.parameters, ""
    scales = target.scales
    names, columns = tuple(t.name for t in terms), tuple(t.columns for t in terms)
    for attempt in range(MAX_RESTARTS + 1):
        par = _snap(recorder, parameters, par)
        certificate = certify(
            _curvature_near(target, par, scales), parameters.structures, names, scales, recorder.typical(par)
        )
        if certificate.boundary_decrease < certificate.tolerance or attempt == MAX_RESTARTS:
            break
        start = leave_boundary(parameters.structures, parameters.templates(par), certificate.terms)
        par, _, finish = make_optimizer("newton").minimize(recorder, start, parameters.lower())
        notes += f"; left a false boundary optimum ({finish})"
    directions = singular_directions(
        names, columns, parameters.templates(par), scales, parameters.maps, parameters.deficits
    )
    return par, replace(certificate, singular=directions), notes


def _from_other_starts(
    target: CriterionAt,
    recorder: Recorder,
    par: FloatArray,
    status: Status,
    certificate: Convergence,
    terms: tuple[Term, ...],
    count: int,
) -> tuple[FloatArray, Status, Convergence, str]:
    """Return the best of this end and of searches from ``count`` other starts, with the certificate of the best."""
    lower = target.pls.parameters.lower()
    exact = target.pls.system.monte_carlo is None
    first, note = target.value(par), ""
    if not status.ok and exact:
        par, status, _ = Newton(max_iterations=CORRECTED_STEPS).minimize(Secant(recorder), par, lower)
    best = target.value(par)
    starts = OtherStarts(target.pls.parameters, target.scales)
    for _ in range(count):
        start = starts.next(par)
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # a step may lead too far out; it is refused
                other, ended = _explored(recorder, start, lower) if exact else _newton_end(recorder, start, lower)
                value = target.value(other)
        except NumericalError:  # the start, or the gradient after a step from it, cannot be evaluated
            continue
        if value < best - BETTER:
            par, status, best = other, ended, value
            note = "; a better optimum was found from another start"
    if not status.ok and exact:
        par, status, finish = Newton().minimize(Differenced(recorder), par, lower)
        note += f"; with differences of gradients {finish}"
    if target.value(par) < first - BETTER:
        target.latest = None
        par, certificate, more = _certified(target, recorder, par, terms)
        note += more
    return par, status, replace(certificate, starts=1 + count), note


def _newton_end(recorder: Recorder, start: FloatArray, lower: FloatArray) -> tuple[FloatArray, Status]:
    """Return the end of Newton steps from a start."""
    par, status, _ = Newton().minimize(recorder, start, lower)
    return par, status


def _explored(recorder: Recorder, start: FloatArray, lower: FloatArray) -> tuple[FloatArray, Status]:
    """Return the end of Newton steps, and of steps with corrected Hessians where they are too many."""
    par, status, _ = Newton(max_iterations=EXPLORING_STEPS).minimize(recorder, start, lower)
    if not status.ok:
        par, status, _ = Newton(max_iterations=CORRECTED_STEPS).minimize(Secant(recorder), par, lower)
    return par, status


def _curvature_near(target: CriterionAt, par: FloatArray, scales: list[FloatArray]) -> Curvature:
    """Return the derivatives at ``par``, or those of the last Newton step to it where they prove the same.

    That step was taken because it gains next to nothing; it is not worth another inverse unless a
    template is singular, where signs of small numbers decide.
    """
    latest = target.latest
    if latest is not None:
        if np.array_equal(latest.solution.par, par):
            return latest
        near = np.all(np.abs(latest.solution.par - par) < CLOSE * target.typical(par))
        if near and not target.pls.parameters.is_singular(par, scales):
            return latest
    target.latest = Curvature(target.pls, target.criterion, target.solution(par))
    return target.latest


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
