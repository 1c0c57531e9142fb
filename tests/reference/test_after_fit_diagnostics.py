"""Hat values, Cook's distances and residuals of R's models at R's θ; deletion of groups against R's refits."""

from __future__ import annotations

import json

import numpy as np
import pytest
import reference_helpers as rh

import sparselmm as slm

FILE = "lme4.json.gz"
RECORDS = rh.read_records(FILE)
WITH_HAT = [m for m in rh.reference_models() if RECORDS[m].get("hat")]
RTOL = 1e-6


def at_the_theta_of_r(model):
    record = RECORDS[model]
    built = rh.built(FILE, model)
    return rh.quietly(built.at, rh.theta_from_r(record, record["theta"], built.theta_names), reml=record["REML"])


def test_most_models_have_hat_values():
    assert len(WITH_HAT) == 72


@pytest.mark.parametrize("model", WITH_HAT)
def test_hat_values_and_cooks_distances(model):
    record, fit = RECORDS[model], at_the_theta_of_r(model)
    hat = fit.leverage()
    rh.close("hat values", hat.iloc[:5], record["hat"]["first5"], RTOL * np.abs(record["hat"]["first5"]))
    rh.close("sum of hat values", hat.sum(), record["hat"]["sum"], RTOL * record["hat"]["sum"])
    cooks = record["cooks"]
    if cooks:
        found = fit.cooks_distance()
        # a residual has an error relative to σ, not to itself
        slack = RTOL * (np.abs(cooks["first5"]) + cooks["sum"] / fit.nobs)
        rh.close("Cook's distances", found.iloc[:5], cooks["first5"], slack)
        rh.close("sum of Cook's distances", found.sum(), cooks["sum"], 10 * RTOL * cooks["sum"])


@pytest.mark.parametrize("model", WITH_HAT)
def test_residuals(model):
    record, fit = RECORDS[model], at_the_theta_of_r(model)
    for kind, saved in (("response", "resid10"), ("pearson", "resid_pearson10"), ("scaled", "resid_scaled10")):
        scale = 1.0 if kind == "scaled" else fit.sigma * max(1.0, np.sqrt(np.max(fit.getME("weights"))))
        rh.close(f"{kind} residuals", fit.residuals(kind).iloc[:10], record[saved], RTOL * scale)


@pytest.mark.parametrize("name", ["sleepstudy", "Penicillin"])
def test_one_step_against_the_refits_of_r(name):
    saved = json.loads((rh.HERE / "influence.json").read_text())[name]
    fit = slm.lmer(saved["formula"], slm.load_dataset(name))
    found = fit.influence(saved["group"], theta=True)
    step = found.set_axis(found.index.astype(str)).loc[saved["levels"], "one_step"]
    beta = np.reshape(saved["dfbeta"], (len(step), len(fit.params)))
    rh.close("change of β", step.iloc[:, : len(fit.params)] / fit.bse.to_numpy(), beta / fit.bse.to_numpy(), 0.01)
    changes = np.abs(saved["sigma"]).max()
    rh.close("change of σ", step["sigma"], saved["sigma"], 0.05 * changes)
    theta = np.array(
        [rh.theta_from_r({"theta_names": saved["theta_names"]}, t, fit.theta_names) for t in saved["theta"]]
    )
    # one step is not a refit: a quarter of the largest change for single entries, an eighth over all
    gap = step[list(fit.theta_names)].to_numpy() - theta
    assert np.abs(gap).max() < 0.25 * np.abs(theta).max()
    assert np.linalg.norm(gap) < 0.125 * np.linalg.norm(theta)
    rh.close("rstudent of R", fit.residuals("standardized").iloc[:5], saved["rstudent_first5"], 1e-5)
