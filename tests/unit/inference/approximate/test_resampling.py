"""Profiles and bootstrap of approximate fits."""

from __future__ import annotations

import numpy as np
import pytest
from approximate_designs import data, fitted, pair

import sparselmm as slm
from sparselmm.exceptions import UndecidedError
from sparselmm.inference.bootstrap.draw_rows import RowSampler
from sparselmm.inference.bootstrap.draw_statistics import Sampler


class TestProfiles:
    @pytest.mark.parametrize("which", ["sigma", "x", "sd(Intercept|i)"])
    def test_intervals(self, which):
        wanted, found = (fit.profile(which).conf_int() for fit in pair("intercepts", reml=False))
        np.testing.assert_allclose(found, wanted, rtol=2e-4)

    def test_correlations(self):
        wanted, found = (
            fit.profile("cor(Intercept,x|u)", zeta_max=1.5).conf_int(0.8) for fit in pair("slopes", reml=False)
        )
        np.testing.assert_allclose(found, wanted, atol=1e-3)

    def test_reml_profiles_from_ml_fits(self):
        wanted, found = (fit.profile("sigma", reml=True).conf_int() for fit in pair("intercepts", reml=False))
        np.testing.assert_allclose(found, wanted, rtol=2e-4)

    def test_no_evaluation_changes_the_effort_and_few_need_traces(self):
        fit = fitted("three", "iterative", reml=False)
        seen, count = [], 0
        with fit.problem.engine.locked() as pls:
            original, system = type(pls.system).refactor, pls.system
            before = pls.effort

        def counted(self, templates, effort=None):
            nonlocal count
            count += 1
            seen.append(effort)
            return original(self, templates, effort)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(system), "refactor", counted)
            profile = fit.profile("sd(Intercept|u)")
        assert all(effort is before for effort in seen)
        assert count < 2 * profile.evaluations + 15


class TestStatistics:
    @pytest.mark.parametrize(("name", "weights"), [("slopes", None), ("year", "w"), ("border", "w")])
    def test_they_are_those_of_one_response(self, name, weights):
        fit = fitted(name, "iterative", weights=weights)
        xp, design, result = fit.crossproducts, fit.result.rows, fit.result
        templates = fit.problem.engine.parameters.templates(result.par)
        sampler = RowSampler.of(design, xp)
        drawn = sampler.draw(None, templates, 1.3, [np.random.default_rng(7), np.random.default_rng(8)])
        rng = np.random.default_rng(8)
        u, e = rng.standard_normal(design.q), rng.standard_normal(design.n)
        parts = np.split(u, xp.gram.offsets[1:-1])
        b = np.concatenate([(x.reshape(-1, len(T)) @ T.T).ravel() for x, T in zip(parts, templates)])
        Z = np.hstack([t.to_sparse().toarray() for t in sampler.observed.terms])
        w = np.ones(design.n) if design.weights is None else design.weights
        y = 1.3 * (Z @ b + e / np.sqrt(w))
        np.testing.assert_allclose(drawn.ZtWy[:, 1], Z.T @ (w * y), atol=1e-8)
        np.testing.assert_allclose(drawn.XtWy[:, 1], xp.basis.apply(design.X).T @ (w * y), atol=1e-8)
        assert drawn.yWy[1] == pytest.approx(w @ y**2)

    def test_they_have_the_law_of_those_drawn_from_a_factor(self):
        exact, approximate = pair("three")
        xp = exact.crossproducts
        templates = exact.problem.engine.parameters.templates(exact.result.par)
        rngs = [np.random.default_rng(s) for s in np.random.SeedSequence(1).spawn(400)]
        with exact.problem.engine.locked() as pls:
            factor = Sampler.of(pls.system, xp.ZtWXy[:, :-1], xp.XytWXy[:-1, :-1], xp.n)
            a = factor.draw(pls.system, templates, 1.0, rngs)
        b = RowSampler.of(approximate.result.rows, xp).draw(None, templates, 1.0, rngs)
        assert b.yWy.mean() == pytest.approx(a.yWy.mean(), rel=0.02)
        np.testing.assert_allclose((b.XtWy**2).mean(axis=1), (a.XtWy**2).mean(axis=1), rtol=0.4)


class TestBootstrap:
    def test_replicates_of_exact_and_approximate_fits_agree(self):
        """The same statistics refitted by both solvers give the same estimates."""
        exact, approximate = pair("three")
        made = approximate.bootstrap(6, seed=3, progress=False)
        assert made.converged.all()
        xp = approximate.crossproducts
        templates = approximate.problem.engine.parameters.templates(approximate.result.par)
        for j, child in enumerate(np.random.SeedSequence(3).spawn(6)[:2]):
            rng = np.random.default_rng(child)
            u, e = rng.standard_normal(xp.gram.q), rng.standard_normal(xp.n)
            parts = np.split(u, xp.gram.offsets[1:-1])
            b = np.concatenate([T[0, 0] * x for x, T in zip(parts, templates)])
            y = approximate.predict(re_form="~0").to_numpy() + approximate.sigma * (approximate.Z @ b + e)
            again = exact.refit(y)
            assert made.criterion[j] == pytest.approx(again.criterion, abs=0.01)
            assert made.values[j][-2:] == pytest.approx(again.params.to_numpy(), abs=1e-4)

    def test_numbers_do_not_depend_on_processes(self):
        pytest.importorskip("joblib")
        fit = fitted("three", "iterative")
        one, two = (fit.bootstrap(4, seed=3, n_jobs=n, progress=False).values for n in (1, 2))
        np.testing.assert_allclose(two, one, rtol=1e-10)

    def test_one_step(self):
        fit = fitted("slopes", "iterative")
        made = fit.bootstrap(150, seed=4, progress=False, one_step=True).summary()
        wanted = fitted("slopes", "schur").bootstrap(150, seed=4, progress=False, one_step=True).summary()
        np.testing.assert_allclose(made["std_error"], wanted["std_error"], rtol=0.25)

    def test_likelihood_ratios(self):
        small = [slm.lmer("y ~ x + (1 | u) + (1 | i)", data(), solver=s, reml=False) for s in ("schur", "iterative")]
        large = pair("intercepts", reml=False)
        exact, found = (slm.bootstrap_lrt(a, b, 8, seed=1, progress=False) for a, b in zip(small, large))
        assert exact.error is None
        assert 0 < found.error < 0.01
        assert found.statistic == pytest.approx(exact.statistic, abs=1e-3)
        assert found.converged.all()
        assert np.all(found.replicates < 15)

    def test_an_open_likelihood_ratio_is_refused(self, monkeypatch):
        small = slm.lmer("y ~ x + (1 | u) + (1 | i)", data(), solver="iterative", reml=False)
        large = fitted("intercepts", "iterative", reml=False)
        monkeypatch.setattr("sparselmm.inference.bootstrap.ratio_test.difference_error", lambda *_: 50.0)
        with pytest.raises(UndecidedError, match=r"(p_value|p_chi2) near"):
            slm.bootstrap_lrt(small, large, 4, seed=1, progress=False)
