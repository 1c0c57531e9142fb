from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from sparselmm.data import GroupedTerm, SparseTerm, build_design, design_from_arrays
from sparselmm.data.formulas import parse_formula
from sparselmm.exceptions import DataError, DesignError, ParameterError

rng = np.random.default_rng(3)
N = 60
Y = rng.normal(size=N)
X = np.column_stack([np.ones(N), rng.normal(size=N)])
G = rng.permutation(np.repeat(np.arange(6), 10))
H = np.array(list("abc"))[rng.integers(0, 3, N)]


def test_same_as_the_formula():
    data = pd.DataFrame({"y": Y, "x": X[:, 1], "g": G, "h": H})
    _, expected = build_design(parse_formula("y ~ x + (x|g) + (1|h)"), data)
    d = design_from_arrays(
        data["y"], X, [(data["h"], None), {"groups": data["g"], "Z": X}], column_names=["Intercept", "x"]
    )
    np.testing.assert_array_equal(d.rows.X, expected.rows.X)
    assert [(t.name, t.m, t.k) for t in d.rows.terms] == [(t.name, t.m, t.k) for t in expected.rows.terms]
    for a, b in zip(d.rows.terms, expected.rows.terms):
        np.testing.assert_array_equal(a.codes, b.codes)
        np.testing.assert_array_equal(a.Z, b.Z)


def test_forms_of_a_term():
    grouped = design_from_arrays(Y, X, [(G, X, "g")]).rows.terms[0]
    assert isinstance(grouped, GroupedTerm)
    for form in (grouped, {"groups": G, "Z": X, "name": "g"}):
        term = design_from_arrays(Y, X, [form]).rows.terms[0]
        np.testing.assert_array_equal(term.Z, grouped.Z)
    matrix = grouped.to_sparse()
    for form in ((matrix, 2, "g"), {"matrix": sp.csc_matrix(matrix), "k": 2, "name": "g"}):
        term = design_from_arrays(Y, X, [form]).rows.terms[0]
        assert isinstance(term, SparseTerm)
        assert (term.m, term.k, term.name) == (6, 2, "g")
        assert abs(term.to_sparse() - matrix).max() == 0
    assert design_from_arrays(Y, X, [term]).rows.terms[0].m == 6


def test_names_and_structure():
    d = design_from_arrays(
        Y, X, [{"groups": G, "Z": pd.DataFrame({"a": X[:, 1]}), "structure": "diag", "name": "g"}, (G, None, "g")]
    )
    assert [t.name for t in d.rows.terms] == ["g", "g.1"]
    assert (d.rows.terms[0].structure, d.rows.terms[0].columns) == ("diag", ("a",))
    assert d.layout.columns == ("Intercept", "x1")


def test_no_fixed_effects():
    assert design_from_arrays(Y, None, [(G, None)]).layout.p == 0


