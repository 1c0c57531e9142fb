"""Model matrices equal R's: columns, names and values (saved by tests/reference/model_matrix.R)."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sparselmm.data.encoding.contrasts import Contrast
from sparselmm.data.encoding.evaluate import Evaluator
from sparselmm.data.encoding.matrices import learn_matrix
from sparselmm.data.tables.frame import as_frame
from sparselmm.formula.algebra import expand_terms, read_terms
from sparselmm.formula.grammar import parse_expression

REFERENCE = Path(__file__).parents[3] / "reference" / "model_matrix.json"
SAVED = json.loads(REFERENCE.read_text())
CONTRASTS = {
    None: {},
    'list(f="contr.sum")': {"f": "sum"},
    'list(f="contr.sum", f2="contr.helmert")': {"f": "contr.sum", "f2": "helmert"},
    'list(h="contr.poly")': {"h": "poly"},
    'list(h="contr.helmert")': {"h": "helmert"},
    'list(f="contr.sum", h="contr.sum")': {"f": "sum", "h": Contrast("sum")},
    'list(f="contr.sum", f2="contr.sum")': {"f": "sum", "f2": "sum"},
    'list(f="contr.poly", f2="contr.sum")': {"f": "poly", "f2": "sum"},
    'list(f="contr.helmert")': {"f": "helmert"},
    "list(f=matrix(c(-1,0,1,0.5,-1,0.5),3))": {"f": np.array([[-1, 0.5], [0, -1], [1, 0.5]])},
    "list(f=matrix(c(-1,0,1),3))": {"f": np.array([[-1.0], [0.0], [1.0]])},
}


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    frame = pd.DataFrame(SAVED["data"])
    return frame.astype(dict.fromkeys(("f", "f2", "h"), "category"))


def case_id(case):
    return case["formula"] + (" " + case["contrasts"] if case["contrasts"] else "")


@pytest.mark.parametrize("case", SAVED["cases"], ids=case_id)
def test_columns_names_and_values_equal_r(case, data):
    evaluator = Evaluator(as_frame(data), None, {})
    # through the text, as a ModelSpec carries it
    terms = read_terms(str(expand_terms(parse_expression(case["formula"]))))
    encoding = learn_matrix(terms, evaluator.variable, CONTRASTS[case["contrasts"]], "the test")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        X = encoding.build(evaluator.variable, len(data))
    names = [normal(name) for name in case["columns"]]
    assert [normal(name) for name in encoding.r_columns()] == names
    assert len(set(encoding.columns)) == len(encoding.columns)
    i = np.arange(1, len(data) + 1)
    weights = np.column_stack([1 / i, np.cos(i)])
    expected = np.array(case["sums"], dtype=float).reshape(X.shape[1], 2)
    np.testing.assert_allclose(X.T @ weights, expected, rtol=1e-9, atol=1e-9)


def normal(name: str) -> str:
    """R keeps the writer's ``splines::`` and ``%in%``, and drops no spaces that we normalise."""
    return name.replace("splines::", "").replace(" %in% ", ":").replace(" ", "")
