"""Random effects, predictions, leverages and the like after an approximate fit, against the exact fit."""

from __future__ import annotations

import numpy as np
import pytest
from approximate_designs import FORMULAS, data, fitted, pair

import sparselmm as slm
from sparselmm.exceptions import ParameterError, UnsupportedError
from sparselmm.inference.predict import solution_limit as solutions

CLOSE = {"rtol": 1e-4, "atol": 2e-5}


def at_exact_theta(name, **arguments):
    """Return the exact fit and the approximate one at the same θ."""
    exact, approximate = pair(name, **arguments)
    return exact, approximate.at(exact.theta)


class TestConditionalVariances:
    @pytest.mark.parametrize("name", sorted(FORMULAS))
    def test_of_chosen_levels_are_exact(self, name):
        exact, approximate = at_exact_theta(name)
        levels = {"u": ["u3", "u50", "u7"], "i": ["i9"]}
        wanted, found = (fit.ranef(condvar=True, levels=levels) for fit in (exact, approximate))
        whole = exact.ranef(condvar=True)
        for label, names in levels.items():
            assert found[label].exact
            assert list(found[label].modes.index) == names
            at = whole[label].modes.index.get_indexer(names)
            np.testing.assert_allclose(found[label].cov, whole[label].cov[at], rtol=1e-7, atol=1e-10)
            np.testing.assert_allclose(wanted[label].cov, whole[label].cov[at], rtol=1e-7, atol=1e-10)
            for term, block in whole[label].cov_by_term.items():
                np.testing.assert_allclose(found[label].cov_by_term[term], block[at], rtol=1e-7, atol=1e-10)

    @pytest.mark.parametrize("name", sorted(FORMULAS))
    def test_of_all_levels_are_estimates_with_an_error(self, name):
        exact, approximate = at_exact_theta(name)
        wanted, found = exact.ranef(condvar=True), approximate.ranef(condvar=True)
        for label, some in found.items():
            error = some.cov - wanted[label].cov
            assert np.abs(error).max() < 0.01 * np.abs(wanted[label].cov).max()
            if label == "g":  # few levels are treated exactly
                assert some.exact
                continue
            assert not some.exact
            assert 0.5 < np.sqrt(np.mean(error**2) / np.mean(some.cov_error**2)) < 2.5
            half = some.sd_error.iloc[0, 0] * 2.0 * some.sd.iloc[0, 0]
            assert half == pytest.approx(some.cov_error[0, 0, 0])

    def test_of_exact_fits_have_no_error(self):
        found = fitted("split", "schur").ranef(condvar=True)["u"]
        assert found.exact
        assert not found.sd_error.to_numpy().any()

    def test_modes_of_chosen_levels(self):
        fit = fitted("slopes", "iterative")
        assert list(fit.ranef(levels={"i": None})) == ["i"]
        assert list(fit.ranef(levels={"u": "u4"})["u"].index) == ["u4"]
        table = fit.ranef_table(levels={"u": ["u1", "u2"]})
        assert len(table) == 4

    def test_bad_requests(self):
        fit = fitted("slopes", "iterative")
        with pytest.raises(ParameterError, match="no grouping label 'v'; there are u, i"):
            fit.ranef(levels={"v": []})
        with pytest.raises(ParameterError, match="u has no level 'zz', 3"):
            fit.ranef(levels={"u": ["u1", "zz", 3]})
        with pytest.raises(ParameterError, match="levels must map"):
            fit.ranef(levels=["u1"])

    def test_many_levels_are_refused(self, monkeypatch):
        monkeypatch.setattr(solutions, "MOST_SOLUTIONS", 5)
        fit = fitted("slopes", "iterative")
        with pytest.raises(UnsupportedError, match="3 levels would take 6 solutions"):
            fit.ranef(condvar=True, levels={"u": ["u1", "u2", "u3"]})


