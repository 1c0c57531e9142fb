"""New rows are encoded as the first ones were, or refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sparselmm.data import build_design
from sparselmm.data.formulas import parse_formula
from sparselmm.exceptions import DataError, ParameterError

FORMULAS = [
    "y ~ x*f + (x|g)",
    "y ~ poly(x, 2) + (poly(x,2)|g)",
    "y ~ bs(x, df=5) + (1|g)",
    "y ~ cr(x, df=4) + (1|g)",
    "y ~ ns(x, df=3) + (ns(x, 2)|g)",
    "y ~ scale(x) + scale(log(z))*f + (scale(x)|g)",
    "y ~ poly(log(z), 2) + (1|g)",
    "y ~ center(x) + factor(s) + (1|g)",
    "y ~ cut(z, 3) + (1|cut(z, 3)) + (1|g)",
    "y ~ lg*x + I(x > 0) + (lg|h) + (1|g/h)",
    "y ~ f:f2 + (1|interaction(f, f2)) + (1|g:h)",
    "y ~ C(f, contr.sum) + (0+f||g)",
    "y ~ 0 + (1|s) + (1|chr) + (1|num) + (1|lg)",
]


@pytest.mark.filterwarnings("ignore::sparselmm.exceptions.RankDeficiencyWarning")
@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("rows", [slice(None), slice(5, 6), slice(20, 60)])
def test_some_of_the_same_rows_get_the_same_numbers(formula, rows, data):
    encoding, d = build_design(parse_formula(formula), data)
    part = data.iloc[rows]
    np.testing.assert_allclose(encoding.apply_fixed(part), d.rows.X[rows], rtol=1e-12, atol=1e-12)
    for i, term in enumerate(d.rows.terms):
        new = encoding.apply_term(i, part)
        np.testing.assert_array_equal(new.codes, term.codes[rows])
        np.testing.assert_allclose(new.Z, term.Z[rows], rtol=1e-12, atol=1e-12)
        assert new.unseen == ()
        assert not new.missing.any()


def test_new_and_missing_groups_are_told_apart(data):
    encoding, _ = build_design(parse_formula("y ~ x + (1|chr) + (1|g/h)"), data)
    new = data.iloc[:3].assign(chr=["c1", "zz", None], g=["g01", "g99", None], h=["h1", "h1", "h1"])
    labels = [t.label for t in encoding.terms]
    rows = encoding.apply_term(labels.index("chr"), new)
    assert list(rows.codes) == [1, -1, -1]
    assert list(rows.missing) == [False, False, True]
    assert rows.unseen == ("zz",)
    nested = encoding.apply_term(labels.index("h:g"), new)
    assert list(nested.codes) == [0, -1, -1]
    assert nested.unseen == ("h1:g99",)


def test_a_combination_not_observed_is_a_new_level(data):
    part = data[~((data["g"] == "g01") & (data["h"] == "h2"))]
    encoding, _ = build_design(parse_formula("y ~ x + (1|g:h)"), part)
    rows = encoding.apply_term(0, data)
    assert set(np.flatnonzero(rows.codes < 0)) == set(data.index) - set(part.index)
    assert rows.unseen == ("g01:h2",)


def test_missing_predictors_give_missing_rows(data):
    encoding, _ = build_design(parse_formula("y ~ x*f + (x|g)"), data)
    new = data.iloc[:3].assign(x=[1.0, np.nan, 2.0], f=["a", "b", None])
    X = encoding.apply_fixed(new)
    assert list(np.isnan(X).all(axis=1)) == [False, True, True]
    assert list(np.isnan(encoding.apply_term(0, new).Z).any(axis=1)) == [False, True, False]


def test_the_response_is_not_needed(data):
    encoding, d = build_design(parse_formula("log(z) ~ x + (1|g)"), data)
    np.testing.assert_array_equal(encoding.apply_fixed(data[["x"]]), d.rows.X)
    np.testing.assert_array_equal(encoding.apply_response(data), d.rows.y)


def test_offsets_of_new_data(data):
    encoding, _ = build_design(parse_formula("y ~ x + offset(log(z)) + (1|g)"), data)
    np.testing.assert_allclose(encoding.apply_offset(data.iloc[:4]), np.log(data["z"][:4]))
    plain, _ = build_design(parse_formula("y ~ x + (1|g)"), data)
    assert plain.apply_offset(data) is None


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": "text"}, "column 'x' held numbers .* is now text"),
        ({"f": 1.0}, "column 'f' held text"),
        ({"f": "q"}, "f has levels the model has not seen: q"),
        ({"x": True}, "column 'x' held numbers"),
        ({"x": pd.Timestamp("2020")}, "dates"),
    ],
)
def test_changed_types_and_unseen_levels(columns, message, data):
    encoding, _ = build_design(parse_formula("y ~ x*f + (1|s)"), data)
    with pytest.raises(DataError, match=message):
        encoding.apply_fixed(data.iloc[:5].assign(**columns))


def test_changed_type_of_a_group(data):
    encoding, _ = build_design(parse_formula("y ~ x + (1|s)"), data)
    with pytest.raises(DataError, match="column 's' held numbers"):
        encoding.apply_term(0, data.assign(s=data["s"].astype(str)))
    # a column of whole numbers stored as floats is the same numbers
    np.testing.assert_array_equal(encoding.apply_term(0, data.assign(s=data["s"] * 1.0)).codes, data["s"])


def test_missing_column_in_new_data(data):
    encoding, _ = build_design(parse_formula("y ~ x + (1|g)"), data)
    with pytest.raises(DataError, match="'x' is not in the data"):
        encoding.apply_fixed(data.drop(columns="x"))


def test_dropped_columns_stay_dropped(data):
    twice = data.assign(x2=2 * data["x"])
    with pytest.warns(UserWarning, match="dropped"):
        encoding, d = build_design(parse_formula("y ~ x + x2 + z + (1|g)"), twice)
    assert encoding.columns == d.layout.columns == ("Intercept", "x", "z")
    assert encoding.dropped_columns == ("x2",)
    np.testing.assert_array_equal(encoding.apply_fixed(twice), d.rows.X)


def test_unused_levels_in_new_data_do_no_harm(data):
    encoding, d = build_design(parse_formula("y ~ f + (1|g)"), data)
    more = data.assign(f=data["f"].cat.set_categories(["c", "b", "a", "zzz"]))
    np.testing.assert_array_equal(encoding.apply_fixed(more), d.rows.X)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("fixed", ["x*f", "poly(x, 2)", "bs(x, df=4)", "cr(x, df=4)", "scale(x)", "C(f, contr.helmert)",
                                   "I(x**2)", "x:f", "C(f, contr.treatment('b'))", "np.log(z + 1)"])  # fmt: skip
def test_names_and_values_are_formulaic_s(fixed, data):
    from formulaic import model_matrix

    expected = model_matrix(fixed, data)
    encoding, _ = build_design(parse_formula(f"y ~ {fixed} + (1|g)"), data)
    assert encoding.fixed.columns == tuple(expected.columns)
    X = encoding.apply_fixed(data)
    np.testing.assert_allclose(X, expected[list(encoding.columns)], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("text", ['contr.sum("b")', 'Sum("b")', "contr.helmert(3, base=2)", "contr.sum(4)"])
def test_a_base_level_is_refused_where_there_is_none(text):
    data = pd.DataFrame({"y": np.arange(12.0) ** 2, "f": list("abc") * 4, "g": [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]})
    with pytest.raises(ParameterError, match="takes no base level"):
        build_design(parse_formula(f"y ~ C(f, {text}) + (1 | g)"), data)
    build_design(parse_formula("y ~ C(f, contr.sum(3)) + (1 | g)"), data)
