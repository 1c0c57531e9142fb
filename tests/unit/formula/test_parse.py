from __future__ import annotations

import pickle
import re

import pytest

from sparselmm.data.formulas import parse_formula, update_formula
from sparselmm.exceptions import FormulaError, UnsupportedError
from sparselmm.formula import render_spec


def random(rhs, columns=None):
    return [(str(t.lhs), t.label, t.structure) for t in parse_formula(f"y ~ {rhs}", columns).random]


@pytest.mark.parametrize(
    ("rhs", "fixed"),
    [
        ("(1|g)", "1"),
        ("x + (1|g)", "1 + x"),
        ("0 + (1|g)", "0"),
        ("-1 + (1|g)", "0"),
        ("x - 1 + (1|g)", "0 + x"),
        ("x + 0 + (1|g)", "0 + x"),
        ("0 + x + 1 + (1|g)", "1 + x"),
        ("x - 0 + (1|g)", "1 + x"),
        ("x*f + (1|g)", "1 + x + f + x:f"),
        ("f2/x + (1|g)", "1 + f2 + f2:x"),
        ("(x+z+f)^2 + (1|g)", "1 + x + z + f + x:z + x:f + z:f"),
        ("(x+z)**2 + (1|g)", "1 + x + z + x:z"),
        ("x^2 + (1|g)", "1 + x"),
        ("x %in% f + (1|g)", "1 + x:f"),
        ("x + (1|g) - x", "1"),
        ("(1|g) - x", "1"),
        ("x - x + (1|g)", "1"),
        ("x*f - x + (1|g)", "1 + f + x:f"),
        ("a:b - b:a + (1|g)", "1"),
        ("b:a + a + b + (1|g)", "1 + a + b + b:a"),
        ("I(x^2) + (1|g)", "1 + I(x ** 2)"),
        ("I(x**2) + (1|g)", "1 + I(x ** 2)"),
        ("poly(x,2,raw=TRUE) + (1|g)", "1 + poly(x, 2, raw=True)"),
        ("splines::bs(x, df = 4) + (1|g)", "1 + bs(x, df=4)"),
        ("cs(x, df=4) + (1|g)", "1 + cs(x, df=4)"),
        ("`my col` + (1|g)", "1 + `my col`"),
        ("Sepal.Length + (1|g)", "1 + Sepal.Length"),
        ("(1|g)*f", "1 + f"),
        ("f:(1|g)", "1 + f"),
        ("f*(x + (1|g))", "1 + f + x + f:x"),
        ("((1|g))", "1"),
        ("(x + (1|g))", "1 + x"),
        ("offset(z) + x + (1|g)", "1 + x"),
        ("x + 1|g", "1"),
        ("(x > 0) + (1|g)", "1 + (x > 0)"),
        ("f:(x > 0) + (1|g)", "1 + f:(x > 0)"),
        ("I(a | b) + (1|g)", "1 + I(a | b)"),
        ("größe + (1|g)", "1 + größe"),
    ],
)
def test_fixed_part(rhs, fixed):
    assert str(parse_formula(f"y ~ {rhs}").fixed) == fixed


