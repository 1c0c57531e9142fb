"""Comparing fits: likelihood-ratio tests, information criteria, models with one term less."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from sparselmm.api.estimates import Estimates
from sparselmm.api.fitting import Refitting
from sparselmm.data.design import Design
from sparselmm.data.encoding.encoding import EncodingSpec
from sparselmm.exceptions import ParameterError, SparseLMMWarning, warn_user
from sparselmm.hints.refusal import hinted
from sparselmm.inference.compare.lrt import (
    Candidate,
    check_nested,
    check_same_data,
    information_table,
    lrt_table,
    same_fixed,
)
from sparselmm.inference.compare.montecarlo import difference_error
from sparselmm.inference.compare.one_term_less import (
    Compared,
    drop1_table,
    droppable,
    no_effects,
    products_without,
    ranova_table,
    reduced_design,
    reductions,
    without_columns,
)
from sparselmm.inference.fixed.terms import fixed_terms
from sparselmm.likelihood.criterion import Criterion, criterion_for
from sparselmm.likelihood.problem import Problem, evaluate_at, fit_problem
from sparselmm.likelihood.result import FitResult

BY_ML = criterion_for(False)


@hinted("anova")
def anova(*fits: Estimates, refit: bool = True, names: Sequence[str] | None = None) -> pd.DataFrame:
    """Compare nested fits by likelihood-ratio tests, R's ``anova(m1, m2)``.

    Parameters
    ----------
    *fits : MixedModelFit
        Two or more fits to the same response and rows, each a special case of the next larger one.
    refit : bool
        Whether fits by REML are first refitted by maximum likelihood, which is said in a warning. With
        ``False`` the REML criteria are compared; that needs the same fixed effects.
    names : sequence of str, optional
        Names of the rows; by default ``m1``, ``m2``, ... in the order given.

    Returns
    -------
    DataFrame
        By increasing number of parameters: ``npar``, ``AIC``, ``BIC``, ``logLik``, ``-2*log(L)``,
        ``Chisq``, ``Df``, ``Pr(>Chisq)``. The formulas are shown above the numbers and are in
        ``attrs["formulas"]`` by name, notes in ``attrs["notes"]``. After fits by the iterative solver
        ``Chisq se`` is the Monte Carlo standard error of the difference.

    Raises
    ------
    ParameterError
        When rows, response, weights or offsets differ, or when the models are not nested.
    UndecidedError
        When that error leaves open on which side of 0.05, 0.01 or 0.001 a p-value lies.

    Notes
    -----
    A test of a variance being zero is conservative by this table; see `MixedModelFit.ranova`.

    Examples
    --------
    >>> import sparselmm as slm
    >>> data = slm.load_dataset("sleepstudy")
    >>> m1 = slm.lmer("Reaction ~ 1 + (Days | Subject)", data, reml=False)
    >>> m2 = slm.lmer("Reaction ~ Days + (Days | Subject)", data, reml=False)
    >>> slm.anova(m1, m2)[["npar", "Chisq", "Df"]].round(3)
    m1: Reaction ~ 1 + (Days | Subject)
    m2: Reaction ~ Days + (Days | Subject)
    <BLANKLINE>
        npar   Chisq   Df
    m1     5     NaN  NaN
    m2     6  23.537  1.0
    """
    candidates, notes = _candidates(fits, refit, names)
    ordered = sorted(candidates, key=lambda c: c.npar)
    for small, large in pairwise(ordered):
        check_nested(small, large)
    table = lrt_table(ordered)
    table.attrs["notes"] = notes
    return table


@hinted("information_weights")
def information_weights(*fits: Estimates, refit: bool = True, names: Sequence[str] | None = None) -> pd.DataFrame:
    """Compare fits by AIC and BIC; they need not be nested.

    Parameters
    ----------
    *fits, refit, names
        As for `anova`.

    Returns
    -------
    DataFrame
        ``npar``, ``logLik``, and for both criteria the value, the difference to the best and the weight
        exp(-Δ/2)/Σ exp(-Δ/2) (Burnham and Anderson 2002, section 2.9).

    Examples
    --------
    >>> import sparselmm as slm
    >>> data = slm.load_dataset("sleepstudy")
    >>> m1 = slm.lmer("Reaction ~ Days + (1 | Subject)", data, reml=False)
    >>> m2 = slm.lmer("Reaction ~ Days + (Days || Subject)", data, reml=False)
    >>> slm.information_weights(m1, m2)["weight_AIC"].round(6).to_dict()
    {'m1': 0.0, 'm2': 1.0}
    """
    candidates, notes = _candidates(fits, refit, names)
    table = information_table(candidates)
    table.attrs["notes"] = notes
    return table


def _candidates(fits: Sequence[Any], refit: bool, names: Sequence[str] | None) -> tuple[list[Candidate], list[str]]:
    """Return the fits ready to be compared, by maximum likelihood unless asked otherwise."""
    _check_fits(fits)
    labels = [f"m{i + 1}" for i in range(len(fits))] if names is None else [str(name) for name in names]
    if len(labels) != len(fits) or len(set(labels)) < len(labels):
        raise ParameterError(f"names must hold {len(fits)} different names")
    given = [Candidate(label, fit.result, fit.formula, fit.row_facts) for label, fit in zip(labels, fits)]
    check_same_data(given)
    by_reml = [c.name for c in given if c.result.criterion_type.reml]
    if not by_reml:
        return given, []
    if not refit:
        _check_reml(given, len(by_reml))
        return given, ["REML criteria were compared"]
    note = f"refitted by maximum likelihood instead of REML: {', '.join(by_reml)}"
    warn_user(note, SparseLMMWarning)
    return [
        replace(c, result=_fit(fit.problem, BY_ML)) if c.result.criterion_type.reml else c
        for c, fit in zip(given, fits)
    ], [note]


def _check_fits(fits: Sequence[Any]) -> None:
    """Refuse what is not a fit, and say what to pass instead."""
    if len(fits) == 1 and isinstance(fits[0], list | tuple):
        raise ParameterError("pass the fits one by one, as in slm.anova(m1, m2); those of a list by slm.anova(*fits)")
    if len(fits) < 2:
        raise ParameterError("a comparison needs at least two fits; fit.anova() tests the terms of one")
    for fit in fits:
        if isinstance(getattr(fit, "result", None), FitResult):
            continue
        inside = isinstance(getattr(getattr(fit, "lmm", None), "result", None), FitResult)
        remedy = "; pass the fit inside, result.lmm" if inside else ""
        raise ParameterError(f"only fits can be compared, not {type(fit).__name__}{remedy}")


def _check_reml(candidates: Sequence[Candidate], n_reml: int) -> None:
    if n_reml < len(candidates):
        raise ParameterError("some fits are by REML and some by maximum likelihood; compare them with refit=True")
    first = candidates[0]
    for other in candidates[1:]:
        if other.result.p != first.result.p or not same_fixed(other, first):
            raise ParameterError(
                f"REML criteria of {first.name} and {other.name} cannot be compared, because their "
                "fixed effects differ; use refit=True"
            )


def _fit(problem: Problem, criterion: Criterion) -> FitResult:
    """Return a fit without its warnings: smaller models are often singular."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SparseLMMWarning)
        return fit_problem(problem, criterion)


