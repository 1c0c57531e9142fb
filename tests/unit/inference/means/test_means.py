"""Marginal means and slopes by algebra: nesting, weights, contrasts, slopes, the way back to the response."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm.exceptions import ParameterError
from sparselmm.inference.means.contrasts import contrast_rows
from sparselmm.inference.means.emmeans import variables
from sparselmm.inference.means.response import back_transform

RNG = np.random.default_rng(8)
N = 120
DATA = pd.DataFrame(
    {
        "site": np.repeat(["n1", "n2", "s1", "s2", "s3", "s4"], 20),
        "half": np.repeat(["north", "south"], [40, 80]),
        "a": RNG.choice(["lo", "hi"], N, p=[0.7, 0.3]),
        "x": RNG.uniform(1, 3, N),
        "g": np.arange(N) % 10,
    }
)
DATA["y"] = np.exp(0.3 * DATA.x + (DATA.a == "hi") + 0.2 * RNG.normal(size=10)[DATA.g] + 0.1 * RNG.normal(size=N))


def fitted(formula, data=DATA):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return slm.lmer(formula, data)


@pytest.fixture(scope="module")
def nested():
    return fitted("y ~ half + site + a + (1 | g)")


# --- nested factors ------------------------------------------------------------------------------------


def test_a_mean_over_a_nested_factor_is_the_mean_of_its_own_levels(nested):
    halves, sites = nested.emmeans("half"), nested.emmeans("site")
    assert sites.means.site.tolist() == ["n1", "n2", "s1", "s2", "s3", "s4"]
    assert sites.means.half.tolist() == ["north"] * 2 + ["south"] * 4
    np.testing.assert_allclose(halves.means.emmean, sites.means.groupby("half").emmean.mean(), rtol=1e-10)
    assert any("site is nested in half" in note and "averaged within" in note for note in halves.notes)
    within = nested.emmeans("site", by="half", contrasts="pairwise").contrasts
    assert within.groupby("half").size().tolist() == [1, 6]


def test_other_factors_are_averaged_within_too(nested):
    means = nested.emmeans("a").means
    rest = nested.emmeans(["a", "half"]).means
    np.testing.assert_allclose(means.emmean, rest.groupby("a", sort=False).emmean.mean()[means.a], rtol=1e-10)


def test_nesting_can_be_given(nested):
    for same in ({"site": "half"}, {"site": ["half"]}, "site %in% half"):
        pd.testing.assert_frame_equal(nested.emmeans("half", nesting=same).means, nested.emmeans("half").means)
    assert nested.emmeans("half", nesting={}).means.emmean.isna().all()
    with pytest.raises(ParameterError, match="'x', which is no factor"):
        nested.emmeans("half", nesting={"site": "x"})
    with pytest.raises(ParameterError, match="must be like"):
        nested.emmeans("half", nesting="site in half")


def test_nesting_within_nesting():
    region = DATA.site.map({"n1": "A", "n2": "B", "s1": "C", "s2": "C", "s3": "D", "s4": "D"})
    fit = fitted("y ~ half + region + site + (1 | g)", DATA.assign(region=region))
    sites = fit.emmeans("site").means.set_index("site").emmean
    found = fit.emmeans("half").means.emmean
    expected = [(sites.n1 + sites.n2) / 2, ((sites.s1 + sites.s2) / 2 + (sites.s3 + sites.s4) / 2) / 2]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_crossed_factors_are_not_nested():
    notes = fitted("y ~ site + a + (1 | g)").emmeans("a").notes
    assert not any("nested" in note for note in notes)


# --- weights -------------------------------------------------------------------------------------------


def test_cells_weigh_the_overall_mean_to_that_of_the_rows():
    fit = fitted("log(y) ~ a * site + x + (1 | g)")
    overall = fit.emmeans("1", weights="cells").means
    np.testing.assert_allclose(overall.emmean, np.mean(fit.predict(DATA, re_form="~0")), rtol=1e-10)
    assert fit.emmeans("1", weights="proportional").means.emmean[0] == pytest.approx(overall.emmean[0], rel=1e-10)


def test_proportional_weights_are_shares_of_the_rows():
    fit = fitted("y ~ a * half + (1 | g)")
    cells = fit.emmeans(["half", "a"]).means.pivot_table("emmean", "half", "a")
    share = DATA.a.value_counts(normalize=True)
    np.testing.assert_allclose(fit.emmeans("half", weights="proportional").means.emmean, cells[share.index] @ share)
    with pytest.raises(ParameterError, match="unknown weights 'cell'; there are equal, proportional, cells"):
        fit.emmeans("half", weights="cell")


# --- names, contrasts, notes ------------------------------------------------------------------------------


def test_products_of_names():
    assert variables("recipe:temp") == ["recipe", "temp"]
    assert variables("a*b") == ["a", "b"]
    assert variables(["`a:b`", "c"]) == ["a:b", "c"]
    assert variables("a:b", known=["a:b"]) == ["a:b"]
    assert variables("1") == []
    fit = fitted("y ~ a * half + (1 | g)")
    pd.testing.assert_frame_equal(fit.emmeans("a:half").means, fit.emmeans(["a", "half"]).means)


@pytest.mark.parametrize(
    ("k", "rows"),
    [  # the tables of orthogonal polynomials in textbooks
        (3, [[-1, 0, 1], [1, -2, 1]]),
        (4, [[-3, -1, 1, 3], [1, -1, -1, 1], [-1, 3, -3, 1]]),
        (5, [[-2, -1, 0, 1, 2], [2, -1, -2, -1, 2], [-1, 2, 0, -2, 1], [1, -4, 6, -4, 1]]),
        (6, [[-5, -3, -1, 1, 3, 5], [5, -1, -4, -4, -1, 5], [-5, 7, 4, -4, -7, 5], [1, -3, 2, 2, -3, 1],
             [-1, 5, -10, 10, -5, 1]]),
    ],
)  # fmt: skip
def test_polynomials_are_those_of_the_tables(k, rows):
    found = contrast_rows("poly", list("abcdefgh"[:k]))
    assert list(found) == ["linear", "quadratic", "cubic", "quartic", "degree 5"][: k - 1]
    np.testing.assert_array_equal(np.array(list(found.values())), rows)


def test_interaction_contrasts_are_differences_of_differences():
    fit = fitted("y ~ a * half + (1 | g)")
    m = fit.emmeans("a:half").means.set_index(["a", "half"]).emmean
    found = fit.emmeans("a:half", interaction="pairwise").contrasts
    assert found.columns[:2].tolist() == ["a_pairwise", "half_pairwise"]
    expected = (m["hi", "north"] - m["lo", "north"]) - (m["hi", "south"] - m["lo", "south"])
    np.testing.assert_allclose(found.estimate, expected, rtol=1e-9)
    for wrong in (["pairwise"], {"a": "pairwise", "b": "poly"}):
        with pytest.raises(ParameterError, match="contrasts for each of"):
            fit.emmeans("a:half", interaction=wrong)
    with pytest.raises(ParameterError, match="exclude each other"):
        fit.emmeans("a:half", interaction="pairwise", contrasts="pairwise")


def test_polynomials_and_interactions_are_not_adjusted_unless_asked():
    fit = fitted("y ~ site + (1 | g)")
    plain = fit.emmeans("site", contrasts="poly")
    assert not any("adjusted" in note for note in plain.notes)
    holm = fit.emmeans("site", contrasts="poly", adjust="holm")
    assert any("Holm" in note for note in holm.notes)
    assert (holm.contrasts.p_value >= plain.contrasts.p_value).all()


def test_a_mean_over_an_interaction_says_so():
    def noted(formula, *args, **kwargs):
        return [note for note in fitted(formula).emmeans(*args, **kwargs).notes if note.startswith("NOTE")]

    assert "half interacts with a, over which is averaged" in noted("y ~ a * half + (1 | g)", "half")[0]
    assert "half interacts with x, which stands at its mean" in noted("y ~ x * half + (1 | g)", "half")[0]
    assert noted("y ~ a + half + x + (1 | g)", "half") == []
    assert noted("y ~ a * half + (1 | g)", "half", by="a") == []


# --- slopes --------------------------------------------------------------------------------------------


def test_slopes_are_derivatives():
    fit = fitted("y ~ a * I(x^4) + a * x + (1 | g)")
    b, cubed = fit.params, 4 * 1.5**3
    slopes = fit.emtrends("a", "x", at={"x": 1.5}).means.set_index("a")["x.trend"]
    assert slopes["hi"] == pytest.approx(cubed * b["I(x ** 4)"] + b["x"], rel=1e-9)
    more = cubed * b["a[T.lo]:I(x ** 4)"] + b["a[T.lo]:x"]
    assert slopes["lo"] - slopes["hi"] == pytest.approx(more, rel=1e-7)


def test_slopes_of_a_linear_model_are_its_coefficients():
    fit = fitted("y ~ a * x + (1 | g)")
    found = fit.emtrends("a", "x", contrasts="revpairwise")
    assert found.means["x.trend"].tolist() == pytest.approx(
        [fit.params["x"], fit.params["x"] + fit.params["a[T.lo]:x"]]
    )
    row = fit.coef_table().loc["a[T.lo]:x"]
    np.testing.assert_allclose(found.contrasts[["estimate", "std_error", "df"]], [row[["estimate", "std_error", "df"]]])
    assert len(fit.emtrends("1", "x").means) == 1
    assert not any(note.startswith("NOTE") for note in found.notes)
    assert any("x interacts with a" in note for note in fit.emtrends("1", "x").notes)


def test_slopes_of_what_has_none():
    fit = fitted("y ~ a * x + (1 | g)")
    with pytest.raises(ParameterError, match="'a' is a factor"):
        fit.emtrends("1", "a")
    with pytest.raises(ParameterError, match="'z' is not a variable of the fixed part"):
        fit.emtrends("1", var="z")


# --- the way back to the response -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "left",
    ["log(y)", "np.log(y)", "log(y, 2)", "log(y, base=10)", "log10(y)", "log2(y + 1)", "log1p(y)", "sqrt(y)",
     "exp(y/5)", "I(y^2)", "I(1/y)", "-y", "2*sqrt(y + 0.5) - 1", "(y - 3)/4", "scale(y)", "log(scale(y) + 10)",
     "I(3 - y)", "y"],
)  # fmt: skip
def test_what_the_left_side_does_is_undone(left):
    fit = fitted(f"{left} ~ a + (1 | g)")
    back = back_transform(fit.source.encoding)
    eta = fit.source.encoding.apply_response(DATA)
    if back is None:
        assert left == "y"
        return
    np.testing.assert_allclose(back.mean(eta), DATA.y, rtol=1e-10)
    h = 1e-6 * np.abs(eta).max()
    np.testing.assert_allclose(back.slope(eta), (back.mean(eta + h) - back.mean(eta - h)) / (2 * h), rtol=1e-4)


def test_standard_errors_on_the_response_follow_from_the_delta_method():
    fit = fitted("log(y) ~ a + x + (1 | g)")
    link, response = fit.emmeans("a", contrasts="pairwise"), fit.emmeans("a", contrasts="pairwise", type="response")
    np.testing.assert_allclose(response.means.response, np.exp(link.means.emmean))
    np.testing.assert_allclose(response.means.std_error, np.exp(link.means.emmean) * link.means.std_error)
    np.testing.assert_allclose(response.means.conf_high, np.exp(link.means.conf_high))
    assert response.contrasts.contrast.tolist() == ["hi / lo"]
    np.testing.assert_allclose(response.contrasts.ratio, np.exp(link.contrasts.estimate))
    np.testing.assert_allclose(response.contrasts.p_value, link.contrasts.p_value)
    np.testing.assert_allclose(response.contrasts.std_error, np.exp(link.contrasts.estimate) * link.contrasts.std_error)


def test_a_decreasing_transform_keeps_the_lower_limit_below():
    means = fitted("I(1/y) ~ a + (1 | g)").emmeans("a", type="response").means
    assert (means.conf_low < means.response).all()
    assert (means.response < means.conf_high).all()


def test_other_differences_stay_on_the_scale_of_the_left_side():
    fit = fitted("sqrt(y) ~ a + (1 | g)")
    found = fit.emmeans("a", contrasts="pairwise", type="response")
    pd.testing.assert_frame_equal(found.contrasts, fit.emmeans("a", contrasts="pairwise").contrasts)
    assert any("contrasts are on the scale of sqrt(y)" in note for note in found.notes)


def test_a_left_side_that_cannot_be_undone():
    with pytest.raises(ParameterError, match="cannot undo floor"):
        fitted("floor(y) ~ a + (1 | g)").emmeans("a", type="response")
    with pytest.raises(ParameterError, match="type must be one of 'link', 'response'"):
        fitted("y ~ a + (1 | g)").emmeans("a", type="resp")
    assert "emmean" in fitted("y ~ a + (1 | g)").emmeans("a", type="response").means


def test_a_fit_without_rows_knows_the_same(nested):
    bare = nested.without_rows()
    for ask in (
        lambda fit: fit.emmeans("half", weights="proportional", contrasts="pairwise"),
        lambda fit: fit.emmeans("a", weights="cells"),
    ):
        full, kept = ask(nested), ask(bare)
        pd.testing.assert_frame_equal(kept.means, full.means)
        assert kept.notes == full.notes
    sloped = fitted("y ~ a * x + (1 | g)")
    pd.testing.assert_frame_equal(sloped.without_rows().emtrends("a", "x").means, sloped.emtrends("a", "x").means)
