"""A structure from a file of its own and one line in the registry: everything works with it.

Ω = exp(p₀)·[[1, tanh p₁], [tanh p₁, 1]] is not linear in its parameters, nor is any factor of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize, minimize_scalar

import sparselmm as slm
from sparselmm.covariance import STRUCTURES, CovarianceStructure, Kind
from sparselmm.covariance.base import FreeEntry
from sparselmm.inference.bootstrap.draw_statistics import ResponseSums
from sparselmm.inference.bootstrap.minque import prepare
from sparselmm.inference.bootstrap.refit import refit
from sparselmm.likelihood.criterion import REML
from sparselmm.likelihood.derivatives import differentiate
from sparselmm.likelihood.information import exact_hessian

GROUPS, ROWS = 24, 7


@dataclass(frozen=True)
class Toy(CovarianceStructure):
    """Two coefficients with one variance and a correlation."""

    k: int = 2
    n_par = 2

    def start(self):
        return np.zeros(2)

    def template(self, par):
        par = np.asarray(par)
        size, r = np.exp(par[..., 0] / 2), np.tanh(par[..., 1])
        out = np.zeros((*par.shape[:-1], 2, 2))
        out[..., 0, 0], out[..., 1, 0], out[..., 1, 1] = size, size * r, size * np.sqrt(1 - r**2)
        return out

    def domega(self, par):
        T, r = self.template(par), np.tanh(np.asarray(par)[..., 1])
        out = np.zeros((*np.shape(par), 2, 2))
        out[..., 0, :, :] = T @ np.swapaxes(T, -1, -2)
        out[..., 1, 0, 1] = out[..., 1, 1, 0] = np.exp(np.asarray(par)[..., 0]) * (1 - r**2)
        return out

    def curvature(self, par, S):
        first = np.einsum("...ab,...nab->...n", S, self.domega(par))
        r = np.tanh(np.asarray(par)[..., 1])
        out = np.zeros((*np.shape(par), 2))
        out[..., 0, :] = out[..., :, 0] = first
        out[..., 1, 1] = -2 * r * first[..., 1]
        return out

    def nearest(self, covariance):
        size = max(float(np.mean(np.diag(covariance))), 1e-12)
        return np.array([np.log(size), np.arctanh(np.clip(covariance[1, 0] / size, -0.99, 0.99))])

    def theta_names(self, label, columns):
        return (f"{label}.log", f"{label}.z")

    def entries(self):
        return (FreeEntry(0, 0), FreeEntry(1, 0))


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setattr(STRUCTURES, "_kinds", dict(STRUCTURES._kinds))
    STRUCTURES.register("toy", Kind(Toy))


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(11)
    g = np.repeat(np.arange(GROUPS), ROWS)
    x, u, v = rng.normal(size=(3, len(g)))
    b = rng.multivariate_normal([0, 0], 1.5 * np.array([[1, 0.6], [0.6, 1]]), size=GROUPS)
    y = 1 + 0.5 * x + b[g, 0] * u + b[g, 1] * v + rng.normal(size=len(g))
    h = rng.permutation(len(g)) % 5
    return pd.DataFrame({"y": y + rng.normal(size=5)[h], "x": x, "u": u, "v": v, "g": g, "h": h})


@pytest.fixture
def fit(frame):
    return slm.lmer("y ~ x + toy(0 + u + v | g)", frame)


def dense(frame, sd, r, reml=True, y=None):
    """Return the profiled criterion at a relative standard deviation and correlation, from (n, n) matrices."""
    X = np.column_stack([np.ones(len(frame)), frame.x])
    W = frame[["u", "v"]].to_numpy()
    same = frame.g.to_numpy()[:, None] == frame.g.to_numpy()
    V = same * (W @ (sd**2 * np.array([[1, r], [r, 1]])) @ W.T) + np.eye(len(frame))
    VX, Vy = np.linalg.solve(V, X), np.linalg.solve(V, frame.y if y is None else y)
    A = X.T @ VX
    rss = (frame.y if y is None else y) @ Vy - (X.T @ Vy) @ np.linalg.solve(A, X.T @ Vy)
    df = len(frame) - 2 * reml
    value = np.linalg.slogdet(V)[1] + df * (1 + np.log(2 * np.pi * rss / df))
    return value + np.linalg.slogdet(A)[1] if reml else value


def dense_optimum(frame, reml=True, y=None):
    found = minimize(
        lambda p: dense(frame, np.exp(p[0] / 2), np.tanh(p[1]), reml, y),
        [0.0, 0.0],
        method="Nelder-Mead",
        options={"xatol": 1e-8, "fatol": 1e-11, "maxiter": 4000},
    )
    return found.x, found.fun


def test_derivatives_of_the_structure():
    toy, par, h = Toy(), np.array([0.4, -0.7]), 1e-5
    S = np.array([[1.0, 0.3], [0.3, -2.0]])

    def omega(p):
        return toy.template(p) @ toy.template(p).T

    steps = h * np.eye(2)
    np.testing.assert_allclose(toy.domega(par), [(omega(par + d) - omega(par - d)) / (2 * h) for d in steps], atol=1e-9)
    second = [np.tensordot(toy.domega(par + d) - toy.domega(par - d), S) / (2 * h) for d in steps]
    np.testing.assert_allclose(toy.curvature(par, S), second, atol=1e-9)


@pytest.mark.parametrize("reml", [True, False])
def test_the_fit_is_the_dense_optimum(frame, reml):
    fit = slm.lmer("y ~ x + toy(0 + u + v | g)", frame, reml=reml)
    par, value = dense_optimum(frame, reml)
    assert fit.converged
    assert fit.criterion == pytest.approx(value, abs=1e-8)
    np.testing.assert_allclose(fit.theta, par, atol=1e-5)  # Nelder-Mead on a surface known to 1e-12
    assert fit.criterion > slm.lmer("y ~ x + (0 + u + v | g)", frame, reml=reml).criterion


@pytest.mark.parametrize("formula", ["y ~ x + toy(0 + u + v | g)", "y ~ x + toy(0 + u + v | g) + (1 | h)"])
def test_gradient_and_hessian_by_differences(frame, formula):
    fit = slm.lmer(formula, frame)
    par, h = fit.result.par + 0.1, 1e-5
    with fit.problem.engine.locked() as pls:
        at = pls.solve(par)
        found, exact = differentiate(pls, REML, at), exact_hessian(pls, REML, at)
        points = [[pls.solve(par + s * d) for s in (1, -1)] for d in h * np.eye(len(par))]
        value = [[pls.value(x, REML) for x in pair] for pair in points]
        slope = [[differentiate(pls, REML, x).gradient for x in pair] for pair in points]
    np.testing.assert_allclose(found.gradient, np.subtract(*np.transpose(value)) / (2 * h), rtol=1e-5, atol=1e-5)
    differences = np.array([(up - down) / (2 * h) for up, down in slope])
    np.testing.assert_allclose(exact.profiled, differences, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("optimizer", ["newton", "bobyqa", "bobyqa+newton"])
def test_every_optimizer_finds_it(frame, fit, optimizer):
    found = slm.lmer("y ~ x + toy(0 + u + v | g)", frame, optimizer=optimizer)
    assert found.criterion == pytest.approx(fit.criterion, abs=1e-7)


def test_summary_and_what_it_rests_on(frame, fit):
    text = str(fit.summary())
    assert "0.5" in text and "u" in text and "v" in text
    (term,) = fit.varcorr.terms
    assert term.sd[0] == pytest.approx(term.sd[1], rel=1e-12)
    assert term.corr[0, 1] == pytest.approx(np.tanh(fit.theta[1]), rel=1e-12)
    assert fit.aic == pytest.approx(fit.criterion + 2 * 5, rel=1e-12)
    assert np.all(fit.coef_table(ddf="kenward-roger")["df"] > 10)
    table = fit.varpar_table()
    assert list(table.index) == ["sd(u|g)", "sd(v|g)", "cor(u,v|g)", "sigma"]
    assert np.all(table["std_error"] > 0)
    assert fit.predict(frame).shape == (len(frame),)
    assert fit.ranova().iloc[1]["npar"] == 3


def test_one_step_without_a_group_goes_where_the_fit_without_it_is(frame, fit):
    one_step = fit.influence("g", theta=True)["one_step"].iloc[3]
    without = slm.lmer("y ~ x + toy(0 + u + v | g)", frame[frame.g != 3])
    # a Newton step: its error is of second order in a change of a tenth
    np.testing.assert_allclose(one_step[["g.log", "g.z"]], without.theta - fit.theta, rtol=0.4)
    np.testing.assert_allclose(one_step[["Intercept", "x"]], without.params - fit.params, rtol=0.1)


@pytest.mark.parametrize("which", ["sd", "cor"])
@pytest.mark.parametrize("reml", [True, False])
def test_profile_is_that_of_the_dense_likelihood(frame, which, reml):
    fit = slm.lmer("y ~ x + toy(0 + u + v | g)", frame, reml=reml)
    (profile,) = fit.profile("sd(u|g)" if which == "sd" else "cor(u,v|g)", reml=reml).profiles
    best = dense_optimum(frame, reml)[1]
    for value in profile.estimate * np.array([0.8, 1.15]):
        zeta = float(profile.zeta_at(np.array([value]))[0])
        lowest = held(frame, which, value, reml)
        # curves are interpolated between points of the profile
        assert zeta**2 == pytest.approx(lowest - best, rel=2e-3)


def held(frame, which, value, reml):
    """Return the lowest criterion with a standard deviation (in units of y) or the correlation fixed."""
    if which == "cor":
        return minimize_scalar(lambda s: dense(frame, np.exp(s), value, reml), bounds=(-2, 2), method="bounded").fun
    n = len(frame) - 2 * reml

    def at(p):  # sigma free: the criterion before σ is profiled out
        sigma, r = np.exp(p[0]), np.tanh(p[1])
        profiled = dense(frame, value / sigma, r, reml)
        best_sigma = np.sqrt(rss(frame, value / sigma, r) / n)
        ratio = (best_sigma / sigma) ** 2
        return profiled + n * (ratio - 1 - np.log(ratio))

    return minimize(at, [0.0, 0.5], method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-8}).fun


def rss(frame, sd, r):
    X = np.column_stack([np.ones(len(frame)), frame.x])
    W = frame[["u", "v"]].to_numpy()
    same = frame.g.to_numpy()[:, None] == frame.g.to_numpy()
    V = same * (W @ (sd**2 * np.array([[1, r], [r, 1]])) @ W.T) + np.eye(len(frame))
    Vy = np.linalg.solve(V, frame.y)
    return frame.y @ Vy - (X.T @ Vy) @ np.linalg.solve(X.T @ np.linalg.solve(V, X), X.T @ Vy)


@pytest.mark.parametrize("formula", ["y ~ x + toy(0 + u + v | g)", "y ~ x + toy(0 + u + v | g) + (1 | h)"])
def test_bootstrap(frame, formula):
    """One grouping factor: all responses at once; two: one by one. Both are fits of the responses drawn."""
    fit = slm.lmer(formula, frame)
    assert fit.bootstrap(12, seed=3).converged.all()
    Y = fit.simulate(4, seed=4).to_numpy()
    each = [fit.refit(Y[:, j]) for j in range(4)]
    with fit.problem.engine.locked() as pls:
        sums = []
        for one in each:
            xp = one.problem.engine.crossproducts
            shift = xp.XytWXy[:-1, :-1] @ xp.basis.b0  # back to Xβ = 0 from what was taken off each response
            sums.append(
                (
                    xp.ZtWXy[:, -1] + xp.ZtWXy[:, :-1] @ xp.basis.b0,
                    xp.XytWXy[:-1, -1] + shift,
                    xp.XytWXy[-1, -1] + xp.basis.b0 @ (2 * xp.XytWXy[:-1, -1] + shift),
                )
            )
        y = ResponseSums(*(np.array(x).T for x in zip(*sums)))
        found = refit(pls, REML, prepare(pls, REML, fit.result.par), y)
    np.testing.assert_allclose(found.criterion, [one.criterion for one in each], atol=1e-5)
    np.testing.assert_allclose(found.sigma, [one.sigma for one in each], rtol=1e-3)


def test_many_responses_are_fitted_like_each(frame, fit):
    Y = fit.simulate(2, seed=2).to_numpy()
    many = slm.fit_many(fit, Y)
    for j in range(2):
        assert many.iloc[j]["criterion"] == pytest.approx(dense_optimum(frame, True, Y[:, j])[1], abs=1e-6)
