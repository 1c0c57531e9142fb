"""From a formula to a fitted problem, and the methods of a fit that fit again or drop and read its rows."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from sparselmm._typing import FloatArray
from sparselmm.api.estimates import Estimates
from sparselmm.data import build_design
from sparselmm.data.formulas import parse_formula, update_formula
from sparselmm.data.layout import DesignLayout
from sparselmm.data.rows import Rows
from sparselmm.data.source import ModelSource
from sparselmm.data.tables.labels import check_order
from sparselmm.data.tables.subset import take_subset
from sparselmm.exceptions import DataError, ParameterError, RowsNeededError, SparseLMMWarning
from sparselmm.formula import ModelSpec
from sparselmm.hints.names import check_choice, refuse_file_name
from sparselmm.hints.refusal import refuse_names, refuse_unknown
from sparselmm.inference.row_facts import RowDigest, RowFacts, digest
from sparselmm.likelihood.criterion import Criterion, criterion_for
from sparselmm.likelihood.problem import Problem, evaluate_at, fit_problem
from sparselmm.likelihood.result import FitResult
from sparselmm.linalg import IterativeControl
from sparselmm.optimize import Optimizer
from sparselmm.report.progress import progress

GIVE_BACK = "pass the data to fit.with_rows(data)"

#: The arguments of `lmer`, in their order.
LMER_TAKES = (
    "formula", "data", "reml", "weights", "offset", "contrasts", "na_action", "start", "optimizer", "context", "solver",
    "control", "verbose",
)  # fmt: skip


def make_model(formula: str, data: Any, **arguments: Any) -> tuple[Problem, ModelSource]:
    """Return the model of a formula and a table; the arguments are those of `LinearMixedModel.from_formula`."""
    refuse_file_name(data)
    return model_of_spec(parse_formula(formula, _column_names(data)), data, **arguments)


def model_of_response(
    formula: str, data: Any, name: str, response: FloatArray, **arguments: Any
) -> tuple[Problem, ModelSource]:
    """Return the model of a formula whose response, called ``name``, is given for each row of the data."""
    spec = parse_formula(formula, _column_names(data))
    if spec.response != name:
        raise ParameterError(
            f"the response of this fit was given to refit(), so it cannot become {spec.response}: "
            "put it into a table and pass that as data="
        )
    return model_of_spec(spec, data, response, **arguments)


def model_of_spec(
    spec: ModelSpec,
    data: Any,
    response: FloatArray | None = None,
    *,
    solver: str | None = None,
    control: IterativeControl | None = None,
    **arguments: Any,
) -> tuple[Problem, ModelSource]:
    """Return the model of a formula that was read, by default with the response it names."""
    check_choice(control=control)
    encoding, design = build_design(spec, data, **arguments, response=response)
    return Problem.from_design(design, solver, control), ModelSource(spec, encoding, arguments, data, response)


def _column_names(data: Any) -> list[str] | None:
    """Return the column names that ``.`` in a formula stands for."""
    # polars warns when a lazy frame is asked for its columns
    schema = getattr(data, "collect_schema", None)
    columns = schema().names() if schema else getattr(data, "column_names", None) or getattr(data, "columns", None)
    if columns is None and isinstance(data, Mapping):
        columns = data.keys()
    return None if columns is None else [str(c) for c in columns]


def fit_model(
    problem: Problem,
    reml: bool,
    *,
    start: npt.ArrayLike | None = None,
    optimizer: str | Optimizer | None = None,
    verbose: int = 0,
) -> FitResult:
    """Return the fit of a problem; see `LinearMixedModel.fit`."""
    check_choice(optimizer=optimizer)
    criterion, first = criterion_of(reml), None if start is None else theta_values(start)
    with progress(verbose) as listener:
        return fit_problem(problem, criterion, start=first, optimizer=optimizer, listener=listener)


def criterion_of(reml: bool) -> Criterion:
    """Return the criterion that ``reml=`` asks for."""
    if not isinstance(reml, (bool, np.bool_)):
        raise ParameterError(f"reml must be True or False, not {reml!r}")
    return criterion_for(bool(reml))


def theta_values(values: npt.ArrayLike) -> FloatArray:
    """Return θ as an array of numbers, (n_theta,)."""
    try:
        return np.atleast_1d(np.asarray(values, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise ParameterError(f"theta must be a sequence of numbers, not {values!r}") from error


class Parting(Estimates):
    """Part of `MixedModelFit`: the fit without its rows, and with them again."""

    def without_rows(self) -> Self:
        """Return this fit without the rows of the data: its size depends on the model only.

        Estimates, tests, intervals, marginal means, profiles, the bootstrap, comparisons, random effects with
        their variances, predictions for new data, the summary and `save` work as before, and pickles are
        small. What is about single rows (residuals, fitted values, leverages, influence, plots of
        residuals, other responses) raises `RowsNeededError`.

        Examples
        --------
        >>> import sparselmm as slm
        >>> fit = slm.lmer("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy")).without_rows()
        >>> fit.predict({"Days": [10], "Subject": ["308"]}).round(2).tolist()
        [450.33]
        >>> fit.resid
        Traceback (most recent call last):
            ...
        sparselmm.exceptions.RowsNeededError: residuals need the rows of the data, which were dropped: pass the data \