def test_missing_values_and_zero_weights():
    y = Y.copy()
    y[3] = np.nan
    weights = np.where(G == 0, 0.0, 1.0)
    groups = np.where(np.arange(N) == 7, np.nan, G.astype(float))
    d = design_from_arrays(
        y, X, [(groups, None, "g"), (design_from_arrays(Y, X, [(G, X)]).rows.terms[0].to_sparse(), 2)], weights=weights
    )
    assert not {3, 7} & set(d.rows.positions)
    assert (d.rows.weights > 0).all()
    assert {t.name: t.m for t in d.rows.terms} == {"g": 5, "g1": 6}
    assert all(len(t.to_sparse().toarray()) == d.rows.n for t in d.rows.terms)
    with pytest.raises(DataError, match="rows 3, 7"):
        design_from_arrays(y, X, [(groups, None)], na_action="fail")


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ((Y, X, []), DataError, "no random terms"),
        ((Y[:0], X[:0], [(G[:0], None)]), DataError, "no rows"),
        ((Y[:, None], X, [(G, None)]), DataError, "y has shape"),
        ((["a"] * N, X, [(G, None)]), DataError, "y must be numeric"),
        ((Y, X[:5], [(G, None)]), DataError, "X has shape"),
        ((Y, sp.csr_array(X), [(G, None)]), DataError, "X is sparse"),
        ((Y, X, [G]), ParameterError, "random term 0 must be"),
        ((Y, X, [{"Z": X}]), ParameterError, "needs either 'groups'"),
        ((Y, X, [{"groups": G, "z": X}]), ParameterError, "unknown: z"),
        ((Y, X, [(G[:5], None)]), DataError, "has 5 rows, but y has 60"),
        ((Y, X, [(G, X[:5])]), DataError, "Z of the random term g0 has shape"),
        ((Y, X, [(G, np.full(N, "a"))]), DataError, "Z of the random term g0 must be numeric"),
        ((Y, np.full((N, 1), "a"), [(G, None)]), DataError, "X must be numeric"),
        ((Y, X, [(X, None)]), DataError, "one dimension"),
        ((Y, X, [(sp.csr_array(np.ones((N, 5))), 2)]), DataError, "not a multiple of k = 2"),
        (
            (Y, X, [{"matrix": sp.csr_array(np.ones((N, 4))), "k": 2, "levels": ["a"]}]),
            DataError,
            "1 level names for 2",
        ),
        ((Y, X, [{"groups": G, "Z": X, "columns": ["a"]}]), DataError, "1 column names for 2"),
        ((Y, X, [(np.zeros(N), None)]), DesignError, "only one level"),
        ((Y, X, [(np.arange(N), None)]), DesignError, "60 levels for 60 rows"),
        ((Y, X, [(G, None, "g"), (G, None, "g")]), DesignError, "twice"),
        ((X[:, 1] * 2 + 1, X, [(G, None)]), DesignError, "exactly"),
        ((np.ones(N), X, [(G, None)]), DesignError, "constant"),
        ((np.where(G > 3, np.inf, Y), X, [(G, None)]), DataError, "y is infinite"),
        ((Y, X, [(G, X * np.inf)]), DataError, "infinite|none of the 60 rows"),
    ],
)
def test_bad_arrays(arguments, kind, message):
    with np.errstate(invalid="ignore"), pytest.raises(kind, match=message):
        design_from_arrays(*arguments)


def test_bad_options():
    with pytest.raises(DataError, match="not be negative"):
        design_from_arrays(Y, X, [(G, None)], weights=-np.ones(N))
    with pytest.raises(DataError, match="2 columns of X"):
        design_from_arrays(Y, X, [(G, None)], column_names=["a"])
    with pytest.raises(DataError, match="must differ"):
        design_from_arrays(Y, X, [(G, None)], column_names=["a", "a"])
    with pytest.raises(ParameterError, match="na_action"):
        design_from_arrays(Y, X, [(G, None)], na_action="drop")


@pytest.mark.parametrize("what", ["X", "weights", "offset", "random term 0", "random term 1"])
def test_pandas_objects_with_the_same_rows_in_another_order_are_refused(what):
    rng = np.random.default_rng(0)
    rows = [f"r{i}" for i in range(30)]
    y = pd.Series(rng.normal(size=30), index=rows)
    X = pd.DataFrame({"one": 1.0, "x": rng.normal(size=30)}, index=rows)
    g, h = (pd.Series(rng.integers(m, size=30), index=rows) for m in (4, 5))
    w = pd.Series(rng.uniform(1, 2, size=30), index=rows)
    parts = {"X": X, "weights": w, "offset": w, "random term 0": g, "random term 1": h}

    def design(parts):
        terms = [(parts["random term 0"], None), {"groups": parts["random term 1"], "Z": None}]
        return design_from_arrays(y, parts["X"], terms, weights=parts["weights"], offset=parts["offset"])

    design(parts)
    parts[what] = parts[what].iloc[::-1]
    with pytest.raises(DataError, match=f"{what} has the rows of the y in another order"):
        design(parts)


def test_a_sparse_term_is_not_the_callers_matrix():
    matrix = sp.csr_array(np.kron(np.eye(3), np.ones((4, 1))))
    design = design_from_arrays(np.arange(12.0) % 5, np.ones((12, 1)), [(matrix, 1)])
    matrix.data[:] = 7.0
    assert (design.rows.terms[0].matrix.data == 1.0).all()