@pytest.mark.parametrize(
    ("rhs", "terms"),
    [
        ("(x|g)", [("1 + x", "g", "us")]),
        ("(1+x|g)", [("1 + x", "g", "us")]),
        ("(x||g)", [("1", "g", "us"), ("0 + x", "g", "us")]),
        ("(f||g)", [("1", "g", "us"), ("0 + f", "g", "us")]),
        ("(0+f||g)", [("0 + f", "g", "us")]),
        ("(x*f2||g)", [("1", "g", "us"), ("0 + x", "g", "us"), ("0 + f2", "g", "us"), ("0 + x:f2", "g", "us")]),
        ("(1|a/b)", [("1", "b:a", "us"), ("1", "a", "us")]),
        ("(1|a/b/c)", [("1", "c:(b:a)", "us"), ("1", "b:a", "us"), ("1", "a", "us")]),
        ("(x||a/b)", [("1", "b:a", "us"), ("1", "a", "us"), ("0 + x", "b:a", "us"), ("0 + x", "a", "us")]),
        ("(1|a:b)", [("1", "a:b", "us")]),
        ("(1|a:b:c)", [("1", "a:b:c", "us")]),
        ("(1|a %in% b)", [("1", "a:b", "us")]),
        ("(1|a*b)", [("1", "a", "us"), ("1", "b", "us"), ("1", "a:b", "us")]),
        ("(1|a+b)", [("1", "a", "us"), ("1", "b", "us")]),
        ("us(x|g)", [("1 + x", "g", "us")]),
        ("diag(x|g)", [("1 + x", "g", "diag")]),
        ("diag(f|g, hom=TRUE)", [("1 + f", "g", "homdiag")]),
        ("diag(f|g, hom = FALSE)", [("1 + f", "g", "diag")]),
        ("diag(1|a/b)", [("1", "b:a", "diag"), ("1", "a", "diag")]),
        ("x + 1|g", [("1 + x", "g", "us")]),
        ("(1|factor(s))", [("1", "factor(s)", "us")]),
        ("(1|cut(z,3))", [("1", "cut(z, 3)", "us")]),
        ("(1|`my g`)", [("1", "my g", "us")]),
        ("(log(z)|g)", [("1 + log(z)", "g", "us")]),
        ("(x - 1|g)", [("0 + x", "g", "us")]),
        ("(1|g) + (0+x|g)", [("1", "g", "us"), ("0 + x", "g", "us")]),
    ],
)
def test_random_terms(rhs, terms):
    assert random(rhs) == terms


def test_grouping_expressions_of_an_interaction():
    inner, outer = parse_formula("y ~ (1|a/factor(b))").random
    assert inner.grouping == ("factor(b)", "a")
    assert outer.grouping == ("a",)


def test_the_source_of_a_term_is_the_bar_as_written():
    assert {t.source for t in parse_formula("y ~ (x||a/b)").random} == {"(x || a / b)"}


@pytest.mark.parametrize(
    ("formula", "response"),
    [
        ("y ~ (1|g)", "y"),
        ("log(y+1) ~ (1|g)", "log(y + 1)"),
        ("I(a/b) ~ (1|g)", "I(a / b)"),
        ("a - b ~ (1|g)", "a - b"),
    ],
)
def test_response(formula, response):
    assert parse_formula(formula).response == response


def test_offsets_are_collected():
    spec = parse_formula("y ~ offset(z) + x + offset(log(w)) + (1|g)")
    assert spec.offsets == ("z", "log(w)")
    assert str(spec.fixed) == "1 + x"


@pytest.mark.parametrize(
    ("rhs", "fixed"),
    [
        (". + (1|g)", "1 + x + f + g"),
        (". - x + (1|g)", "1 + f + g"),
        (".^2 + (1|g)", "1 + x + f + g + x:f + x:g + f:g"),
        (". - g + (1|g)", "1 + x + f"),
        ("0 + . + (1|g)", "0 + x + f + g"),
    ],
)
def test_dot_is_every_other_column(rhs, fixed):
    assert str(parse_formula(f"log(y) ~ {rhs}", ["y", "x", "f", "g"]).fixed) == fixed


