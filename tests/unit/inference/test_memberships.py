"""Models in which a row belongs to several levels: comparison, tables of smaller models, simulation."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

import sparselmm as slm
from sparselmm.data.design import Design
from sparselmm.exceptions import ParameterError
from sparselmm.inference.compare.lrt import random_nested
from sparselmm.inference.compare.one_term_less import SmallerModel, reduced_design

N, M = 150, 12
RNG = np.random.default_rng(6)
PAIRS = np.array([RNG.choice(M, 2, replace=False) for _ in range(N)])
SHARE = RNG.uniform(0.2, 0.8, N)
X = np.column_stack([np.ones(N), RNG.normal(size=N)])
G = np.arange(N) % 7


def membership(*columns):
    """Return Z whose rows hold the shares of two levels times each column, (n, M * k)."""
    k = len(columns)
    Z = np.zeros((N, M, k))
    for i, (a, b) in enumerate(PAIRS):
        z = np.array([c[i] for c in columns])
        Z[i, a] += SHARE[i] * z
        Z[i, b] += (1 - SHARE[i]) * z
    return sp.csr_array(Z.reshape(N, M * k))


ONE, SLOPE = membership(X[:, 0]), membership(X[:, 0], X[:, 1])
Y = X @ [1.0, 0.5] + SLOPE @ (RNG.normal(size=(M, 2)) * [1.5, 0.8]).ravel() + RNG.normal(size=7)[G] + RNG.normal(size=N)
TERMS = {
    "one": {"matrix": ONE, "k": 1, "name": "m"},
    "slope": {"matrix": SLOPE, "k": 2, "name": "m", "columns": ["Intercept", "x"]},
    "apart": {"matrix": SLOPE, "k": 2, "name": "m", "columns": ["Intercept", "x"], "structure": "diag"},
    "other": {"matrix": membership(X[:, 1]), "k": 1, "name": "m"},
    "factor": {"groups": G, "name": "g"},
}


def fitted(*names, y=Y, reml=False):
    return slm.LinearMixedModel.from_arrays(y, X, [TERMS[n] for n in names]).fit(reml=reml)


@pytest.mark.parametrize(
    ("small", "large", "nested"),
    [
        (("one",), ("slope",), True),
        (("one",), ("apart",), True),
        (("apart",), ("slope",), True),
        (("other",), ("slope",), True),
        (("slope",), ("one",), False),
        (("one",), ("other",), False),
        (("one",), ("slope", "factor"), True),
        (("factor",), ("slope",), False),
        (("one", "factor"), ("slope", "factor"), True),
    ],
)
def test_which_model_is_a_special_case(small, large, nested):
    few, many = fitted(*small), fitted(*large)
    assert random_nested(few.result, many.result) == nested
    if nested:
        table = slm.anova(few, many)
        assert table["Chisq"].iloc[1] == pytest.approx(few.criterion - many.criterion, abs=1e-8)
        assert table["Df"].iloc[1] == len(many.theta) - len(few.theta)


def test_models_of_other_rows_cannot_be_compared():
    missing = np.where(np.arange(N) == 5, np.nan, Y)
    other = np.where(np.arange(N) == 6, np.nan, Y)
    with pytest.raises(ParameterError, match="different rows"):
        slm.anova(fitted("one", y=missing), fitted("slope", y=other))


@pytest.mark.parametrize("reml", [True, False])
def test_a_table_of_models_with_one_term_less(reml):
    fit = fitted("slope", "factor", reml=reml)
    table = fit.ranova()
    without = {3: fitted("factor", reml=reml), 1: fitted("slope", reml=reml)}
    assert sorted(table["Df"].iloc[1:]) == [1, 3]
    for row in table.iloc[1:].itertuples():
        small = without[int(row.Df)]
        assert pytest.approx(small.criterion - fit.criterion, abs=1e-6) == row.LRT
        assert row.logLik == pytest.approx(-small.criterion / 2, abs=1e-6)


@pytest.mark.parametrize("kept", [0, 1])
def test_a_membership_term_without_one_of_its_columns(kept):
    """The other column of each level stays: the design is that of the model with that column alone."""
    result = fitted("slope").result
    design = Design(result.layout, result.rows)
    found = reduced_design(design, SmallerModel("m", 0, (kept,)))
    (term,) = found.rows.terms
    assert term.columns == (["Intercept", "x"][kept],)
    assert (term.matrix != TERMS[["one", "other"][kept]]["matrix"]).nnz == 0
    assert reduced_design(design, SmallerModel("m", 0)) is None


def test_simulated_responses_have_the_covariance_of_the_model():
    fit = slm.LinearMixedModel.from_arrays(Y, X, [TERMS["slope"]]).at([1.2, 0.3, 0.6], reml=False)
    draws = fit.simulate(6000, seed=3, re_form="~0").to_numpy()
    T = np.array([[1.2, 0.0], [0.3, 0.6]])
    V = fit.scale * (SLOPE @ sp.kron(sp.eye_array(M), T @ T.T) @ SLOPE.T).toarray() + fit.scale * np.eye(N)
    sd = np.sqrt(np.diag(V))
    assert np.abs((draws.mean(axis=1) - X @ fit.params) / (sd / np.sqrt(6000))).max() < 4.5
    gap = (np.cov(draws) - V) / np.sqrt((np.outer(sd**2, sd**2) + V**2) / 6000)
    assert np.abs(gap).max() < 5.5
    kept = fit.simulate(6000, seed=3, re_form=None).to_numpy()  # b as it was found: rows are independent
    assert np.abs(kept.mean(axis=1) - fit.fittedvalues.to_numpy()).max() < 5 * fit.sigma / np.sqrt(6000)
    assert np.abs(np.cov(kept) / fit.scale - np.eye(N)).max() < 5.5 * np.sqrt(2 / 6000)
