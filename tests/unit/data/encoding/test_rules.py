"""The order and the coding of terms by R's rules and by patsy's; `tests/reference` has the matrices of both."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sparselmm.data.encoding.contrasts import Contrast
from sparselmm.data.encoding.rules import RULES, PatsyRules
from sparselmm.formula.algebra import terms_as_written
from sparselmm.formula.grammar import parse_expression


def coded(formula, rules):
    terms = terms_as_written(parse_expression(formula))
    found = RULES[rules].coded_terms(terms, lambda name: name in "abc")
    return " ".join(":".join(v + "+" * (full and v in "abc") for v, full in term) for term in found)


@pytest.mark.parametrize(
    ("formula", "r", "patsy"),
    [
        ("x + a", "x a", "a x"),
        ("x + z:x + b:a + a + z + b", "x z:x b+:a+ a z b", "a b b:a x z:x z"),
        ("a:b", "a+:b+", "b a:b+"),
        ("0 + a:b", "a+:b+", "a+:b+"),
        ("a:b:c", "a+:b+:c+", "a:b+ a+:c b:c+ a:b:c"),
        ("0 + x + x:a", "x x:a+", "x x:a"),
        ("0 + a + b", "a+ b", "a+ b"),
        ("x:a", "x:a+", "x:a+"),
        ("a + b:c", "a b+:c+", "a c b:c+"),
    ],
)
def test_order_and_coding(formula, r, patsy):
    assert coded(formula, "R") == r
    assert coded(formula, "patsy") == patsy


@pytest.mark.parametrize("kind", ["treatment", "sum", "helmert", "poly"])
def test_full_coding_spans_all_levels(kind):
    levels = pd.Index(list("uvwxyz"))
    full = PatsyRules().coding(levels, Contrast(kind), "a", True)
    part = PatsyRules().coding(levels, Contrast(kind), "a", False)
    assert np.linalg.matrix_rank(full.matrix) == 6
    assert np.linalg.matrix_rank(np.column_stack([np.ones(6), part.matrix])) == 6
    assert len(full.names) == len(full.r_names) == 6
    if kind == "poly":
        assert full.names == (".Constant", ".Linear", ".Quadratic", ".Cubic", "^4", "^5")
