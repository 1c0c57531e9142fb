"""The unfitted model and the one-call front door."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from sparselmm.api.fit import MixedModelFit
from sparselmm.api.fitting import criterion_of, fit_model, make_model, model_of_spec, theta_values
from sparselmm.data.source import ModelSource
from sparselmm.data.tables.labels import check_order
from sparselmm.exceptions import DataError, ParameterError
from sparselmm.formula import ModelSpec
from sparselmm.hints.names import check_choice
from sparselmm.hints.refusal import Hinted, hinted
from sparselmm.likelihood.many import fit_responses
from sparselmm.likelihood.problem import Problem, evaluate_at
from sparselmm.likelihood.search import suitable_optimizer
from sparselmm.linalg import IterativeControl, Plan, plan_system
from sparselmm.optimize import Optimizer


@dataclass(frozen=True, repr=False)
class LinearMixedModel(Hinted, hints="model"):
    """A linear mixed model before fitting; immutable and cheap to fit again in another way.

    Make one with `from_formula` or `from_arrays`.

    Attributes
    ----------
    problem : Problem
        Design, cross-products and solver.
    source : ModelSource
        Formula, encoding of new rows, arguments.
    """

    problem: Problem
    source: ModelSource

    @classmethod
    def from_formula(
        cls,
        formula: str,
        data: Any,
        *,
        weights: str | npt.ArrayLike | None = None,
        offset: str | npt.ArrayLike | None = None,
        contrasts: Mapping[str, Any] | None = None,
        na_action: str = "omit",
        context: Mapping[str, Any] | None = None,
        solver: str | None = None,
        control: IterativeControl | None = None,
    ) -> LinearMixedModel:
        """Return the model of an lmer-style formula and a table.

        Parameters are those of `lmer`.

        Examples
        --------
        >>> import sparselmm as slm
        >>> model = slm.LinearMixedModel.from_formula("Yield ~ 1 + (1 | Batch)", slm.load_dataset("dyestuff"))
        >>> round(model.fit().sigma, 4)
        49.5101
        """
        parts = make_model(
            formula,
            data,
            weights=weights,
            offset=offset,
            contrasts=contrasts,
            na_action=na_action,
            context=context,
            solver=solver,
            control=control,
        )
        return cls(*parts)

    @classmethod
    def from_spec(
        cls, spec: ModelSpec, data: Any, *, na_action: str = "omit", context: Mapping[str, Any] | None = None
    ) -> LinearMixedModel:
        """Return the model of a formula that was read, for example by patsy's rules.

        Parameters
        ----------
        spec : ModelSpec
            The formula.
        data, na_action, context
            As for `lmer`.
        """
        nothing = dict.fromkeys(("weights", "offset", "contrasts"))
        return cls(*model_of_spec(spec, data, **nothing, na_action=na_action, context=context))

    @classmethod
    def from_arrays(
        cls,
        y: npt.ArrayLike,
        X: npt.ArrayLike,
        terms: Sequence[Any],
        *,
        weights: npt.ArrayLike | None = None,
        offset: npt.ArrayLike | None = None,
        column_names: Sequence[str] | None = None,
        solver: str | None = None,
        control: IterativeControl | None = None,
    ) -> LinearMixedModel:
        """Return the model of a response (n,), a fixed-effects matrix (n, p) and random terms.

        Parameters
        ----------
        y, X : arrays
            Response and fixed-effects matrix.
        terms : sequence
            One entry per random term: a tuple ``(codes, Z)`` of grouping labels (n,) and a small
            matrix (n, k), ``(codes, None)`` for a random intercept, a dict with these and ``name``,
            ``structure`` and ``columns``, or a ready sparse Z with its block structure
            (`sparselmm.SparseTerm`).
        weights, offset : (n,) arrays, optional
            Prior weights and offset.
        column_names : sequence of str, optional
            Names of the columns of X.
        solver, control : optional
            See `lmer`.

        Examples
        --------
        >>> import numpy as np, sparselmm as slm
        >>> g = np.repeat([0, 1, 2, 3], 5)
        >>> y = np.sin(np.arange(20.0)) + g
        >>> fit = slm.LinearMixedModel.from_arrays(y, np.ones((20, 1)), [(g, None)]).fit()
        >>> fit.nobs
        20
        """
        from sparselmm.data import design_from_arrays

        check_choice(control=control)
        design = design_from_arrays(y, X, terms, weights=weights, offset=offset, column_names=column_names)
        arguments = {"weights": weights, "offset": offset}
        return cls(Problem.from_design(design, solver, control), ModelSource(None, None, arguments, None))

    def __repr__(self) -> str:
        groups = ", ".join(dict.fromkeys(f"{t.label}: {t.m}" for t in self.problem.layout.terms))
        return f"<LinearMixedModel: {self.source.formula}; {self.problem.engine.crossproducts.n} rows, {groups}>"

    @property
    def theta_names(self) -> tuple[str, ...]:
        """Names of the entries of θ, as lme4 spells them."""
        return self.problem.theta_names

    def plan(self) -> Plan:
        """Return what each solver would cost on this design, the choice, the optimizer and the reasons; it prints."""
        engine = self.problem.engine
        plan = plan_system(engine.crossproducts.gram)
        method, reason = suitable_optimizer(engine.parameters.n_par, plan.chosen.flops)
        return replace(plan, optimizer=f"{method.name} ({reason})")

    def fit(
        self,
        reml: bool = True,
        *,
        start: npt.ArrayLike | None = None,
        optimizer: str | Optimizer | None = None,
        verbose: int = 0,
    ) -> MixedModelFit:
        """Fit by REML (default) or maximum likelihood.

        Parameters
        ----------
        reml : bool
            REML criterion if True, ML deviance if False.
        start : (n_theta,) array, optional
            Starting θ; by default moment estimates.
        optimizer : str or object, optional
            ``"bobyqa+newton"``, ``"newton"``, ``"bobyqa"``, ``"nelder_mead"`` or an object with their
            interface; by default chosen from the size of the problem.
        verbose : int
            0 shows a progress line for long fits on a terminal or in a notebook, 1 prints every
            evaluation, -1 nothing.

        Raises
        ------
        ParameterError
            For an unknown optimizer or a start of the wrong length.
        FitInterrupted
            When interrupted by the user; it carries the best point so far.
        """
        result = fit_model(self.problem, reml, start=start, optimizer=optimizer, verbose=verbose)
        return MixedModelFit(self.problem.solved(result), result, self.source)

    def at(self, theta: npt.ArrayLike, reml: bool = True) -> MixedModelFit:
        """Return the full result at a fixed θ, (n_theta,), without optimizing."""
        result = evaluate_at(self.problem, theta_values(theta), criterion_of(reml))
        return MixedModelFit(self.problem.solved(result), result, self.source)


@hinted("lmer")
def lmer(
    formula: str,
    data: Any,
    *,
    reml: bool = True,
    weights: str | npt.ArrayLike | None = None,
    offset: str | npt.ArrayLike | None = None,
    contrasts: Mapping[str, Any] | None = None,
    na_action: str = "omit",
    start: npt.ArrayLike | None = None,
    optimizer: str | Optimizer | None = None,
    context: Mapping[str, Any] | None = None,
    solver: str | None = None,
    control: IterativeControl | None = None,
    verbose: int = 0,
) -> MixedModelFit:
    """Fit a linear mixed-effects model given by an lmer-style formula.

    Parameters
    ----------
    formula : str
        For example ``"y ~ x + (1 + x | subject) + (1 | item)"``.
    data : pandas.DataFrame, polars.DataFrame, pyarrow.Table or dict of columns
        One row per observation.
    reml : bool
        REML (default) or maximum likelihood.
    weights, offset : str or (n,) array, optional
        Prior weights (the residual variance of a row is σ²/w) and a known part of the mean: a
        column name or one value per row.
    contrasts : dict, optional
        Coding of factors in the fixed part: ``{"f": "sum" | "helmert" | "poly" | "treatment" | matrix}``.
    na_action : {"omit", "exclude", "fail"}
        Rows with missing values: left out; left out and padded with NaN in fitted values and
        residuals; or an error that lists them.
    start : (n_theta,) array, optional
        Starting values of θ.
    optimizer : str or object, optional
        See `LinearMixedModel.fit`.
    context : dict, optional
        Names and functions that the formula may use besides the columns.
    solver : {"schur", "cholmod", "iterative"}, optional
        How the penalized system is solved; by default chosen from the design (`LinearMixedModel.plan`).
        The first two factor it exactly. ``"iterative"`` is for designs too large for that: its criterion
        has a Monte Carlo error, whose standard error is in ``fit.convergence.monte_carlo``.
    control : IterativeControl, optional
        Effort of the iterative solver.
    verbose : int
        0 shows a progress line for long fits on a terminal or in a notebook, 1 prints every evaluation,
        -1 nothing.

    Returns
    -------
    MixedModelFit
        Estimates, predictions of the random effects, criteria, summary.

    Raises
    ------
    FormulaError
        When the formula cannot be read; the text names the term.
    DataError
        When the data do not fit the formula; the text names columns and rows.
    DesignError
        When the model cannot be estimated from the data.
    ParameterError
        When another argument is invalid.

    Notes
    -----
    The profiled criterion is that of Bates, Mächler, Bolker and Walker (2015, J. Stat. Softw. 67(1),
    section 3); see the theory page.

    Examples
    --------
    >>> import sparselmm as slm
    >>> fit = slm.lmer("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    >>> round(fit.criterion, 4)
    1743.6283
    >>> fit.params.round(3).to_dict()
    {'Intercept': 251.405, 'Days': 10.467}
    """
    model = LinearMixedModel.from_formula(
        formula,
        data,
        weights=weights,
        offset=offset,
        contrasts=contrasts,
        na_action=na_action,
        context=context,
        solver=solver,
        control=control,
    )
    return model.fit(reml, start=start, optimizer=optimizer, verbose=verbose)


@hinted("fit_many")
def fit_many(model: LinearMixedModel | MixedModelFit, Y: Any, *, reml: bool = True, n_jobs: int = 1) -> pd.DataFrame:
    """Fit one design to many responses.

    Parameters
    ----------
    model : LinearMixedModel or MixedModelFit
        The design; its own response is not used.
    Y : (n, m) array or DataFrame
        One column per response, one row for each row used by the model or of its data, in their order.
    reml : bool
        REML (default) or maximum likelihood.
    n_jobs : int
        Processes for designs with several grouping factors (one grouping factor needs none).

    Returns
    -------
    pandas.DataFrame
        One row per response: ``criterion``, ``sigma``, the fixed effects, θ by name, ``singular``, ``converged``.

    Examples
    --------
    >>> import numpy as np, sparselmm as slm
    >>> data = slm.load_dataset("sleepstudy")
    >>> model = slm.LinearMixedModel.from_formula("Reaction ~ Days + (Days | Subject)", data)
    >>> y = data["Reaction"].to_numpy()
    >>> slm.fit_many(model, np.column_stack([y, 2 * y]))["sigma"].round(3).tolist()
    [25.592, 51.184]
    """
    observed = model.problem.observed("other responses")
    try:
        values = np.asarray(Y, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"Y must be a table of numbers: {error}") from error
    if values.ndim != 2 or values.shape[1] == 0:
        raise DataError(f"Y must have two dimensions (rows, responses) and a response, not shape {values.shape}")
    if not isinstance(n_jobs, int) or isinstance(n_jobs, bool) or n_jobs < 1:
        raise ParameterError(f"n_jobs must be a positive integer, not {n_jobs!r}")
    check_order(Y, observed.frame_index if len(values) == len(observed.frame_index) else observed.index, "Y")
    if len(values) == len(observed.frame_index) != observed.n:
        values = values[observed.positions]
    if len(values) != observed.n:
        raise DataError(f"Y has {len(values)} rows; the model uses {observed.n}")
    found = fit_responses(model.problem, values, criterion_of(reml), n_jobs)
    index = Y.columns if isinstance(Y, pd.DataFrame) else pd.RangeIndex(values.shape[1], name="response")
    table = pd.DataFrame({"criterion": found.criterion, "sigma": found.sigma}, index=index)
    names = [*model.problem.layout.columns, *(f"theta[{name}]" for name in model.theta_names)]
    parameters = model.problem.engine.parameters
    theta = np.array([parameters.theta(x) for x in found.par])
    estimates = pd.DataFrame(np.hstack([found.coefficients, theta]), index=index, columns=names)
    flags = pd.DataFrame({"singular": found.singular, "converged": found.converged}, index=index)
    return pd.concat([table, estimates, flags], axis=1)
