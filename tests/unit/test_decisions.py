"""Decisions near their thresholds: refusals, limits, notes that must be shown. Each was once taken without a test."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm import cli
from sparselmm.covariance.base import lower_factor
from sparselmm.exceptions import DataError, ParameterError, UnsupportedError
from sparselmm.inference.leave_out.influence import touched_levels
from sparselmm.inference.predict import solution_limit


def small(n=60, seed=1):
    rng = np.random.default_rng(seed)
    g, h = np.arange(n) % 6, rng.integers(0, 5, n)
    x = rng.normal(size=n)
    y = x + rng.normal(size=6)[g] + rng.normal(size=5)[h] + rng.normal(size=n)
    return pd.DataFrame({"y": y, "x": x, "g": g, "h": h})


# --- new data of another kind ----------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [0, 1, 3])
def test_text_in_a_column_of_numbers_is_refused_whether_values_are_missing_or_not(missing):
    fit = slm.lmer("y ~ x + (1 | g)", small())
    text = ["low", "high", "low", "high"]
    text[:missing] = [None] * missing
    with pytest.raises(DataError, match=r"column 'x' held numbers .* now text"):
        fit.predict(pd.DataFrame({"x": pd.Series(text, dtype=object), "g": [0, 1, 2, 3]}))


def test_a_column_without_any_value_has_no_kind():
    fit = slm.lmer("y ~ x + (1 | g)", small())
    assert np.isnan(fit.predict(pd.DataFrame({"x": pd.Series([None, None], dtype=object), "g": [0, 1]}))).all()


# --- leaving out groups with the iterative solver --------------------------------------------------------------


def test_touched_levels_counts_columns_of_the_rows_that_are_in_a_group():
    data = small(24)
    data["h"] = np.arange(24) // 8
    fit = slm.LinearMixedModel.from_formula("y ~ x + (x | g) + (1 | h)", data).at([1.0, 0.1, 0.5, 0.7])
    codes = np.full(24, -1)
    codes[[0, 1, 9]] = [0, 0, 1]  # levels 0, 1, 3 of g and 0, 1 of h
    assert touched_levels(fit.result.rows, codes) == 3 * 2 + 2
    assert touched_levels(fit.result.rows, np.zeros(24, dtype=int)) == 6 * 2 + 3
    assert touched_levels(fit.result.rows, np.full(24, -1)) == 0


def test_touched_levels_of_memberships():
    matrix = np.zeros((10, 4))
    matrix[np.arange(10), np.arange(10) % 4] = 0.5
    matrix[:5, 3] += 0.5
    y = np.random.default_rng(0).normal(size=10)
    fit = slm.LinearMixedModel.from_arrays(y, np.ones((10, 1)), [{"matrix": matrix, "name": "m"}]).at([0.5])
    codes = np.full(10, -1)
    codes[[0, 4]] = 0  # both of levels 0 and 3
    assert touched_levels(fit.result.rows, codes) == 2


def test_leaving_out_more_than_can_be_solved_is_refused_before_any_work(monkeypatch):
    data = small(400, seed=3)
    rng = np.random.default_rng(4)
    data["g"], data["h"] = rng.integers(0, 60, 400), rng.integers(0, 50, 400)
    fit = slm.LinearMixedModel.from_formula("y ~ x + (1 | g) + (1 | h)", data, solver="iterative").at([0.5, 0.5])
    monkeypatch.setattr(solution_limit, "MOST_SOLUTIONS", 109)
    with pytest.raises(UnsupportedError, match="would take 110 solutions"):
        fit.influence("g")
    monkeypatch.setattr(solution_limit, "MOST_SOLUTIONS", 110)
    assert len(fit.influence("g")) == 60


# --- numbers ---------------------------------------------------------------------------------------------------


def test_a_pivot_is_zero_beside_the_largest_variance_whatever_the_units():
    """A semidefinite start of columns of very different scale: the second column of T is exactly zero."""
    rng = np.random.default_rng(3)
    for scale in [1e8, 1.0], [1.0, 1.0], [1.0, 1e3]:
        for a in rng.uniform(0.2, 1.0, (20, 2)) * scale:
            omega = np.outer(a, a)
            T = lower_factor(omega)
            assert T[1, 1] == 0.0  # not the root of a rounding of the second variance
            np.testing.assert_allclose(T @ T.T, omega, rtol=1e-12)
    np.testing.assert_array_equal(lower_factor(np.zeros((2, 2))), np.zeros((2, 2)))


@pytest.mark.parametrize(("outliers", "told"), [(2, False), (3, True), (5, True)])
def test_outliers_are_told_where_they_are_more_than_five_times_the_expected(outliers, told):
    """Of 8,000 rows 0.5 are expected beyond four standard deviations, so three are too many."""
    rng = np.random.default_rng(2)
    g = np.arange(8000) % 40
    e = np.clip(rng.normal(size=8000), -3, 3)
    e[10 : 10 + outliers] = 8.0
    fit = slm.lmer("y ~ 1 + (1 | g)", pd.DataFrame({"y": rng.normal(size=40)[g] + e, "g": g}))
    assert ("outliers" in fit.diagnose().codes) == told


@pytest.mark.parametrize(("outliers", "told"), [(1, False), (2, True)])
def test_a_single_outlier_of_few_rows_is_not_told(outliers, told):
    data = small(60, seed=5)
    data["y"] = np.clip(data["y"] - data["y"].mean(), -2, 2)
    data.loc[range(5, 5 + outliers), "y"] = 25.0
    assert ("outliers" in slm.lmer("y ~ x + (1 | g)", data).diagnose().codes) == told


# --- messages --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("which", "reml", "message"),
    [
        ("nonsense", True, "unknown parameter 'nonsense'"),
        ("nonsense", False, "unknown parameter 'nonsense'"),
        ("x", True, "'x' has no REML profile"),
        ("beta_", True, "'beta_' has no REML profile"),
    ],
)
def test_why_a_parameter_has_no_profile(which, reml, message):
    fit = slm.lmer("y ~ x + (1 | g)", small(), reml=reml)
    with pytest.raises(ParameterError, match=message):
        fit.profile(which, reml=reml)


def test_as_many_rows_as_a_script_may_hold(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(cli, "EMBEDDED_ROWS", 60)
    for n, status in ((60, 0), (61, 2)):
        small(n).to_csv(tmp_path / "data.csv", index=False)
        found = cli.main(["write-r-script", "y ~ x + (1 | g)", str(tmp_path / "data.csv")])
        out, err = capsys.readouterr()
        assert (found == 0) == (status == 0)
        assert ("--data-out" in err) == (status != 0)
        assert ("lmer(" in out) == (status == 0)
