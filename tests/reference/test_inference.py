"""Inference against the saved results of lmerTest, pbkrtest, emmeans, performance and lme4.

First at R's θ, where no optimizer can be blamed; then at our own optimum. lmerTest differentiates
numerically, so its degrees of freedom carry an error of up to about 1e-6 relative. Singular models have
no comparable degrees of freedom: R leaves out negative eigenvalues of a numerical Hessian there.
"""

from __future__ import annotations

import gzip
import json
from functools import lru_cache

import numpy as np
import pytest
import reference_helpers as rh

import sparselmm as slm
from sparselmm.inference.fixed.tables import ANOVA_COLUMNS

FILE = "lme4.json.gz"
RECORDS = rh.read_records(FILE)
PAIRS = json.loads(gzip.decompress((rh.HERE / FILE).read_bytes()))["lrt"]
REGULAR = [m for m, r in RECORDS.items() if not r["isSingular"] and r["p"]]
KENWARD_ROGER = [m for m in REGULAR if "kenward_roger" in RECORDS[m]]
SATTERTHWAITE_AT, SATTERTHWAITE_OPTIMUM = 1e-4, 1e-3
KR_AT, KR_OPTIMUM = 1e-6, 1e-4


@lru_cache
def at_r(model):
    record = RECORDS[model]
    unfitted = rh.built(FILE, model)
    return rh.quietly(unfitted.at, rh.theta_from_r(record, record["theta"], unfitted.theta_names), reml=record["REML"])


def relative(what, ours, theirs, rtol):
    theirs = np.array(theirs, dtype=float)
    rh.close(what, np.asarray(ours, dtype=float), theirs, rtol * np.abs(theirs))


def check_satterthwaite(fit, record, rtol):
    table, saved = fit.coef_table("satterthwaite"), record["satterthwaite"]
    if not record.get("contrasts"):
        assert [rh.plain(n) for n in table.index] == [rh.plain(n) for n in saved["term"]]
    relative("df", table["df"], saved["df"], rtol)
    assert list(table["p_value"]) == pytest.approx(saved["p"], rel=100 * rtol, abs=1e-12)


def check_kenward_roger(fit, record, rtol):
    table, saved = fit.coef_table("kenward-roger"), record["kenward_roger"]
    relative("Kenward-Roger df", table["df"], saved["df"], rtol)
    relative("Kenward-Roger standard errors", table["std_error"], saved["se"], rtol)
    theirs = np.array(saved["vcov_adj"], dtype=float)
    theirs = theirs.reshape(len(table), len(table))
    sd = np.sqrt(np.diag(theirs))
    rh.close("adjusted covariance", fit._method("kenward-roger").cov(), theirs, rtol * np.outer(sd, sd))


@pytest.mark.parametrize("model", REGULAR)
def test_satterthwaite_at_the_theta_of_r(model):
    check_satterthwaite(at_r(model), RECORDS[model], SATTERTHWAITE_AT)


@pytest.mark.parametrize("model", REGULAR)
def test_satterthwaite_at_the_optimum(model):
    check_satterthwaite(rh.fitted(FILE, model), RECORDS[model], SATTERTHWAITE_OPTIMUM)


@pytest.mark.parametrize("model", KENWARD_ROGER)
def test_kenward_roger_at_the_theta_of_r(model):
    check_kenward_roger(at_r(model), RECORDS[model], KR_AT)


@pytest.mark.parametrize("model", KENWARD_ROGER)
def test_kenward_roger_at_the_optimum(model):
    check_kenward_roger(rh.fitted(FILE, model), RECORDS[model], KR_OPTIMUM)


@pytest.mark.parametrize("model", REGULAR)
def test_anova_tables(model):
    # the type III matrices of lmerTest are rounded to 7 digits (zapsmall), which shows as up to 1e-6
    fit = at_r(model)
    for key, saved in RECORDS[model].get("anova", {}).items():
        method, kind = key.rsplit("_", 1)
        table = fit.anova(kind, ddf=method)
        assert [rh.plain(n) for n in table.index] == [rh.plain(n) for n in saved["term"]], key
        for column in ANOVA_COLUMNS[:5]:
            theirs = np.array(saved[column], dtype=float)
            known = ~np.isnan(theirs)
            ours = table[column].to_numpy(dtype=float)
            assert np.all(np.isnan(ours[~known]) | (ours[~known] == 0)), f"{key} {column}"
            if known.any():
                relative(f"{key} {column}", ours[known], theirs[known], 1e-5)


@pytest.mark.parametrize("model", [m for m in REGULAR if RECORDS[m].get("vcov_varpar")])
def test_covariance_of_variance_parameters(model):
    record = RECORDS[model]
    fit = at_r(model)
    theirs = np.array(record["vcov_varpar"], dtype=float)
    ours = fit.cov_varpar()
    names = [rh.plain(n) for n in record["theta_names"]]
    order = [names.index(rh.plain(n)) for n in fit.theta_names] + [len(names)]
    theirs = theirs[np.ix_(order, order)]
    sd = np.sqrt(np.diag(theirs))
    rh.close("covariance of (theta, sigma)", ours.to_numpy(), theirs, 1e-4 * np.outer(sd, sd))


