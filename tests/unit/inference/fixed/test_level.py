"""Type I error of the tests on a small unbalanced crossed design, by simulation (docs/inference.md)."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm

REPLICATES = 2000
LEVEL = 0.05
# 99.7 % of binomial proportions of 2,000 at 5 %
BAND = (0.0354, 0.0646)


def design():
    rng = np.random.default_rng(12)
    a, b = rng.integers(0, 8, 60), rng.integers(0, 6, 60)
    return pd.DataFrame({"a": a.astype(str), "b": b.astype(str), "x": rng.standard_normal(8)[a]}), a, b


def rejections():
    frame, a, b = design()
    rng = np.random.default_rng(2024)
    fit = None
    counts = dict.fromkeys(("kenward-roger", "satterthwaite", "normal"), 0)
    for _ in range(REPLICATES):
        y = rng.standard_normal(8)[a] + 0.7 * rng.standard_normal(6)[b] + rng.standard_normal(60)
        fit = slm.lmer("y ~ x + (1 | a) + (1 | b)", frame.assign(y=y)) if fit is None else fit.refit(y)
        for method in counts:
            counts[method] += fit.coef_table(method).loc["x", "p_value"] < LEVEL
    return {method: count / REPLICATES for method, count in counts.items()}


@pytest.mark.slow
def test_tests_keep_their_level():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = rejections()
    print(found)
    for method in ("kenward-roger", "satterthwaite"):
        assert BAND[0] <= found[method] <= BAND[1], found
    assert found["normal"] > BAND[1], found
