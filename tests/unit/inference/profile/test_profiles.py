"""Profiles: ζ, intervals, what is said at boundaries."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from resampling_designs import made_data, made_fit
from scipy.optimize import minimize
from scipy.stats import norm

import sparselmm as slm
from sparselmm.exceptions import ConvergenceWarning, ParameterError
from sparselmm.inference.profile.intervals import profile_conf_int
from sparselmm.inference.profile.profile import monotone_slopes

Z = norm.ppf(0.975)


@pytest.fixture(scope="module")
def sleep():
    return slm.lmer("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))


@pytest.fixture(scope="module")
def flat():
    """A fit whose only variance is estimated as zero."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return slm.lmer("Yield ~ 1 + (1 | Batch)", slm.load_dataset("Dyestuff2"))


def test_fixed_effect_held_is_an_offset():
    fit, data = made_fit("correlated"), made_data()
    for value in (0.2, 1.9):
        held = slm.lmer("y ~ 1 + (x | g) + (1 | h)", data, offset=value * data["x"], reml=False)
        made = fit.profile("x", zeta_max=6.0)["x"]
        assert abs(made.zeta_at(value)) == pytest.approx(np.sqrt(held.criterion - fit.criterion), abs=2e-4)


def test_sd_held_agrees_with_a_search_by_another_optimizer():
    """Minimize over θ with σ tied by the standard deviation that is held."""
    fit = made_fit("intercepts")
    made = fit.profile("sd(Intercept|g)")["sd(Intercept|g)"]
    engine = fit.problem.engine

    def deviance(x, sd):
        sigma = np.exp(x[1])
        with engine.locked() as pls:
            s = pls.solve(np.array([sd / sigma, abs(x[0])]))
        return s.ldL2 + fit.nobs * np.log(2 * np.pi * sigma**2) + s.pwrss / sigma**2

    for sd in (0.5, 2.5):
        best = minimize(deviance, [0.7, 0.0], (sd,), method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-9})
        expected = np.sign(sd - made.estimate) * np.sqrt(best.fun - fit.criterion)
        assert made.zeta_at(sd) == pytest.approx(expected, abs=2e-4)


def test_zeta_is_a_monotone_function_that_passes_through_the_knots(sleep):
    made = sleep.profile()
    assert made.criterion == "deviance"
    for one in made:
        grid = np.linspace(one.knots[0], one.knots[-1], 400)
        assert np.all(np.diff(one.zeta_at(grid)) > 0)
        np.testing.assert_allclose(one.zeta_at(one.knots), one.zeta, atol=1e-10)
        assert one.zeta_at(one.estimate) == pytest.approx(0.0, abs=1e-3)
        assert np.isnan(one.zeta_at(one.knots[-1] + 1.0))
        assert one.value_at(one.zeta[-1]) == one.knots[-1] and one.value_at(one.zeta[0]) == one.knots[0]
        for z in (-1.0, 0.5, 2.0):
            assert one.zeta_at(one.value_at(z)) == pytest.approx(z, abs=1e-9)


def test_frame_holds_every_knot_with_all_parameters(sleep):
    made = sleep.profile(["sigma", "Days"])
    frame = made.to_frame()
    assert list(frame.columns[:3]) == ["parameter", "zeta", "value"]
    assert list(frame.columns[3:]) == [
        "sd(Intercept|Subject)", "sd(Days|Subject)", "cor(Intercept,Days|Subject)", "sigma", "Intercept", "Days",
    ]  # fmt: skip
    for name in made.names:
        part = frame[frame["parameter"] == name]
        np.testing.assert_allclose(part["value"], part[name], rtol=1e-9)
    assert made["Days"].name == "Days" and len(made) == 2
    with pytest.raises(KeyError, match="sigma, Days"):
        made["x"]


def test_restricted_profile_has_wider_variances_and_no_fixed_effects(sleep):
    ml, reml = profile_conf_int(sleep, which="theta_"), profile_conf_int(sleep, reml=True)
    assert list(ml.index) == list(reml.index)
    assert reml.loc["sd(Intercept|Subject)", "conf_high"] > ml.loc["sd(Intercept|Subject)", "conf_high"]
    np.testing.assert_allclose(reml["estimate"].iloc[[0, 1, 3]], [24.7404, 5.9221, 25.5918], rtol=1e-4)
    with pytest.raises(ParameterError, match="no function of the fixed effects"):
        profile_conf_int(sleep, which="Days", reml=True)


