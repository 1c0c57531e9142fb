"""A refitted model has its new response everywhere: in what is updated, compared, drawn and tabulated."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from problems import Case, TermSpec, build

import sparselmm as slm
from sparselmm.exceptions import DataError, ParameterError


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(142)
    f = np.tile(np.arange(10), 50)
    frame = pd.DataFrame({"y": rng.normal(size=500), "x": np.tile(rng.normal(size=100), 5), "f": f})
    frame["y2"] = 5 + rng.normal(size=500) + rng.normal(size=10)[f]
    return frame


@pytest.fixture(scope="module")
def refitted(data):
    return slm.lmer("y ~ x + (1 | f)", data).refit(data["y2"])


def test_update_of_the_formula(refitted, data):
    found = refitted.update(". ~ . - x")
    assert found.criterion == pytest.approx(1432.112, abs=5e-4)  # lme4 on y2
    assert found.criterion == pytest.approx(slm.lmer("y2 ~ 1 + (1 | f)", data).criterion, abs=1e-8)
    assert found.formula.startswith("y ~")


def test_update_of_the_criterion_and_again(refitted, data):
    twice = refitted.update(reml=False).update(". ~ . - x")
    assert twice.criterion == pytest.approx(slm.lmer("y2 ~ 1 + (1 | f)", data, reml=False).criterion, abs=1e-8)
    at = refitted.at(refitted.theta).update(reml=False)
    assert at.criterion == pytest.approx(slm.lmer("y2 ~ x + (1 | f)", data, reml=False).criterion, abs=1e-8)


@pytest.mark.parametrize("subset", ["x > 0", "mask"])
def test_update_of_the_rows(refitted, data, subset):
    mask = data["x"] > 0
    found = refitted.update(subset=mask if subset == "mask" else subset)
    assert found.criterion == pytest.approx(slm.lmer("y2 ~ x + (1 | f)", data[mask]).criterion, abs=1e-8)


def test_other_data_have_their_own_response(refitted, data):
    found = refitted.update(data=data)
    assert found.criterion == pytest.approx(slm.lmer("y ~ x + (1 | f)", data).criterion, abs=1e-8)


def test_rows_with_gaps(data):
    gaps = data.assign(y=data["y"].where(data.index % 7 != 0), x=data["x"].where(data.index % 11 != 0))
    fit = slm.lmer("y ~ x + (1 | f)", gaps, na_action="exclude")
    whole, used = fit.refit(data["y2"]), fit.refit(data["y2"][gaps.notna().all(axis=1)])
    rows = gaps.notna().all(axis=1)
    right = slm.lmer("y2 ~ 1 + (1 | f)", data[rows])
    for refitted in (whole, used):
        small = refitted.update(". ~ . - x")
        # without x its gaps would no longer count, but there the refit had no response
        assert small.nobs == rows.sum()
        assert small.criterion == pytest.approx(right.criterion, abs=1e-8)


def test_a_changed_left_side_is_refused(refitted):
    with pytest.raises(ParameterError, match="pass that as data="):
        refitted.update("log(.) ~ .")


def test_the_response_column_of_augment(refitted, data):
    table = refitted.augment()
    np.testing.assert_array_equal(table["y"], data["y2"])
    np.testing.assert_allclose(table[".fitted"] + table[".resid"], data["y2"])
    assert list(table.columns[:4]) == ["y", "x", "f", "y2"]


def test_augment_after_a_transformed_response(data):
    fit = slm.lmer("exp(y) ~ x + (1 | f)", data).refit(data["y2"])
    table = fit.augment()
    assert list(table.columns[:4]) == ["exp(y)", "x", "f", "y2"]
    np.testing.assert_array_equal(table["exp(y)"], data["y2"])


def test_comparisons(refitted, data):
    direct = slm.lmer("y2 ~ x + (1 | f)", data)
    small, right = refitted.update(". ~ . - x"), slm.lmer("y2 ~ 1 + (1 | f)", data)
    ours, theirs = slm.anova(small, refitted), slm.anova(right, direct)
    np.testing.assert_allclose(ours.select_dtypes("number"), theirs.select_dtypes("number"), rtol=1e-7)
    np.testing.assert_allclose(
        refitted.drop1().select_dtypes("number"), direct.drop1().select_dtypes("number"), rtol=1e-6
    )
    ours, theirs = (slm.bootstrap_lrt(a, b, n=20, seed=1) for a, b in ((small, refitted), (right, direct)))
    assert ours.statistic == pytest.approx(theirs.statistic, rel=1e-6)


def test_one_column_is_a_response(data):
    fit = slm.lmer("y ~ x + (1 | f)", data)
    drawn = fit.simulate(1, seed=3)
    right = fit.refit(drawn["sim_1"]).criterion
    assert fit.refit(drawn).criterion == right
    assert fit.refit(drawn.to_numpy()).criterion == right
    with pytest.raises(DataError, match=r"2 columns: pass one column, as in refit\(y\['sim_1'\]\), or all to"):
        fit.refit(fit.simulate(2, seed=3))


def test_augment_of_many_columns_is_linear_in_them(data):
    wide = pd.concat([data, pd.DataFrame(np.zeros((500, 3000)), columns=[f"c{i}" for i in range(3000)])], axis=1)
    table = slm.lmer("y ~ x + (1 | f)", wide).augment()
    assert table.shape[0] == 500
    assert set(wide.columns) < set(table.columns)


def test_a_response_of_another_kind_is_not_left_at_a_local_optimum():
    """With a mean of 100 and no fixed effects, either of two crossed factors can take it up: two optima, 3 apart."""
    drawn = build(Case("drawn", (TermSpec(8), TermSpec(7)), n=60, p=0, seed=0))
    y, _, terms = drawn.arguments
    new = 3.0 * y + 100.0 + np.random.default_rng(0).standard_normal(60)
    fit = drawn.fitted_model().fit(reml=False)
    fresh = slm.LinearMixedModel.from_arrays(new, None, terms).fit(reml=False)
    assert fit.refit(new).criterion == pytest.approx(fresh.criterion, abs=1e-6)
    assert fresh.criterion == pytest.approx(363.057854506, abs=1e-6)  # the end of four optimizers
