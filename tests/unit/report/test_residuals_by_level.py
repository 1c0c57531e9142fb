"""Residuals by a grouping factor: colours for few levels, panels for some, quartiles for very many."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import sparselmm as slm

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def fitted(levels):
    rng = np.random.default_rng(levels)
    g = np.repeat(np.arange(levels), 8)
    x = rng.normal(size=len(g))
    y = x + rng.normal(size=levels)[g] + rng.normal(size=len(g)) * (0.5 + rng.random(levels))[g]
    return slm.lmer("y ~ x + (1 | g)", pd.DataFrame({"y": y, "x": x, "g": [f"L{i:03d}" for i in g]}))


def points(collection):
    return np.asarray(collection.get_offsets())


def test_few_levels_are_colours_with_a_legend():
    fit = fitted(4)
    ax = fit.plot.resid_fitted(by="g")
    assert [t.get_text() for t in ax.get_legend().get_texts()] == [f"L00{i}" for i in range(4)]
    assert ax.get_legend().get_title().get_text() == "g"
    for i, collection in enumerate(ax.collections):
        rows = slice(8 * i, 8 * i + 8)
        np.testing.assert_allclose(points(collection)[:, 0], fit.fittedvalues[rows])
        assert np.corrcoef(points(collection)[:, 1], fit.resid[rows])[0, 1] == pytest.approx(1.0)
    assert len(ax.collections) == 4


def test_some_levels_are_panels():
    fit = fitted(12)
    axes = fit.plot.resid_fitted(by="g")
    assert axes.shape == (3, 4)
    for i, ax in enumerate(axes.ravel()):
        assert ax.get_title() == f"L{i:03d}"
        np.testing.assert_allclose(points(ax.collections[0])[:, 0], fit.fittedvalues[8 * i : 8 * i + 8])
    assert axes[0, 0].figure.get_supxlabel() == "Fitted values"
    assert fitted(13).plot.resid_fitted(by="g").ravel()[13].get_visible() is False


def quartiles_of(ax, fit, levels):
    """Return what is drawn, medians and the lines between the quartiles, and what the residuals say."""
    segments = next(np.asarray(c.get_segments()) for c in ax.collections if hasattr(c, "get_segments"))
    medians = next(points(c) for c in ax.collections if not hasattr(c, "get_segments"))
    by_level = fit.resid.to_numpy().reshape(levels, 8)
    expected = np.quantile(by_level, [0.25, 0.5, 0.75], axis=1)
    order = np.argsort(expected[2] - expected[0], kind="stable")
    return segments[:, :, 1], medians, expected[:, order]


@pytest.mark.parametrize("levels", [120, 400])
def test_very_many_levels_are_quartiles_sorted_by_spread(levels):
    fit = fitted(levels)
    ax = fit.plot.resid_fitted(by="g")
    lines, medians, expected = quartiles_of(ax, fit, levels)
    assert ax.get_xlabel() == f"{levels} levels of g, sorted by spread"
    # drawn on the scale of the plot: a multiple of the residuals
    unit = medians[0, 1] / expected[1, 0]
    assert unit > 0
    np.testing.assert_allclose(medians[:, 1], unit * expected[1], rtol=1e-9)
    np.testing.assert_allclose(lines, unit * expected[[0, 2]].T, rtol=1e-9)
    assert np.all(np.diff(lines[:, 1] - lines[:, 0]) >= -1e-12)


def test_one_axis_given_takes_the_quartiles_of_some_levels():
    fit = fitted(20)
    _, ax = plt.subplots()
    assert fit.plot.resid_fitted(by="g", ax=ax) is ax
    assert ax.get_xlabel() == "20 levels of g, sorted by spread"
