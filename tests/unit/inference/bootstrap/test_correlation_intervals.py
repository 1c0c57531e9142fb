"""Bootstrap intervals of correlations: quantiles of the replicates, inside (-1, 1), and R's for the same replicates."""

from __future__ import annotations

import json
import subprocess

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm.inference.bootstrap.replicates import Bootstrap

CORRELATION = "cor(Intercept,Days|Subject)"


@pytest.fixture(scope="module")
def made() -> Bootstrap:
    fit = slm.lmer("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    return fit.bootstrap(300, seed=4)


def replicates(made: Bootstrap, name: str) -> np.ndarray:
    values = made.values[:, list(made.names).index(name)]
    return values[np.isfinite(values)]


@pytest.mark.parametrize("level", [0.5, 0.8])
def test_limits_are_quantiles_of_the_replicates(made, level):
    x = replicates(made, CORRELATION)
    estimate, low, high = made.conf_int(level).loc[CORRELATION]
    tail = (1 - level) / 2
    np.testing.assert_allclose([low, high], np.quantile(x, [tail, 1 - tail], method="weibull"), rtol=1e-12)
    assert -1 < low < estimate < high < 1
    assert estimate == pytest.approx(0.0656, abs=5e-5)  # lme4's


def test_every_parameter_of_the_percentile_kind(made):
    """No bound moves a limit of a fit that is far from all of them."""
    frame = made.conf_int(0.8)
    for name in made.names:
        expected = np.quantile(replicates(made, name), [0.1, 0.9], method="weibull")
        np.testing.assert_allclose(frame.loc[name, ["conf_low", "conf_high"]], expected, rtol=1e-12, err_msg=name)


def bootstrap_of(values, estimate, like: Bootstrap) -> Bootstrap:
    """Return replicates of the correlation alone that are made by hand, the other parameters as they were."""
    at = list(like.names).index(CORRELATION)
    some = like.values[: len(values)].copy()
    some[:, at] = values
    estimates = like.estimate.copy()
    estimates[at] = estimate
    n = len(values)
    criterion, singular, converged = (x[:n] for x in (like.criterion, like.singular, like.converged))
    return Bootstrap(like.names, estimates, some, criterion, singular, converged, False, True, like.entries)


def test_limits_beyond_one_are_moved_to_it(made):
    """Of the basic and the normal kind: 2 t0 - quantile leaves the parameter space of a correlation."""
    strong = bootstrap_of(np.linspace(0.2, 0.99, 99), 0.9, made)
    assert strong.conf_int(kind="basic").loc[CORRELATION, "conf_high"] == 1.0
    weak = bootstrap_of(-np.linspace(0.2, 0.99, 99), -0.9, made)
    assert weak.conf_int(kind="basic").loc[CORRELATION, "conf_low"] == -1.0
    covariances = strong.conf_int(kind="basic", scale="varcov")
    (covariance,) = [name for name in covariances.index if "cov" in name]
    assert covariances.loc[covariance, "conf_high"] > 1.0  # a covariance has no such bound


def test_no_interval_from_replicates_without_a_correlation(made):
    frame = bootstrap_of(np.full(20, np.nan), 0.5, made).conf_int()
    assert frame.loc[CORRELATION, ["conf_low", "conf_high"]].isna().all()


@pytest.mark.needs_r("boot")
@pytest.mark.parametrize("kind", ["percentile", "basic"])
def test_limits_are_those_of_boot_ci(made, kind, tmp_path):
    """R's boot::boot.ci, which confint() of bootMer's result calls, on the same replicates."""
    x = replicates(made, CORRELATION)[:199]  # 200 * 0.05 is whole: both take order statistics as they are
    estimate = made.conf_int().loc[CORRELATION, "estimate"]
    pd.Series(x).to_csv(tmp_path / "t.csv", index=False, header=False)
    script = (
        f'library(boot); t <- as.matrix(read.csv("{tmp_path}/t.csv", header = FALSE))\n'
        "b <- list(t0 = c(rho = %r), t = t, R = nrow(t), call = quote(boot()), sim = 'parametric')\n"
        "class(b) <- 'boot'; attr(b, 'boot_type') <- 'boot'\n"
        "ci <- boot.ci(b, conf = 0.9, type = '%s', index = 1)\n"
        "cat(sprintf('[%%.17g, %%.17g]', ci[[4]][4], ci[[4]][5]))\n"
    ) % (float(estimate), "perc" if kind == "percentile" else "basic")
    done = subprocess.run(["Rscript", "--vanilla", "-e", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = bootstrap_of(x, estimate, made).conf_int(0.9, kind).loc[CORRELATION, ["conf_low", "conf_high"]]
    np.testing.assert_allclose(found, json.loads(done.stdout), rtol=1e-12)
