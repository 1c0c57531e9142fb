"""Everything a user can get wrong raises the package's own exception with a message that says what and where."""

# ruff: noqa: E501  (one case per line reads as a table)
from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from data_cases import make_data

from sparselmm.data import build_design
from sparselmm.data.formulas import parse_formula
from sparselmm.exceptions import DataError, DesignError, FormulaError, ParameterError, SparseLMMError

n = 192


def same(d):
    return d


def with_(**columns):
    return lambda d: d.assign(**{k: v(d) if callable(v) else v for k, v in columns.items()})


def put(name, row, value):
    def change(d):
        column = d[name].astype(object) if isinstance(value, str) else d[name].copy()
        column[row] = value
        return d.assign(**{name: column})

    return change


CASES = [
    ("misspelt column", "y ~ X2 + (1|g)", same, {}, DataError, "'X2' is not in the data; the columns are|did you mean"),
    ("misspelt case", "y ~ Num + (1|g)", same, {}, DataError, "did you mean 'num'"),
    ("misspelt group", "y ~ x + (1|gg)", same, {}, DataError, "'gg' is not in the data"),
    ("misspelt response", "yy ~ x + (1|g)", same, {}, DataError, "'yy' is not in the data"),
    ("misspelt slope", "y ~ x + (xx|g)", same, {}, DataError, "'xx' is not in the data"),
    ("misspelt offset", "y ~ x + offset(zz) + (1|g)", same, {}, DataError, "'zz' is not in the data"),
    ("misspelt function", "y ~ lgo(z) + (1|g)", same, {}, FormulaError, r"lgo\(\).*did you mean log"),
    ("smooth term", "y ~ mgcv::s(x) + (1|g)", same, {}, FormulaError, "use bs"),
    ("name in a call", "y ~ log(zz) + (1|g)", same, {}, DataError, "'zz' is not in the data"),
    ("constant as term", "y ~ TRUE + (1|g)", same, {}, FormulaError, "constant True"),
    ("contrast as term", "y ~ sum + (1|g)", same, {}, DataError, "sum is not a column"),
    ("empty frame", "y ~ x + (1|g)", lambda d: d.iloc[:0], {}, DataError, "no rows"),
    ("no columns", "y ~ x + (1|g)", lambda d: d[[]], {}, DataError, "no columns"),
    ("not a table", "y ~ x + (1|g)", lambda d: 3, {}, DataError, "not int"),
    ("a list", "y ~ x + (1|g)", lambda d: [1, 2], {}, DataError, "not list"),
    ("a series", "y ~ x + (1|g)", lambda d: d["y"], {}, DataError, "not Series"),
    ("an array", "y ~ x + (1|g)", lambda d: np.ones((3, 3)), {}, DataError, "not ndarray"),
    ("uneven dict", "y ~ x + (1|g)", lambda d: {"y": [1, 2], "x": [1], "g": [1, 2]}, {}, DataError, "differ in length"),
    ("scalar in dict", "y ~ x + (1|g)", lambda d: {"y": [1, 2], "x": 1}, {}, DataError, "'x' must be an array"),
    ("duplicate column", "y ~ x + (1|g)", lambda d: pd.concat([d, d["x"]], axis=1), {}, DataError, "2 columns named 'x'"),
    ("two-level header", "y ~ x + (1|g)", lambda d: pd.concat({"a": d}, axis=1), {}, DataError, "one name per column"),
    ("all missing", "y ~ x + (1|g)", with_(x=np.nan), {}, DataError, "none of the 192 rows can be used: x is missing in 192"),
    ("all text missing", "y ~ f + (1|g)", with_(f=None), {}, DataError, "f is missing in 192"),
    ("all groups missing", "y ~ x + (1|g)", with_(g=None), {}, DataError, "g is missing in 192"),
    ("inf in x", "y ~ x + (1|g)", put("x", 7, np.inf), {}, DataError, "x is infinite in row 7"),
    ("inf in y", "y ~ x + (1|g)", put("y", 8, -np.inf), {}, DataError, "response y is infinite in row 8"),
    ("log of zero", "y ~ log(z) + (1|g)", put("z", 9, 0.0), {}, DataError, r"log\(z\) is infinite in row 9"),
    ("division by zero", "y ~ I(1/s) + (1|g)", same, {}, DataError, r"I\(1 / s\) is infinite in rows 0, 7"),
    ("text response", "chr ~ x + (1|g)", same, {}, DataError, "response chr must be numeric"),
    ("category response", "f ~ x + (1|g)", same, {}, DataError, "response f must be numeric"),
    ("logical response", "lg ~ x + (1|g)", same, {}, DataError, "truth values"),
    ("matrix response", "poly(y, 2) ~ x + (1|g)", same, {}, DataError, "must be one column"),
    ("date response", "t ~ x + (1|g)", with_(t=pd.date_range("2020", periods=n)), {}, DataError, "'t' holds dates"),
    ("date predictor", "y ~ t + (1|g)", with_(t=pd.date_range("2020", periods=n)), {}, DataError, "'t' holds dates"),
    ("duration", "y ~ t + (1|g)", with_(t=pd.to_timedelta(np.arange(n), "s")), {}, DataError, "'t' holds dates or times"),
    ("complex", "y ~ t + (1|g)", with_(t=1j * np.arange(n)), {}, DataError, "complex"),
    ("mixed types", "y ~ x + (1|g)", put("x", 5, "five"), {}, DataError, r"'x' mixes types: float.*str \(first in row 5\)"),
    ("mixed group", "y ~ x + (1|chr)", lambda d: d.assign(chr=["a", 1] * 96), {}, DataError, "'chr' mixes types"),
    ("lists in cells", "y ~ t + (1|g)", with_(t=lambda d: [[1]] * n), {}, DataError, "'t' mixes types|list"),
    ("one fixed level", "y ~ one + (1|g)", same, {}, DesignError, r"factor one .* only one level \(only\)"),
    ("one slope level", "y ~ x + (one|g)", same, {}, DesignError, r"one in the random term \(one \| g\)"),
    ("one group", "y ~ x + (1|one)", same, {}, DesignError, "one has only one level"),
    ("levels as rows", "y ~ x + (1|obs)", same, {}, DesignError, "obs has 192 levels for 192 rows"),
    ("effects as rows", "y ~ x + (x|g:h)", same, {}, DesignError, r"\(Intercept \+ x \| g:h\) has 192 random effects"),
    ("nested effects", "y ~ x + (x|g/h)", same, {}, DesignError, r"h:g\) has 192 random effects for 192"),
    ("twice", "y ~ x + (1|g) + (1|g)", same, {}, DesignError, r"\(Intercept \| g\) is in the formula twice"),
    ("twice by ||", "y ~ x + (x||g) + (0+x|g)", same, {}, DesignError, "twice"),
    ("twice, swapped", "y ~ x + (1|g:h) + (1|h:g)", same, {}, DesignError, "twice"),
    ("constant response", "k ~ x + (1|g)", with_(k=5.0), {}, DesignError, r"response k is constant \(5 in all"),
    ("zero response", "k ~ 0 + x + (1|g)", with_(k=0.0), {}, DesignError, "exactly"),
    ("perfect fit", "k ~ x + (1|g)", with_(k=lambda d: 2 * d["x"] + 1), {}, DesignError, "fit the response k exactly"),
    ("itself", "y ~ I(2*y) + (1|g)", same, {}, DesignError, "also a predictor"),
    ("few rows", "y ~ x + z + f + (1|lg)", lambda d: d.iloc[:5], {}, DesignError, "5 rows for 5|exactly|one level"),
    ("one row", "y ~ 1 + (1|g)", lambda d: d.iloc[:1], {}, DesignError, "only one level"),
    ("negative weight", "y ~ x + (1|g)", put("w", 4, -1.0), {"weights": "w"}, DataError, "not be negative: row 4"),
    ("all weights zero", "y ~ x + (1|g)", same, {"weights": np.zeros(n)}, DataError, "all weights are zero"),
    ("short weights", "y ~ x + (1|g)", same, {"weights": np.ones(5)}, DataError, r"weights has shape \(5,\)"),
    ("short offset", "y ~ x + (1|g)", same, {"offset": [1.0]}, DataError, "offset has shape"),
    ("matrix offset", "y ~ x + (1|g)", same, {"offset": np.ones((n, 2))}, DataError, "offset has shape"),
    ("scalar weights", "y ~ x + (1|g)", same, {"weights": 2.0}, DataError, "weights has shape"),
    ("text weights", "y ~ x + (1|g)", same, {"weights": "chr"}, DataError, "weights must be numeric"),
    ("unknown weights", "y ~ x + (1|g)", same, {"weights": "wt"}, DataError, "weights='wt' is not a column"),
    ("unknown offset", "y ~ x + (1|g)", same, {"offset": "off"}, DataError, "offset='off' is not a column"),
    ("words as weights", "y ~ x + (1|g)", same, {"weights": ["a"] * n}, DataError, "weights must be a column name or"),
    ("infinite weights", "y ~ x + (1|g)", same, {"weights": np.full(n, np.inf)}, DataError, "weights is infinite"),
    ("missing weights", "y ~ x + (1|g)", same, {"weights": np.full(n, np.nan)}, DataError, "weights is missing in 192"),
    ("shuffled weights", "y ~ x + (1|g)", same, {"weights": make_data()["w"][::-1]}, DataError, "another order"),
    ("na_action", "y ~ x + (1|g)", same, {"na_action": "drop"}, ParameterError, "omit, exclude, fail"),
    ("contrasts", "y ~ f + (1|g)", same, {"contrasts": ["sum"]}, ParameterError, "must be a dict"),
    ("contrast name", "y ~ f + (1|g)", same, {"contrasts": {"f": "summ"}}, ParameterError, "unknown contrasts 'summ'"),
    ("base level", "y ~ C(f, contr.treatment('q')) + (1|g)", same, {}, DataError, "base level 'q'"),
    ("factor in arithmetic", "y ~ I(f + 1) + (1|g)", same, {}, DataError, "needs numbers"),
    ("log of a factor", "y ~ log(f) + (1|g)", same, {}, DataError, r"log\(\) needs numbers"),
    ("scale of a factor", "y ~ scale(f2) + (1|g)", same, {}, DataError, r"scale\(\) needs numbers"),
    ("factor offset", "y ~ x + offset(f) + (1|g)", same, {}, DataError, r"offset\(f\) must be numeric"),
    ("level in comparison", "y ~ I(f == 'q') + (1|g)", same, {}, DataError, "'q' is not among the levels a, b, c"),
    ("poly degree", "y ~ poly(x, z) + (1|g)", same, {}, SparseLMMError, "poly"),
    ("wrong argument", "y ~ poly(x, degre=2) + (1|g)", same, {}, SparseLMMError, "degre"),
    ("too many arguments", "y ~ sqrt(x, z) + (1|g)", same, {}, FormulaError, r"sqrt\(\) takes 1"),
    ("basis as group", "y ~ x + (1|poly(x,2))", same, {}, DataError, "several columns"),
    ("cut into one", "y ~ x + (1|cut(z, 1))", same, {}, DataError, "at least 2"),
    ("relevel", "y ~ relevel(f, 'q') + (1|g)", same, {}, DataError, "'q' is not among"),
    ("sequence", "y ~ I(1:3) + (1|g)", same, {}, FormulaError, "sequence"),
    ("levels by a sequence", "y ~ factor(s, levels=3:6) + (1|g)", same, {}, FormulaError, r"written out: c\(3, 4, 5, 6\)"),
    ("long sequence", "y ~ factor(s, levels=30:1) + (1|g)", same, {}, FormulaError, r"c\(30, 29, 28, \.\.\., 1\)"),
    ("other contrasts", "y ~ C(f, Diff) + (1|g)", same, {}, FormulaError, "Diff are not available; use treatment, sum"),
    ("dummy of lme4", "y ~ dummy(f, 'a') + (1|g)", same, {}, FormulaError, r"as\.numeric\(f == 'level'\)"),
    ("two columns", "y ~ poly(x, z, degree=2) + (1|g)", same, {}, FormulaError, r"poly\(\) takes one column"),
    ("base out of range", "y ~ C(f, base=4) + (1|g)", same, {}, DataError, "position from 1 to 3"),
    ("base of sums", "y ~ C(f, contr.sum, base=2) + (1|g)", same, {}, FormulaError, "treatment contrasts"),
    ("number of levels", "y ~ C(f, contr.treatment(5, base=2)) + (1|g)", same, {}, DataError, "for 5 levels, but it has 3"),
    ("odd contrast call", "y ~ C(f, Treatment(1, 2, 3)) + (1|g)", same, {}, FormulaError, r"as in Treatment\('b'\)"),
    ("argument of factor", "y ~ factor(f, foo=1) + (1|g)", same, {}, FormulaError, r"factor\(\) got an unexpected keyword"),
    ("variable of the caller", "y ~ I(x - k) + (1|g)", same, {}, DataError, r"goes in context=\{'k': \.\.\.\}"),
    ("function of the caller", "y ~ mylog(z) + (1|g)", same, {}, FormulaError, r"log.*Otherwise .* context=\{'mylog': mylog\}"),
    ("largest of two", "y ~ max(x, z) + (1|g)", same, {}, FormulaError, r"pmax\(\) compares row by row"),
    ("mean of a factor", "y ~ I(x - mean(f)) + (1|g)", same, {}, DataError, r"mean\(\) needs one column of numbers"),
    ("mean of nothing", "y ~ I(x - mean(v)) + (1|g)", with_(v=np.nan), {}, DataError, "column with values"),
    ("mean as a term", "y ~ mean(x) + (1|g)", same, {}, FormulaError, "is the constant"),
    ("Intercept as name", "y ~ Intercept + (1|g)", with_(Intercept=lambda d: d["x"]), {}, DesignError, "as the constant is called; rename"),
    ("Intercept as slope", "y ~ x + (Intercept|g)", with_(Intercept=lambda d: d["x"]), {}, DesignError, "two columns named 'Intercept'"),
    ("many slopes", "y ~ (p|g)", with_(p=lambda d: d["x"].astype(str)), {}, DesignError, r"\(Intercept( \+ p\S+){4} \+ \.\.\. and 187 more \| g\) has \d+ random"),
    ("context not callable", "y ~ foo(x) + (1|g)", same, {"context": {"foo": 3}}, FormulaError, "not a function"),
    ("context length", "y ~ foo(x) + (1|g)", same, {"context": {"foo": lambda s: s[:3]}}, DataError, "returned 3 values"),
    ("context vector", "y ~ v + (1|g)", same, {"context": {"v": np.ones(3)}}, DataError, "v has 3 values"),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::sparselmm.exceptions.SparseLMMWarning")
@pytest.mark.parametrize(
    ("formula", "change", "options", "kind", "message"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_bad_input(formula, change, options, kind, message):
    data = change(make_data())
    with pytest.raises(kind, match=message):
        build_design(parse_formula(formula), data, **options)


def test_there_are_enough_cases():
    assert len(CASES) >= 80
