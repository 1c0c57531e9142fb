"""fit.update(subset=...): queries and masks, weights and offsets cut along, errors."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm.exceptions import DataError, ParameterError

RNG = np.random.default_rng(5)
N = 80
G = np.arange(N) % 10
DATA = pd.DataFrame(
    {"y": RNG.normal(size=10)[G] + RNG.normal(size=N), "x": RNG.normal(size=N), "g": G, "w": RNG.uniform(0.5, 2, N)},
    index=[f"r{i}" for i in range(N)],
)
OFFSET = RNG.normal(size=N)
KEPT = (DATA["x"] > -0.5).to_numpy()


@pytest.fixture(scope="module")
def fit():
    return slm.lmer("y ~ x + (1 | g)", DATA, weights=DATA["w"].to_numpy(), offset=OFFSET)


def same(found, expected):
    assert found.nobs == expected.nobs == KEPT.sum()
    assert found.criterion == pytest.approx(expected.criterion, abs=1e-9)
    np.testing.assert_allclose(found.params, expected.params, rtol=1e-9)
    assert list(found.fittedvalues.index) == list(DATA.index[KEPT])


@pytest.mark.parametrize(
    "subset", ["x > -0.5", KEPT, list(KEPT), DATA["x"] > -0.5], ids=["text", "array", "list", "Series"]
)
def test_rows_weights_and_offset_are_cut_alike(fit, subset):
    arrays = {"weights": DATA["w"].to_numpy()[KEPT], "offset": OFFSET[KEPT]}
    same(fit.update(subset=subset), slm.lmer("y ~ x + (1 | g)", DATA[KEPT], **arrays))


def test_weights_named_by_a_column_stay_with_the_rows():
    fit = slm.lmer("y ~ x + (1 | g)", DATA, weights="w")
    same(fit.update(subset="x > -0.5"), slm.lmer("y ~ x + (1 | g)", DATA[KEPT], weights="w"))


def test_of_other_data_and_with_another_formula(fit):
    other = DATA.assign(y=DATA["y"] + 1)
    found = fit.update(". ~ . - x", data=other, subset=KEPT)
    expected = slm.lmer("y ~ 1 + (1 | g)", other[KEPT], weights=DATA["w"].to_numpy()[KEPT], offset=OFFSET[KEPT])
    same(found, expected)


def test_data_that_are_no_pandas_table():
    columns = {name: DATA[name].to_numpy() for name in DATA}
    found = slm.lmer("y ~ x + (1 | g)", columns).update(subset="x > -0.5")
    assert found.criterion == pytest.approx(slm.lmer("y ~ x + (1 | g)", DATA[KEPT]).criterion, abs=1e-9)


@pytest.mark.parametrize(
    ("subset", "error", "message"),
    [
        ("z > 0", DataError, "cannot be evaluated"),
        ("x >", DataError, "cannot be evaluated"),
        ("x + 1", ParameterError, f"True or False for each of the {N} rows"),
        (KEPT[:-1], ParameterError, f"True or False for each of the {N} rows"),
        (np.flatnonzero(KEPT), ParameterError, "True or False"),
        (pd.Series(KEPT, index=DATA.index[::-1]), DataError, "subset"),
        ("x > 100", DataError, "row"),
    ],
    ids=["unknown column", "syntax", "numbers", "too short", "positions", "another order", "no rows"],
)
def test_what_is_no_subset_is_refused(fit, subset, error, message):
    with pytest.raises(error, match=message):
        fit.update(subset=subset)