def test_dot_quotes_odd_names():
    assert str(parse_formula("y ~ . + (1|g)", ["y", "my col", "g"]).fixed) == "1 + `my col` + g"


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        (None, "must be a text"),
        (3, "must be a text"),
        ("", "empty"),
        ("   ", "empty"),
        ("y", "no '~'"),
        ("~ x + (1|g)", "no response"),
        ("y ~", "formula ends"),
        ("y ~ x", "No random effects terms"),
        ("y ~ 1", "No random effects terms"),
        ("y ~ x ~ (1|g)", "more than one '~'"),
        ("y ~ (0|g)", r"\(0 \| g\) has nothing on the left"),
        ("y ~ (0||g)", "nothing on the left"),
        ("y ~ (-1|g)", "nothing on the left"),
        ("y ~ (|g)", "where a variable or term is expected"),
        ("y ~ (1|)", "where a variable or term is expected"),
        ("y ~ (1|g", "not closed"),
        ("y ~ (1|g))", "not expected here"),
        ("y ~ x +* (1|g)", "'\\*' stands"),
        ("y ~ x z + (1|g)", "expected an operator such as \\+ before 'z'"),
        ("y ~ (1|g)|h", "second bar"),
        ("y ~ (1|g|h)", "second bar"),
        ("y ~ x - (1|g)", "cannot be subtracted"),
        ("y ~ -(1|g)", "cannot follow '-'"),
        ("y ~ (1|1)", "must be a column"),
        ("y ~ (1|'g')", "must be a column"),
        ("y ~ (1|.)", "'.' cannot be the grouping factor"),
        ("y ~ (1|a - b)", "is not a grouping factor"),
        ("y ~ (1|a^2)", "is not a grouping factor"),
        ("y ~ (1|(a+b)/c)", "only a chain"),
        ("y ~ (.|g)", "in the random term"),
        ("y ~ (offset(x)|g)", r"offset\(\) cannot stand inside"),
        ("y ~ x:offset(z) + (1|g)", "added to the formula with"),
        ("y ~ x - offset(z) + (1|g)", "cannot be subtracted"),
        ("y ~ offset() + (1|g)", "offset\\(expression\\)"),
        ("y ~ log(1|g)", "not a covariance structure"),
        ("y ~ foo(x|g)", "foo\\(\\).* is not a covariance structure"),
        ("y ~ us(x||g)", "single bar"),
        ("y ~ us(x|g, hom=TRUE)", "only option is hom"),
        ("y ~ diag(x|g, hom=3)", "hom must be TRUE or FALSE"),
        ("y ~ diag(x|g, het=TRUE)", "only option is hom"),
        ("y ~ 2 + (1|g)", "only 0 and 1"),
        ("y ~ 2*x + (1|g)", "only 0 and 1"),
        ("y ~ (x+z)^1.5 + (1|g)", "whole number"),
        ("y ~ x^z + (1|g)", "whole number"),
        ("y ~ 'x' + (1|g)", "without quotes"),
        ("y ~ . + (1|g)", "allowed only in the fixed part of a model with data"),
        ("y ~ log(.) + (1|g)", "allowed|cannot be an argument"),
        ("cbind(a, b) ~ (1|g)", "several columns"),
        ("1 ~ (1|g)", "names no column"),
        ("'y' ~ (1|g)", "names no column"),
        (". ~ (1|g)", "cannot be the response"),
        ("(y|g) ~ x", "response .* contains a bar"),
        ("y ~ df$x + (1|g)", "cannot read '\\$'"),
        ("y ~ x[1] + (1|g)", "indexing"),
        ("y ~ {x} + (1|g)", "braces"),
        ("y ~ `x + (1|g)", "back-tick is not closed"),
        ("y ~ f('a) + (1|g)", "quote is not closed"),
        ("y ~ x # comment", "such characters go in backticks"),
        ("y ~ log(x, base=2, 3) + (1|g)", "positional argument follows"),
        ("y ~ x > 4 + (1|g)", r"a comparison goes in I\(\.\.\.\): I\(x > 4\)"),
        ("y ~ z + x == 'a' + f - w + (1|g)", r"I\(x == 'a'\)"),
        ("y ~ x* + (1|g)", r"nothing stands on the right of '\*' in x \*"),
        ("y ~ x + (1|y)", "is the response"),
        ("y ~ x + (1|y:g)", "is the response"),
        ("log(y) ~ x + (1|log(y))", "is the response"),
        ("y ~ C(x, levels=[7,6]) + (1|g)", r"list of values as c\(1, 2\)"),
        ("y ~ bs(x, knots=(2,4)) + (1|g)", r"list of values is written c\(1, 2\)"),
        ("y ~ I(x//2) + (1|g)", "whole-number division is %/%"),
        ("y ~ I(x%2) + (1|g)", "remainder of a division is %%"),
        ("y ~ x – 1 + (1|g)", "another character than the minus sign"),
        ("y ~ C(f, “a”) + (1|g)", "not the quotes of a program"),
    ],
)
def test_errors(formula, message):
    with pytest.raises(FormulaError, match=message):
        parse_formula(formula, None if formula is None or "log(.)" not in str(formula) else ["y", "x", "g"])


def test_an_error_points_at_the_place():
    with pytest.raises(FormulaError) as caught:
        parse_formula("y ~ x +* z + (1|g)")
    _, line, mark = str(caught.value).split("\n")
    assert line[mark.index("^")] == "*"


