"""Simulated responses: moments, reproducibility, designs without data; coverage of prediction intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm.data.tables.frame import as_frame
from sparselmm.exceptions import DataError, FormulaError, ParameterError
from sparselmm.inference.predict.new_rows import encode_rows, select_effects
from sparselmm.inference.predict.prediction import point
from sparselmm.likelihood.criterion import criterion_for
from sparselmm.likelihood.problem import evaluate_at


def plan(groups=12, per=5):
    rng = np.random.default_rng(1)
    n = groups * per
    return pd.DataFrame(
        {
            "x": rng.normal(size=n),
            "f": rng.choice(["a", "b"], n),
            "g": np.repeat([f"g{i:02d}" for i in range(groups)], per),
            "h": np.tile(np.arange(per), groups),
            "w": rng.uniform(0.5, 2.0, n),
            "o": rng.normal(size=n),
        }
    )


PLAN = plan()
FORMULA = "y ~ x + offset(o) + (x | g) + (1 | h)"
PARAMETERS = {"theta": [0.8, 0.3, 0.5, 0.6], "beta": [2.0, -1.0], "sigma": 1.5}


def covariance(formula, theta, sigma, weights):
    frame = PLAN.assign(y=np.random.default_rng(0).normal(size=len(PLAN)))
    fit = slm.LinearMixedModel.from_formula(formula, frame).at(theta)
    Z, L = fit.Z.toarray(), fit.Lambda.toarray()
    return sigma**2 * (Z @ L @ L.T @ Z.T + np.diag(1 / weights))


def test_moments_of_a_design_without_data():
    nsim = 40_000
    sim = slm.simulate(FORMULA, PLAN, **PARAMETERS, seed=11, nsim=nsim, weights="w").to_numpy()
    mean = 2.0 - PLAN.x + PLAN.o
    V = covariance(FORMULA, PARAMETERS["theta"], 1.5, PLAN.w.to_numpy())
    sd = np.sqrt(np.diag(V))
    assert np.abs((sim.mean(axis=1) - mean) / (sd / np.sqrt(nsim))).max() < 4.5
    gap = (np.cov(sim) - V) / np.sqrt((np.outer(sd**2, sd**2) + V**2) / nsim)
    assert np.abs(gap).max() < 5.5


def test_columns_depend_on_their_own_number_alone():
    few = slm.simulate(FORMULA, PLAN, **PARAMETERS, seed=3, nsim=2)
    many = slm.simulate(FORMULA, PLAN, **PARAMETERS, seed=3, nsim=5)
    pd.testing.assert_frame_equal(many.iloc[:, :2], few)
    assert not np.allclose(many["sim_1"], many["sim_2"])
    sequence = np.random.SeedSequence(3)
    for _ in range(2):  # a sequence object is not used up
        pd.testing.assert_frame_equal(slm.simulate(FORMULA, PLAN, **PARAMETERS, seed=sequence, nsim=2), few)


def test_designs_need_no_response():
    left_out = slm.simulate("~ x + (1 | g)", PLAN, theta=[1], beta=[0, 1], sigma=1, seed=1)
    named = slm.simulate("log(y) ~ x + (1 | g)", PLAN, theta=[1], beta=[0, 1], sigma=1, seed=1)
    unmeasured = PLAN[["x", "g"]].assign(z=np.nan)
    there = slm.simulate("z ~ . - g + (1 | g)", unmeasured, theta=[1], beta=[0, 1], sigma=1, seed=1)
    pd.testing.assert_frame_equal(left_out, named)
    pd.testing.assert_frame_equal(left_out, there)
    assert left_out.index.equals(PLAN.index)


def test_parameters_by_name():
    by_name = {
        "theta": {"h.Intercept": 0.6, "g.Intercept": 0.8, "g.x.Intercept": 0.3, "g.x": 0.5},
        "beta": pd.Series({"x": -1.0, "Intercept": 2.0}),
        "sigma": 1.5,
    }
    names = slm.LinearMixedModel.from_formula(FORMULA, PLAN.assign(y=PLAN.x**2 + PLAN.o)).theta_names
    assert set(names) == set(by_name["theta"])
    pd.testing.assert_frame_equal(
        slm.simulate(FORMULA, PLAN, **by_name, seed=1), slm.simulate(FORMULA, PLAN, **PARAMETERS, seed=1)
    )


def test_rows_with_missing_values_stay_missing():
    data = PLAN.assign(x=PLAN.x.where(PLAN.index != 3))
    sim = slm.simulate(FORMULA, data, **PARAMETERS, seed=1)
    assert list(np.flatnonzero(sim["sim_1"].isna())) == [3]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"theta": [1.0]}, ParameterError, r"theta needs 4 .*g\.Intercept"),
        ({"beta": {"Intercept": 1.0}}, ParameterError, "beta lacks x"),
        ({"beta": {"Intercept": 1.0, "x": 1.0, "z": 1.0}}, ParameterError, "unknown names z"),
        ({"sigma": 0.0}, ParameterError, "sigma must be a positive"),
        ({"sigma": "1"}, ParameterError, "sigma must be a positive"),
        ({"nsim": 0}, ParameterError, "nsim"),
        ({"seed": -1}, ParameterError, "seed"),
        ({"seed": "one"}, ParameterError, "seed"),
        ({"formula": "y ~ x"}, FormulaError, "random"),
        ({"formula": "y ~ nothing + (1 | g)"}, DataError, "nothing"),
    ],
)
def test_bad_requests(change, error, words):
    arguments = {"formula": FORMULA, "data": PLAN, **PARAMETERS, **change}
    with pytest.raises(error, match=words):
        slm.simulate(**arguments)


# --- from a fit -------------------------------------------------------------------------------------


def fitted():
    y = slm.simulate(FORMULA, PLAN, **PARAMETERS, seed=2)["sim_1"]
    model = slm.LinearMixedModel.from_formula(FORMULA, PLAN.assign(y=y), weights="w")
    return model.at(PARAMETERS["theta"])


def spread(fit, draws, **arguments):
    return fit.simulate(draws, seed=4, **arguments).to_numpy()


@pytest.mark.parametrize("re_form", ["~0", None, "~(x | g)", "~(1 | h)"])
def test_moments_from_a_fit(re_form):
    fit, nsim = fitted(), 20_000
    sim = spread(fit, nsim, re_form=re_form)
    drawn = {"~0": {"g", "h"}, None: set(), "~(x | g)": {"h"}, "~(1 | h)": {"g"}}[re_form]
    Z, L = fit.Z.toarray(), fit.Lambda.toarray()
    keep = np.concatenate([np.full(t.m * t.k, t.label in drawn) for t in fit.result.rows.terms])
    V = fit.scale * ((Z * keep) @ L @ L.T @ (Z * keep).T + np.diag(1 / PLAN.w))
    sd = np.sqrt(np.diag(V))
    mean = fit.predict(re_form=re_form)
    assert np.abs((sim.mean(axis=1) - mean) / (sd / np.sqrt(nsim))).max() < 4.5
    gap = (np.cov(sim) - V) / np.sqrt((np.outer(sd**2, sd**2) + V**2) / nsim)
    assert np.abs(gap).max() < 5.5


def test_new_rows_of_one_new_level_share_its_effect():
    fit = fitted()
    new = PLAN.iloc[:4].assign(g=["p", "p", "q", "g01"], x=0.0, o=0.0, h=0)
    newparams = {"theta": [3.0, 0.0, 0.0, 0.0], "beta": [5.0, 0], "sigma": 1.0}
    sim = fit.simulate(20_000, seed=1, newdata=new, newparams=newparams, weights=1.0).to_numpy()
    np.testing.assert_allclose(sim.mean(axis=1), 5.0, atol=0.1)
    V = np.diag([10.0] * 4)
    V[0, 1] = V[1, 0] = 9.0
    np.testing.assert_allclose(np.cov(sim), V, atol=0.4)
    with pytest.raises(DataError, match="g: p, q"):
        fit.simulate(newdata=new, re_form="~(x | g)", weights=1.0)
    kept = fit.simulate(newdata=new, re_form="~(x | g)", weights=1.0, allow_new_levels=True, seed=1)
    assert kept.notna().all().all()


def test_simulation_reads_weights_and_offsets():
    fit = fitted()
    with pytest.raises(DataError, match="'w'"):
        fit.simulate(newdata=PLAN.drop(columns="w"))
    with pytest.raises(DataError, match="'o'"):
        fit.simulate(newdata=PLAN.drop(columns="o"))
    heavy = fit.simulate(300, seed=1, newdata=PLAN, re_form=None, weights=1e8)
    np.testing.assert_allclose(heavy, np.tile(fit.fittedvalues.to_numpy()[:, None], 300), atol=1e-3 * fit.sigma * 6)
    assert np.isnan(fit.simulate(newdata=PLAN.assign(x=PLAN.x.where(PLAN.index != 2)))["sim_1"][2])


@pytest.mark.parametrize(
    "newparams", [{"tau": 1}, {"beta": [1.0]}, {"theta": [1.0]}, {"sigma": -1.0}, {"beta": ["a", "b"]}]
)
def test_bad_newparams(newparams):
    with pytest.raises(ParameterError, match="newparams"):
        fitted().simulate(newparams=newparams)


def test_a_refit_to_a_simulated_response_recovers_the_parameters():
    design = plan(200, 10)
    theta, beta = [0.9, 0.4], [1.0, 2.0]
    y = slm.simulate("y ~ x + (1 | g) + (1 | f:h)", design, theta=theta, beta=beta, sigma=2.0, seed=8)["sim_1"]
    fit = slm.lmer("y ~ x + (1 | g) + (1 | f:h)", design.assign(y=y))
    assert fit.sigma == pytest.approx(2.0, rel=0.05)
    assert fit.theta[0] == pytest.approx(0.9, abs=0.15)
    np.testing.assert_allclose(fit.params, beta, atol=0.5)


# --- intervals cover --------------------------------------------------------------------------------


def test_prediction_intervals_cover():
    """2,000 responses with known variance ratios: 95 % intervals, for known and new levels, cover so often.

    The band is that of 99.7 % of binomial counts. σ is estimated from 239 degrees of freedom.
    """
    replicates, sigma, theta = 2000, 1.5, np.array([0.8, 0.3, 0.5, 0.6])
    design = plan(40, 6)
    rng = np.random.default_rng(20)
    start = slm.LinearMixedModel.from_formula(FORMULA, design.assign(y=rng.normal(size=len(design)))).at(theta)
    new = design.iloc[[3, 100]].assign(g=["g00", "new"], h=[2, 1], x=[0.7, -1.0], o=0.0)
    X, Z, L = start.X, start.Z.toarray(), start.Lambda.toarray()
    x = np.column_stack([np.ones(2), new.x])
    m = 40
    targets = {
        "mean": {"se": True},
        "new observation": {"interval": "prediction"},
        "mean of the population": {"se": True, "re_form": "~0"},
        "new observation of the population": {"interval": "prediction", "re_form": "~0"},
    }
    found = {k: start.predict(new, allow_new_levels=True, **arguments) for k, arguments in targets.items()}
    relative = {k: frame["se"].to_numpy() / start.sigma for k, frame in found.items()}
    encoding = start.source.encoding
    selections = [select_effects(re_form, encoding, (2, 1)) for re_form in (None, "~0")]
    rows = encode_rows(encoding, as_frame(new), selections[0], True, True)
    np.testing.assert_allclose(point(start._effects(), selections[0], rows), start.predict(new, allow_new_levels=True))
    hits = {k: np.zeros(2) for k in targets}
    for _ in range(replicates):
        b = sigma * (L @ rng.normal(size=L.shape[0]))
        y = X @ [2.0, -1.0] + design.o + Z @ b + sigma * rng.normal(size=len(design))
        problem = start.problem.with_response(np.asarray(y))
        fit = slm.MixedModelFit(problem, evaluate_at(problem, theta, criterion_for(True)), start.source)
        slopes = b[: 2 * m].reshape(m, 2)
        T = np.array([[0.8, 0.0], [0.3, 0.5]])
        unseen = sigma * T @ rng.normal(size=2)
        h = b[2 * m :]
        known = np.array([slopes[0] @ [1, 0.7] + h[2], unseen @ [1, -1.0] + h[1]])
        fixed = x @ [2.0, -1.0]
        noise = sigma * rng.normal(size=2)
        another = np.array([(sigma * T @ rng.normal(size=2)) @ [1, v] + 0.6 * sigma * rng.normal() for v in new.x])
        truth = {
            "mean": fixed + known,
            "new observation": fixed + known + noise,
            "mean of the population": fixed,
            "new observation of the population": fixed + another + noise,
        }
        conditional, population = (point(fit._effects(), s, rows) for s in selections)
        for name, se in relative.items():
            predicted = population if "population" in name else conditional
            hits[name] += np.abs(predicted - truth[name]) <= 1.959963984540054 * se * fit.sigma
    band = 2.97 * np.sqrt(0.95 * 0.05 / replicates)
    for name, count in hits.items():
        assert np.all(np.abs(count / replicates - 0.95) < band), (name, count / replicates)
