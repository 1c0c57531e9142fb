"""Evaluation leaves no trace, copies and threads agree, and each way to the same numbers gives the same numbers."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import thetas
from strategies import arrays, few, problems, quick

from sparselmm import LinearMixedModel
from sparselmm.covariance import make_structure
from sparselmm.covariance.parameters import ParameterMap
from sparselmm.data.rows import GroupedTerm
from sparselmm.likelihood.criterion import ML, REML
from sparselmm.likelihood.pls import PenalizedLeastSquares
from sparselmm.linalg import make_system
from sparselmm.statistics.crossproducts import CrossProducts

pytestmark = pytest.mark.filterwarnings("ignore::sparselmm.exceptions.SparseLMMWarning")
PARTS = ("criterion", "sigma", "ldL2", "ldRX2", "pwrss", "beta", "u", "b", "RX", "theta", "par")


def numbers(result):
    return [np.array(getattr(result, name)) for name in PARTS]


def assert_same_bits(a, b):
    for name, x, y in zip(PARTS, numbers(a), numbers(b)):
        np.testing.assert_array_equal(x, y, err_msg=name)


@quick
@given(problems())
def test_evaluation_leaves_no_trace(drawn):
    problem, reml, theta = drawn
    model = problem.fitted_model()
    other = thetas(problem, 1, seed=77)[0]
    fit = model.at(theta, reml)
    kept = numbers(fit.result)
    first = fit.evaluate(theta)
    assert first == fit.criterion
    for disturbing in (other, np.zeros_like(theta), 50 * theta):
        fit.evaluate(disturbing)
        model.at(disturbing, not reml)
        assert fit.evaluate(theta) == first
    assert_same_bits(model.at(theta, reml).result, fit.result)
    for name, before, after in zip(PARTS, kept, numbers(fit.result)):
        np.testing.assert_array_equal(before, after, err_msg=name)


@few
@given(problems())
def test_inputs_are_left_alone_and_results_are_read_only(drawn):
    problem, reml, theta = drawn
    y, X, terms, w, o = arrays(problem)
    given_arrays = [y, X, w, o, theta, *(t[k] for t in terms for k in ("groups", "Z") if k in t)]
    for array in given_arrays:
        array.flags.writeable = False
    kept = [array.copy() for array in given_arrays]
    fit = LinearMixedModel.from_arrays(y, X if X.shape[1] else None, terms, weights=w, offset=o).at(theta, reml)
    for before, after in zip(kept, given_arrays):
        np.testing.assert_array_equal(before, after)
    for name in ("beta", "u", "b", "RX", "theta", "par"):
        array = getattr(fit.result, name)
        if array.size:
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 0.0


@few
@given(problems())
def test_later_changes_of_the_callers_arrays_do_not_matter(drawn):
    problem, reml, theta = drawn
    y, X, terms, w, o = arrays(problem)
    terms = [{k: v.copy() if k in ("groups", "Z", "matrix") else v for k, v in t.items()} for t in terms]
    fit = LinearMixedModel.from_arrays(y, X if X.shape[1] else None, terms, weights=w, offset=o).at(theta, reml)
    before, fitted, refitted = fit.criterion, fit.fittedvalues.copy(), fit.refit(y[::-1].copy()).criterion
    y[:], X[:], w[:], o[:] = 7.0, 7.0, 7.0, 7.0
    for t in terms:
        if "groups" in t:
            t["groups"][:], t["Z"][:] = 0, 7.0
    assert fit.evaluate(theta) == before
    np.testing.assert_array_equal(fit.fittedvalues, fitted)
    assert fit.refit(problem.model.y[::-1].copy()).criterion == refitted


@few
@given(problems())
def test_pickles_and_copies_give_the_same_bits(drawn):
    problem, reml, theta = drawn
    fit = problem.fitted_model().at(theta, reml)
    other = thetas(problem, 1, seed=77)[0]
    expected = fit.evaluate(other)
    for twin in (pickle.loads(pickle.dumps(fit)), copy.deepcopy(fit), copy.copy(fit)):
        assert_same_bits(twin.result, fit.result)
        assert twin.evaluate(other) == expected
        np.testing.assert_array_equal(twin.fittedvalues, fit.fittedvalues)
        np.testing.assert_array_equal(twin.cov_params(), fit.cov_params())
    with_engine = pickle.loads(pickle.dumps(fit))
    assert_same_bits(with_engine.at(other).result, fit.at(other).result)


@few
@given(problems())
def test_threads_sharing_one_fit_get_the_same_bits(drawn):
    problem, reml, theta = drawn
    fit = problem.fitted_model().at(theta, reml)
    points = thetas(problem, 4, seed=9)
    expected = [fit.evaluate(point) for point in points]
    alone = [fit.at(point).result for point in points]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(fit.evaluate, points * 8))
        results = list(pool.map(lambda point: fit.at(point).result, points * 4))
    assert found == expected * 8
    for result, same in zip(results, alone * 4):
        assert_same_bits(result, same)


@few
@given(problems(), st.integers(0, 10**6))
def test_refit_equals_a_fresh_fit(drawn, seed):
    problem, reml, theta = drawn
    y, X, terms, _, _ = arrays(problem)
    rng = np.random.default_rng(seed)
    new = 3.0 * y + 100.0 + rng.standard_normal(len(y))
    fit = problem.fitted_model().fit(reml)
    options = {"weights": problem.options["weights"], "offset": problem.options["offset"]}
    fresh_model = LinearMixedModel.from_arrays(new, X if X.shape[1] else None, terms, **options)
    fresh, again = fresh_model.fit(reml), fit.refit(new)
    assert again.criterion == pytest.approx(fresh.criterion, abs=1e-7)  # two searches, each to 1e-9 and better
    assert again.reml == fit.reml
    # at one θ nothing but the rounding of the pilot fit differs
    assert again.evaluate(theta) == pytest.approx(fresh.evaluate(theta), rel=1e-10)
    np.testing.assert_array_equal(again.result.rows.y, new)
    back = again.refit(problem.model.y)
    assert back.evaluate(theta) == pytest.approx(fit.evaluate(theta), rel=1e-10)
    other = fit.refit(reml=not reml)
    assert other.reml is not fit.reml
    assert other.criterion == pytest.approx(problem.fitted_model().fit(not reml).criterion, abs=1e-9)  # the same search


@few
@given(problems())
def test_at_the_estimate_equals_the_fit(drawn):
    problem, reml, _ = drawn
    fit = problem.fitted_model().fit(reml)
    same = fit.at(fit.theta)
    # centred coordinates go back and forth: rounding times the centre
    assert same.criterion == pytest.approx(fit.criterion, abs=1e-8)
    assert same.sigma == pytest.approx(fit.sigma, rel=1e-8)
    np.testing.assert_allclose(same.params / fit.bse, fit.params / fit.bse, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(same.fittedvalues, fit.fittedvalues, rtol=1e-6, atol=1e-6)
    assert problem.fitted_model().at(fit.theta, reml).criterion == same.criterion
    assert fit.evaluate(fit.theta) == same.criterion


def rows_of(design, rows):
    """Return a design of a slice of rows with all levels kept."""
    terms = tuple(
        replace(t, codes=t.codes[rows], Z=t.Z[rows])
        if isinstance(t, GroupedTerm)
        else replace(t, matrix=t.matrix[rows])
        for t in design.terms
    )
    return replace(
        design,
        y=design.y[rows],
        X=design.X[rows],
        terms=terms,
        weights=None if design.weights is None else design.weights[rows],
        offset=None if design.offset is None else design.offset[rows],
    )


@quick
@given(problems(), st.integers(1, 59), st.integers(1, 59))
def test_cross_products_of_blocks_of_rows_add_up(drawn, i, j):
    problem, reml, theta = drawn
    design = problem.fitted_model().problem.rows
    whole = CrossProducts.from_rows(design)
    cuts = [0, *sorted({i, j}), design.n]
    parts = [
        CrossProducts.from_rows(rows_of(design, slice(a, b)), whole.basis, whole.centres) for a, b in pairwise(cuts)
    ]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    assert total.n == whole.n
    assert total.sum_log_weights == pytest.approx(whole.sum_log_weights, rel=1e-12, abs=1e-12)
    # sums of at most ninety products in another order
    size = np.abs(whole.XytWXy).max()
    np.testing.assert_allclose(total.XytWXy, whole.XytWXy, rtol=1e-11, atol=1e-12 * size)
    size = np.abs(whole.ZtWXy).max()
    np.testing.assert_allclose(total.ZtWXy, whole.ZtWXy, rtol=1e-11, atol=1e-12 * size)
    eye = np.eye(whole.gram.q)
    np.testing.assert_allclose(total.gram.dot(eye), whole.gram.dot(eye), rtol=1e-11, atol=1e-11)
    parameters = problem.fitted_model().problem.engine.parameters
    values = []
    for xp in (whole, total):
        pls = PenalizedLeastSquares(xp, parameters, make_system(xp.gram))
        values.append(pls.value(pls.solve(parameters.par(theta)), REML if reml else ML))
    assert values[1] == pytest.approx(values[0], rel=1e-11)


def test_parameter_map_splits_by_structure():
    structures = tuple(make_structure(key, k) for key, k in (("us", 2), ("homdiag", 3), ("diag", 2)))
    parameters = ParameterMap(structures)
    par = np.arange(1.0, 7.0)
    assert [list(x) for x in parameters.split(par)] == [[1, 2, 3], [4], [5, 6]]
    assert (parameters.n_par, parameters.n_theta) == (6, 6)