def test_variance_scale_squares_and_profiles_the_covariance(sleep):
    sd, var = profile_conf_int(sleep), profile_conf_int(sleep, scale="varcov")
    assert list(var.index[:4]) == [
        "var(Intercept|Subject)", "var(Days|Subject)", "cov(Intercept,Days|Subject)", "sigma^2",
    ]  # fmt: skip
    np.testing.assert_allclose(var.iloc[[0, 1, 3]], sd.iloc[[0, 1, 3]] ** 2, rtol=1e-10)
    cov = var.loc["cov(Intercept,Days|Subject)"]
    assert cov.conf_low < 0 < cov.conf_high and cov.conf_low < cov.estimate < cov.conf_high
    from_profile = sleep.profile("theta_").conf_int(scale="varcov")
    np.testing.assert_allclose(from_profile.loc["sigma^2"], var.loc["sigma^2"], rtol=1e-4)


def test_zero_variance_starts_at_zero(flat):
    ci = profile_conf_int(flat)
    row = ci.loc["sd(Intercept|Batch)"]
    assert row.estimate == 0.0 and row.conf_low == 0.0 and row.conf_high > 1.0
    made = flat.profile("sd(Intercept|Batch)")["sd(Intercept|Batch)"]
    assert made.knots[0] == 0.0 and np.all(made.zeta >= 0)
    assert made.interval(0.95) == pytest.approx((0.0, row.conf_high), abs=1e-4)


def test_interval_of_a_variance_that_may_be_zero_ends_there():
    fit = slm.lmer("y ~ x + (1 | g) + (1 | h)", made_data(seed=13, n=60), reml=False)
    row = profile_conf_int(fit, level=0.999).loc["sd(Intercept|h)"]
    assert row.estimate > 1.0 and row.conf_low == 0.0


@pytest.mark.parametrize("seed", [0, 1, 2, 5])
def test_singular_correlation(seed):
    """Minimize over a grid of the two standard deviations: a correlation ends where one of them must be zero."""
    data = made_data()
    data["y"] = 1.0 + data["x"] + np.random.default_rng(seed).standard_normal(len(data))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = slm.lmer("y ~ x + (x | g)", data, reml=False)
    assert fit.is_singular == (seed != 2)
    row = profile_conf_int(fit, which="cor(Intercept,x|g)").iloc[0]
    one = fit.profile("cor(Intercept,x|g)", zeta_max=2.5)["cor(Intercept,x|g)"]

    def best(rho):
        found = [
            minimize(lambda x: fit.evaluate([abs(x[0]), rho * abs(x[1]), np.sqrt(1 - rho**2) * abs(x[1])]), start,
                     method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9}).fun
            for start in ([0.3, 0.3], [0.3, 0.01], [0.01, 0.3])
        ]  # fmt: skip
        return min(found) - fit.criterion

    for rho in (-0.7, 0.1, 0.7):
        assert one.zeta_at(rho) ** 2 == pytest.approx(best(rho), abs=0.02)
    for limit in (row.conf_low, row.conf_high):
        assert best(limit) == pytest.approx(Z**2, abs=1e-3) or (abs(limit) == 1.0 and best(limit) < Z**2)


def test_a_correlation_without_meaning_may_be_anything():
    data = made_data()
    e = np.random.default_rng(1).standard_normal(len(data))
    for level in data["g"].cat.categories:  # residuals of a regression in each group: less than no variance between
        rows = (data["g"] == level).to_numpy()
        X = np.column_stack([np.ones(rows.sum()), data["x"][rows]])
        e[rows] -= X @ np.linalg.lstsq(X, e[rows])[0]
    data["y"] = 1.0 + data["x"] + e
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = slm.lmer("y ~ x + (x | g)", data, reml=False)
    assert np.all(fit.varcorr["g"].sd < 1e-6)
    row = profile_conf_int(fit, which="cor(Intercept,x|g)").iloc[0]
    assert np.isnan(row.estimate) and (row.conf_low, row.conf_high) == (-1.0, 1.0)
    made = fit.profile("theta_")
    assert np.isnan(made["cor(Intercept,x|g)"].estimate)
    assert made.conf_int().loc["cor(Intercept,x|g)", "conf_high"] == 1.0