@pytest.mark.parametrize("pair", PAIRS, ids=lambda p: f"{p['reduced']}-{p['full']}")
def test_likelihood_ratio_pairs(pair):
    small, large = rh.fitted(FILE, pair["reduced"]), rh.fitted(FILE, pair["full"])
    table = rh.quietly(slm.anova, large, small)
    assert table["Df"].iloc[1] == pair["df"]
    assert table["Chisq"].iloc[1] == pytest.approx(pair["chisq"], rel=1e-6, abs=1e-6)
    assert table["Pr(>Chisq)"].iloc[1] == pytest.approx(pair["p"], rel=1e-5, abs=1e-14)
    assert bool(table.attrs["notes"]) == pair["refit_by_ML"]


@pytest.mark.parametrize("model", [m for m, r in RECORDS.items() if r.get("ranova")])
def test_ranova(model):
    saved = RECORDS[model]["ranova"]
    table = rh.fitted(FILE, model).ranova()
    theirs = {rh.plain(t): i for i, t in enumerate(saved["term"])}
    assert sorted(map(rh.plain, table.index)) == sorted(theirs)
    for name, row in table.iterrows():
        i = theirs[rh.plain(name)]
        assert row["npar"] == saved["npar"][i]
        assert row["logLik"] == pytest.approx(saved["logLik"][i], abs=1e-5)
        assert row["AIC"] == pytest.approx(saved["AIC"][i], abs=2e-5)
        if saved["LRT"][i] is not None:
            assert row["LRT"] == pytest.approx(saved["LRT"][i], abs=2e-5)
            assert row["Df"] == saved["Df"][i]
            assert row["Pr(>Chisq)"] == pytest.approx(saved["Pr(>Chisq)"][i], rel=1e-4)
            assert row["Pr(>Chisq) mixture"] < row["Pr(>Chisq)"]


@pytest.mark.parametrize("model", [m for m, r in RECORDS.items() if r.get("drop1_chisq")])
def test_drop1(model):
    saved = RECORDS[model]["drop1_chisq"]
    table = rh.fitted(FILE, model).drop1()
    assert table.loc["<none>", "AIC"] == pytest.approx(saved["AIC_full"], abs=1e-6)
    assert len(table) == len(saved["rows"]) + 1
    for row in saved["rows"]:
        ours = next(r for name, r in table.iterrows() if rh.plain(name) == rh.plain(row["term"]))
        assert ours["npar"] == row["npar_dropped"]
        assert ours["AIC"] == pytest.approx(row["AIC"], abs=1e-6)
        assert ours["LRT"] == pytest.approx(row["LRT"], abs=1e-6)
        assert ours["Pr(Chi)"] == pytest.approx(row["p"], rel=1e-5)


@pytest.mark.parametrize("model", [m for m, r in RECORDS.items() if r.get("drop1_lmerTest_F")])
def test_drop1_by_f_tests(model):
    saved = RECORDS[model]["drop1_lmerTest_F"]
    table = at_r(model).drop1("F")
    for i, term in enumerate(saved["term"]):
        ours = next(r for name, r in table.iterrows() if rh.plain(name) == rh.plain(term))
        for column in ANOVA_COLUMNS:
            assert ours[column] == pytest.approx(saved[column][i], rel=1e-4), column


MEANS = {"emmean": "emmean", "SE": "std_error", "df": "df", "lower.CL": "conf_low", "upper.CL": "conf_high"}
CONTRASTS = {"estimate": "estimate", "SE": "std_error", "df": "df", "t.ratio": "statistic", "p.value": "p_value"}


@pytest.mark.parametrize("model", [m for m, r in RECORDS.items() if r.get("emmeans")])
def test_emmeans(model):
    for entry in RECORDS[model]["emmeans"]:
        for method in ("satterthwaite", "kenward-roger"):
            saved = entry[method]
            contrasts = "pairwise" if "pairs_unadjusted" in saved else None
            found = at_r(model).emmeans(entry["specs"], contrasts=contrasts, adjust="none", ddf=method)
            for name in entry["specs"]:
                assert list(map(str, found.means[name])) == saved["means"][name]
            for theirs, ours in MEANS.items():
                relative(f"{method} {theirs}", found.means[ours], saved["means"][theirs], 1e-5)
            if contrasts:
                assert list(found.contrasts["contrast"]) == saved["pairs_unadjusted"]["contrast"]
                for theirs, ours in CONTRASTS.items():
                    if theirs in saved["pairs_unadjusted"]:
                        relative(f"{method} {theirs}", found.contrasts[ours], saved["pairs_unadjusted"][theirs], 1e-4)


@pytest.mark.parametrize("model", [m for m, r in RECORDS.items() if r.get("rePCA")])
def test_principal_components(model):
    found = at_r(model).random_effects_pca()
    for block in RECORDS[model]["rePCA"]:
        frame = found[block["group"]]
        rh.close("rePCA sdev", frame["sdev"], block["sdev"], 1e-6)


@pytest.mark.parametrize("model", [m for m, r in RECORDS.items() if r.get("r2_nakagawa")])
def test_shares_of_variance(model):
    record, fit = RECORDS[model], rh.fitted(FILE, model)
    for name, value in record["r2_nakagawa"].items():
        assert fit.r2()[name] == pytest.approx(value, abs=1e-5)
    for name, value in record["icc"].items():
        assert fit.icc()[name] == pytest.approx(value, abs=1e-5)