def drop1_lrt(fit: Refitting) -> pd.DataFrame:
    """Return likelihood-ratio tests of each droppable term, all models fitted by maximum likelihood."""
    full = _fit(fit.problem, BY_ML) if fit.reml else fit.result
    problem = replace(fit.problem, engine=full.engine)
    design = Design(full.layout, full.observed("models with one term less"))
    reduced: dict[str, Compared] = {}
    for term in droppable(fixed_terms(_encoding(fit))):
        if _encoding(fit).fixed.intercept:
            known = products_without(problem.engine.crossproducts, term.columns)
            small = _fit(problem.for_design(without_columns(design, term.columns), known), BY_ML)
        else:  # without a constant, the factor that is left may be coded in another way
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SparseLMMWarning)
                small = fit.update(f". ~ . - {term.name}", reml=False).result
            check_same_data([Candidate("the model", full), Candidate(f"the model without {term.name}", small)])
        reduced[term.name] = _compared(full, small, small.p + small.n_par + 1)
    return drop1_table(Compared(fit.npar, full.criterion), reduced)


def _compared(full: FitResult, small: FitResult, npar: int) -> Compared:
    return Compared(npar, small.criterion, difference_error(full, small))


def ranova_lrt(fit: Estimates) -> pd.DataFrame:
    """Return likelihood-ratio tests of the random terms by the criterion of the fit."""
    result = fit.result
    design = Design(result.layout, result.observed("models with one term less"))
    encoding = fit.source.encoding
    reduced: dict[str, Compared] = {}
    for reduction in reductions(result.layout, None if encoding is None else encoding.terms):
        smaller = reduced_design(design, reduction)
        if smaller is None:
            small = evaluate_at(fit.problem, no_effects(result.theta), result.criterion_type)
            npar = result.p + 1
        else:
            small = _fit(fit.problem.for_design(smaller), result.criterion_type)
            npar = result.p + small.n_par + 1
        label = reduction.label if reduction.label not in reduced else f"{reduction.label} [{reduction.term + 1}]"
        reduced[label] = _compared(result, small, npar)
    table = ranova_table(Compared(fit.npar, fit.criterion), reduced)
    table.attrs.update(method="REML" if fit.reml else "ML")
    return table


def _encoding(fit: Estimates) -> EncodingSpec:
    if fit.source.encoding is None:
        raise ParameterError("a model made from arrays has no terms to drop; compare two fits with slm.anova")
    return fit.source.encoding


def f_rows(fit: Estimates) -> dict[str, Any]:
    """Return for each droppable term the hypothesis that its coefficients are zero."""
    terms = droppable(fixed_terms(_encoding(fit)))
    return {t.name: np.eye(fit.result.p)[list(t.columns)] for t in terms}
