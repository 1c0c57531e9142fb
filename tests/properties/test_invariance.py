"""What must not change the fit, and what must change it by an exact amount.

Unless another reason is given, 1e-10 relative stands for sums in another order: each is a sum of about a
hundred products in double precision, 1e-14, and the criterion may cancel two digits of it.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import TEMPLATES
from strategies import arrays, few, problems, quick, take

from sparselmm import LinearMixedModel, lmer

pytestmark = pytest.mark.filterwarnings("ignore::sparselmm.exceptions.SparseLMMWarning")
NEAR = 1e-10


def at(theta, reml, y, X, terms, weights, offset):
    model = LinearMixedModel.from_arrays(y, X if X.shape[1] else None, terms, weights=weights, offset=offset)
    return model.at(theta, reml)


@quick
@given(problems(), st.randoms(use_true_random=False))
def test_order_of_rows(drawn, random):
    problem, reml, theta = drawn
    y, X, terms, w, o = arrays(problem)
    rows = list(range(len(y)))
    random.shuffle(rows)
    a = at(theta, reml, y, X, terms, w, o)
    b = at(theta, reml, y[rows], X[rows], take(terms, rows), w[rows], o[rows])
    assert b.criterion == pytest.approx(a.criterion, rel=NEAR)
    np.testing.assert_allclose(b.fittedvalues, a.fittedvalues.to_numpy()[rows], rtol=1e-8, atol=1e-8)
    scale = a.bse.to_numpy()
    np.testing.assert_allclose(b.params / scale, a.params / scale, rtol=1e-8, atol=1e-8)  # in standard errors


@quick
@given(problems(grouped=True), st.randoms(use_true_random=False))
def test_names_and_order_of_levels(drawn, random):
    problem, reml, theta = drawn
    y, X, terms, w, o = arrays(problem)
    a = at(theta, reml, y, X, terms, w, o)
    renamed = []
    for term in terms:
        names = [f"level {i:03d}" for i in range(term["groups"].max() + 1)]
        random.shuffle(names)
        renamed.append({**term, "groups": np.array(names)[term["groups"]]})
    b = at(theta, reml, y, X, renamed, w, o)
    assert b.criterion == pytest.approx(a.criterion, rel=NEAR)
    for old, new in zip(terms, renamed):
        first = a.ranef()[old["name"]].loc[old["groups"]].to_numpy()
        second = b.ranef()[old["name"]].loc[new["groups"]].to_numpy()
        np.testing.assert_allclose(second, first, rtol=1e-7, atol=1e-8 * max(1.0, np.abs(first).max()))


@quick
@given(problems())
def test_order_of_terms(drawn):
    problem, reml, theta = drawn
    y, X, terms, w, o = arrays(problem)
    a = at(theta, reml, y, X, terms, w, o)
    # θ belongs to terms by decreasing number of levels, ties in the order given: reversing swaps ties only
    positions = sorted(range(len(terms)), key=lambda i: -problem.case.terms[i].m)
    by_term = dict(zip(positions, problem.split(theta)))
    backwards = list(range(len(terms)))[::-1]
    order = sorted(backwards, key=lambda i: -problem.case.terms[i].m)
    b = at(np.concatenate([by_term[i] for i in order]), reml, y, X, [terms[i] for i in backwards], w, o)
    assert b.criterion == pytest.approx(a.criterion, rel=NEAR)
    for name, frame in a.ranef().items():
        np.testing.assert_allclose(b.ranef()[name], frame, rtol=1e-7, atol=1e-8 * max(1.0, np.abs(frame).max().max()))


@quick
@given(problems(p=st.integers(1, 3)), st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.booleans())
def test_affine_change_of_the_response(drawn, shift, factor, negative):
    problem, reml, theta = drawn
    y, X, terms, w, _ = arrays(problem)
    zero = np.zeros(len(y))
    c = -factor if negative else factor
    a = at(theta, reml, y, X, terms, w, zero)
    b = at(theta, reml, c * (y + shift), X, terms, w, zero)
    df = len(y) - (X.shape[1] if reml else 0)
    # the shifted response itself carries 1e6 * 1e-16 of rounding, over a residual SD of about 1
    assert b.criterion == pytest.approx(a.criterion + 2 * df * np.log(factor), abs=1e-6)
    assert b.sigma == pytest.approx(factor * a.sigma, rel=1e-8)
    np.testing.assert_allclose(b.params.iloc[1:] / c, a.params.iloc[1:], rtol=1e-6, atol=1e-7)


@quick
@given(problems(p=st.integers(1, 3)), st.integers(0, 10**6))
def test_linear_change_of_the_predictors(drawn, seed):
    problem, reml, theta = drawn
    y, X, terms, w, o = arrays(problem)
    p = X.shape[1]
    rng = np.random.default_rng(seed)
    M = (
        np.linalg.qr(rng.standard_normal((p, p)))[0]
        @ np.diag(rng.uniform(0.2, 5.0, p))
        @ np.linalg.qr(rng.standard_normal((p, p)))[0]
    )
    a, b = at(theta, reml, y, X, terms, w, o), at(theta, reml, y, X @ M, terms, w, o)
    change = 2 * np.linalg.slogdet(M)[1] if reml else 0.0
    assert b.criterion == pytest.approx(a.criterion + change, rel=NEAR, abs=1e-9)
    np.testing.assert_allclose(M @ b.params, a.params, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(M @ b.cov_params() @ M.T, a.cov_params(), rtol=1e-7, atol=1e-9)


@few
@given(problems(p=st.integers(2, 3)), st.sampled_from([1e-6, 1e6]), st.sampled_from([0.0, 1e6, -1e6]))
def test_far_and_large_numbers_change_the_criterion_by_the_exact_amount(drawn, factor, shift):
    """The numerical guard: 1e-6 absolute is what the package promises."""
    problem, reml, theta = drawn
    y, X, terms, w, o = arrays(problem)
    a = at(theta, reml, y, X, terms, w, o)
    X[:, 1] *= factor
    b = at(theta, reml, y + shift, X, terms, w, o)
    assert b.criterion == pytest.approx(a.criterion + (2 * np.log(factor) if reml else 0.0), abs=1e-6)
    X[:, 1] = X[:, 1] / factor + 1e6 * X[:, 0]
    c = at(theta, reml, y, X, terms, w, o + shift)
    shifted = at(theta, reml, y - shift, problem.model.X, terms, w, o)
    assert c.criterion == pytest.approx(shifted.criterion, abs=1e-6)


@few
@given(problems(p=st.integers(1, 2)), st.floats(0.01, 100))
def test_equal_weights_only_rescale_theta(drawn, c):
    problem, reml, theta = drawn
    y, X, terms, _, o = arrays(problem)
    ones = np.ones(len(y))
    a = at(theta * np.sqrt(c), reml, y, X, terms, ones, o)
    b = at(theta, reml, y, X, terms, c * ones, o)
    assert b.criterion == pytest.approx(a.criterion, rel=NEAR)
    assert b.sigma == pytest.approx(np.sqrt(c) * a.sigma, rel=NEAR * 100)
    none = LinearMixedModel.from_arrays(y, X, terms, offset=o).at(theta * np.sqrt(c), reml)
    assert none.criterion == pytest.approx(a.criterion, rel=1e-14)  # the same products, times one


@few
@given(problems(p=st.integers(1, 2)), st.integers(1, 10), st.integers(0, 10**6))
def test_rows_of_zero_weight_count_as_dropped(drawn, extra, seed):
    problem, reml, theta = drawn
    y, X, terms, w, o = arrays(problem)
    rng = np.random.default_rng(seed)
    rows = np.concatenate([np.arange(len(y)), rng.integers(0, len(y), extra)])
    zero = np.concatenate([w, np.zeros(extra)])
    far = y[rows].copy()
    far[len(y) :] = 1e9
    a = at(theta, reml, y, X, terms, w, o)
    b = at(theta, reml, far, X[rows], take(terms, rows), zero, o[rows])
    assert b.nobs == a.nobs == len(y)
    assert b.criterion == pytest.approx(a.criterion, rel=1e-14)  # the same rows in the same order
    assert b.criterion == a.criterion


@few
@given(problems(grouped=True, p=st.integers(1, 2)))
def test_unused_levels_do_not_matter(drawn):
    problem, reml, theta = drawn
    y, X, terms, w, o = arrays(problem)
    a = at(theta, reml, y, X, terms, w, o)
    more = [
        {**t, "groups": pd.Categorical.from_codes(2 * t["groups"], categories=range(2 * t["groups"].max() + 5))}
        for t in terms
    ]
    b = at(theta, reml, y, X, more, w, o)
    assert b.criterion == a.criterion
    assert b.ngroups == a.ngroups


@few
@given(problems(structures=("diag",), grouped=True, z=("normal", "no constant")))
def test_a_diagonal_term_equals_separate_terms(drawn):
    """(1 + x || g): one term of structure diag, or one term per column."""
    problem, reml, theta = drawn
    y, X, terms, w, o = arrays(problem)
    a = at(theta, reml, y, X, terms, w, o)
    apart = [
        {"groups": t["groups"], "Z": t["Z"][:, [j]], "name": t["name"], "columns": [f"c{j}"]}
        for t in terms
        for j in range(t["Z"].shape[1])
    ]
    b = at(theta, reml, y, X, apart, w, o)
    assert b.criterion == pytest.approx(a.criterion, rel=NEAR)


@few
@given(problems(structures=("us",)), st.integers(0, 10**6))
def test_criterion_depends_on_templates_through_their_products_only(drawn, seed):
    """Signs of whole columns, and any other triangular factor of the same covariance, give the same value."""
    problem, reml, theta = drawn
    fit = at(theta, reml, *arrays(problem))
    rng = np.random.default_rng(seed)
    parts = []
    for spec, T in zip(problem.specs, problem.templates(theta)):
        signed = T * rng.choice([-1.0, 1.0], spec.k)
        parts.append(np.concatenate([signed[j:, j] for j in range(spec.k)]))
    assert fit.evaluate(np.concatenate(parts)) == pytest.approx(fit.criterion, rel=NEAR)


def test_every_structure_is_drawn():
    from sparselmm.covariance import STRUCTURES

    assert set(TEMPLATES) == set(STRUCTURES)


def test_formula_door_row_and_category_order():
    rng = np.random.default_rng(5)
    g = rng.choice(list("abcdefgh"), 60)
    frame = pd.DataFrame({"y": rng.standard_normal(60), "x": rng.standard_normal(60), "g": g})
    a = lmer("y ~ x + (x | g)", frame)
    shuffled = frame.sample(frac=1, random_state=1)
    shuffled["g"] = pd.Categorical(shuffled["g"], categories=list("zhgfedcba"))
    b = lmer("y ~ x + (x | g)", shuffled)
    assert b.criterion == pytest.approx(a.criterion, abs=1e-8)  # two runs of the optimizer
    pd.testing.assert_series_equal(b.fittedvalues.loc[frame.index], a.fittedvalues, rtol=1e-4, atol=1e-4)
