"""Tests, F tables, means and comparisons on unbalanced data, other codings and empty cells (inference_cases.R)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import reference_helpers as rh

FILE = "inference_cases.json.gz"
CASES = rh.read_records(FILE)
METHODS = ("satterthwaite", "kenward-roger")
RTOL = 2e-5
COLUMNS = {"Sum Sq": 1, "Mean Sq": 1, "NumDF": 1, "DenDF": 1, "F value": 1}
PAIRS = {"estimate": "estimate", "SE": "std_error", "df": "df", "t.ratio": "statistic", "p.value": "p_value",
         "lower.CL": "conf_low", "upper.CL": "conf_high"}  # fmt: skip
MEANS = {"emmean": "emmean", "SE": "std_error", "df": "df", "lower.CL": "conf_low", "upper.CL": "conf_high"}


@lru_cache
def frame():
    d = rh.reference_frame("extra_models").iloc[:400].copy()
    d["g"] = np.where(d["noise"] > 0.3, "hi", "lo")
    d["d01"] = (d["year"] > 2008).astype(float)
    for factor in ("a", "b", "c", "u", "v", "g"):
        d[factor] = d[factor].astype("category").cat.remove_unused_categories()
    return d


@lru_cache
def unfitted(case):
    record = {**CASES[case], "offset": None}
    return rh.build_model(record, frame())


@lru_cache
def at_r(case):
    record, model = CASES[case], unfitted(case)
    theta = record["theta"] if isinstance(record["theta"], list) else [record["theta"]]
    names = record["theta_names"] if isinstance(record["theta_names"], list) else [record["theta_names"]]
    values = rh.theta_from_r({"theta_names": names}, theta, model.theta_names)
    return rh.quietly(model.at, values, reml=record["REML"])


def listed(values):
    return values if isinstance(values, list) else [values]


def agree(what, ours, theirs, rtol=RTOL, atol=0.0):
    theirs = np.array([np.nan if v in (None, "NA") else v for v in listed(theirs)], dtype=float)
    ours = np.atleast_1d(np.asarray(ours, dtype=float))
    assert ours.shape == theirs.shape, what
    known = ~np.isnan(theirs)
    assert np.all(np.isnan(ours[~known]) | (ours[~known] == 0)), f"{what}: ours is known where R's is not"
    rh.close(what, ours[known], theirs[known], rtol * np.abs(theirs[known]) + atol)


def methods():
    return [(case, m) for case in CASES for m in METHODS if m in CASES[case]]


@pytest.mark.parametrize(("case", "method"), methods())
def test_f_tables(case, method):
    for kind in ("I", "II", "III"):
        saved = CASES[case][method].get(kind)
        if saved:
            table = at_r(case).anova(kind, ddf=method)
            assert [rh.plain(n) for n in table.index] == [rh.plain(n) for n in listed(saved["term"])]
            for column in COLUMNS:
                agree(f"type {kind} {column}", table[column], saved[column])


@pytest.mark.parametrize(("case", "method"), methods())
def test_hypotheses(case, method):
    fit, saved = at_r(case), CASES[case][method]
    L = np.array(CASES[case]["L"], dtype=float)
    one = fit.t_test(L, rhs=np.full(len(L), 0.1), ddf=method)
    for theirs, ours in (("Estimate", "estimate"), ("Std. Error", "std_error"), ("df", "df"), ("t value", "statistic"),
                         ("lower", "conf_low"), ("upper", "conf_high"), ("Pr(>|t|)", "p_value")):  # fmt: skip
        agree(f"contest1D {theirs}", one[ours], saved["contest1D"][theirs], atol=1e-10)
    joint = fit.f_test(L, rhs=np.full(len(L), 0.1), ddf=method).iloc[0]
    for theirs, ours in (("NumDF", "num_df"), ("DenDF", "den_df"), ("F value", "statistic"), ("Pr(>F)", "p_value")):
        agree(f"contestMD {theirs}", joint[ours], saved["contestMD"][theirs], atol=1e-10)


@pytest.mark.parametrize(("case", "method"), [(c, m) for c, m in methods() if CASES[c]["means"]])
def test_marginal_means(case, method):
    fit = at_r(case)
    for request, saved in zip(CASES[case]["means"], CASES[case][method]["emmeans"], strict=True):
        found = fit.emmeans(
            listed(request["specs"]), by=request.get("by"), at=request.get("at"), contrasts="pairwise",
            adjust=request.get("adjust") or "none", ddf=method,
        )  # fmt: skip
        for theirs, ours in MEANS.items():
            agree(f"{request} {theirs}", found.means[ours], saved["means"][theirs])
        for theirs, ours in ((t, o) for t, o in PAIRS.items() if t in saved["pairs"]):
            agree(f"{request} {theirs}", found.contrasts[ours], saved["pairs"][theirs], rtol=5e-5, atol=1e-7)
        labels = [rh.plain(str(c)) for c in found.contrasts["contrast"]]
        assert labels == [rh.plain(str(c)) for c in listed(saved["pairs"]["contrast"])]


@pytest.mark.parametrize("case", [c for c in CASES if CASES[c].get("drop1")])
def test_drop1(case):
    saved = CASES[case]["drop1"]
    table = at_r(case).drop1()
    assert [rh.plain(n) for n in table.index] == [rh.plain(n) for n in saved["term"]]
    agree("npar", table["npar"], saved["npar"])
    for column in ("AIC", "LRT"):
        agree(column, table[column], saved[column], atol=2e-5)


@pytest.mark.parametrize("case", [c for c in CASES if CASES[c].get("ranova")])
def test_ranova(case):
    saved = CASES[case]["ranova"]
    table = rh.quietly(unfitted(case).fit, reml=CASES[case]["REML"]).ranova()
    position = {rh.plain(t).replace("1+", ""): i for i, t in enumerate(saved["term"])}
    for name, row in table.iterrows():
        i = position[rh.plain(name)]
        assert row["npar"] == saved["npar"][i]
        # R's default optimizer stops a little above the minimum
        assert row["logLik"] == pytest.approx(saved["logLik"][i], abs=2e-4)
