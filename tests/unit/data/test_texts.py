"""Numbers that came as text are told from other texts, with what to do."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm.data.texts import is_written_number, number_trouble
from sparselmm.exceptions import DataError, DataWarning


@pytest.fixture
def data():
    rng = np.random.default_rng(1)
    x = rng.normal(size=60).round(3)
    return pd.DataFrame({"g": np.repeat(range(12), 5), "x": x, "y": x + rng.normal(size=60).round(3)})


@pytest.mark.parametrize(
    ("texts", "remedy"),
    [
        (["1.5", "2", "-3e2", "n.d."], r"but 'n\.d\.' are numbers; read .* na_values=\['n\.d\.'\]"),
        (["1,5", "2", "-3,25"], "decimal=','"),
        (["1,500", "22,000"], "thousands=','"),
        (["5%", "12 %"], "removesuffix"),
        (["5", "12"], "pandas.to_numeric"),
        ([str(k) for k in range(20)] + list("abcdefg"), "'a', 'b', 'c', 'd', 'e' and 2 more"),
    ],
)
def test_trouble_with_numbers(texts, remedy):
    with pytest.raises(AssertionError, match=remedy):
        raise AssertionError(number_trouble(pd.Index(texts)))


@pytest.mark.parametrize(
    "texts", [["a", "b"], ["1", "a", "b"], ["5 kg", "3 m"], [], ["a,b", "c"], [1.5, 2.5], [True, False]]
)
def test_other_texts_are_none(texts):
    assert number_trouble(pd.Index(texts)) is None
    assert not is_written_number(pd.Index(["1", "a"]))


def test_the_error_about_the_response_names_the_entry(data):
    data["y"] = data["y"].astype(str).where(data.index != 7, "absent")
    with pytest.raises(DataError, match=r"all entries but 'absent' are numbers; .*na_values=\['absent'\]"):
        slm.lmer("y ~ x + (1 | g)", data)
    with pytest.raises(DataError, match=r"scale\(\) needs numbers.*'absent'"):
        slm.lmer("x ~ scale(y) + (1 | g)", data)


def test_a_column_of_numbers_that_became_a_factor_is_a_warning(data):
    data["x"] = data["x"].round(1).astype(str).where(data.index % 30 != 7, "?")
    with pytest.warns(DataWarning, match=r"x is text, so each of its \d+ values has a coefficient; all entries but"):
        slm.LinearMixedModel.from_formula("y ~ x + (1 | g)", data)


@pytest.mark.parametrize("change", ["category", "written", "factor"])
def test_factors_on_purpose_are_none(data, change):
    data["f"] = (data.index % 12).astype(str)
    if change != "written":
        data.loc[[3, 15], "f"] = "?"
    if change == "category":
        data["f"] = data["f"].astype("category")
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        slm.LinearMixedModel.from_formula(f"y ~ {'factor(f)' if change == 'factor' else 'f'} + (1 | g)", data)


def test_a_part_of_a_name_is_suggested_with_backticks(data):
    odd = data.rename(columns={"x": "visit (weeks)"})
    for formula in ("y ~ visit + (1 | g)", "y ~ visit (weeks) + (1 | g)"):
        with pytest.raises(DataError, match=r"did you mean 'visit \(weeks\)'\? \(names like this go in backticks\)"):
            slm.lmer(formula, odd)
