"""Formulas of any shape are read, or refused with the package's own errors."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st
from strategies import many, quick

from sparselmm.data import build_design
from sparselmm.data.formulas import parse_formula, update_formula
from sparselmm.exceptions import SparseLMMError
from sparselmm.formula import render_spec
from sparselmm.formula.algebra import expand_terms, read_terms
from sparselmm.formula.grammar import parse_expression
from sparselmm.formula.nodes import render

rng = np.random.default_rng(0)
DATA = pd.DataFrame({
    "y": rng.normal(size=40), "x": rng.normal(size=40), "z": rng.uniform(1, 2, 40), "f": rng.choice(list("abc"), 40),
    "g": np.arange(40) % 5, "h": np.arange(40) // 8, "lg": rng.random(40) > 0.5,
})  # fmt: skip

atoms = st.sampled_from(["x", "z", "f", "g", "h", "lg", "1", "0", "I(x^2)", "log(z)", "poly(x, 2)", "factor(g)"])
sums = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "+", ":", "*", "/", "-", "%in%"]), inner).map(" ".join),
        inner.map("({})".format),
        inner.map("({})^2".format),
    ),
    max_leaves=6,
)
groups = st.sampled_from(["g", "h", "g/h", "g:h", "g*h", "g+h", "h %in% g", "factor(g)", "cut(z, 3)", "lg"])
bars = st.builds("({}{}{})".format, sums, st.sampled_from([" | ", " || "]), groups)


@many
@given(st.text(alphabet="yxg ~+-*/:^|().,0129'\"`%in<>=!&", max_size=30))
def test_any_text_is_read_or_refused(text):
    try:
        parse_formula(text)
    except SparseLMMError as error:
        assert str(error)


@many
@given(sums)
def test_expanded_terms_read_back_as_they_are(text):
    try:
        terms = expand_terms(parse_expression(text))
    except SparseLMMError:
        return
    assert read_terms(str(terms)) == terms
    assert render(parse_expression(render(parse_expression(text)))) == render(parse_expression(text))


@many
@given(sums, st.lists(bars, min_size=1, max_size=2))
def test_designs_are_consistent_or_refused(fixed, random):
    formula = f"y ~ {fixed} + {' + '.join(random)}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            spec = parse_formula(formula)
            encoding, design = build_design(spec, DATA)
        except SparseLMMError as error:
            assert str(error)
            return
    X, p = design.rows.X, design.layout.p
    assert np.linalg.matrix_rank(X) == p if p else X.shape == (design.rows.n, 0)
    assert [t.m for t in design.rows.terms] == sorted((t.m for t in design.rows.terms), reverse=True)
    np.testing.assert_allclose(encoding.apply_fixed(DATA)[design.rows.positions], design.rows.X, rtol=1e-10, atol=1e-10)
    for i, term in enumerate(design.rows.terms):
        np.testing.assert_array_equal(encoding.apply_term(i, DATA).codes[design.rows.positions], term.codes)
    again = parse_formula(render_spec(spec))
    assert sorted(t.label + str(t.lhs) for t in again.random) == sorted(t.label + str(t.lhs) for t in spec.random)


@many
@given(sums, bars)
def test_an_update_that_changes_nothing_changes_nothing(fixed, bar):
    try:
        spec = parse_formula(f"y ~ {fixed} + {bar}")
    except SparseLMMError:
        return
    again = parse_formula(update_formula(spec, ". ~ ."))
    assert again.random == spec.random
    before, after = spec.fixed, again.fixed
    assert before.intercept == after.intercept
    assert set(map(frozenset, before.terms)) == set(map(frozenset, after.terms))


@quick
@given(st.permutations(range(40)))
def test_the_order_of_rows_does_not_matter(order):
    spec = parse_formula("y ~ x*f + poly(z, 2) + (x|g) + (1|h)")
    _, a = build_design(spec, DATA)
    _, b = build_design(spec, DATA.iloc[order])
    np.testing.assert_allclose(b.rows.X, a.rows.X[order], atol=1e-12)
    for s, t in zip(a.rows.terms, b.rows.terms):
        assert list(s.levels) == list(t.levels)
        np.testing.assert_array_equal(t.codes, s.codes[order])
