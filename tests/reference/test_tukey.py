"""The studentized range against R's ptukey and qtukey (tukey.R) and against scipy's."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from scipy import special

from sparselmm.inference.distributions import t_tail
from sparselmm.inference.means.multiplicity import adjusted_p, adjusted_quantile
from sparselmm.inference.means.studentized_range import range_quantile, range_tail

HERE = Path(__file__).parent


def check(saved):
    k, df, q, tail, quantile = (np.array(saved[name], dtype=float) for name in ("k", "df", "q", "tail", "quantile"))
    for means in np.unique(k):
        at = k == means
        np.testing.assert_allclose(range_tail(q[at], int(means), df[at]), tail[at], atol=1e-6, rtol=0)
        np.testing.assert_allclose(range_quantile(0.95, int(means), df[at]), quantile[at], rtol=1e-6)


def test_as_saved_from_r():
    check(json.loads((HERE / "tukey.json").read_text()))


@pytest.mark.skipif(shutil.which("Rscript") is None, reason="no R here; the saved numbers are compared above")
def test_as_r_says_now(tmp_path):
    subprocess.run(["Rscript", str(HERE / "tukey.R")], check=True, cwd=tmp_path, timeout=120)
    check(json.loads((tmp_path / "tukey.json").read_text()))


@pytest.mark.parametrize(
    ("q", "k", "df", "tail"),
    [  # scipy.stats.studentized_range.sf of scipy 1.17; few degrees of freedom, where R's ptukey is off by up to 0.005
        (5.0, 3, 1.0, 0.26070785021665466),
        (10.0, 3, 1.5, 0.06595326191726802),
        (30.0, 5, 2.2, 0.004498137623808907),
        (1000.0, 50, 2.0, 2.0658386810978868e-05),
        (20.0, 3, 10.0, 1.6835389837766002e-07),
        (12.0, 20, 5.0, 0.009745628046632038),
    ],
)
def test_as_scipy(q, k, df, tail):
    assert range_tail(np.array([q]), k, np.array([df]))[0] == pytest.approx(tail, rel=1e-6, abs=1e-10)


def test_two_means_are_a_t_test():
    t, df = np.array([0.0, 0.4, 2.0, 9.0, 30.0]), np.array([1.0, 3.3, 7.0, 25.0, np.inf])
    np.testing.assert_allclose(range_tail(np.sqrt(2.0) * t, 2, df), t_tail(t, df), rtol=1e-7)
    upper = special.stdtrit(df[:-1], 0.975) * np.sqrt(2.0)
    np.testing.assert_allclose(range_quantile(0.95, 2, df[:-1]), upper, rtol=1e-9)


@pytest.mark.parametrize("k", [2, 3, 40, 1000])
def test_quantiles_have_the_tail_that_they_should(k):
    df = np.array([0.3, 1.0, 2.7, 11.0, 400.0, 1e7, np.inf])
    for level in (0.01, 0.5, 0.95, 0.9999):
        np.testing.assert_allclose(range_tail(range_quantile(level, k, df), k, df), 1.0 - level, rtol=1e-9)


def test_a_large_family_is_quick():
    df, t = np.linspace(5.0, 40.0, 190), np.linspace(0.1, 9.0, 190)
    start = time.process_time()
    adjusted_p(t, df, "tukey", 20)
    adjusted_quantile(0.95, df, "tukey", 20)
    assert time.process_time() - start < 1.0
