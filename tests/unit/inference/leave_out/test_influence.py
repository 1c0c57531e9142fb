"""Deletion of groups: exact against refits at the same θ, the Newton step against full refits."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm.exceptions import ParameterError
from sparselmm.inference.leave_out import groups as deletion

pytestmark = pytest.mark.filterwarnings("ignore")

# formula, data, group, arguments, relative error allowed of the Newton step: a step of size d misses by about d²
CASES = {
    "slopes": ("Reaction ~ Days + (Days | Subject)", "sleepstudy", "Subject", {}, 0.15),
    "slopes ML": ("Reaction ~ Days + (Days | Subject)", "sleepstudy", "Subject", {"reml": False}, 0.15),
    "crossed": ("diameter ~ 1 + (1 | plate) + (1 | sample)", "penicillin", "plate", {}, 0.03),
    "crossed ML": ("diameter ~ 1 + (1 | plate) + (1 | sample)", "penicillin", "plate", {"reml": False}, 0.03),
    "few levels": ("diameter ~ 1 + (1 | plate) + (1 | sample)", "penicillin", "sample", {}, 0.12),
    "nested": ("strength ~ 1 + (1 | batch/cask)", "pastes", "batch", {}, 0.5),
    "another column": ("attain ~ verbal + (1 | primary) + (1 | second)", "scotssec", "social", {}, 0.35),
    "compressed": ("mAch ~ ses + (ses | school)", "hsb82", "school", {}, 0.03),
}


def refits(fit, formula, data, group, arguments, levels):
    for level in levels:
        model = slm.LinearMixedModel.from_formula(formula, data[data[group] != level])
        yield level, model.at(fit.theta, reml=fit.reml), model.fit(arguments.get("reml", True))


@pytest.mark.parametrize("case", list(CASES))
def test_groups_against_refits(case):
    formula, name, group, arguments, allowed = CASES[case]
    data = slm.load_dataset(name)
    fit = slm.lmer(formula, data, **arguments)
    found = fit.influence(group, theta=True)
    levels = list(found.index)[:: max(1, len(found) // 6)]
    steps, changes, beta = [], [], []
    for level, same, refit in refits(fit, formula, data, group, arguments, levels):
        row = found.loc[level]
        change = (same.params - fit.params).to_numpy()
        np.testing.assert_allclose(row["change"], [*change, same.sigma - fit.sigma], rtol=1e-6, atol=1e-9 * fit.sigma)
        np.testing.assert_allclose(row["dfbetas"], change / same.bse, rtol=1e-6, atol=1e-9)
        D = change @ np.linalg.solve(fit.cov_params(), change) / len(change)
        np.testing.assert_allclose(row["cook"].item(), D, rtol=1e-6)
        assert row["rows"].item() == (data[group] == level).sum()
        steps.append(row["one_step"].to_numpy())
        changes.append(np.r_[refit.params - fit.params, refit.sigma - fit.sigma, refit.theta - fit.theta])
        beta.append(np.abs(row["one_step"].to_numpy()[: len(change)] - (refit.params - fit.params)) / fit.bse)
    steps, changes = np.array(steps), np.array(changes)
    p = len(fit.params)
    for part in (slice(p, p + 1), slice(p + 1, None)):  # σ, θ
        missed = np.sqrt(((steps - changes)[:, part] ** 2).sum() / (changes[:, part] ** 2).sum())
        assert missed < allowed, f"{case}: the step misses {missed:.2f} of the change"
    assert np.max(beta) < 0.1


@pytest.mark.parametrize("kept", [0, 10**9])
def test_both_ways_of_finding_the_columns_agree(kept, monkeypatch):
    data = slm.load_dataset("scotssec")
    fit = slm.lmer("attain ~ verbal + (1 | primary) + (1 | second)", data)
    expected = fit.influence("second", theta=True)
    monkeypatch.setattr(deletion, "KEPT_CELLS", kept)
    monkeypatch.setattr(deletion, "BATCH_CELLS", 3000)
    pd.testing.assert_frame_equal(fit.influence("second", theta=True), expected, rtol=1e-8)


def test_groups_in_separate_parts_share_solves():
    component = np.array([0, 0, 1, 1, 2, 2])
    touched = [np.array([0]), np.array([2, 3]), np.array([4]), np.array([1, 5])]
    assert deletion._layers(touched, component) == [[0, 1, 2], [3]]


def test_weights_and_a_year_far_from_zero():
    data = slm.load_dataset("dietox").assign(w=lambda d: 1 + np.arange(len(d)) % 5, year=lambda d: d.Time + 1990)
    fit = slm.lmer("Weight ~ year + (year | Pig)", data, weights="w")
    found = fit.influence("Pig")
    level = found.index[7]
    model = slm.LinearMixedModel.from_formula("Weight ~ year + (year | Pig)", data[data.Pig != level], weights="w")
    same = model.at(fit.theta)
    np.testing.assert_allclose(found.loc[level, "dfbetas"], (same.params - fit.params) / same.bse, rtol=1e-5)


def test_a_group_that_a_coefficient_needs_gives_nan():
    data = slm.load_dataset("sleepstudy")
    data["special"] = (data.Subject == "310").astype(float)
    found = slm.lmer("Reaction ~ Days + special + (1 | Subject)", data).influence("Subject", theta=True)
    assert found.loc["310"].drop("rows").isna().all()
    assert found.drop(index="310").notna().all().all()


def test_labels_of_the_caller():
    data = slm.load_dataset("sleepstudy")
    fit = slm.lmer("Reaction ~ Days + (1 | Subject)", data)
    labels = np.where(data.Days < 5, "early", "late")
    assert list(fit.influence(labels).index) == ["early", "late"]
    pd.testing.assert_frame_equal(
        fit.influence(data.Subject.astype(str).to_numpy()),
        fit.influence("Subject"),
        check_names=False,
        check_index_type=False,
    )
    with pytest.raises(ParameterError, match="180 rows"):
        fit.influence(labels[:10])
    with pytest.raises(ParameterError, match="neither"):
        fit.influence("Subjekt")
    with pytest.raises(ParameterError, match="needs a group"):
        fit.influence(theta=True)


@pytest.mark.parametrize("solver", ["schur", "cholmod"])
def test_singular_fits(solver):
    data = slm.load_dataset("sleepstudy").assign(h=lambda d: np.arange(len(d)) % 7)
    formula = "Reaction ~ Days + (Days | Subject) + (1 | h)"
    model = slm.LinearMixedModel.from_formula(formula, data, solver=solver)
    for theta in ([0.9, 0.1, 0.0, 0.0], [0.0, 0.0, 0.2, 0.3], [0.0, 0.0, 0.0, 0.0]):
        fit = model.at(theta)
        found = fit.influence("Subject", theta=True)
        assert found.notna().all().all()
        assert fit.leverage().between(0, 1).all()
        less = slm.LinearMixedModel.from_formula(formula, data[data.Subject != "308"]).at(theta)
        np.testing.assert_allclose(found.loc["308", "dfbetas"], (less.params - fit.params) / less.bse, rtol=1e-7)


def test_rows_of_nan_say_which_coefficient_needs_the_group():
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(10), 8)
    frame = pd.DataFrame({"g": g, "f": np.where(g == 3, "only", np.where(g % 2, "a", "b")), "y": rng.normal(size=80)})
    fit = slm.lmer("y ~ f + (1 | g)", frame)
    with pytest.warns(slm.exceptions.DataWarning, match=r"without 3 the model cannot estimate f\[T.only\]\."):
        table = fit.influence("g")
    assert table.loc[3].drop(("rows", "")).isna().all()
    assert table.drop(3).notna().all(axis=None)


def test_a_group_that_two_columns_differ_in_is_named_with_both():
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(6), 10)
    x = rng.normal(size=60)
    frame = pd.DataFrame({"g": g, "x": x, "z": np.where(g == 2, x + rng.normal(size=60), x), "y": rng.normal(size=60)})
    fit = slm.lmer("y ~ x + z + (1 | g)", frame)
    with pytest.warns(slm.exceptions.DataWarning, match="without 2 the model cannot estimate x, z"):
        fit.influence("g")
