"""A formula is cut into tokens once and read once; what follows works on its trees."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm.data.formulas import parse_formula, update_formula
from sparselmm.formula import grammar, parse, render_spec
from sparselmm.formula.algebra import read_terms
from sparselmm.formula.nodes import Expression, Name, render

DATA = pd.DataFrame({
    "y": np.random.default_rng(3).normal(size=60),
    "x": np.linspace(0.0, 1.0, 60),
    "z": np.tile(np.arange(1.0, 6.0), 12),
    "f": np.tile(["a", "b", "c"], 20),
    "g": np.repeat(np.arange(10), 6),
    "h": np.tile(np.arange(4), 15),
})  # fmt: skip
FORMULAS = [
    "y ~ x + (x | g)",
    "y ~ x + (1 + x || g) + (1 | h)",
    "I(y - 1) ~ x*f + poly(z, 2) + (x > 0.5):z + (0 + f | g) + (1 | h/f) + offset(log(z))",
    "y ~ . - g - h + (1 | g)",
]


@pytest.fixture
def counts(monkeypatch):
    """Count how often a text is cut into tokens, and read; nothing is remembered from before."""
    grammar._read.cache_clear()
    parse._parse.cache_clear()
    seen = {"tokenized": [], "read": []}
    tokenize, read = grammar.tokenize, grammar._read.__wrapped__

    def counted_tokenize(source):
        seen["tokenized"].append(source)
        return tokenize(source)

    def counted_read(source):
        seen["read"].append(source)
        return read(source)

    monkeypatch.setattr(grammar, "tokenize", counted_tokenize)
    monkeypatch.setattr(grammar, "_read", counted_read)
    return seen


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.filterwarnings("ignore")
def test_a_fit_reads_its_formula_once(counts, formula):
    fit = slm.lmer(formula, DATA)
    assert counts == {"tokenized": [formula], "read": [formula]}
    fit.predict(DATA)
    fit.summary()
    fit.refit(DATA["y"] + 1.0)
    assert counts == {"tokenized": [formula], "read": [formula]}


@pytest.mark.filterwarnings("ignore")
def test_statsmodels_formulas_are_read_once_each(counts):
    components = {"f": "0 + C(f)", "fz": "0 + f:z"}
    slm.mixedlm("y ~ scale(x)", DATA, groups="g", re_formula="1 + x", vc_formula=components).fit().summary()
    texts = ["y ~ scale(x)", "1 + x", *components.values()]
    assert sorted(counts["tokenized"]) == sorted(counts["read"]) == sorted(texts)


@pytest.mark.filterwarnings("ignore")
def test_an_update_reads_the_change_and_the_new_formula(counts):
    fit = slm.lmer("y ~ x + f + (1 | g)", DATA)
    again = fit.update(". ~ . - x")
    assert again.formula == "y ~ 1 + f + (1 | g)"
    assert counts["read"] == ["y ~ x + f + (1 | g)", ". ~ . - x", "y ~ 1 + f + (1 | g)"]


@pytest.mark.parametrize("formula", FORMULAS)
def test_the_tree_of_an_expression_is_what_its_text_reads_as(formula):
    spec = parse_formula(formula, list(DATA))
    parts = [spec.response, *spec.offsets, *(v for term in spec.fixed.terms for v in term)]
    for term in spec.random:
        parts += [term.source, *term.grouping, *(v for product in term.lhs.terms for v in product)]
        assert read_terms(str(term.lhs)) == term.lhs
    assert read_terms(str(spec.fixed)) == spec.fixed
    for part in parts:
        assert isinstance(part, Expression)
        assert render(part.node) == part
        assert grammar.parse_expression(str.__str__(part)) == part.node


@pytest.mark.parametrize("copied", [lambda x: pickle.loads(pickle.dumps(x)), copy.deepcopy])
def test_copies_keep_the_tree(copied):
    x = Expression(Name("my x"))
    again = copied(x)
    assert (again, again.node, type(again)) == ("`my x`", Name("my x"), Expression)


@pytest.mark.parametrize("formula", FORMULAS)
def test_changing_a_model_is_changing_its_text(formula):
    spec = parse_formula(formula, list(DATA))
    change = ". ~ . + log(z) - (1 | g)"
    assert update_formula(spec, change) == update_formula(render_spec(spec), change)
