"""Variances that a design cannot tell apart: found, named at the fit, and left open afterwards."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm.exceptions import ConvergenceWarning
from sparselmm.likelihood.identification import confounding

CONFOUNDED = {
    "(1 | id) + (0 + cond | id)": ["(Intercept | id) lies in the span of (cond[a] + cond[b] | id)"],
    "(cond || id)": ["(Intercept | id) lies in the span of (cond[a] + cond[b] | id)"],
    "(1 | id/cond) + (cond | id)": [
        "(Intercept | cond:id) lies in the span of (Intercept + cond[T.b] | id)",
        "(Intercept | id) lies in the span of (Intercept + cond[T.b] | id)",
    ],
    "(x | id) + (0 + x | id)": ["(x | id) lies in the span of (Intercept + x | id)"],
}
IDENTIFIED = ["(1 | id)", "(cond | id)", "(x || id)", "(1 | id/cond)", "(1 | id) + (x | item)", "(x + z || id)"]


def design(seed=1, groups=20, rows=12):
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(groups), rows)
    data = pd.DataFrame({"id": [f"s{i:02d}" for i in g], "cond": list("ab") * (len(g) // 2)})
    data["item"] = [f"i{i}" for i in rng.integers(0, 6, len(g))]
    data["x"] = rng.standard_normal(len(g)) + 3
    data["z"] = data["x"] + rng.standard_normal(len(g))
    slopes = (data["cond"] == "a") * rng.standard_normal(groups)[g]
    slopes = slopes + 0.7 * (data["x"] - 3) * rng.standard_normal(groups)[g]
    data["y"] = data["x"] + rng.standard_normal(groups)[g] + slopes + rng.standard_normal(len(g))
    return data


def fitted(random, expected=ConvergenceWarning):
    with pytest.warns(expected):
        return slm.lmer(f"y ~ cond + x + {random}", design())


def dense_rank(model):
    """Return how many of the covariances of y that the terms allow are independent, and how many there are."""
    columns = []
    for term in model.problem.rows.terms:
        Z = term.to_sparse().toarray().reshape(len(model.problem.rows.y), term.m, term.k)
        for i in range(term.k):
            for j in range(i, term.k):
                half = np.einsum("nm,lm->nl", Z[:, :, i], Z[:, :, j])
                columns.append((half + half.T).ravel())
    return np.linalg.matrix_rank(np.array(columns)), len(columns)


@pytest.mark.parametrize("random", [*CONFOUNDED, *IDENTIFIED])
def test_found_exactly_where_the_covariances_of_y_depend_on_each_other(random):
    model = slm.LinearMixedModel.from_formula(f"y ~ cond + x + {random}", design())
    rank, count = dense_rank(model)
    engine = model.problem.engine
    found = confounding(engine.crossproducts.gram, engine.parameters)
    assert (found is None) == (random in IDENTIFIED) == (rank == count)
    if found is not None:
        assert len(found.directions) == count - rank


@pytest.mark.parametrize("random", CONFOUNDED)
def test_the_fit_says_which_term_lies_in_the_span_of_which(random):
    message = next(m for m in fitted(random).messages if m.code == "not_identified")
    for fact in CONFOUNDED[random]:
        assert fact in message.what
    assert message.what.count("lies in the span") == len(CONFOUNDED[random])


@pytest.mark.parametrize("random", IDENTIFIED)
def test_identified_models_hear_nothing(random):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", slm.exceptions.SparseLMMWarning)
        fit = slm.lmer(f"y ~ cond + x + {random}", design())
    assert not any(m.code == "not_identified" for m in fit.messages)


@pytest.mark.parametrize("random", CONFOUNDED)
def test_the_direction_leaves_the_criterion_as_it_is(random):
    """A step along it changes the Ω of two terms and nothing else."""
    fit = fitted(random)
    parameters = fit.result.engine.parameters
    inside = [
        np.eye(s.k) for s in parameters.structures
    ]  # the estimate may be at a bound: how it is divided is arbitrary
    theta = parameters.theta(parameters.nearest(inside))
    found = confounding(fit.result.engine.crossproducts.gram, parameters)
    for direction in found.directions:
        size = max(float(np.abs(d).max()) for d in direction)
        moved = [omega + 0.1 * d / size for omega, d in zip(inside, direction, strict=True)]
        other = parameters.theta(parameters.nearest(moved))
        assert np.abs(other - theta).max() > 1e-3
        assert fit.evaluate(other) == pytest.approx(fit.evaluate(theta), abs=1e-8)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("random", CONFOUNDED)
def test_tables_and_profiles_leave_open_what_the_design_leaves_open(random):
    """The rest is as in the same model without the term that is too many."""
    fit = fitted(random)
    same = {"(1 | id) + (0 + cond | id)": "(0 + cond | id)", "(cond || id)": "(cond | id)"}
    same |= {"(1 | id/cond) + (cond | id)": "(cond | id)", "(x | id) + (0 + x | id)": "(x | id)"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", slm.exceptions.SparseLMMWarning)
        plain = slm.lmer(f"y ~ cond + x + {same[random]}", design())
    assert fit.criterion == pytest.approx(plain.criterion, abs=1e-7)
    table = fit.varpar_table()
    with pytest.warns(ConvergenceWarning, match="is flat"):
        limits = fit.conf_int(method="profile")
    with pytest.warns(ConvergenceWarning, match="is flat"):
        followed = fit.profile().conf_int()
    expected = plain.conf_int(method="profile")
    known = [name for name in limits.index if "|" not in name]
    np.testing.assert_allclose(limits.loc[known], expected.loc[known], rtol=1e-5)
    np.testing.assert_allclose(followed.loc[known, ["conf_low", "conf_high"]], expected.loc[known], rtol=1e-3)
    if random == "(x | id) + (0 + x | id)":  # the variance of the intercept is in one term only
        known = ["sd(Intercept|id)", "sigma"]
    open_ = [name for name in table.index if name not in known]
    assert open_
    assert table.loc[open_, ["std_error", "conf_low", "conf_high"]].isna().all(axis=None)
    assert limits.loc[open_].isna().all(axis=None)
    assert table.loc["sigma", "std_error"] > 0
