"""Means, slopes and contrasts against R's emmeans (emmeans.R; emmeans_data.py makes the data)."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from functools import lru_cache
from pathlib import Path

import emmeans_data
import numpy as np
import pytest

import sparselmm as slm

HERE = Path(__file__).parent
SAVED = json.loads((HERE / "emmeans.json").read_text())
ESTIMATES = ("emmean", "estimate", "x.trend", "response", "ratio")

FITS = {
    "n1": ("nested", "y ~ geno + strain + (1 | box)", {}),
    "o1": ("outside", "y ~ group * (cat + sub) + (1 | block)", {}),
    "o2": ("outside", "y ~ group + cat * sub + (1 | block)", {}),
    "c1": ("crossed", "log(y) ~ f * h * x + (1 | g)", {}),
    "c2": ("crossed", "sqrt(y) ~ f + h + poly(x, 2) + (1 | g)", {}),
    "c3": ("crossed", "log(y + 1) ~ f + h + (1 | g)", {}),
    "c4": ("crossed", "log10(y) ~ f * h + (1 | g)", {"weights": "w"}),
    "c5": ("crossed", "I(1 / y) ~ f + x + (1 | g)", {}),
    "c6": ("crossed", "log(y) ~ f + h * poly(x, 3) + (1 | g)", {}),
}


@lru_cache
def fitted(name):
    data, formula, arguments = FITS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return slm.lmer(formula, emmeans_data.SETS[data](), **arguments)


def means(name, *args, **kwargs):
    return lambda: fitted(name).emmeans(*args, **kwargs).means


def contrasts(name, *args, **kwargs):
    return lambda: fitted(name).emmeans(*args, adjust=kwargs.pop("adjust", "tukey"), **kwargs).contrasts


CASES = {
    "geno": means("n1", "geno"),
    "strain": means("n1", "strain"),
    "geno pairs": contrasts("n1", "geno", contrasts="pairwise"),
    "strain pairs": contrasts("n1", "strain", contrasts="pairwise"),
    "strain by geno": contrasts("n1", "strain", by="geno", contrasts="pairwise"),
    "all nested": means("n1", "1"),
    "group": means("o1", "group"),
    "cat": means("o1", "cat"),
    "sub by group": means("o1", "sub", by="group"),
    "group proportional": means("o1", "group", weights="proportional"),
    "group cells": means("o1", "group", weights="cells"),
    "group of product": means("o2", "group"),
    "f": means("c1", "f"),
    "f proportional": means("c1", "f", weights="proportional"),
    "f cells": means("c1", "f", weights="cells"),
    "overall proportional": means("c1", "1", weights="proportional"),
    "overall cells weighted": means("c4", "1", weights="cells"),
    "h proportional weighted": means("c4", "h", weights="proportional"),
    "poly": contrasts("c1", "f", contrasts="poly"),
    "interaction": contrasts("c1", "f:h", interaction="pairwise"),
    "interaction two": contrasts("c1", ["f", "h"], interaction=["poly", "consec"]),
    "interaction by": contrasts("c1", "f", by="h", interaction="poly"),
    "trends": lambda: fitted("c1").emtrends("f", "x").means,
    "trends by": lambda: fitted("c1").emtrends("f", "x", by="h").means,
    "trend pairs": lambda: fitted("c1").emtrends("f", "x", contrasts="pairwise").contrasts,
    "trends cells": lambda: fitted("c1").emtrends("h", var="x", weights="cells").means,
    "trend cubic at": lambda: fitted("c6").emtrends("h", var="x", at={"x": 1.5}).means,
    "response log": means("c1", "f", type="response"),
    "ratios": contrasts("c1", "f", contrasts="pairwise", type="response"),
    "response sqrt": means("c2", "f", type="response"),
    "response log plus": means("c3", "h", type="response"),
    "response log10": means("c4", "h", type="response"),
    "ratio log10": contrasts("c4", "h", contrasts="pairwise", type="response"),
}


def compare(saved, found, name):
    """Compare in standard errors; R's optimizer stops about 1e-5 away, and its slopes are difference quotients."""
    estimate = next(n for n in ESTIMATES if n in saved)
    real = [i for i, label in enumerate(saved.get("contrast", saved["SE"])) if label != "(nothing)"]
    saved = {column: [values[i] for i in real] for column, values in saved.items()}  # one mean has no contrasts
    labels = [n for n in saved if n in found.columns and n not in (estimate, "df") and isinstance(saved[n][0], str)]
    for column in labels:
        assert list(map(str, found[column])) == list(map(str, saved[column])), (name, column)
    se = np.array(saved["SE"], dtype=float)
    np.testing.assert_allclose(found["std_error"], se, rtol=2e-4, err_msg=name)
    np.testing.assert_allclose((found[estimate] - np.array(saved[estimate])) / se, 0, atol=2e-4, err_msg=name)
    np.testing.assert_allclose(found["df"], np.array(saved["df"], dtype=float), rtol=2e-3, err_msg=name)
    for ours, theirs in (("conf_low", "lower.CL"), ("conf_high", "upper.CL")):
        np.testing.assert_allclose((found[ours] - np.array(saved[theirs])) / se, 0, atol=2e-3, err_msg=name)
    if "p_value" in found:
        np.testing.assert_allclose(found["p_value"], saved["p.value"], atol=1e-4, err_msg=name)


@pytest.mark.parametrize("name", CASES)
def test_as_saved_from_r(name):
    compare(SAVED[name], CASES[name](), name)


def test_every_saved_case_is_compared():
    assert set(SAVED) - {"software"} == set(CASES)


def test_as_r_says_now(tmp_path):
    probe = "quit(status = !all(sapply(c('emmeans', 'lmerTest', 'pbkrtest'), requireNamespace, quietly = TRUE)))"
    if shutil.which("Rscript") is None or subprocess.run(["Rscript", "-e", probe], capture_output=True).returncode:
        pytest.skip("no R with emmeans here; the saved output is compared above")
    subprocess.run([sys.executable, str(HERE / "emmeans_data.py"), str(tmp_path)], check=True, timeout=120)
    command = ["Rscript", str(HERE / "emmeans.R"), str(tmp_path)]
    subprocess.run(command, check=True, cwd=tmp_path, capture_output=True, timeout=300)
    now = json.loads((tmp_path / "emmeans.json").read_text())
    for name, found in CASES.items():
        compare(now[name], found(), name)


def test_the_nested_means_of_the_report():
    """0.368 (SE 0.248, df 17.1), 0.693 (0.315, 37.0), 2.577 (0.248, 17.1), by lme4 and emmeans."""
    result = fitted("n1").emmeans("geno")
    assert result.means.emmean.round(3).tolist() == [0.368, 0.693, 2.577]
    assert result.means.std_error.round(3).tolist() == [0.248, 0.315, 0.248]
    assert result.means.df.round(1).tolist() == [17.1, 37.0, 17.1]
    assert any("strain is nested in geno" in note for note in result.notes)