def test_units_do_not_matter(sleep):
    data = slm.load_dataset("sleepstudy")
    data = data.assign(Reaction=1e4 * data["Reaction"], Days=1e-3 * data["Days"])
    scaled = profile_conf_int(slm.lmer("Reaction ~ Days + (Days | Subject)", data))
    ours = profile_conf_int(sleep)
    factor = np.array([1e4, 1e7, 1.0, 1e4, 1e4, 1e7])[:, None]
    np.testing.assert_allclose(scaled.to_numpy(), factor * ours.to_numpy(), rtol=2e-5)


def test_the_fit_is_not_changed(sleep):
    before = (sleep.criterion, sleep.theta.copy(), sleep.evaluate(sleep.theta))
    sleep.profile("Days")
    assert (sleep.criterion, sleep.evaluate(sleep.theta)) == (before[0], before[2])
    np.testing.assert_array_equal(sleep.theta, before[1])


def test_a_fit_that_is_no_minimum_is_reported(sleep):
    off = sleep.refit(reml=False)
    wrong = type(off)(off.problem, _moved(off.result), off.source)
    with pytest.warns(ConvergenceWarning, match="below the fit"):
        wrong.profile("sigma")


def _moved(result):
    from dataclasses import replace

    return replace(result, criterion=result.criterion + 0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"which": "nonsense"}, "unknown parameter 'nonsense'; there are sd"),
        ({"zeta_max": -1.0}, "zeta_max must be a positive number"),
        ({"spacing": 0.0}, "spacing must be a positive number"),
    ],
)
def test_bad_requests(sleep, options, message):
    with pytest.raises(ParameterError, match=message):
        sleep.profile(**options)


def test_a_level_beyond_the_profile_says_how_far_to_go(sleep):
    made = sleep.profile("Days", zeta_max=1.5)
    with pytest.raises(ParameterError, match=r"profile\(zeta_max="):
        made.conf_int(0.99)
    for level in (0.0, 1.0, "x"):
        with pytest.raises(ParameterError, match="level"):
            made.conf_int(level)
    with pytest.raises(ParameterError, match="scale must be one of"):
        made.conf_int(scale="log")


def test_conf_int_delegates(sleep):
    ours = sleep.conf_int(method="profile", which="Days")
    assert list(ours.columns) == ["conf_low", "conf_high"]
    assert ours.loc["Days", "conf_low"] == pytest.approx(7.35865, abs=1e-3)


def test_slopes_are_shortened_only_where_they_must_be():
    x, y = np.arange(4.0), np.array([0.0, 1.0, 2.0, 2.1])
    np.testing.assert_array_equal(monotone_slopes(x, y, np.array([1.0, 1.0, 0.2, 0.1])), [1.0, 1.0, 0.2, 0.1])
    out = monotone_slopes(x, y, np.array([1.0, 1.0, 1.0, 0.1]))
    assert out[2] < 0.31 and out[0] == 1.0
    assert monotone_slopes(np.array([0.0, 1.0]), np.zeros(2), np.ones(2)).tolist() == [0.0, 0.0]


def test_plots_draw_all_panels(sleep):
    import matplotlib

    matplotlib.use("Agg")
    made = sleep.profile(["sigma", "Intercept", "Days"])
    assert slm.plot_profile(made, absolute=True).shape == (1, 3)
    axes = slm.plot_profile_pairs(made)
    assert axes.shape == (3, 3) and len(axes[2, 0].lines) == 7
    with pytest.raises(ParameterError, match="2 to 8"):
        slm.plot_profile_pairs(sleep.profile("sigma"))


def test_joint_regions_of_a_quadratic_deviance_are_ellipses():
    """Two coefficients of a large, balanced design: ζ scale regions are the ellipses of their correlation."""
    from sparselmm.report.plots.profile import pair_contour

    rng = np.random.default_rng(1)
    n = 6000
    import pandas as pd

    data = pd.DataFrame({"x": rng.standard_normal(n) + 1.0, "g": np.arange(n) % 300})
    data["y"] = data["x"] + rng.standard_normal(300)[data["g"]] * 0.05 + rng.standard_normal(n)
    fit = slm.lmer("y ~ x + (1 | g)", data, reml=False)
    made = fit.profile("beta_")
    a, b = pair_contour(made, made["Intercept"], made["x"], 0.9)
    r = fit.cov_params().to_numpy()
    rho = r[0, 1] / np.sqrt(r[0, 0] * r[1, 1])
    quadratic = (a**2 - 2 * rho * a * b + b**2) / (1 - rho**2)
    np.testing.assert_allclose(quadratic, -2 * np.log(0.1), rtol=1e-2)
