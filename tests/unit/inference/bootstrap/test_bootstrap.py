"""The parametric bootstrap: refits, reproducibility, intervals, the likelihood-ratio test."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from resampling_designs import FORMULAS, made_data, made_fit
from scipy import stats

import sparselmm as slm
import sparselmm.inference.bootstrap.refit as refit_module
from sparselmm.exceptions import ParameterError, UnsupportedError
from sparselmm.inference.bootstrap import minque
from sparselmm.inference.bootstrap.draw_statistics import ResponseSums
from sparselmm.inference.bootstrap.minque import prepare
from sparselmm.inference.bootstrap.ratio_test import joint_rows, same_term
from sparselmm.inference.bootstrap.refit import refit
from sparselmm.inference.bootstrap.replicates import make_plan
from sparselmm.likelihood import one_factor
from sparselmm.likelihood.problem import fit_problem

pytestmark = pytest.mark.filterwarnings("ignore::sparselmm.exceptions.SingularFitWarning")


@pytest.fixture(scope="module")
def sleep():
    return slm.lmer("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))


def statistics_of(fit, Y):
    """Sufficient statistics of responses given row by row, less the fixed part of the fit."""
    parts = []
    for y in Y.T:
        problem = fit.problem.with_response(y)
        xp = problem.engine.crossproducts
        p = xp.p
        # undo the pilot fit, put that of the fit in its place
        shift = xp.basis.b0 - np.linalg.solve(xp.basis.matrix, fit.result.beta) if p else np.zeros(0)
        ZtWX, XtWX = xp.ZtWXy[:, :p], xp.XytWXy[:p, :p]
        XtWy = xp.XytWXy[:p, p] + XtWX @ shift
        yWy = xp.XytWXy[p, p] + 2 * shift @ xp.XytWXy[:p, p] + shift @ XtWX @ shift
        parts.append((xp.ZtWXy[:, p] + ZtWX @ shift, XtWy, yWy))
    return ResponseSums(*(np.array(x).T for x in zip(*parts)))


@pytest.mark.parametrize("reml", [False, True])
@pytest.mark.parametrize("name", FORMULAS)
def test_refits_are_the_fits(name, reml):
    """Refits from statistics against full fits of the same responses."""
    fit = made_fit(name, reml=reml, weighted=True)
    Y = fit.simulate(6, seed=3)
    Y = np.asarray(Y).reshape(fit.nobs, -1)
    with fit.problem.engine.locked() as pls:
        shared = prepare(pls, fit.result.criterion_type, fit.result.par)
        found = refit(pls, fit.result.criterion_type, shared, statistics_of(fit, Y))
    assert found.converged.all()
    for j, y in enumerate(Y.T):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            full = fit_problem(fit.problem.with_response(np.ascontiguousarray(y)), fit.result.criterion_type)
        assert found.criterion[j] - full.criterion < 2e-5  # lower is fine: the other may be a local optimum
        if abs(found.criterion[j] - full.criterion) < 2e-5:
            assert found.sigma[j] == pytest.approx(full.sigma, rel=2e-3)
            beta = fit.result.beta + fit.crossproducts.basis.matrix @ found.coefficients[j]
            se = full.sigma * np.sqrt(np.diag(full.unscaled_cov))
            np.testing.assert_allclose(beta, full.beta, atol=0.01 * se.max(initial=1e-9))


def test_first_step_is_the_estimate_on_balanced_data():
    """MINQUE is REML where all levels have the same rows and no variance is zero."""
    fit = slm.lmer("diameter ~ 1 + (1 | plate) + (1 | sample)", slm.load_dataset("Penicillin"))
    one, full = (fit.bootstrap(50, seed=2, one_step=s) for s in (True, False))
    np.testing.assert_allclose(one.values, full.values, rtol=1e-4)
    assert one.one_step and np.isnan(one.criterion).all() and "one-step" in repr(one)


def test_one_step_is_near_the_refits(sleep):
    one, full = (sleep.bootstrap(300, seed=2, one_step=s).values for s in (True, False))
    inside = np.isfinite(one).all(axis=1) & np.isfinite(full).all(axis=1)
    gap = np.sqrt(np.mean((one - full)[inside] ** 2, axis=0)) / full[inside].std(axis=0)
    assert np.all(gap < 0.1)


@pytest.mark.parametrize("name", ["intercepts", "one factor"])
def test_numbers_do_not_depend_on_jobs_or_on_how_many_there_are(name):
    fit = made_fit(name, reml=True)
    one, two = fit.bootstrap(230, seed=9), fit.bootstrap(230, seed=9, n_jobs=2)
    pd.testing.assert_frame_equal(one.to_frame(), two.to_frame(), check_exact=True)
    more = fit.bootstrap(300, seed=9)
    np.testing.assert_array_equal(more.values[:200], one.values[:200])
    assert not np.array_equal(fit.bootstrap(230, seed=10).values, one.values)
    sequence = np.random.SeedSequence(9)
    np.testing.assert_array_equal(fit.bootstrap(20, seed=sequence).values, fit.bootstrap(20, seed=sequence).values)


def test_plan_travels_without_rows(sleep):
    plan = make_plan(sleep.problem, sleep.result, False)
    blob = pickle.dumps(plan)
    seeds = np.random.SeedSequence(1).spawn(3)
    np.testing.assert_array_equal(pickle.loads(blob).run(seeds).par, plan.run(seeds).par)
    assert len(blob) < 60_000


def test_estimates_are_distributed_as_those_of_simulated_rows(sleep):
    """Against refits of responses simulated row by row, by means, spreads and Kolmogorov and Smirnov."""
    n = 2000
    ours = sleep.bootstrap(n, seed=5)
    theirs = slm.fit_many(sleep, np.asarray(sleep.simulate(n, seed=6)))
    sd = theirs["sigma"] * theirs["theta[Subject.Intercept]"]
    for name, column in {"Intercept": theirs["Intercept"], "Days": theirs["Days"], "sigma": theirs["sigma"],
                         "sd(Intercept|Subject)": sd}.items():  # fmt: skip
        x = ours.values[:, list(ours.names).index(name)]
        assert abs(x.mean() - column.mean()) < 4 * column.std() * np.sqrt(2 / n), name
        assert x.std() == pytest.approx(column.std(), rel=0.09), name
        assert stats.ks_2samp(x, column).pvalue > 1e-3, name
    assert stats.ks_2samp(ours.criterion, theirs["criterion"]).pvalue > 1e-3
    assert ours.singular.mean() == pytest.approx(theirs["singular"].mean(), abs=0.02)


def test_frame_and_summary(sleep):
    made = sleep.bootstrap(100, seed=1)
    frame = made.to_frame()
    assert frame.shape == (100, 9) and list(frame.columns[-3:]) == ["criterion", "singular", "converged"]
    summary = made.summary()
    np.testing.assert_allclose(summary["bias"], summary["mean"] - summary["estimate"])
    assert summary.loc["sigma", "estimate"] == sleep.sigma
    assert made.n == 100 and "100 refits by REML" in repr(made)


def test_kinds_of_intervals(sleep):
    made = sleep.bootstrap(400, seed=1)
    column = list(made.names).index("Days")
    x, t0 = made.values[:, column], made.estimate[column]
    q = np.quantile(x, [0.05, 0.95], method="weibull")
    row = {kind: made.conf_int(0.9, kind).loc["Days"].tolist()[1:] for kind in ("percentile", "basic", "normal")}
    np.testing.assert_allclose(row["percentile"], q)
    np.testing.assert_allclose(row["basic"], 2 * t0 - q[::-1])
    half = stats.norm.ppf(0.95) * x.std(ddof=1)
    np.testing.assert_allclose(row["normal"], [2 * t0 - x.mean() - half, 2 * t0 - x.mean() + half])
    var = made.conf_int(0.9, scale="varcov")
    np.testing.assert_allclose(var.iloc[[0, 1, 3], 1:], made.conf_int(0.9).iloc[[0, 1, 3], 1:] ** 2, rtol=0.02)


def test_intervals_stay_in_the_parameter_space():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = slm.lmer("Yield ~ 1 + (1 | Batch)", slm.load_dataset("Dyestuff2"))
    made = fit.bootstrap(200, seed=1)
    assert made.singular.mean() > 0.4
    for kind in ("percentile", "basic", "normal"):
        for scale in ("sdcor", "varcov"):
            assert np.all(made.conf_int(kind=kind, scale=scale).iloc[:2, 1] >= 0)


def test_statistic(sleep):
    def ratio(r):
        return {"ratio": r.variance.iloc[0] / r.sigma, "x": r.params["Days"]}

    made = sleep.bootstrap(60, seed=1, statistic=ratio)
    plain = sleep.bootstrap(60, seed=1)
    np.testing.assert_allclose(made.values[:, 0], plain.values[:, 0] / plain.values[:, 3])
    assert made.names == ("ratio", "x") and made.conf_int().shape == (2, 3)
    assert sleep.bootstrap(5, seed=1, statistic=lambda r: r.theta).names == ("t1", "t2", "t3")
    with pytest.raises(ParameterError, match="one scale only"):
        made.conf_int(scale="varcov")


def test_conf_int_delegates(sleep):
    ours = sleep.conf_int(method="boot", n=50, seed=1, which=["sigma", "beta_"])
    assert list(ours.index) == ["sigma", "Intercept", "Days"]
    with pytest.raises(ParameterError, match="unknown parameter"):
        sleep.conf_int(method="boot", n=5, seed=1, which="z")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n": 0}, ParameterError, "at least 1"),
        ({"kind": "semiparametric"}, UnsupportedError, "there is 'parametric'"),
        ({"n_jobs": 0}, ParameterError, "n_jobs"),
        ({"seed": "x"}, ParameterError, "seed"),
    ],
)
def test_bad_requests(sleep, options, error, message):
    with pytest.raises(error, match=message):
        sleep.bootstrap(**{"n": 3, **options})
    made = sleep.bootstrap(5, seed=1)
    with pytest.raises(ParameterError, match="kind must be one of"):
        made.conf_int(kind="bca")


def test_the_fit_is_not_changed(sleep):
    before = sleep.criterion, sleep.evaluate(sleep.theta)
    sleep.bootstrap(5, seed=1)
    assert (sleep.criterion, sleep.evaluate(sleep.theta)) == before


# --- likelihood-ratio test -----------------------------------------------------------------------------


def test_statistics_of_both_models_describe_one_response():
    """The joint design holds the statistics of each model, wherever its terms went."""
    data = made_data()
    m0 = slm.lmer("y ~ x + (1 | h) + (1 | g)", data, reml=False)
    m1 = slm.lmer("y ~ x + (year | g) + (1 | h)", data, reml=False)
    problems = [m0.problem, m1.problem]
    _, xp, rows, columns = joint_rows(problems)
    for fit, r, c in zip((m0, m1), rows, columns):
        own = fit.crossproducts
        A = xp.gram.dot(np.eye(xp.gram.q))[np.ix_(r, r)]
        np.testing.assert_allclose(A, own.gram.dot(np.eye(own.gram.q)), atol=1e-9)
        np.testing.assert_allclose(xp.ZtWXy[np.ix_(r, c)], own.ZtWXy[:, :-1], atol=1e-9)
        np.testing.assert_allclose(xp.XytWXy[np.ix_(c, c)], own.XytWXy[:-1, :-1], atol=1e-9)
    terms = m0.result.rows.terms + m1.result.rows.terms
    assert sum(same_term(a, b) for i, a in enumerate(terms) for b in terms[:i]) == 1  # (1 | h)


def test_lrt_of_a_fixed_effect_is_nearly_chi_square():
    data = slm.load_dataset("sleepstudy")
    rng = np.random.default_rng(1)
    data = data.assign(z=rng.standard_normal(len(data)))
    m0 = slm.lmer("Reaction ~ Days + (1 | Subject)", data)
    m1 = slm.lmer("Reaction ~ Days + z + (1 | Subject)", data)
    test = slm.bootstrap_lrt(m0, m1, 800, seed=2)
    assert test.converged.all() and test.df == 1
    observed = m0.refit(reml=False).criterion - m1.refit(reml=False).criterion
    assert test.statistic == pytest.approx(observed, abs=1e-6)
    assert stats.kstest(test.replicates, "chi2", args=(1,)).pvalue > 0.01
    assert abs(test.p_value - test.p_chi2) < 0.06
    assert list(test.to_frame().columns) == ["statistic", "df", "p_chi2", "p_value", "n"]
    again = slm.bootstrap_lrt(m0, m1, 250, seed=2, n_jobs=2)
    np.testing.assert_array_equal(again.replicates[:200], test.replicates[:200])


def test_lrt_of_a_variance_has_half_its_mass_at_zero():
    data = made_data()
    data["y"] = data["x"] + np.random.default_rng(3).standard_normal(len(data))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        m0 = slm.lmer("y ~ x + (1 | g)", data)
        m1 = slm.lmer("y ~ x + (1 | g) + (1 | h)", data)
        test = slm.bootstrap_lrt(m0, m1, 400, seed=1)
    zero = np.mean(test.replicates < 1e-4)
    assert 0.45 < zero < 0.85
    assert test.p_value <= test.p_chi2 + 0.02


def test_lrt_refuses_what_cannot_be_compared():
    data = made_data()
    a = slm.lmer("y ~ x + (1 | g)", data)
    b = slm.lmer("y ~ year + (1 | g) + (1 | h)", data)
    with pytest.raises(ParameterError, match="not a special case"):
        slm.bootstrap_lrt(a, b, 10)
    with pytest.raises(ParameterError, match="rows"):
        slm.bootstrap_lrt(a, slm.lmer("y ~ x + (1 | g) + (1 | h)", data.iloc[:100]), 10)


@pytest.mark.slow
def test_coverage():
    """Coverage of 95 % intervals for β and σ over 300 data sets, inside the 99.7 % binomial band."""
    truth, inside = {"x": 1.0, "sigma": 1.0}, {"x": 0, "sigma": 0}
    rng, runs = np.random.default_rng(20), 300
    g = np.repeat(np.arange(20), 6)
    for run in range(runs):
        x = rng.standard_normal(120)
        y = x + rng.standard_normal(20)[g] + rng.standard_normal(120)
        fit = slm.lmer("y ~ x + (1 | g)", pd.DataFrame({"y": y, "x": x, "g": g}))
        ci = fit.bootstrap(199, seed=run).conf_int()
        for name, value in truth.items():
            inside[name] += int(ci.loc[name, "conf_low"] <= value <= ci.loc[name, "conf_high"])
    band = 3 * np.sqrt(0.95 * 0.05 / runs)
    for name, count in inside.items():
        assert abs(count / runs - 0.95) < band + 0.005, (name, count / runs)


@pytest.mark.filterwarnings("ignore:Some predictors are on very different scales", "ignore:Singular fit")
@pytest.mark.parametrize("mean", [0.0, 5e3, 2e4, 1e6])
@pytest.mark.parametrize("formula", ["y ~ x + (x || g)", "y ~ x + (x || g) + (1 | h)"])
def test_slopes_far_from_zero_beside_an_independent_intercept(mean, formula):
    """Moment starts of two nearly collinear terms are wild; a replicate then starts from the fit's own θ."""
    rng = np.random.default_rng(1)
    g, x = np.repeat(np.arange(20), 15), mean + rng.normal(size=300)
    effects = rng.normal(size=(2, 20))[:, g]
    y = 1 + 0.5 * (x - mean) + effects[0] + 0.5 * effects[1] * (x - mean) + rng.normal(size=300)
    frame = pd.DataFrame({"g": g, "x": x, "y": y, "h": rng.integers(0, 6, 300)})
    fit = slm.lmer(formula, frame)
    boot = fit.bootstrap(60, seed=1)
    assert boot.converged.all()
    table = boot.summary()
    assert np.isfinite(table["std_error"]).all()
    for j in (0, 7):
        again = fit.refit(fit.simulate(j + 1, seed=11).iloc[:, j])
        assert np.isfinite(again.criterion)


