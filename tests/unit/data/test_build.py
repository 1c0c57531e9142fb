"""The design: the field's table of 42 formulas, data semantics, rows, weights and offsets."""

from __future__ import annotations

import pickle
import time
import warnings

import numpy as np
import pandas as pd
import pytest

from sparselmm.data import build_design, r_names
from sparselmm.data.formulas import parse_formula
from sparselmm.exceptions import DataError, DataWarning, DesignError, FormulaError, RankDeficiencyWarning, ScaleWarning

PARAMETERS = {"us": lambda k: k * (k + 1) // 2, "diag": lambda k: k, "homdiag": lambda k: 1}


def design(rhs, data, **options):
    formula = rhs if "~" in rhs else f"y ~ {rhs}"
    return build_design(parse_formula(formula, list(data.columns)), data, **options)[1]


def n_parameters(d):
    return sum(PARAMETERS[t.structure](t.k) for t in d.rows.terms)


# number in the table, right-hand side, p, q, number of parameters
CASES = [
    ("1", "x + (1|g)", 2, 12, 1),
    ("2a", "x + (x|g)", 2, 24, 3),
    ("2b", "x + (1+x|g)", 2, 24, 3),
    ("3a", "x + (x||g)", 2, 24, 2),
    ("3b", "x + (1|g) + (0+x|g)", 2, 24, 2),
    ("3c", "x + (1|g) + (x-1|g)", 2, 24, 2),
    ("4", "x + (f||g)", 2, 48, 7),
    ("5", "x + (0+f||g)", 2, 36, 6),
    ("6", "x + (x*f2||g)", 2, 72, 8),
    ("7", "f + (f|g)", 3, 36, 6),
    ("8", "x + (0+f|g)", 2, 36, 6),
    ("9", "x + (1|g/h)", 2, 108, 2),
    ("10", "x + (1|g:h)", 2, 96, 1),
    ("11", "x + (1|g*h)", 2, 116, 3),
    ("12", "x + (1|g+h)", 2, 20, 2),
    ("13", "x + (1|g %in% h)", 2, 96, 1),
    ("16", "0 + (1|g)", 0, 12, 1),
    ("17a", "x - 1 + (1|g)", 1, 12, 1),
    ("17b", "0 + x + (1|g)", 1, 12, 1),
    ("18", "f - 1 + (1|g)", 3, 12, 1),
    ("19", "x*f + (1|g)", 6, 12, 1),
    ("20", "x:f + (1|g)", 4, 12, 1),
    ("21", "f:f2 + (1|g)", 6, 12, 1),
    ("22", "f2/x + (1|g)", 4, 12, 1),
    ("23", "(x+z+f2)^2 + (1|g)", 7, 12, 1),
    ("24a", "poly(x,2) + (1|g)", 3, 12, 1),
    ("24b", "splines::bs(x,df=4) + (1|g)", 5, 12, 1),
    ("24d", "splines::ns(x,3) + (1|g)", 4, 12, 1),
    ("24c", "scale(x) + (1|g)", 2, 12, 1),
    ("25a", "log(z) + (log(z)|g)", 2, 24, 3),
    ("25b", "I(x^2) + (I(x^2)|g)", 2, 24, 3),
    ("26", "offset(z) + x + (1|g)", 2, 12, 1),
    ("27a", "x + (1|num)", 2, 5, 1),
    ("27b", "x + (1|chr)", 2, 6, 1),
    ("27c", "x + (1|lg)", 2, 2, 1),
    ("28", "x + (1|gu)", 2, 12, 1),
    ("29a", "xna + (1|g)", 2, 12, 1),
    ("29b", "x + (1|gna)", 2, 4, 1),
    ("30a", "x + (1|factor(s))", 2, 7, 1),
    ("30b", "x + (1|cut(z,3))", 2, 3, 1),
    ("30c", "x + (1|interaction(f,f2))", 2, 6, 1),
    ("33", "x + us(x|g)", 2, 24, 3),
    ("34a", "x + diag(x|g)", 2, 24, 2),
    ("34b", "x + diag(f|g)", 2, 36, 3),
    ("34c", "x + diag(f|g, hom=TRUE)", 2, 36, 1),
    ("35", "cs(x, df=4) + (1|g)", 4, 12, 1),
    ("37a", "(f2:x|g)", 1, 36, 6),
    ("37b", "f2:x + (f2:x|g)", 3, 36, 6),
    ("40", "x + (1|g) - x", 1, 12, 1),
    ("43", "(1|g)*f", 3, 12, 1),
    ("44", "x + 1|g", 1, 24, 3),
]


@pytest.mark.filterwarnings("ignore::sparselmm.exceptions.RankDeficiencyWarning")
@pytest.mark.parametrize(("number", "rhs", "p", "q", "k"), CASES, ids=[c[0] for c in CASES])
def test_sizes_of_the_table_of_cases(number, rhs, p, q, k, data):
    d = design(rhs, data)
    assert (d.layout.p, d.layout.q, n_parameters(d)) == (p, q, k)
    assert d.rows.X.shape == (d.rows.n, p) == (len(d.rows.positions), len(d.layout.columns))
    assert sum(t.to_sparse().shape[1] for t in d.rows.terms) == q


def test_dot_contains_the_grouping_column(data):
    small = data[["y", "x", "f", "g"]]
    assert design(". + (1|g)", small).layout.p == 15
    assert design(". - x + (1|g)", small).layout.p == 14


def test_names_of_columns_and_their_r_names(data):
    encoding, d = build_design(parse_formula("y ~ x*f + lg + I(x^2) + poly(z,2) + (f2|g)"), data)
    assert d.layout.columns[:4] == ("Intercept", "x", "f[T.b]", "f[T.c]")
    names = r_names(d.layout.columns, encoding)
    assert list(names.values()) == [
        "(Intercept)", "x", "fb", "fc", "lgTRUE", "I(x^2)", "poly(z, 2)1", "poly(z, 2)2", "x:fb", "x:fc",
    ]  # fmt: skip
    assert d.rows.terms[0].columns == ("Intercept", "f2[T.v]")
    assert encoding.r_names()["f2[T.v]"] == "f2v"


def test_terms_go_by_decreasing_levels_and_ties_in_formula_order(data):
    d = design("x + (1|h) + (1|g) + (0+x|h) + (1|g:h)", data)
    assert [t.name for t in d.rows.terms] == ["g:h", "g", "h", "h.1"]
    assert d.rows.terms[3].columns == ("x",)


def test_nested_levels_are_named_inner_outer_with_the_outer_fastest(data):
    d = design("x + (1|g/h)", data)
    assert d.rows.terms[0].label == "h:g"
    assert list(d.rows.terms[0].levels[:3]) == ["h1:g01", "h1:g02", "h1:g03"]
    row = 37
    label = f"{data['h'][row]}:{data['g'][row]}"
    assert d.rows.terms[0].levels[d.rows.terms[0].codes[row]] == label


def test_only_observed_combinations_are_levels(data):
    part = data[~((data["g"] == "g01") & (data["h"] == "h2"))]
    d = design("x + (1|g:h)", part)
    assert d.rows.terms[0].m == 95
    assert "g01:h2" not in d.rows.terms[0].levels


def test_numbers_sort_as_numbers_and_text_by_code_point(data):
    assert list(design("x + (1|s)", data.assign(s=data["s"] + 7)).rows.terms[0].levels) == list(range(7, 14))
    text = data.assign(t=np.where(data["s"] < 2, "Zeta", np.where(data["s"] < 5, "alpha", "Ärger")))
    assert list(design("x + (1|t)", text).rows.terms[0].levels) == ["Zeta", "alpha", "Ärger"]


def test_whole_numbers_with_gaps_keep_whole_labels(data):
    d = design("x + (1|s)", data.assign(s=data["s"].where(data["s"] > 0)))
    assert list(d.rows.terms[0].levels) == [1, 2, 3, 4, 5, 6]


def test_category_order_decides_and_ordered_ones_get_treatment_contrasts(data):
    ordered = data.assign(f=pd.Categorical(data["f"].astype(str), ["c", "a", "b"], ordered=True))
    assert design("f + (1|g)", ordered).layout.columns == ("Intercept", "f[T.a]", "f[T.b]")


def test_rows_with_missing_values_leave_jointly(data):
    _, d = build_design(parse_formula("y ~ xna + (1|gna)"), data, weights="wna")
    assert d.rows.n == 192 - len({3, 5, 9} | set(range(0, 192, 24)))
    assert 3 not in d.rows.positions
    (message,) = (m for m in d.layout.messages if m.code == "rows_dropped")
    assert message.severity == "info"
    assert "xna (1)" in message.what
    assert "gna (2)" in message.what
    assert "weights (8)" in message.what
    assert list(d.rows.index) == list(data.index[d.rows.positions])


@pytest.mark.parametrize("missing", [np.nan, None, pd.NA])
def test_every_kind_of_missing_value(missing, data):
    values = data["x"].astype(object)
    values[4] = missing
    levels = data["chr"].astype(object)
    levels[6] = missing
    d = design("x + (1|chr)", data.assign(x=values, chr=levels))
    assert set(range(192)) - set(d.rows.positions) == {4, 6}


def test_na_action_fail_lists_the_rows(data):
    with pytest.raises(DataError, match=r"3 of 192 rows .*xna \(1\).*rows 3, 5, 9"):
        design("xna + (1|gna)", data, na_action="fail")
    assert design("x + (1|g)", data, na_action="fail").rows.n == 192


def test_na_action_exclude_is_recorded(data):
    d = design("xna + (1|g)", data, na_action="exclude")
    assert (d.layout.na_action, len(d.rows.frame_index), d.rows.n) == ("exclude", 192, 191)


def test_rows_keep_the_labels_of_the_index(data):
    labelled = data.set_axis([f"r{i}" for i in range(192)])
    assert "r3" not in design("xna + (1|g)", labelled).rows.index
    with pytest.raises(DataError, match="row r3"):
        design("xna + (1|g)", labelled, na_action="fail")


def test_zero_weights_leave_the_likelihood(data):
    d = design("x + (1|g)", data, weights="wzero")
    assert d.rows.n == 192 - 16
    assert (d.rows.weights > 0).all()
    assert any(m.code == "zero_weights" for m in d.layout.messages)


def test_weights_and_offsets_as_columns_arrays_and_series(data):
    a = design("x + (1|g)", data, weights="w", offset="z")
    b = design("x + (1|g)", data, weights=data["w"].to_numpy(), offset=data["z"])
    c = design("offset(z) + x + (1|g)", data, weights=list(data["w"]))
    for other in (b, c):
        np.testing.assert_array_equal(a.rows.weights, other.rows.weights)
        np.testing.assert_array_equal(a.rows.offset, other.rows.offset)


def test_offsets_add_up(data):
    d = design("offset(z) + offset(log(w)) + x + (1|g)", data, offset="z")
    np.testing.assert_allclose(d.rows.offset, 2 * data["z"] + np.log(data["w"]))


def test_rank_deficiency_is_reported(data):
    with pytest.warns(RankDeficiencyWarning, match=r"1 column dropped \(x2\)"):
        d = design("x + x2 + (1|g)", data.assign(x2=2 * data["x"]))
    assert d.layout.columns == ("Intercept", "x")
    assert d.layout.dropped_columns == ("x2",)
    assert [m.code for m in d.layout.messages] == ["rank_deficient"]


def test_scale_warning(data):
    with pytest.warns(ScaleWarning, match="very different scales"):
        d = design("x + big + (1|g)", data.assign(big=1e6 * data["z"]))
    assert [m.code for m in d.layout.messages] == ["scale"]


def test_no_warning_in_the_ordinary_case(data):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert design("x*f + lg + (x|g) + (1|h)", data).layout.messages == ()


def test_expressions_without_a_value_warn(data):
    with pytest.warns(DataWarning, match=r"log\(x\) has no value in rows"):
        d = design("log(x) + (1|g)", data)
    assert d.rows.n == (data["x"] > 0).sum()


def test_transforms_learn_from_all_rows_as_in_r(data):
    # R evaluates scale(x) before it drops rows for other reasons
    gaps = data.assign(y=data["y"].where(data.index > 20))
    d = design("scale(x) + (1|g)", gaps)
    np.testing.assert_allclose(d.rows.X[:, 1], ((data["x"] - data["x"].mean()) / data["x"].std())[21:])


def test_names_of_the_caller_are_invisible_and_context_is_explicit(data):
    secret = np.ones(192)  # noqa: F841
    with pytest.raises(DataError, match="'secret' is not in the data"):
        design("x + secret + (1|g)", data)
    rank = design("x + rank(z) + (1|g)", data, context={"rank": lambda s: s.rank()})
    np.testing.assert_allclose(rank.rows.X[:, 2], data["z"].rank())
    shift = design("I(x + shift) + (1|g)", data, context={"shift": 3})
    np.testing.assert_allclose(shift.rows.X[:, 1], data["x"] + 3)


def test_columns_come_before_context_and_constants(data):
    d = design("pi + (1|g)", data.assign(pi=data["z"]), context={"pi": data["x"]})
    np.testing.assert_array_equal(d.rows.X[:, 1], data["z"])


def test_odd_column_names(data):
    d = design("`my col` + Sepal.Length + (1|`the group`)", data.rename(
        columns={"x": "my col", "z": "Sepal.Length", "g": "the group"}))  # fmt: skip
    assert d.layout.columns == ("Intercept", "my col", "Sepal.Length")
    assert d.rows.terms[0].label == "the group"


def test_the_design_is_read_only_and_independent_of_the_data(data):
    d = design("x + (x|g)", data, weights="w", offset="z")
    term = d.rows.terms[0]
    for array in (d.rows.y, d.rows.X, d.rows.weights, d.rows.offset, d.rows.positions, term.codes, term.Z):
        assert array.flags.c_contiguous
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    before = d.rows.y.copy()
    data.loc[:, "y"] = 0.0
    np.testing.assert_array_equal(d.rows.y, before)
    assert term.codes.dtype == np.int32


def test_design_and_encoding_pickle(data):
    encoding, d = build_design(parse_formula("y ~ poly(x,2)*f + (1|g/h)"), data)
    again, d2 = pickle.loads(pickle.dumps((encoding, d)))
    np.testing.assert_array_equal(again.apply_fixed(data), d2.rows.X)


def test_contrasts(data):
    d = design("f + (f|g)", data, contrasts={"f": "sum"})
    assert d.layout.columns == ("Intercept", "f[S.a]", "f[S.b]")
    assert d.rows.terms[0].columns == ("Intercept", "f[T.b]", "f[T.c]")  # as in lme4, only the fixed part
    with pytest.raises(ValueError, match="unknown contrasts"):
        design("f + (1|g)", data, contrasts={"f": "nonsense"})
    with pytest.raises(ValueError, match="which is numeric"):
        design("x + (1|g)", data, contrasts={"x": "sum"})
    with pytest.warns(DataWarning, match="'q' are ignored"):
        design("f + (1|g)", data, contrasts={"q": "sum"})
    with pytest.raises(ValueError, match="3 levels"):
        design("f + (1|g)", data, contrasts={"f": np.ones((2, 1))})


def test_r_functions(data):
    d = design(
        "log(z, 2) + ifelse(x > 0, 1, 0) + factor(s > 2 & lg) + relevel(f, ref='b') + as.numeric(f) + (1|g)", data
    )
    np.testing.assert_allclose(d.rows.X[:, 1], np.log2(data["z"]))
    np.testing.assert_allclose(d.rows.X[:, 2], (data["x"] > 0) * 1.0)
    np.testing.assert_allclose(d.rows.X[:, 3], ((data["s"] > 2) & data["lg"]) * 1.0)
    np.testing.assert_allclose(d.rows.X[:, 4], (data["f"] == "a") * 1.0)


def test_numpy_functions_are_elementwise_only(data):
    np.testing.assert_allclose(design("np.log(z) + (1|g)", data).rows.X[:, 1], np.log(data["z"]))
    with pytest.raises(FormulaError, match="not known"):
        design("np.load('file') + (1|g)", data)


def test_conditions_with_gaps_are_missing(data):
    d = design("(xna > 0) + (1|g)", data)
    assert d.rows.n == 191


def test_response_of_a_transformed_column(data):
    d = design("log(z + 1) ~ x + (1|g)", data)
    np.testing.assert_allclose(d.rows.y, np.log(data["z"] + 1))
    assert d.layout.response_name == "log(z + 1)"


def test_overlapping_but_different_terms_are_accepted(data):
    assert [t.name for t in design("x + (1|g) + (x|g)", data).rows.terms] == ["g", "g.1"]


def test_aliased_checks_use_the_rows_that_are_left(data):
    with pytest.raises(DesignError, match="only one level"):
        design("x + (1|g)", data.assign(y=data["y"].where(data["g"] == "g01")))


def test_small_models_are_built_fast():
    rng = np.random.default_rng(0)
    small = pd.DataFrame(
        {"y": rng.normal(size=180), "Days": np.tile(np.arange(10), 18), "g": np.repeat(np.arange(18), 10)}
    )
    spec = parse_formula("y ~ Days + (Days|g)")
    best = np.inf
    for _ in range(30):
        start = time.thread_time()
        build_design(spec, small)
        best = min(best, time.thread_time() - start)
    assert best < 2.5e-3


def test_two_names_for_the_same_groups_are_reported(data):
    twice = data.assign(sample=data["g"].astype(str) + data["h"].astype(str))
    with pytest.warns(DataWarning, match="sample and g:h describe the same 96 groups"):
        d = design("x + (1|sample) + (1|g:h) + (1|g)", twice)
    assert [m.code for m in d.layout.messages] == ["aliased_terms"]


def test_formulas_with_thousands_of_terms_are_read():
    columns = ["y", "g", *(f"x{i}" for i in range(3000))]
    assert str(parse_formula("y ~ . - g + (1|g)", columns).fixed).count("x") == 3000
    assert str(parse_formula(f"y ~ {' + '.join(columns[2:])} + (1|g)").fixed).count("x") == 3000
    with pytest.raises(FormulaError, match="nests too many"):
        parse_formula("y ~ " + "(" * 5000 + "x" + ")" * 5000 + " + (1|g)")
