"""New data, fitted here and by R now: lme4, lmerTest, pbkrtest, emmeans, glmmTMB and nlme beside each other."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm

SCRIPT = r"""
suppressPackageStartupMessages({library(lmerTest); library(pbkrtest); library(emmeans); library(glmmTMB)
  library(nlme)})
options(contrasts = c("contr.treatment", "contr.treatment"))
d <- read.csv("{data}", stringsAsFactors = TRUE); d$g <- factor(d$g); d$h <- factor(d$h)
tight <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-10, maxfun = 1e5), calc.derivs = FALSE)
m <- lmer(y ~ f * x + (x | g) + (1 | h), d, control = tight)
ml <- update(m, REML = FALSE)
k <- lmer(y ~ f + x + (1 | g), d, control = tight)
fixed <- function(table) lapply(as.data.frame(unclass(table)), as.numeric)
out <- list(
  reml = REMLcrit(m), ml = as.numeric(-2 * logLik(ml)), theta = unname(getME(m, "theta")),
  beta = unname(lme4::fixef(m)), se = unname(sqrt(diag(as.matrix(vcov(m))))),
  satterthwaite = fixed(anova(m, type = 3)), coefficients = fixed(coef(summary(m))),
  kr = fixed(anova(m, type = 3, ddf = "Kenward-Roger")),
  means = fixed(summary(emmeans(k, ~ f, lmer.df = "kenward-roger"))[c("emmean", "SE", "df")]),
  pairs = fixed(summary(pairs(emmeans(k, ~ f, lmer.df = "kenward-roger")))[c("estimate", "SE", "df", "p.value")]),
  tmb = as.numeric(-2 * logLik(glmmTMB(y ~ f * x + (x | g) + (1 | h), d))),
  tmb_reml = as.numeric(-2 * logLik(glmmTMB(y ~ f + x + (1 | g), d, REML = TRUE))),
  lme = as.numeric(-2 * logLik(lme(y ~ f + x, d, random = ~ 1 | g)))
)
object <- function(x) paste0("{", paste0('"', names(x), '": ', sapply(x, show), collapse = ", "), "}")
show <- function(x) if (is.list(x)) object(x) else paste0("[", paste(sprintf("%.17g", x), collapse = ", "), "]")
writeLines(show(out), "{output}")
"""


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(20261)
    n = 240
    g, h = rng.integers(0, 16, n), rng.integers(0, 7, n)
    f, x = rng.choice(["a", "b", "c"], n), rng.normal(size=n)
    b = rng.normal(size=(16, 2)) @ [[1.2, 0.4], [0.0, 0.7]]
    y = 2 + x + (f == "b") * 0.8 + b[g, 0] + b[g, 1] * x + 0.9 * rng.normal(size=7)[h] + rng.normal(size=n)
    return pd.DataFrame({"y": y, "x": x, "f": f, "g": [f"g{i:02d}" for i in g], "h": [f"h{i}" for i in h]})


@pytest.fixture(scope="module")
def r(data, r_session, tmp_path_factory):
    folder = tmp_path_factory.mktemp("r")
    data.to_csv(folder / "data.csv", index=False, float_format="%.17g")
    script = SCRIPT.replace("{data}", str(folder / "data.csv")).replace("{output}", str(folder / "out.json"))
    (folder / "script.R").write_text(script, encoding="utf-8")
    r_session.run(folder / "script.R")
    return json.loads((folder / "out.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def full(data):
    return slm.lmer("y ~ f * x + (x | g) + (1 | h)", data)


@pytest.fixture(scope="module")
def plain(data):
    return slm.lmer("y ~ f + x + (1 | g)", data)


pytestmark = pytest.mark.needs_r("lmerTest", "pbkrtest", "emmeans", "glmmTMB", "nlme")


def test_estimates_are_those_of_lme4(full, r):
    assert full.criterion == pytest.approx(r["reml"][0], abs=1e-7)
    assert full.refit(reml=False).criterion == pytest.approx(r["ml"][0], abs=1e-7)
    np.testing.assert_allclose(full.theta, r["theta"], atol=1e-4)
    np.testing.assert_allclose(full.params, r["beta"], atol=1e-4 * full.bse.min())
    np.testing.assert_allclose(full.bse, r["se"], rtol=1e-4)


@pytest.mark.parametrize(("ddf", "key"), [("satterthwaite", "satterthwaite"), ("kenward-roger", "kr")])
def test_tests_of_terms_are_those_of_lmertest(full, r, ddf, key):
    """lmerTest takes its derivatives by differences, so degrees of freedom agree to three digits."""
    ours = full.anova(type=3, ddf=ddf)
    theirs = r[key]
    assert len(ours) == len(theirs["F.value"]) == 3
    np.testing.assert_allclose(ours["F value"], theirs["F.value"], rtol=2e-3)
    np.testing.assert_allclose(ours["DenDF"], theirs["DenDF"], rtol=2e-3)
    np.testing.assert_allclose(ours["Pr(>F)"], theirs["Pr..F."], rtol=5e-3)


def test_tests_of_coefficients_are_those_of_lmertest(full, r):
    table, theirs = full.coef_table("satterthwaite"), r["coefficients"]
    np.testing.assert_allclose(table["df"], theirs["df"], rtol=2e-3)
    np.testing.assert_allclose(table["p_value"], theirs["Pr(>|t|)"], rtol=5e-3)


def test_marginal_means_and_their_differences_are_those_of_emmeans(plain, r):
    found = plain.emmeans("f", contrasts="pairwise", ddf="kenward-roger")
    for ours, theirs in (("emmean", "emmean"), ("std_error", "SE"), ("df", "df")):
        np.testing.assert_allclose(found.means[ours], r["means"][theirs], rtol=1e-5)
    for ours, theirs in (("estimate", "estimate"), ("std_error", "SE"), ("df", "df"), ("p_value", "p.value")):
        np.testing.assert_allclose(found.contrasts[ours], r["pairs"][theirs], rtol=1e-4)


def test_likelihoods_are_those_of_glmmtmb_and_nlme(full, plain, r):
    assert full.refit(reml=False).criterion == pytest.approx(r["tmb"][0], abs=1e-5)
    assert plain.criterion == pytest.approx(r["tmb_reml"][0], abs=1e-5)
    assert plain.criterion == pytest.approx(r["lme"][0], abs=1e-5)