def test_a_replicate_that_cannot_be_evaluated_is_refused_alone(monkeypatch):
    fit = slm.lmer("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    right = fit.bootstrap(20, seed=3)
    evaluate, settle = one_factor.evaluate_blocks, refit_module._settle

    def broken(products, parameters, par, criterion, xp):
        state = evaluate(products, parameters, par, criterion, xp)
        state.value[np.isclose(products.YY, worst)] = np.inf
        return state

    def refused(pls, criterion, y, column, starts):
        if np.isclose(y.yWy[column], worst):
            return refit_module._refused(len(starts[0]), pls.crossproducts.p)
        return settle(pls, criterion, y, column, starts)

    drawn = []

    def first_steps(pls, shared, y, interior):
        drawn.append(y.yWy)
        return minque.first_steps(pls, shared, y, interior)

    monkeypatch.setattr(refit_module, "first_steps", first_steps)
    fit.bootstrap(20, seed=3)
    worst = drawn[0][7]
    monkeypatch.setattr(one_factor, "evaluate_blocks", broken)
    monkeypatch.setattr(refit_module, "_settle", refused)
    with pytest.warns(slm.exceptions.ConvergenceWarning, match="1 of 20 replicates could not be evaluated"):
        boot = fit.bootstrap(20, seed=3)
    assert np.isnan(boot.values[7]).all()
    assert not boot.converged[7]
    np.testing.assert_array_equal(np.delete(boot.values, 7, axis=0), np.delete(right.values, 7, axis=0))
    assert np.isfinite(boot.conf_int().to_numpy()).all()
    with pytest.warns(slm.exceptions.ConvergenceWarning):
        of_sigma = fit.bootstrap(20, seed=3, statistic=lambda r: r.sigma)
    assert np.isnan(of_sigma.values[7]).all()