class TestPredictions:
    @pytest.mark.parametrize("name", sorted(FORMULAS))
    @pytest.mark.parametrize("interval", ["confidence", "prediction"])
    def test_standard_errors_of_chosen_rows(self, name, interval):
        exact, approximate = at_exact_theta(name)
        rows = data().iloc[::80].assign(u=data()["u"].iloc[::-80].to_numpy())  # levels that never met as well
        wanted, found = (fit.predict(rows, interval=interval) for fit in (exact, approximate))
        np.testing.assert_allclose(found, wanted, rtol=1e-6)

    @pytest.mark.parametrize("name", ["three", "slopes"])
    def test_many_rows_on_few_levels(self, name):
        exact, approximate = at_exact_theta(name)
        np.testing.assert_allclose(approximate.predict(se=True), exact.predict(se=True), rtol=1e-6)

    def test_rows_and_levels_that_are_too_many_are_refused(self, monkeypatch):
        monkeypatch.setattr(solutions, "MOST_SOLUTIONS", 100)
        fit = fitted("slopes", "iterative")
        with pytest.raises(UnsupportedError, match=r"1,200 rows would take 208 solutions .* up to 100"):
            fit.predict(se=True)
        assert len(fit.predict(data().iloc[:60], se=True)) == 60
        levels = data()["u"].isin(["u1", "u2", "u3"]) & data()["i"].isin([f"i{i}" for i in range(20)])
        few = np.tile(np.flatnonzero(levels), 40)
        assert len(fit.predict(data().iloc[few], se=True)) == len(few)

    def test_means_and_populations_need_no_solutions(self, monkeypatch):
        monkeypatch.setattr(solutions, "MOST_SOLUTIONS", 1)
        exact, approximate = at_exact_theta("slopes")
        np.testing.assert_allclose(approximate.predict(), exact.predict(), rtol=1e-6)
        wanted, found = (fit.predict(re_form="~0", interval="prediction") for fit in (exact, approximate))
        np.testing.assert_allclose(found, wanted, rtol=1e-6)

    def test_saved_models_predict(self, tmp_path):
        fit = fitted("slopes", "iterative")
        fit.save(tmp_path / "model.slmm", include="variances")
        rows = data().iloc[:50]
        loaded = slm.load(tmp_path / "model.slmm")
        np.testing.assert_allclose(loaded.predict(rows, se=True), fit.predict(rows, se=True), rtol=1e-8)


class TestTestsOfFixedEffects:
    @pytest.mark.parametrize("name", ["intercepts", "slopes", "border"])
    @pytest.mark.parametrize("ddf", ["satterthwaite", "kenward-roger"])
    def test_degrees_of_freedom(self, name, ddf):
        exact, approximate = pair(name)
        wanted, found = exact.coef_table(ddf), approximate.coef_table(ddf)
        np.testing.assert_allclose(found["df"], wanted["df"], rtol=1e-3)
        np.testing.assert_allclose(found["std_error"], wanted["std_error"], rtol=1e-4)

    def test_variance_parameters(self):
        exact, approximate = pair("slopes")
        wanted, found = exact.varpar_table(), approximate.varpar_table()
        np.testing.assert_allclose(found["std_error"], wanted["std_error"], rtol=1e-3)

    def test_the_summary_says_how_long_tests_would_take(self, monkeypatch):
        monkeypatch.setattr("sparselmm.api.inference.QUICK_SECONDS", 0.0)
        assert "Satterthwaite tests would take about" in str(fitted("slopes", "iterative").summary())


class TestDiagnostics:
    @pytest.mark.parametrize("name", ["slopes", "border", "year"])
    def test_leverages(self, name):
        exact, approximate = at_exact_theta(name)
        np.testing.assert_allclose(approximate.leverage(), exact.leverage(), rtol=1e-6)
        np.testing.assert_allclose(approximate.cooks_distance(), exact.cooks_distance(), **CLOSE)
        np.testing.assert_allclose(approximate.dfbetas(), exact.dfbetas(), **CLOSE)

    def test_leverages_with_weights(self):
        exact, approximate = at_exact_theta("intercepts", weights="w")
        np.testing.assert_allclose(approximate.leverage(), exact.leverage(), rtol=1e-6)

    def test_influence_of_groups(self):
        exact, approximate = at_exact_theta("slopes")
        np.testing.assert_allclose(approximate.influence("i"), exact.influence("i"), **CLOSE)
        a, b = (fit.influence("i", theta=True)["one_step"] for fit in (exact, approximate))
        np.testing.assert_allclose(b, a, atol=5e-4)

    def test_influence_of_a_few_groups(self, monkeypatch):
        monkeypatch.setattr(solutions, "MOST_SOLUTIONS", 150)
        exact, approximate = at_exact_theta("slopes")
        with pytest.raises(UnsupportedError, match=r"leaving out 68 groups .* an array that names a few groups"):
            approximate.influence("i")
        few = data()["i"].where(data()["i"].isin(["i1", "i2"]), None)
        wanted = exact.influence("i").loc[["i1", "i2"]]
        np.testing.assert_allclose(approximate.influence(few.to_numpy(object)), wanted, **CLOSE)

    def test_what_needs_all_rows_is_refused_or_left_out(self, monkeypatch):
        monkeypatch.setattr(solutions, "MOST_SOLUTIONS", 100)
        fit = fitted("slopes", "iterative")
        for request in (fit.leverage, fit.cooks_distance, fit.dfbetas, lambda: fit.residuals("standardized")):
            with pytest.raises(UnsupportedError, match=r"a leverage is weight·se²/σ²"):
                request()
        table = fit.augment()
        assert ".hat" not in table
        assert "without .hat" in table.attrs["notes"][0]
        assert fit.diagnose().healthy

    def test_the_factor_is_refused(self):
        fit = fitted("year", "iterative")
        for name in ("L", "P", "RZX"):
            with pytest.raises(UnsupportedError, match="L, P and RZX belong to a Cholesky factor"):
                getattr(fit, name)
        assert fit.getME("RX").shape == (2, 2)
