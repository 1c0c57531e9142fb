"""The design doctor finds what was put into the design, and nothing in a sound one."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm.inference.diagnose.checks import component_sizes, variance_inflation

pytestmark = pytest.mark.filterwarnings("ignore")


def table(n=120, seed=1, **columns):
    rng = np.random.default_rng(seed)
    data = {"y": rng.normal(size=n), "x": rng.normal(size=n), "g": rng.integers(0, 12, n), "h": rng.integers(0, 8, n)}
    return pd.DataFrame({**data, **columns})


def finding(diagnosis, code):
    return next(f for f in diagnosis.findings if f.code == code)


def test_a_sound_design_has_no_complaint():
    found = slm.diagnose("y ~ x + (x | g) + (1 | h)", table())
    assert found.healthy
    assert set(found.codes) == {"crossed"}
    assert "Nothing stands in the way" in str(found)


def test_disconnected_parts():
    half = np.arange(120) < 60
    rng = np.random.default_rng(0)
    data = table(g=rng.integers(0, 5, 120) + 5 * half, h=rng.integers(0, 4, 120) + 4 * half)
    found = finding(slm.diagnose("y ~ x + (1 | g) + (1 | h)", data), "disconnected")
    assert "2 parts" in found.what
    assert "9, 9" in found.what


def test_levels_seen_once():
    g = np.arange(120) // 3
    g[:30] = 1000 + np.arange(30)
    found = finding(slm.diagnose("y ~ 1 + (1 | g)", table(g=g)), "single_rows")
    assert "30 of 60" in found.what
    g[:90] = 1000 + np.arange(90)
    assert finding(slm.diagnose("y ~ 1 + (1 | g)", table(g=g)), "single_rows").severity == "warning"


def test_identical_partitions_of_any_columns():
    data = table()
    data["same"] = data.g.map(lambda v: f"level {v}")
    for formula in ("y ~ 1 + (1 | g) + (1 | same)", "y ~ x + (1 | g) + (0 + x | same)"):
        found = slm.diagnose(formula, data)
        assert "12 groups" in finding(found, "confounded_terms").what
        assert "aliased_terms" not in found.codes
        assert not found.healthy


def test_nesting_that_was_written_as_crossing():
    found = slm.diagnose("strength ~ 1 + (1 | batch) + (1 | sample)", slm.load_dataset("pastes"))
    assert "sample is nested in batch" in finding(found, "nested").what
    assert slm.diagnose("strength ~ 1 + (1 | batch / cask)", slm.load_dataset("pastes")).codes == ()


def test_labels_used_again_in_each_group():
    sizes = [3, 5, 4, 6, 3, 4]
    school = np.repeat(np.arange(6), 4 * np.array(sizes))
    room = np.concatenate([np.repeat(np.arange(1, s + 1), 4) for s in sizes])
    data = table(len(school), school=school, room=room)
    found = finding(slm.diagnose("y ~ 1 + (1 | school) + (1 | room)", data), "labels_reused")
    assert found.severity == "warning"
    assert "(1 | school/room)" in found.how
    crossed = slm.diagnose("strength ~ 1 + (1 | batch) + (1 | cask)", slm.load_dataset("pastes"))
    assert "(1 | batch/cask)" in finding(crossed, "crossed").how


def test_slopes_that_levels_cannot_determine():
    data = table()
    data["between"] = np.sin(data.g)
    found = finding(slm.diagnose("y ~ between + (between | g)", data), "slope_not_identified")
    assert "between does not vary within any level" in found.what
    assert "slope_not_identified" not in slm.diagnose("y ~ x + (x | g)", data).codes


def test_far_from_zero_and_high_correlation():
    data = slm.load_dataset("sleepstudy").assign(year=lambda d: d.Days + 2000)
    assert "mean 2004" in finding(slm.diagnose("Reaction ~ year + (year | Subject)", data), "far_from_zero").what
    fit = slm.lmer("Reaction ~ year + (year | Subject)", data)
    assert "-1.000" in finding(fit.diagnose(), "high_correlation").what


def test_a_factor_in_both_parts():
    data = slm.load_dataset("sleepstudy")
    assert "fixed_and_random" in slm.diagnose("Reaction ~ Days + Subject + (1 | Subject)", data).codes
    assert "fixed_and_random" not in slm.diagnose("Reaction ~ Days + Subject + (1 | Days)", data).codes


def test_collinearity():
    data = table().assign(z=lambda d: d.x + 0.01 * np.cos(np.arange(len(d))))
    found = finding(slm.diagnose("y ~ x + z + (1 | g)", data), "collinear")
    assert "x (" in found.what and "z (" in found.what
    assert "rank_deficient" in slm.diagnose("y ~ x + I(2 * x) + (1 | g)", data).codes
    assert "scale" in slm.diagnose("y ~ x + I(1e6 * z) + (1 | g)", data).codes


def test_variance_inflation_is_that_of_regressions():
    rng = np.random.default_rng(3)
    X = np.column_stack([np.ones(50), rng.normal(size=(50, 3)) @ np.array([[1, 0.9, 0], [0, 0.4, 0.2], [0, 0, 1]])])
    vif, condition = variance_inflation(X)
    for j in (1, 2, 3):
        others = np.delete(X, j, axis=1)
        resid = X[:, j] - others @ np.linalg.lstsq(others, X[:, j])[0]
        np.testing.assert_allclose(vif[j], np.sum((X[:, j] - X[:, j].mean()) ** 2) / np.sum(resid**2))
    np.testing.assert_allclose(condition, np.linalg.cond(X / np.linalg.norm(X, axis=0)))


def test_a_model_that_cannot_be_fitted():
    data = table().assign(row=lambda d: np.arange(len(d)))
    found = slm.diagnose("y ~ x + (1 | row)", data)
    assert found.codes == ("not_estimable",)
    assert "120 levels for 120 rows" in str(found)


def test_a_singular_fit_is_explained():
    found = slm.lmer("Yield ~ 1 + (1 | Batch)", slm.load_dataset("dyestuff2")).diagnose()
    assert "without the term Batch" in finding(found, "singular").how
    assert found.codes.count("singular") == 1
    assert found.terms[0].reliability == 0.0


def test_reliability_is_that_of_the_conditional_variances():
    fit = slm.lmer("diameter ~ 1 + (1 | plate) + (1 | sample)", slm.load_dataset("penicillin"))
    for term, found in zip(fit.diagnose().terms, fit.ranef(condvar=True).values()):
        prior = next(t.sd[0] for t in fit.varcorr.terms if t.label in term.term) ** 2
        np.testing.assert_allclose(term.reliability, 1 - found.cov.mean() / prior)


def test_outliers_are_named():
    data = table(seed=2)
    data.loc[17, "y"] = 40.0
    data.loc[23, "y"] = -38.0
    found = finding(slm.lmer("y ~ x + (1 | g)", data).diagnose(), "outliers")
    assert "17 (+" in found.what and "23 (-" in found.what


def test_table_html_and_immutability():
    found = slm.diagnose("y ~ x + (x | g) + (1 | h)", table())
    assert list(found.to_frame().columns) == ["code", "severity", "what", "how"]
    assert found._repr_html_().count("<li>") == len(found.findings)
    assert list(found.terms_frame()["levels"]) == [12, 8]
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.title = "other"


def test_component_sizes():
    sizes = component_sizes(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 2]), 3, 3)
    assert list(sizes) == [4, 2]
