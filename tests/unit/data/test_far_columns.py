"""Columns far from zero are kept when they are identified after centring; dependent ones are dropped in R's order."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm.exceptions import NumericalError, RankDeficiencyWarning
from sparselmm.linalg.rank import independent_columns

SLEEP = slm.load_dataset("sleepstudy")
RNG = np.random.default_rng(3)
N = 300
G, F = RNG.integers(0, 12, N), RNG.choice(list("abc"), N)
B = RNG.normal(size=(12, 2))
NOISE, Z = RNG.normal(size=N) * 0.5, RNG.normal(size=N)
W = 10.0 ** RNG.uniform(-2, 2, N)
X = np.round(RNG.normal(size=N) * 2**10) / 2**10
pytestmark = pytest.mark.filterwarnings("ignore::sparselmm.exceptions.ScaleWarning")


def far(offset: float) -> pd.DataFrame:
    t = offset + X
    x = t - offset
    y = 1 + 2 * x + 0.5 * (F == "b") * x + B[G, 0] + B[G, 1] * x + NOISE
    return pd.DataFrame({"y": y, "t": t, "x": x, "f": F, "g": G, "w": W, "z": Z})


def fitted(formula: str, data: pd.DataFrame, **options: object) -> slm.MixedModelFit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return slm.lmer(formula, data, **options)


@pytest.mark.parametrize("offset", [1.7e9, -1.7e9, 1e10, 2.8e10])
@pytest.mark.parametrize("bar", ["(1 | Subject)", "(Days | Subject)"])
def test_seconds_keep_the_slope_of_days(offset, bar):
    data = SLEEP.assign(t=offset + SLEEP["Days"])
    fit = fitted(f"Reaction ~ t + {bar.replace('Days', 't')}", data)
    days = slm.lmer(f"Reaction ~ Days + {bar}", SLEEP)
    assert fit.params["t"] == pytest.approx(10.467286, abs=5e-7)
    assert fit.dropped_columns == ()
    assert fit.criterion == pytest.approx(days.criterion, abs=1e-8)
    assert fit.bse["t"] == pytest.approx(days.bse["Days"], rel=1e-8)
    for ddf in ("satterthwaite", "kenward-roger"):
        a, b = fit.coef_table(ddf=ddf).loc["t"], days.coef_table(ddf=ddf).loc["Days"]
        np.testing.assert_allclose(a.to_numpy(float), b.to_numpy(float), rtol=1e-6)
    np.testing.assert_allclose(fit.predict(data), days.predict(SLEEP), rtol=1e-6)
    se = fit.predict(data.head(9), se=True)["se"], days.predict(SLEEP.head(9), se=True)["se"]
    np.testing.assert_allclose(*se, rtol=1e-4)


PAIRS = [
    ("y ~ t + (1 | g)", "y ~ x + (1 | g)"), ("y ~ t + z + (t | g)", "y ~ x + z + (x | g)"),
    ("y ~ t * f + (1 | g)", "y ~ x * f + (1 | g)"), ("y ~ f * t + (t | g)", "y ~ f * x + (x | g)"),
    ("y ~ f + f:t + (1 | g)", "y ~ f + f:x + (1 | g)"), ("y ~ 0 + f + t + (1 | g)", "y ~ 0 + f + x + (1 | g)"),
    ("y ~ 0 + f + f:t + (1 | g)", "y ~ 0 + f + f:x + (1 | g)"),
    ("y ~ poly(t, 2) + (1 | g)", "y ~ poly(x, 2) + (1 | g)"),
    ("y ~ scale(t) + (scale(t) | g)", "y ~ scale(x) + (scale(x) | g)"),
    ("y ~ C(f, contr.sum) * t + (1 | g)", "y ~ C(f, contr.sum) * x + (1 | g)"),
    ("y ~ C(f, contr.helmert) + t + (1 | g)", "y ~ C(f, contr.helmert) + x + (1 | g)"),
]  # fmt: skip


@pytest.mark.parametrize("offset", [1.7e9, -1e7, 3e3])
@pytest.mark.parametrize(("formula", "near"), PAIRS)
@pytest.mark.parametrize("weights", [None, "w"])
def test_the_same_model_near_zero(offset, formula, near, weights):
    data = far(offset)
    a, b = fitted(formula, data, weights=weights), fitted(near, data, weights=weights)
    assert a.dropped_columns == ()
    assert a.criterion == pytest.approx(b.criterion, abs=1e-5)
    slopes = [i for i, name in enumerate(b.params.index) if "x" in name]
    np.testing.assert_allclose(a.params.iloc[slopes], b.params.iloc[slopes], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(a.bse.iloc[slopes], b.bse.iloc[slopes], rtol=1e-6)
    np.testing.assert_allclose(a.coef_table()["df"].iloc[slopes], b.coef_table()["df"].iloc[slopes], rtol=1e-4)
    np.testing.assert_allclose(a.predict(data), b.predict(data), atol=1e-4)


DEPENDENT = [
    ("y ~ scale(t) + t + (1 | g)", ["t"]), ("y ~ t + scale(t) + (1 | g)", ["scale(t)"]),
    ("y ~ t + I(2 * t + 1) + z + (1 | g)", ["I(2 * t + 1)"]), ("y ~ t + I(t + z) + z + (1 | g)", ["z"]),
    ("y ~ t + x + (1 | g)", ["x"]), ("y ~ x + t + (1 | g)", ["t"]), ("y ~ z + x + I(t + z) + (1 | g)", ["I(t + z)"]),
    ("y ~ f + I(f == 'b') + t + (1 | g)", ["I(f == 'b')[T.True]"]), ("y ~ t * f + x:f + (1 | g)", ["x:f"]),
]  # fmt: skip


@pytest.mark.parametrize("offset", [1.7e9, 1e10, 3e3, 0.0])
@pytest.mark.parametrize(("formula", "dropped"), DEPENDENT)
def test_dependent_columns_are_dropped_in_rs_order(offset, formula, dropped):
    with pytest.warns(RankDeficiencyWarning):
        fit = slm.lmer(formula, far(offset))
    found = list(fit.dropped_columns)
    assert (len(found) == 3 and all("x" in name for name in found)) if dropped == ["x:f"] else found == dropped


def test_every_door_keeps_the_column():
    data = far(1.7e9)
    slope = slm.lmer("y ~ x + (1 | g)", data).params["x"]
    arrays = slm.LinearMixedModel.from_arrays(data["y"], np.column_stack([np.ones(N), data["t"]]), [(G, None)]).fit()
    assert arrays.params.iloc[1] == pytest.approx(slope)
    assert slm.mixedlm("y ~ t", data, groups="g").fit().params["t"] == pytest.approx(slope, rel=1e-6)


def test_rounding_is_not_taken_for_a_column():
    rng = np.random.default_rng(8)
    for _ in range(200):
        n, offset = int(rng.integers(20, 200)), 10.0 ** rng.uniform(0, 10)
        x, z = rng.normal(size=(2, n))
        one, cell = np.ones(n), (np.arange(n) % 2).astype(float)
        t = offset + x
        assert independent_columns(np.column_stack([one, t, x, z])) == [0, 1, 3]
        assert independent_columns(np.column_stack([one, x, t, z])) == [0, 1, 3]
        assert independent_columns(np.column_stack([one, cell, t, cell * t, z])) == [0, 1, 2, 3, 4]
        assert independent_columns(np.column_stack([one, cell, t, cell * t, cell * x, z])) == [0, 1, 2, 3, 5]
        assert independent_columns(np.column_stack([one, t, 3 * t - 2 * z, z])) == [0, 1, 2]
        # R's rule, where nothing is far from zero
        assert independent_columns(np.column_stack([one, x, x + 1e-8 * z, z])) == [0, 1, 3]


def test_tables_that_rounding_has_eaten_are_refused():
    data = far(1.7e9)
    fit = slm.lmer("y ~ t * f + (1 | g)", data)
    for kind in (1, 2, 3):
        with pytest.raises(NumericalError, match=r"I\(t - mean\(t\)\)"):
            fit.anova(type=kind)
    with pytest.raises(NumericalError, match="subtract its mean"):
        fit.emmeans("f")
    centred = slm.lmer("y ~ I(t - mean(t)) * f + (1 | g)", data)
    expected = slm.lmer("y ~ I(x - mean(x)) * f + (1 | g)", data)
    np.testing.assert_allclose(centred.anova(type=3), expected.anova(type=3), rtol=1e-5)
    # one without interactions has its tables
    plain, near = slm.lmer("y ~ t + f + (1 | g)", data), slm.lmer("y ~ x + f + (1 | g)", data)
    for kind in (1, 2, 3):
        np.testing.assert_allclose(plain.anova(type=kind), near.anova(type=kind), rtol=1e-5)
