"""Every plot draws what the numbers say, on the axes it is given, for few levels and for thousands."""

from __future__ import annotations

from itertools import pairwise

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

import sparselmm as slm
from sparselmm.exceptions import ParameterError
from sparselmm.report.plots.collection import estimates_within

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def sleep():
    return slm.lmer("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))


@pytest.fixture(scope="module")
def few():
    return slm.lmer("score ~ edu + (1 | classroom)", slm.load_dataset("score_parentedu_byclass"))


@pytest.fixture(scope="module")
def many():
    rng = np.random.default_rng(2)
    g = rng.permutation(np.repeat(np.arange(3000), 4))
    data = pd.DataFrame({"g": g, "x": rng.normal(size=len(g))})
    slopes = rng.normal(size=(3000, 2)) * [1.0, 0.4]
    data["y"] = data.x + slopes[g, 0] + slopes[g, 1] * data.x + rng.normal(size=len(g))
    return slm.lmer("y ~ x + (x | g)", data)


PLOTS = {
    "caterpillar": lambda plot, x: plot.caterpillar(column="Intercept"),
    "ranef_qq": lambda plot, x: plot.ranef_qq(column="Intercept"),
    "shrinkage": lambda plot, x: plot.shrinkage(),
    "fitted_lines": lambda plot, x: plot.fitted_lines(x),
    "qq": lambda plot, x: plot.qq(),
    "resid_fitted": lambda plot, x: plot.resid_fitted(),
    "scale_location": lambda plot, x: plot.scale_location(),
    "leverage": lambda plot, x: plot.leverage(),
    "influence": lambda plot, x: plot.influence(),
}


def crowded(ax) -> bool:
    """Whether tick labels of an axis overlap."""
    for labels in (ax.get_xticklabels(), ax.get_yticklabels()):
        boxes = [label.get_window_extent() for label in labels if label.get_text() and label.get_visible()]
        boxes.sort(key=lambda b: (b.y0, b.x0))
        if any(a.overlaps(b) for a, b in pairwise(boxes)):
            return True
    return False


@pytest.mark.parametrize("which", ["few", "sleep", "many"])
@pytest.mark.parametrize("name", list(PLOTS))
def test_plots_are_drawn_and_legible(name, which, request):
    fit = request.getfixturevalue(which)
    x = {"few": "edu", "sleep": "Days", "many": "x"}[which]
    drawn = PLOTS[name](fit.plot, x)
    axes = np.atleast_1d(np.asarray(drawn, dtype=object)).ravel()
    assert all(isinstance(ax, Axes) for ax in axes)
    axes[0].figure.canvas.draw()
    assert not any(crowded(ax) for ax in axes if ax.get_visible())
    first = axes[0]
    assert first.has_data()
    labelled = first.get_xlabel() or (first.figure.get_supxlabel() and first.figure.get_supylabel())
    assert labelled


@pytest.mark.parametrize("name", list(PLOTS))
def test_plots_use_the_axes_given(name, few):
    _, ax = plt.subplots()
    methods = {"caterpillar": {"column": "Intercept"}, "ranef_qq": {"column": "Intercept"}}
    arguments = {"x": "edu"} if name == "fitted_lines" else methods.get(name, {})
    assert getattr(few.plot, name)(ax=ax, **arguments) is ax
    assert len(plt.get_fignums()) == 1


def test_caterpillar_intervals_are_those_of_the_conditional_variances(sleep):
    ax = sleep.plot.caterpillar("Subject", column="Days", level=0.9)
    segments = np.concatenate(
        [c.get_segments() for c in ax.collections if isinstance(c, LineCollection) and c.get_segments()]
    )
    found = sleep.ranef(condvar=True)["Subject"]
    half = 1.6448536269514722 * found.sd["Days"]
    expected = np.column_stack([found.modes["Days"] - half, found.modes["Days"] + half])
    by_low = segments[np.argsort(segments[:, 0, 0])]
    np.testing.assert_allclose(by_low[:, :, 0], expected[np.argsort(expected[:, 0])], rtol=1e-6)
    assert [t.get_text() for t in ax.get_yticklabels()] == list(found.modes["Days"].sort_values().index)


def test_panels_for_coefficients_and_levels(sleep):
    assert len(sleep.plot.caterpillar()) == 2
    assert sum(ax.get_visible() for ax in sleep.plot.fitted_lines("Days").ravel()) == 18
    assert sum(ax.get_visible() for ax in sleep.plot.resid_fitted(by="Subject").ravel()) == 18
    _, axes = plt.subplots(1, 2)
    assert list(sleep.plot.caterpillar(ax=axes)) == list(axes)


def test_fitted_lines_take_the_only_numeric_variable(few):
    assert few.plot.fitted_lines().get_xlabel() == "edu"
    two = slm.lmer("Reaction ~ Days + z + (1 | Subject)", slm.load_dataset("sleepstudy").assign(z=np.arange(180.0)))
    with pytest.raises(ParameterError, match="need a numeric variable; there are Days, z"):
        two.plot.fitted_lines()


def test_fitted_lines_go_through_the_fitted_values(few):
    ax = few.plot.fitted_lines("edu", "classroom")
    data, levels = slm.load_dataset("score_parentedu_byclass"), few.ranef()["classroom"].index
    for line, level in zip(ax.get_lines(), levels):
        row = np.flatnonzero(data.classroom == level)[0]
        x, y = np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)
        np.testing.assert_allclose(np.interp(data.edu[row], x, y), few.fittedvalues[row], rtol=1e-8)
        assert (x.min(), x.max()) == (data.edu[data.classroom == level].min(), data.edu[data.classroom == level].max())


def test_estimates_within_are_those_of_separate_regressions(sleep):
    within = estimates_within(sleep.result, 0) + sleep.params.to_numpy()
    data = slm.load_dataset("sleepstudy")
    for i, (_, rows) in enumerate(data.groupby("Subject", observed=True)):
        slope, intercept = np.polyfit(rows.Days, rows.Reaction, 1)
        np.testing.assert_allclose(within[i], [intercept, slope], rtol=1e-8)


def test_contour_marks_the_estimate_and_encloses_it(sleep):
    ax = sleep.plot.criterion_contour("Subject.Intercept", "Subject.Days", points=9)
    (mark,) = (line for line in ax.get_lines() if line.get_marker() == "+")
    assert (mark.get_xdata()[0], mark.get_ydata()[0]) == (sleep.theta[0], sleep.theta[2])
    assert ax.get_xlim()[0] >= 0.0


def test_unknown_names_are_refused(sleep):
    for call in (
        lambda: sleep.plot.caterpillar("subject"),
        lambda: sleep.plot.caterpillar("Subject", column="days"),
        lambda: sleep.plot.shrinkage("Subject", ("Intercept", "days")),
        lambda: sleep.plot.resid_fitted(by="nobody"),
        lambda: sleep.plot.fitted_lines("Subject"),
        lambda: sleep.plot.criterion_contour(1, 1),
        lambda: sleep.plot.criterion_contour("theta", 1),
    ):
        with pytest.raises(ParameterError):
            call()
    assert "caterpillar" in repr(sleep.plot)
