"""Hypotheses written as texts and arrays."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm.exceptions import ParameterError
from sparselmm.inference.fixed.hypotheses import read_hypothesis

NAMES = ["Intercept", "x", "x2", "f[T.b]", "f[T.c d]", "poly(x, 2)[1]", "x:f[T.b]", "I(x == 2)[T.True]"]


def row(**values):
    out = np.zeros(len(NAMES))
    for i, v in values.items():
        out[int(i[1:])] = v
    return out


@pytest.mark.parametrize(
    ("text", "expected", "rhs"),
    [
        ("x", row(_1=1), 0),
        ("x = 1.5", row(_1=1), 1.5),
        ("x2 - x = -1", row(_1=-1, _2=1), -1),
        ("f[T.b] = f[T.c d]", row(_3=1, _4=-1), 0),
        ("2*x + 3*(x2 - 1)/2 = 0", row(_1=2, _2=1.5), 1.5),
        ("poly(x, 2)[1] = 0", row(_5=1), 0),
        ("x:f[T.b] = x", row(_6=1, _1=-1), 0),
        ("I(x == 2)[T.True] = -x", row(_7=1, _1=1), 0),
        ("-x = 1e-3", row(_1=-1), 1e-3),
        ("(Intercept) + fb = 0", row(_0=1, _3=1), 0),
        ("x*2 = 4", row(_1=2), 4),
    ],
)
def test_texts(text, expected, rhs):
    aliases = {"Intercept": "(Intercept)", "f[T.b]": "fb"}
    found = read_hypothesis(text, NAMES, aliases=aliases)
    np.testing.assert_allclose(found.L, expected[None])
    np.testing.assert_allclose(found.rhs, [rhs])


def test_several_equations_in_one_text_or_a_list():
    for given in ("x = 0, poly(x, 2)[1] = x2", ["x = 0", "poly(x, 2)[1] = x2"], "x = 0; poly(x, 2)[1] = x2"):
        found = read_hypothesis(given, NAMES)
        assert found.L.shape == (2, len(NAMES))
        assert found.labels[1] == "poly(x, 2)[1] = x2"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("z = 0", "'z' in the hypothesis 'z = 0' is not a coefficient"),
        ("f[T.d] = 0", "did you mean"),
        ("x * x2 = 0", "must be linear"),
        ("x / x2 = 0", "not a number"),
        ("x = ", "expected a coefficient or a number, found its end"),
        ("x = 1 2", "expected an operator or a comma"),
        ("1 = 1", "without any coefficient"),
        ("(x = 1", r"expected '\)'"),
        (np.eye(3), "needs 8 values per row, one for each coefficient, not 3"),
        (np.full((1, 8), np.nan), "not finite"),
        ("x", None),
    ],
)
def test_bad_hypotheses(given, message):
    if message is None:
        with pytest.raises(ParameterError, match="right-hand side"):
            read_hypothesis(given, NAMES, rhs=[1])
        return
    with pytest.raises(ParameterError, match=message):
        read_hypothesis(given, NAMES)


def test_zero_rows_are_refused():
    fit = slm.lmer("Reaction ~ Days + (1 | Subject)", slm.load_dataset("sleepstudy"))
    with pytest.raises(ParameterError, match="all its rows are zero"):
        fit.f_test(np.zeros((2, 2)))


def test_r_names_work_on_a_fit():
    fit = slm.lmer("score ~ Machine + (1 | Worker)", slm.load_dataset("machines"))
    ours, theirs = fit.t_test("Machine[T.B] = Machine[T.C]"), fit.t_test("MachineB = MachineC")
    assert ours["estimate"].iloc[0] == theirs["estimate"].iloc[0]


def test_labels_of_pandas_objects_are_coefficients():
    series = pd.Series({"x2": 2.0, "Intercept": 1.0})
    np.testing.assert_allclose(read_hypothesis(series, NAMES).L, row(_0=1, _2=2)[None])
    frame = pd.DataFrame({"fb": [1.0, 0.0], "x": [0.0, 3.0]})
    found = read_hypothesis(frame, NAMES, rhs=[1.0, 2.0], aliases={"f[T.b]": "fb"})
    np.testing.assert_allclose(found.L, [row(_3=1), row(_1=3)])
    np.testing.assert_allclose(found.rhs, [1.0, 2.0])
    np.testing.assert_allclose(read_hypothesis(pd.DataFrame(np.eye(8)), NAMES).L, np.eye(8))
    with pytest.raises(ParameterError, match="label 'x3'; did you mean"):
        read_hypothesis(pd.Series({"x3": 1.0}), NAMES)
    with pytest.raises(ParameterError, match="the coefficients are Intercept"):
        read_hypothesis(pd.DataFrame({"qqq": [1.0]}), NAMES)
    with pytest.raises(ParameterError, match="twice"):
        read_hypothesis(pd.Series([1.0, 2.0], index=["x", "x"]), NAMES)


def test_a_series_tests_the_coefficient_it_names():
    fit = slm.lmer("Reaction ~ Days + (1 | Subject)", slm.load_dataset("sleepstudy"))
    by_label = pd.Series({"Days": 1.0, "Intercept": 0.0})
    for test in (fit.t_test, fit.f_test, fit.wald_test):
        pd.testing.assert_frame_equal(test(by_label), test("Days"))
        pd.testing.assert_frame_equal(test(by_label.to_frame().T), test("Days"))
