"""Numbers that came as text are told from other texts, with what to do."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm.data import build_design
from sparselmm.data.formulas import parse_formula
from sparselmm.data.tables.levels import check_names
from sparselmm.data.tables.texts import is_written_number, number_trouble
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


def messages(data, right):
    return build_design(parse_formula(f"y ~ {right}"), data)[1].layout.messages


def test_numbers_written_as_text_are_a_message_and_a_finding(data):
    texts = data.assign(p=data["x"].round(1).astype(str))
    with pytest.warns(DataWarning, match=r'p is text.*numbers written as text.*pandas\.to_numeric.*"numbers_as_text"'):
        found = messages(texts, "p + (1 | g)")
    assert ("numbers_as_text", "warning") in [(m.code, m.severity) for m in found]
    assert "numbers_as_text" in slm.diagnose("y ~ p + (1 | g)", texts).codes
    years = data.assign(p=(2000 + data.index // 2).astype(str))
    with pytest.warns(DataWarning, match="30 values"):
        messages(years, "p + (1 | g)")


def test_points_between_thousands(data):
    with pytest.warns(DataWarning, match="decimal=',', thousands='.'"):
        messages(data.assign(p=[f"1.{100 + k},5" if k % 2 else f"{k},25" for k in data.index // 2]), "p + (1 | g)")


def test_the_remedy_for_a_blank_entry_works(data):
    file = data.assign(p=data["x"].round(1).astype(str).where(data.index != 7, " ")).to_csv(index=False)
    with pytest.warns(DataWarning, match=r"but ' ' are numbers\. Read the file again with na_values=\[' '\]"):
        messages(pd.read_csv(io.StringIO(file)), "p + (1 | g)")
    assert pd.read_csv(io.StringIO(file), na_values=[" "])["p"].dtype == float


@pytest.mark.parametrize(
    ("levels", "what"),
    [
        (["related", "related ", "other"], "only by blanks: 'related' and 'related '"),
        (["a b", "a  b"], "only by blanks: 'a  b' and 'a b'"),
        (["related", "Related"], "only by upper and lower case: 'Related' and 'related'"),
    ],
)
@pytest.mark.parametrize("right", ["c + (1 | g)", "(1 | c)", "(1 | c:h)", "(0 + c | g)", "(1 | g/c)"])
def test_levels_that_differ_only_by_blanks_or_case(data, levels, what, right):
    odd = data.assign(c=np.resize(levels, 60), h=np.resize(["u", "v", "w"], 60))
    with pytest.warns(DataWarning, match=f"Some levels of c differ {what}"):
        found = messages(odd, right)
    assert "similar_levels" in [m.code for m in found]
    assert "similar_levels" in slm.diagnose(f"y ~ {right}", odd).codes


def test_the_remedy_names_the_column_once(data):
    odd = data.rename(columns={"g": "my g"}).assign(**{"my g": np.resize(["u", "v", "v "], 60)})
    with pytest.warns(DataWarning, match=r"data\['my g'\] = data\['my g'\]\.str\.strip\(\)"):
        messages(odd, "factor(`my g`) + (1 | `my g`)")
    assert slm.diagnose("y ~ x + (1 | `my g`)", odd).codes.count("similar_levels") == 1


@pytest.mark.parametrize("levels", [["AA", "Aa", "aA"], ["AaBb", "Aabb"], ["a", "A"], ["left", "right"]])
def test_other_names_are_no_finding(levels):
    assert not list(check_names("c", pd.Index(levels)))


def test_a_fit_does_not_wait_for_many_names():
    many = pd.Index([f"s{k}" for k in range(30_000)] + ["s1 "])
    assert not list(check_names("c", many))
    assert [m.code for m in check_names("c", many, most=len(many))] == ["similar_levels"]


def test_levels_without_rows_are_no_finding(data):
    c = pd.Categorical(np.resize(["a", "b"], 60), categories=["a", "a ", "b"])
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        for right in ("c + (1 | g)", "(1 | c)", "(1 | c:g)"):
            messages(data.assign(c=c), right)


@pytest.mark.parametrize(
    ("names", "remedy"),
    [
        (lambda n: [";".join(n)], r"separated by ';': read the file again with sep=';'"),
        (lambda n: ["\t".join(n)], r"sep='\\t'"),
        (lambda n: ["\ufeffy", *n[1:]], "encoding='utf-8-sig'"),
        (lambda n: ["ï»¿y", *n[1:]], "encoding='utf-8-sig'"),
        (lambda n: ["y ", *n[1:]], r"blanks in 'y ': .*str\.strip\(\)"),
    ],
)
def test_files_that_were_read_wrongly(names, remedy):
    columns = names(["y", "x", "g"])
    with pytest.raises(DataError, match=f"column 'y' is not in the data; .*{remedy}"):
        slm.lmer("y ~ x + (1 | g)", pd.DataFrame([[1] * len(columns)], columns=columns))
