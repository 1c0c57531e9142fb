"""Scales at the end of the range of numbers are refused with the name of the column; large common parts do no harm."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm.exceptions import DesignError

SLEEP = slm.load_dataset("sleepstudy")
EXTREME = [1e-300, 1e-170, 1e-120, 1e-80, 1e80, 1e120, 1e170, 1e300]
FAR = [1e-68, 1e-40, 1e40, 1e67]


@pytest.mark.parametrize("size", EXTREME)
@pytest.mark.parametrize(
    ("column", "formula", "named"),
    [
        ("Reaction", "Reaction ~ Days + (Days | Subject)", "the response Reaction"),
        ("Days", "Reaction ~ Days + (1 | Subject)", "the column Days of the fixed part"),
        ("Days", "Reaction ~ 1 + (0 + Days | Subject)", r"the column Days of the random term \(Days \| Subject\)"),
    ],
)
def test_extreme_scales_are_refused_by_name(size, column, formula, named):
    data = SLEEP.assign(**{column: SLEEP[column] * size})
    with pytest.raises(DesignError, match=f"{named} go up to .* Rescale it: divide it by"):
        slm.lmer(formula, data)


@pytest.mark.parametrize("size", EXTREME)
def test_other_doors_refuse_them_too(size):
    y, X = SLEEP["Reaction"].to_numpy(), np.column_stack([np.ones(180), SLEEP["Days"]])
    with pytest.raises(DesignError, match="Rescale it"):
        slm.LinearMixedModel.from_arrays(y, X * [1.0, size], [(SLEEP["Subject"], X, "Subject")])
    with pytest.raises(DesignError, match="Rescale it"):
        slm.lmer("Reaction ~ Days + (1 | Subject)", SLEEP).refit(y * size)


@pytest.mark.parametrize("size", FAR)
@pytest.mark.parametrize("column", ["Reaction", "Days"])
@pytest.mark.filterwarnings("ignore::sparselmm.exceptions.ScaleWarning")
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_scales_that_are_allowed_give_the_same_tests(size, column):
    plain = slm.lmer("Reaction ~ Days + (Days | Subject)", SLEEP)
    fit = slm.lmer("Reaction ~ Days + (Days | Subject)", SLEEP.assign(**{column: SLEEP[column] * size}))
    np.testing.assert_allclose(fit.tvalues, plain.tvalues, rtol=1e-6)
    np.testing.assert_allclose(fit.pvalues, plain.pvalues, rtol=1e-2)  # degrees of freedom: flat at the optimum


@pytest.mark.parametrize("random", ["(1 | g)", "(x | g)", "(1 | g) + (1 | h)"])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("weighted", [False, True])
def test_a_large_common_part_of_the_response_changes_nothing(random, seed, weighted):
    """y and y + 1e9 are both exactly representable: the criterion may move by 1e-6 at most."""
    rng = np.random.default_rng(seed)
    g, h = rng.integers(0, 20, 400), rng.integers(0, 8, 400)
    y = rng.standard_normal(20)[g] + rng.standard_normal(8)[h] + rng.standard_normal(400)
    data = pd.DataFrame({"y": np.round(y * 2**16) / 2**16, "g": g, "h": h, "x": rng.standard_normal(400)})
    data = data.assign(far=data["y"] + 1e9, w=1.0 + g % 3)
    np.testing.assert_array_equal(data["far"] - 1e9, data["y"])
    options = {"weights": "w"} if weighted else {}
    near = slm.lmer(f"y ~ x + {random}", data, **options)
    assert slm.lmer(f"far ~ x + {random}", data, **options).criterion == pytest.approx(near.criterion, abs=1e-8)
