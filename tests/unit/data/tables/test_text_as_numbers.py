"""Text is read as R reads it by as.numeric(); only categories have positions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm.data import build_design
from sparselmm.data.formulas import parse_formula
from sparselmm.data.tables.texts import numbers_of
from sparselmm.exceptions import DataError

# what R 4's as.numeric() gives
READ_BY_R = [
    ("5", 5), (" 5 ", 5), ("\t5\n", 5), ("1e5", 1e5), ("1E5", 1e5), ("0x1A", 26), ("0X1p3", 8), (".5", 0.5), ("5.", 5),
    ("+5", 5), ("Inf", np.inf), ("-inf", -np.inf), ("infinity", np.inf), ("NaN", np.nan), ("nan", np.nan),
    ("", np.nan), ("  ", np.nan), ("NA", np.nan),
]  # fmt: skip
MISSING_WITH_A_WARNING_IN_R = ["1d5", "1L", "1_000", "1,5", "TRUE", "- 5", "2024-01-01", "5\u00a0", "٣"]


@pytest.fixture
def table():
    return pd.DataFrame(
        {"y": [10.0, 12, 11, 13, 15, 14, 9, 13, 12, 16, 11, 15], "t": ["5", "10"] * 6, "g": list("aabbccddeeff")}
    )


@pytest.mark.parametrize(("text", "number"), READ_BY_R)
def test_texts_that_r_reads(text, number):
    np.testing.assert_array_equal(numbers_of(pd.Index([text])), [number])


@pytest.mark.parametrize("text", MISSING_WITH_A_WARNING_IN_R)
def test_texts_that_r_cannot_read_are_refused(text):
    with pytest.raises(ValueError, match="cannot be read as a number"):
        numbers_of(pd.Index(["1", text]))


def test_the_error_names_entries_and_what_to_do(table):
    table["t"] = [*"123456789", "n.d.", "?", "5"]
    message = r"as\.numeric\(t\): '\?', 'n\.d\.' cannot be read .* na_values=.*as\.numeric\(factor"
    with pytest.raises(DataError, match=message):
        slm.lmer("y ~ as.numeric(t) + (1|g)", table)


@pytest.mark.parametrize("dtype", [object, "str", "string"])
def test_estimates_are_those_of_r(table, dtype):
    fit = slm.lmer("y ~ as.numeric(t) + (1|g)", table.astype({"t": dtype}))
    np.testing.assert_allclose(fit.params, [8 + 5 / 6, 0.5])


@pytest.mark.parametrize(
    ("expression", "first", "second"),
    [
        ("as.numeric(t)", 5, 10),
        ("I(as.numeric(t)^2)", 25, 100),
        ("as.integer(h)", 5, -10),
        ("as.integer(z)", 2, -2),
        ("as.numeric(as.character(c))", 5, 10),
        ("as.numeric(c)", 2, 1),
        ("as.numeric(factor(t))", 2, 1),
        ("as.numeric(ifelse(z > 0, '7', '8'))", 7, 8),
        ("as.numeric(z > 0)", 1, 0),
    ],
)
def test_values_are_those_of_r(table, expression, first, second):
    data = table.assign(h=["5.7", "-10.7"] * 6, z=[2.7, -2.7] * 6, c=table["t"].astype("category"))
    _, d = build_design(parse_formula(f"y ~ {expression} + (1|g)"), data)
    np.testing.assert_array_equal(d.rows.X[:2, 1], [first, second])


def test_as_character_sorts_as_text():
    data = pd.DataFrame({"y": np.arange(12.0) ** 2, "k": [1, 2, 10] * 4, "g": list("aabbccddeeff")})
    assert build_design(parse_formula("y ~ as.character(k) + (1|g)"), data)[1].layout.columns[1:] == (
        "as.character(k)[T.10]",
        "as.character(k)[T.2]",
    )


def test_response_random_terms_and_prediction(table):
    numbers = table.assign(t=table["t"].astype(float), r=table["y"])
    texts = table.assign(r=table["y"].astype(str))
    expected = slm.lmer("r ~ t + (0 + t | g)", numbers)
    fit = slm.lmer("as.numeric(r) ~ as.numeric(t) + (0 + as.numeric(t) | g)", texts)
    assert fit.criterion == pytest.approx(expected.criterion, abs=1e-9)
    new = pd.DataFrame({"t": ["7.5", "10"], "g": ["a", "b"]})
    np.testing.assert_allclose(fit.predict(new), expected.predict(new.astype({"t": float})), rtol=1e-6)
    # a grid of the levels of a text may hold it as categories
    np.testing.assert_array_equal(fit.predict(new.astype({"t": "category"})), fit.predict(new))


def test_a_text_entry_without_number_is_missing(table):
    table.loc[3, "t"] = " "
    with pytest.warns(slm.exceptions.DataWarning, match=r"as\.numeric\(t\) has no value in row 3"):
        assert build_design(parse_formula("y ~ as.numeric(t) + (1|g)"), table)[1].rows.n == 11


@pytest.mark.needs_r
def test_r_gets_text_as_text(table):
    comparison = slm.compare_with_r("y ~ as.numeric(t) + I(as.numeric(t) > 6) + (1|g)", table)
    assert comparison.agrees, str(comparison)


def test_polars_categories_have_positions(table):
    polars = pytest.importorskip("polars")
    data = polars.from_pandas(table).with_columns(polars.col("t").cast(polars.Categorical))
    _, d = build_design(parse_formula("y ~ as.numeric(t) + (1|g)"), data)
    np.testing.assert_array_equal(d.rows.X[:2, 1], [2, 1])
