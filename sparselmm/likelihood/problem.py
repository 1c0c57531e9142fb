"""The immutable problem and its solution: problem × criterion × optimizer → result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from sparselmm._typing import FloatArray
from sparselmm.covariance import make_structure
from sparselmm.covariance.parameters import ParameterMap
from sparselmm.data.checks import check_magnitude
from sparselmm.data.design import Design
from sparselmm.data.layout import DesignLayout
from sparselmm.data.rows import Rows, needed
from sparselmm.exceptions import (
    ConvergenceWarning,
    Message,
    ParameterError,
    SingularFitWarning,
    SparseLMMWarning,
    warn_user,
)
from sparselmm.likelihood.certificate import Convergence
from sparselmm.likelihood.criterion import Criterion
from sparselmm.likelihood.engine import Engine, Workspace
from sparselmm.likelihood.identification import confounding
from sparselmm.likelihood.result import FitResult, build_result
from sparselmm.likelihood.search import Term, search
from sparselmm.linalg import SOLVERS, SYSTEMS, IterativeControl, has_iterative, make_system
from sparselmm.linalg.threads import blas_threads
from sparselmm.optimize import Optimizer, OptimizerReport, Status
from sparselmm.statistics.crossproducts import CrossProducts

WARNING_CLASSES: dict[str, type[SparseLMMWarning]] = {
    "not_converged": ConvergenceWarning,
    "singular": SingularFitWarning,
    "nearly_saturated": ConvergenceWarning,
    "exact_fit": ConvergenceWarning,
    "not_identified": ConvergenceWarning,
    "monte_carlo": ConvergenceWarning,
}

EXACT = 1e-13  # share of the sum of squares about the fixed part that is left where it is rounding only


@dataclass(frozen=True)
class Problem:
    """A design with its cross-products and solver; nothing in it changes after it is made.

    Attributes
    ----------
    layout : DesignLayout
        What the columns of X and the random terms are.
    rows : Rows or None
        What was observed; None once it was dropped.
    engine : Engine
        Cross-products, parameters and solver.
    solver : str or None
        The solver asked for; None where it was chosen.
    control : IterativeControl or None
        Effort of the iterative solver.
    """

    layout: DesignLayout
    rows: Rows | None
    engine: Engine
    solver: str | None = None
    control: IterativeControl | None = None

    @classmethod
    def from_design(cls, design: Design, solver: str | None = None, control: IterativeControl | None = None) -> Problem:
        """Form the cross-products of a design and choose its solver."""
        if solver is not None and solver not in SOLVERS:
            raise ParameterError(f"unknown solver {solver!r}; there are {', '.join(SOLVERS)}")
        if control is not None and not isinstance(control, IterativeControl):
            raise ParameterError(f"control must be a sparselmm.IterativeControl, not {control!r}")
        if control is not None and solver in SYSTEMS:
            raise ParameterError(f"control is for the iterative solver; solver={solver!r} is exact and takes none")
        return cls._of(design, CrossProducts.from_rows(design.rows), solver, control)

    @classmethod
    def _of(
        cls, design: Design, crossproducts: CrossProducts, solver: str | None, control: IterativeControl | None
    ) -> Problem:
        structures = []
        for term, centre in zip(design.layout.terms, crossproducts.centres):
            structures.append(
                make_structure(term.structure, term.k, None if centre is None else (centre.position, centre.multiples))
            )
        parameters = ParameterMap(tuple(structures))
        workspace = Workspace(partial(make_system, crossproducts.gram, solver, control))
        engine = Engine(crossproducts, parameters, workspace)
        return cls(design.layout, design.rows, engine, solver, control)

    def observed(self, what: str, instead: str = "") -> Rows:
        """Return the rows; where they were dropped, raise `RowsNeededError`: ``what`` need them."""
        return needed(self.rows, what, instead)

    def solving(self, solver: str | None) -> dict[str, Any]:
        """Return the arguments of a changed model solved in this way; exact solvers take no control."""
        return {"solver": solver, "control": None if solver in SYSTEMS else self.control}

    def with_response(self, y: FloatArray) -> Problem:
        """Return the same problem for another response, (n,)."""
        rows = self.observed("other responses")
        check_magnitude(y[:, None], (f"the response {self.layout.response_name}",))
        crossproducts = self.engine.crossproducts.with_response(rows, y)
        return replace(self, rows=replace(rows, y=y), engine=self.engine.with_response(crossproducts))

    def for_design(self, design: Design, shared: CrossProducts | None = None) -> Problem:
        """Return the problem of another design of the same rows, treated in the same way.

        After an approximate fit it is approximate too, if it can be; designs with one and the same random part
        then share the system, and so all that their criteria have of Monte Carlo error. ``shared`` are the
        cross-products where they are known without a pass over the rows.
        """
        with self.engine.locked() as pls:
            drawn, name = pls.system.monte_carlo is not None, pls.system.name
        same = self.rows is not None and design.rows.terms is self.rows.terms
        if drawn and same:
            shared = shared or replace(CrossProducts.from_rows(design.rows), gram=self.engine.crossproducts.gram)
            return replace(self, layout=design.layout, rows=design.rows, engine=self.engine.with_response(shared))
        crossproducts = CrossProducts.from_rows(design.rows)
        if not drawn:
            return self._of(design, crossproducts, self.solver if same else None, self.control)
        solver = name if has_iterative(crossproducts.gram) else None
        return self._of(design, crossproducts, solver, self.control)

    def solved(self, result: FitResult) -> Problem:
        """Return the problem as a result has it: with the effort that its values were found with."""
        return replace(self, engine=result.engine)

    @property
    def theta_names(self) -> tuple[str, ...]:
        """Names of the entries of θ."""
        return tuple(
            name
            for s, t in zip(self.engine.parameters.structures, self.layout.terms)
            for name in s.theta_names(t.label, t.columns)
        )


def evaluate_at(problem: Problem, theta: FloatArray | Sequence[float], criterion: Criterion) -> FitResult:
    """Return the full result at a fixed θ."""
    par = problem.engine.parameters.par(theta)
    with problem.engine.locked() as pls:
        drawn = pls.system.monte_carlo
        if drawn is not None and pls.effort is None:
            pls = replace(pls, effort=drawn.adapt(pls.parameters.templates(par)))
        solution = pls.solve(par)
        value = pls.value(solution, criterion)
        report = OptimizerReport("fixed", Status.STOPPED, "theta was given", 1, 0, ((par, value),))
        engine = problem.engine.with_effort(pls.effort)
        return build_result(problem.layout, problem.rows, engine, pls, solution, criterion, report)


def fit_problem(
    problem: Problem,
    criterion: Criterion,
    *,
    start: FloatArray | Sequence[float] | None = None,
    optimizer: str | Optimizer | None = None,
    listener: Callable[[int, float, float], None] | None = None,
) -> FitResult:
    """Minimize the criterion over θ and return the result at the minimum."""
    par = None if start is None else problem.engine.parameters.par(start)
    terms = tuple(Term(t.name, t.columns) for t in problem.layout.terms)
    with problem.engine.locked() as pls, blas_threads(pls.system.blas_flops):
        found = search(pls, criterion, terms, start=par, optimizer=optimizer, listener=listener)
        engine, pls = problem.engine.with_effort(found.pls.effort), found.pls
        parts = found.solution, criterion, found.report, found.certificate
        result = build_result(problem.layout, problem.rows, engine, pls, *parts)
    return _with_messages(result, found.flat)


def _with_messages(result: FitResult, flat: bool) -> FitResult:
    """Add the messages of the fit and issue them as warnings."""
    found = list(_saturation(result.engine.crossproducts))
    if flat or result.is_singular:  # elsewhere the criterion is curved in all directions
        found += _identification(result)
    exact = list(_exact_fit(result))
    if exact:  # what is left of the criterion then is rounding
        found += exact
    elif result.convergence is not None:
        found += _about_the_end(result.convergence, result.report)
    for message in found:
        warn_user(message, WARNING_CLASSES[message.code])
    return replace(result, messages=(*result.messages, *found))


def _saturation(xp: CrossProducts) -> Iterator[Message]:
    """Yield what is to be said of a model with as many effects as rows."""
    if xp.gram.q >= xp.n - xp.p:
        yield Message(
            "nearly_saturated",
            "note",
            f"The model is nearly saturated: {xp.gram.q} random effects and {xp.p} fixed effects for {xp.n} rows. Its "
            "criterion can have several optima far apart, and little tells its variances from the residual variance.",
            "Use fewer coefficients per level or fewer grouping factors, or compare fits from other starts (start=).",
        )


def _identification(result: FitResult) -> Iterator[Message]:
    """Yield what is to be said of terms whose variances the design does not tell apart."""
    confounded = confounding(result.engine.crossproducts.gram, result.engine.parameters)
    if confounded is None:
        return
    written = [f"({' + '.join(t.columns)} | {t.label})" for t in result.layout.terms]
    facts = [f"{written[inner]} lies in the span of {written[outer]}" for inner, outer in confounded.pairs]
    if not facts:
        facts = [f"the covariances of {', '.join(written[t] for t in confounded.joint)} depend on each other"]
    yield Message(
        "not_identified",
        "warning",
        f"The design does not identify all variance parameters: {'; '.join(facts)}. The data tell sums of their "
        "variances only; how they are divided is arbitrary.",
        "Leave one of these terms out; criterion, fixed effects and predictions stay the same.",
    )


def _exact_fit(result: FitResult) -> Iterator[Message]:
    """Yield what is to be said where the effects fit the response exactly: its criterion falls without end."""
    xp = result.engine.crossproducts
    left = result.sigma**2 * result.criterion_type.df(xp.n, xp.p)
    if left <= EXACT * float(xp.XytWXy[-1, -1]):
        yield Message(
            "exact_fit",
            "warning",
            f"The fixed and random effects fit the response {result.layout.response_name} exactly: the residual "
            "variance is zero to rounding, so there is nothing to estimate its ratio to other variances from.",
            "Is the response the same for all rows of a group, or computed from its predictors? Use one row per group, "
            "or leave out the random term that explains it all.",
        )


def _about_the_end(certificate: Convergence, report: OptimizerReport) -> Iterator[Message]:
    """Yield what is to be said of the point at which a search has ended."""
    if not certificate.certified:
        yield Message(
            "not_converged",
            "warning",
            f"The fit is not at an optimum ({report.message}): exact derivatives predict a further decrease "
            f"of the criterion by {certificate.remaining:.3g}.",
            "Start again from fit.theta (start=), choose another optimizer, or rescale the predictors.",
        )
    if certificate.singular:
        facts = "; ".join(f"{d.combination} of {d.term} has zero variance" for d in certificate.singular)
        simpler = "; ".join(dict.fromkeys(d.simpler for d in certificate.singular))
        yield Message("singular", "note", f"Singular fit: {facts}.", f"The fit equals {simpler}.")
    drawn = certificate.monte_carlo
    if drawn is not None and not drawn.reached:
        yield Message(
            "monte_carlo",
            "warning",
            f"The criterion is known to a standard error of {drawn.standard_error:.2g} only, not to the "
            f"{drawn.target:.2g} aimed for ({drawn.effort}).",
            "Estimates are affected far less (fit.convergence.monte_carlo.theta); allow more work with "
            "control=slm.IterativeControl(max_probes=..., max_deflation=...).",
        )
