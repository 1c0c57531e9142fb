"""factor(), cut(), interaction(), ! and %in% inside formulas: missing values, labels, edges, errors, as R has them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm.data import build_design
from sparselmm.data.formulas import parse_formula
from sparselmm.exceptions import DataError, FormulaError


@pytest.fixture
def table():
    rng = np.random.default_rng(7)
    n = 60
    g = np.arange(n) % 10
    x = np.round(rng.uniform(0, 4, n), 2)
    x[:5] = [0.0, 1.0, 2.0, 4.0, 3.0]
    f = np.array(["a", "b", "c"], dtype=object)[rng.integers(0, 3, n)]
    y = x + rng.normal(size=10)[g] + rng.normal(size=n)
    return pd.DataFrame({"y": y, "x": x, "f": f, "h": np.where(np.arange(n) % 2, "u", "v"), "g": g})


def columns(formula, table, **options):
    """Return the fixed-effects matrix as a table with its names."""
    _, design = build_design(parse_formula(formula), table, **options)
    return pd.DataFrame(design.rows.X, columns=list(design.layout.columns), index=design.rows.index)


# --- factor() --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["factor(f)", "C(f)", "relevel(f, 'a')", "factor(f, levels = c('a', 'b', 'c'))"])
def test_rows_without_a_level_are_left_out(table, text):
    table.loc[[3, 17], "f"] = None
    fit = slm.lmer(f"y ~ {text} + (1 | g)", table)
    complete = slm.lmer("y ~ f + (1 | g)", table.dropna())
    assert fit.nobs == complete.nobs == len(table) - 2
    assert fit.criterion == pytest.approx(complete.criterion, abs=1e-10)
    np.testing.assert_allclose(fit.params, complete.params, rtol=1e-8)


def test_values_outside_the_levels_given_are_missing(table):
    inside = table["f"] != "c"
    with pytest.warns(slm.exceptions.DataWarning, match="these rows are left out"):
        X = columns("y ~ factor(f, levels = c('b', 'a')) + (1 | g)", table)
    assert list(X.index) == list(table.index[inside])
    np.testing.assert_array_equal(X.iloc[:, 1], table["f"][inside] == "a")


def test_labels_rename_the_levels(table):
    X = columns("y ~ factor(f, labels = c('A', 'B', 'C')) + (1 | g)", table)
    assert [name.split(")")[-1] for name in X.columns[1:]] == ["[T.B]", "[T.C]"]
    np.testing.assert_array_equal(X.iloc[:, 2], table["f"] == "c")
    with pytest.raises(DataError, match="2 labels for 3 levels"):
        columns("y ~ factor(f, labels = c('A', 'B')) + (1 | g)", table)


def test_new_rows_without_a_level_are_not_predicted(table):
    fit = slm.lmer("y ~ factor(f) + (1 | g)", table)
    new = pd.DataFrame({"f": ["b", None, "a"], "g": [1, 1, 1]})
    found = np.asarray(fit.predict(new))
    assert np.isnan(found[1])
    assert np.isfinite(found[[0, 2]]).all()


# --- cut() -----------------------------------------------------------------------------------------------------


def intervals(text, table):
    """Return the interval of each row from the indicators of all intervals; missing rows are left out."""
    X = columns(f"y ~ 0 + {text} + (1 | g)", table)
    names = [name[name.index(")[") + 2 : -1] for name in X.columns]
    return pd.Series(np.array(names, dtype=object)[X.to_numpy().argmax(axis=1)], index=X.index)


@pytest.mark.filterwarnings("ignore:cut:sparselmm.exceptions.DataWarning")
@pytest.mark.parametrize(
    ("right", "lowest", "expected"),
    [
        # what R's cut(c(0, 1, 2, 4, 3), c(0, 1, 2, 4), right =, include.lowest =) gives
        (True, False, [None, "(0,1]", "(1,2]", "(2,4]", "(2,4]"]),
        (True, True, ["[0,1]", "[0,1]", "(1,2]", "(2,4]", "(2,4]"]),
        (False, False, ["[0,1)", "[1,2)", "[2,4)", None, "[2,4)"]),
        (False, True, ["[0,1)", "[1,2)", "[2,4]", "[2,4]", "[2,4]"]),
    ],
)
def test_which_end_an_interval_holds(table, right, lowest, expected):
    options = f"right = {str(right).upper()}, include.lowest = {str(lowest).upper()}"
    found = intervals(f"cut(x, c(4, 0, 2, 1), {options})", table)
    assert [found.get(i) for i in range(5)] == expected
    inside = table["x"].between(0, 4, inclusive="both" if lowest else "right" if right else "left")
    assert list(found.index) == list(table.index[inside])


def test_labels_of_intervals(table):
    found = intervals("cut(x, c(-1, 1, 5), labels = c('low', 'high'))", table)
    assert list(found) == ["low" if x <= 1 else "high" for x in table["x"]]
    found = intervals("cut(x, c(-1, 1, 5), labels = FALSE)", table)
    assert list(found) == ["1" if x <= 1 else "2" for x in table["x"]]
    with pytest.raises(DataError, match="1 labels for 2 intervals"):
        columns("y ~ cut(x, c(-1, 1, 5), labels = c('a')) + (1 | g)", table)


def test_equal_intervals_over_the_range(table):
    """R widens the range by a thousandth of itself: cut(c(0, 4), 2) has (-0.004,2] and (2,4]."""
    found = intervals("cut(x, 2)", table)
    assert set(found) == {"(-0.004,2]", "(2,4]"}
    assert list(found == "(2,4]") == list(table["x"] > 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cut(x, 1)", "at least 2"),
        ("cut(x, 2.5)", "whole number"),
        ("cut(x, TRUE)", "whole number"),
        ("cut(nothing, 3)", "no values"),
    ],
)
def test_bad_break_points(table, text, message):
    with pytest.raises(DataError, match=message):
        columns(f"y ~ {text} + (1 | g)", table.assign(nothing=np.nan))


# --- interaction() ---------------------------------------------------------------------------------------------


def test_combinations_vary_fastest_in_the_first_factor(table):
    table.loc[4, "f"] = None
    X = columns("y ~ 0 + interaction(f, h) + (1 | g)", table)
    order = ["a.u", "b.u", "c.u", "a.v", "b.v", "c.v"]
    assert [name[name.index(")[") + 2 : -1] for name in X.columns] == order
    complete = table.dropna()
    assert list(X.index) == list(complete.index)
    found = np.array(order)[X.to_numpy().argmax(axis=1)]
    assert list(found) == list(complete["f"] + "." + complete["h"])


def test_interaction_says_what_it_needs(table):
    with pytest.raises(FormulaError, match="at least one column"):
        columns("y ~ interaction() + (1 | g)", table)
    many = table.loc[np.repeat(table.index, 40)].assign(**{c: np.arange(2400) for c in "pqr"})
    with pytest.raises(DataError, match="use a:b"):
        columns("y ~ interaction(factor(p), factor(q), factor(r)) + (1 | g)", many)


# --- truth values ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "truth"),
    [
        ("I(f %in% c('a', 'c'))", lambda d: d["f"].isin(["a", "c"])),
        ("I(f %in% 'b')", lambda d: d["f"] == "b"),
        ("I(!(x > 2))", lambda d: ~(d["x"] > 2)),
        ("I(!(f %in% c('a', 'c')) & x > 1)", lambda d: (d["f"] == "b") & (d["x"] > 1)),
    ],
)
def test_memberships_and_negations(table, text, truth):
    X = columns(f"y ~ {text} + (1 | g)", table)
    np.testing.assert_array_equal(X.iloc[:, 1], truth(table))


def test_negation_of_a_missing_truth_value_is_missing(table):
    table["t"] = pd.array(table["x"] > 2, dtype="boolean")
    table.loc[2, "t"] = pd.NA
    X = columns("y ~ I(!t) + (1 | g)", table)
    assert list(X.index) == [i for i in table.index if i != 2]
    np.testing.assert_array_equal(X.iloc[:, 1], (table["x"] <= 2).drop(2))


def test_values_from_outside_the_table(table):
    outside = np.random.default_rng(1).normal(size=(60, 2))
    frame = pd.DataFrame(outside, columns=["one", "two"], index=table.index)
    levels = pd.Categorical(table["f"])
    for value, names in ((outside, ["B1", "B2"]), (frame, ["Bone", "Btwo"])):
        X = columns("y ~ B + (1 | g)", table, context={"B": value})
        assert [name.replace("[", "").replace("]", "") for name in X.columns[1:]] == names
        np.testing.assert_array_equal(X.iloc[:, 1:], outside)
    X = columns("y ~ k + I(2 * m) + I(x * two) + (1 | g)", table, context={"k": levels, "m": outside[:, 0], "two": 2})
    np.testing.assert_array_equal(X.iloc[:, 1], table["f"] == "b")
    np.testing.assert_array_equal(X.iloc[:, 3], 2 * outside[:, 0])
    np.testing.assert_array_equal(X.iloc[:, 4], 2 * table["x"])