to fit.with_rows(data)
        """
        if self.kept is not None:
            return self
        return replace(
            self,
            problem=replace(self.problem, rows=None),
            result=replace(self.result, rows=None),
            source=self.source.without_data(),
            kept=RowFacts(self.result, self.source).kept(),
        )

    def with_rows(self, data: Any, *, weights: Any = None, offset: Any = None) -> Self:
        """Return a fit made by `without_rows` with its rows again.

        Parameters
        ----------
        data : table
            The data of the fit.
        weights, offset : (n,) array, optional
            Where they were given as arrays.

        Raises
        ------
        DataError
            When these are not the rows of the fit.
        """
        source, rows = read_again(self.source, self.result.layout, self.row_facts.digest, data, weights, offset)
        problem, result = replace(self.problem, rows=rows), replace(self.result, rows=rows)
        return replace(self, problem=problem, result=result, source=source, kept=None)


def read_again(
    source: ModelSource, layout: DesignLayout, known: RowDigest, data: Any, weights: Any, offset: Any
) -> tuple[ModelSource, Rows]:
    """Return the source and the rows of a fit whose rows were dropped; see `MixedModelFit.with_rows`."""
    if source.spec is None:
        raise ParameterError("a model made from arrays has no formula to read data with; keep the fit with its rows")
    given = {"weights": weights, "offset": offset}
    arguments = source.complete({name: x for name, x in given.items() if x is not None})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SparseLMMWarning)  # they were issued by the fit
        encoding, design = build_design(source.spec, data, **arguments)
    found = digest(design.rows)
    unlike = [f.name for f in fields(found) if getattr(found, f.name) != getattr(known, f.name)]
    if not unlike and design.layout.columns != layout.columns:
        unlike = ["columns of X"]
    if unlike:
        what = {"places": "other rows are used", "y": "the response differs"}
        said = "; ".join(what.get(name, f"the {name} differ") for name in unlike)
        raise DataError(f"these are not the data of the fit: {said}")
    return ModelSource(source.spec, encoding, arguments, data), design.rows


class Refitting(Parting):
    """Part of `MixedModelFit`: the same design or a changed model fitted anew."""

    def refit(self, y: npt.ArrayLike | None = None, *, reml: bool | None = None) -> Self:
        """Fit the same design to another response, or by the other criterion.

        Parameters
        ----------
        y : (n,) array or table of one column, optional
            The new response, one value for each row that entered this fit or for each row of the
            data; on the scale of the left side of the formula. A Series must have these rows' order.
            What follows from the new fit (`update`, `augment`, `anova`, ...) uses this response.
        reml : bool, optional
            Criterion; by default that of this fit.
        """
        criterion = self.result.criterion_type if reml is None else criterion_for(bool(reml))
        problem, source = self.problem, self.source
        if y is not None:
            response = self._response(y)
            source = source.with_response(response, self.result.observed("other responses"))
            problem = problem.with_response(response)
        # close to this fit's θ, Newton steps alone are the shortest way; a boundary is no place to start from
        nearby: dict[str, Any] = {} if self.is_singular else {"start": self.theta, "optimizer": "newton"}
        result = fit_problem(problem, criterion, **nearby)
        if nearby and _is_far(self.result.par, result.par):  # another optimum may be lower than the one near by
            fresh = fit_problem(problem, criterion)
            result = fresh if fresh.criterion < result.criterion else result
        return replace(self, problem=problem.solved(result), result=result, source=source)

    def _response(self, y: npt.ArrayLike) -> FloatArray:
        observed = self.result.observed("other responses")
        try:
            values = np.array(y, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise DataError(f"the new response is not numeric: {error}") from error
        if values.ndim == 2:
            if values.shape[1] != 1:
                one = f"one column, as in refit(y[{y.columns[0]!r}])" if isinstance(y, pd.DataFrame) else "one column"
                raise DataError(
                    f"the new response has {values.shape[1]} columns: pass {one}, or all to slm.fit_many(fit, y)"
                )
            values = values[:, 0]
        whole = values.shape == (len(observed.frame_index),)
        check_order(y, observed.frame_index if whole else observed.index, "y")
        if whole and len(observed.frame_index) != observed.n:
            values = values[observed.positions]
        if values.shape != (observed.n,):
            raise DataError(
                f"the new response has shape {values.shape}; it needs one value for each of the {observed.n} rows used"
            )
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise DataError(f"the new response is missing or not finite in rows {list(observed.index[bad[:10]])}")
        if observed.n > 1 and np.ptp(values) == 0:
            raise DataError("the new response is constant")
        return values

    def at(self, theta: npt.ArrayLike) -> Self:
        """Return the full result at another θ, (n_theta,), without optimizing."""
        theta = np.atleast_1d(np.asarray(theta, dtype=float))
        result = evaluate_at(self.problem, theta, self.result.criterion_type)
        return replace(self, problem=self.problem.solved(result), result=result)

    def update(
        self,
        formula: str | None = None,
        *,
        data: Any = None,
        subset: Any = None,
        reml: bool | None = None,
        **changes: Any,
    ) -> Self:
        """Fit a changed model.

        Parameters
        ----------
        formula : str, optional
            Change of the formula in R's manner, for example ``". ~ . - x"``.
        data : table, optional
            Other data; by default the data of this fit, with the response of `refit` where one was given.
        subset : str or (n,) bool array, optional
            Rows to keep: a pandas query or a mask.
        reml : bool, optional
            Criterion; by default that of this fit.
        **changes
            Other arguments of `lmer` to replace.
        """
        refuse_unknown(Refitting.update, changes, "fit.update")
        refuse_names("lmer", LMER_TAKES, changes, "lmer")
        if self.source.spec is None:
            raise ParameterError("a model made from arrays has no formula to update")
        text = self.formula if formula is None else update_formula(self.source.spec, formula)
        if data is None and self.kept is not None:
            raise RowsNeededError("a changed model needs the rows of the data, which were dropped: pass data=")
        table, response = (self.source.table(), self.source.response) if data is None else (data, None)
        solving = self.problem.solving(changes.get("solver", self.problem.solver))
        arguments = {**self.source.complete(changes), **solving, **changes}
        fitting = {key: arguments.pop(key) for key in ("start", "optimizer", "verbose") if key in arguments}
        if subset is not None:
            table, cut = take_subset(table, subset, {**arguments, "response": response})
            response, arguments = cut.pop("response"), cut
        if response is None:
            problem, source = make_model(text, table, **arguments)
        else:
            problem, source = model_of_response(text, table, self.source.spec.response, response, **arguments)
        result = fit_model(problem, self.reml if reml is None else reml, **fitting)
        return replace(self, problem=problem.solved(result), result=result, source=source)


def _is_far(before: FloatArray, after: FloatArray) -> bool:
    """Whether some free parameter, (n_par,), has more than doubled, or changed by more than the largest was."""
    change = np.abs(after - before)
    return bool(np.any(change > np.maximum(np.abs(before), 0.5 * np.abs(before).max(initial=0.0))))