@pytest.mark.parametrize("text", ["cs(0+f|g)", "cs(0+f|g, hom=TRUE)", "ar1(0+f|g)", "ar1(0+f|g, hom=FALSE)"])
def test_planned_structures(text):
    with pytest.raises(UnsupportedError, match="not yet supported"):
        parse_formula(f"y ~ x + {text}")


def test_specs_pickle_and_compare():
    spec = parse_formula("y ~ x*f + (x||a/b) + offset(z)")
    assert pickle.loads(pickle.dumps(spec)) == spec


@pytest.mark.parametrize(
    "formula",
    [
        "log(y) ~ x*f - z + (x||a/b) + diag(f|g, hom=TRUE) + offset(log(z))",
        "y ~ 0 + (1|g)",
        "y ~ (x > 1) + (1|factor(s))",
    ],
)
def test_rendering_parses_to_the_same_model(formula):
    spec = parse_formula(formula)
    again = parse_formula(render_spec(spec))
    assert (again.response, again.fixed, again.random, again.offsets) == (
        spec.response,
        spec.fixed,
        spec.random,
        spec.offsets,
    )


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("y ~ x + z + (1|g)", ". ~ . - x", "y ~ 1 + z + (1 | g)"),
        ("y ~ x + (1|g)", ". ~ . + (1|h)", "y ~ 1 + x + (1 | g) + (1 | h)"),
        ("y ~ x + (1|g) + (1|h)", ". ~ . - (1|h)", "y ~ 1 + x + (1 | g)"),
        ("y ~ x + (1|g)", "log(.) ~ .", "log(y) ~ 1 + x + (1 | g)"),
        ("y ~ x + (1|g)", "~ . + z", "y ~ 1 + x + z + (1 | g)"),
        ("y ~ x + (1|g)", "w ~ .", "w ~ 1 + x + (1 | g)"),
        ("y ~ x + (1|g)", ". ~ . - 1", "y ~ 0 + x + (1 | g)"),
        ("y ~ 0 + x + (1|g)", ". ~ . + 1", "y ~ 1 + x + (1 | g)"),
        ("y ~ x + (1|g)", ". ~ .*f", "y ~ 1 + x + f + x:f + (1 | g)"),
        ("y ~ x + (x|g)", ". ~ . - (1+x|g) + (1|g)", "y ~ 1 + x + (1 | g)"),
        ("y ~ x + (x||g)", ". ~ . - (x||g) + (x|g)", "y ~ 1 + x + (x | g)"),
        ("y ~ x + diag(f|g)", ". ~ . - diag(f|g) + us(f|g)", "y ~ 1 + x + us(f | g)"),
        ("y ~ x + offset(z) + (1|g)", ". ~ . - x", "y ~ 1 + offset(z) + (1 | g)"),
        ("y ~ x + offset(z) + (1|g)", ". ~ . - offset(z)", "y ~ 1 + x + (1 | g)"),
        ("y ~ x + (1|g)", "y ~ z + (1|h)", "y ~ 1 + z + (1 | h)"),
        ("y ~ x + (1|g)", ". ~ . + I(x^2)", "y ~ 1 + x + I(x ** 2) + (1 | g)"),
    ],
)
def test_update(old, new, expected):
    assert update_formula(old, new) == expected
    assert update_formula(parse_formula(old), new) == expected


def test_update_accepts_an_expanded_dot():
    spec = parse_formula("y ~ . + (1|g)", ["y", "x", "z", "g"])
    assert update_formula(spec, ". ~ . - g") == "y ~ 1 + x + z + (1 | g)"


def test_update_needs_a_text():
    with pytest.raises(FormulaError, match="must be a text"):
        update_formula("y ~ x + (1|g)", 3)


def test_tokens_are_not_python():
    # nothing in a formula is ever handed to Python
    with pytest.raises(FormulaError, match=re.escape("expected an operator")):
        parse_formula("y ~ __import__('os').system('true') + (1|g)")


def test_quoted_names_are_names():
    spec = parse_formula('Q("my y") ~ x + . + (1 | g)', ["my y", "x", "z", "g"])
    assert spec.response == "Q('my y')"
    assert str(spec.fixed) == "1 + x + z + g"


def test_a_power_of_any_size_ends_when_there_are_no_more_products():
    assert parse_formula("y ~ (a + b + c)^1000000000 + (1 | g)").fixed == parse_formula("y ~ a*b*c + (1 | g)").fixed
