"""Profiles do not depend on the units of the variables."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(173)
    b, p, f = rng.integers(0, 12, 400), rng.integers(0, 8, 400), rng.choice([0.8, 1.2, 1.6, 2.4], 400)
    frame = pd.DataFrame({"b": b, "p": p, "f": f})
    effects = rng.normal(size=12)[b] + rng.normal(size=8)[p] * (1 + f)
    return frame.assign(pw=5 + 3 * f + effects + rng.normal(size=400) * 0.3)


def limits(data, unit=1.0, response=1.0, term="(f | p)"):
    frame = data.assign(f=data["f"] * unit, pw=data["pw"] * response)
    fit = slm.lmer(f"pw ~ f + (1 | b) + {term}", frame)
    return fit.conf_int(method="profile").to_numpy()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("term", ["(f | p)", "(f || p)", "diag(f | p)"])
@pytest.mark.parametrize(("unit", "response"), [(1e9, 1.0), (1e-9, 1.0), (1e3, 1e-3), (1.0, 1e6)])
def test_limits_have_the_units_of_the_data(data, term, unit, response):
    plain, found = limits(data, term=term), limits(data, unit, response, term)
    scale = np.full(len(plain), response)
    scale[-1] = response / unit  # the slope
    scale[2] = response / unit  # its standard deviation
    if term == "(f | p)":
        scale[3] = 1.0  # the correlation
        np.testing.assert_allclose(plain[-1], [2.425760, 3.775959], atol=1e-6)
    np.testing.assert_allclose(found / scale[:, None], plain, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(found[-1] / scale[-1], plain[-1], rtol=2e-9)


@pytest.mark.filterwarnings("ignore")
def test_no_more_work_in_other_units(data):
    fits = [slm.lmer("pw ~ f + (1 | b) + (f | p)", data.assign(f=data["f"] * unit)) for unit in (1.0, 1e9)]
    plain, found = (sum(p.evaluations for p in fit.profile(which="theta_").profiles) for fit in fits)
    assert found <= 1.1 * plain
