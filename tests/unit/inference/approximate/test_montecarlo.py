"""Differences of approximate criteria, their errors, and the tests that they decide or do not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from approximate_designs import communities, data, fitted, pair
from scipy import stats

import sparselmm as slm
from sparselmm.data.design import Design
from sparselmm.exceptions import UndecidedError
from sparselmm.inference.compare.montecarlo import (
    difference_error,
    paired_error,
    probe_values,
    undecided_level,
    with_errors,
)
from sparselmm.inference.compare.one_term_less import products_without, without_columns
from sparselmm.inference.distributions import chi2_tail
from sparselmm.statistics.crossproducts import CrossProducts

ROUGH = {"standard_error": 0.5, "probes": 16, "max_probes": 16, "deflation": 2, "max_deflation": 2}


class TestPairs:
    def test_equal_numbers_are_paired(self):
        rng = np.random.default_rng(0)
        x, y = rng.standard_normal((2, 16))
        assert paired_error(x, y) == pytest.approx(np.std(x - y, ddof=1) / 4.0)
        assert paired_error(x, x) == 0.0

    def test_the_rest_of_the_longer_counts_alone(self):
        rng = np.random.default_rng(1)
        x, y = rng.standard_normal((2, 32))
        many = np.array([paired_error(*rng.standard_normal((2, 32))) for _ in range(500)])
        assert np.mean(many**2) == pytest.approx(2.0 / 32, rel=0.05)
        few = [paired_error(a[:16], a) for a in rng.standard_normal((2000, 32))]
        # mean of 16 less mean of all 32: variance 1/16 - 1/32
        assert np.mean(np.square(few)) == pytest.approx(1.0 / 32, rel=0.1)
        assert paired_error(x, y[:16]) == paired_error(y[:16], x)

    def test_an_exact_criterion_adds_nothing(self):
        x = np.array([1.0, 2.0, 4.0])
        assert paired_error(x, np.zeros(0)) == pytest.approx(np.std(x, ddof=1) / np.sqrt(3.0))


def test_levels_within_reach():
    for level in (0.05, 0.01, 0.001):
        edge = stats.chi2.isf(level, 2)
        assert undecided_level(edge + 0.01, 0.01, 2, chi2_tail) == level
        assert undecided_level(edge + 0.05, 0.01, 2, chi2_tail) is None
    assert undecided_level(0.0, 0.1, 1, chi2_tail) is None


class TestTables:
    def test_drop1_shares_all_random_numbers(self):
        exact, approximate = (fit.drop1() for fit in pair("intercepts"))
        assert "LRT se" not in exact
        error = approximate["LRT"] - exact["LRT"]
        assert approximate["LRT se"].iloc[1:].max() < 1e-4
        assert np.all(np.abs(error.iloc[1:]) < 5 * approximate["LRT se"].iloc[1:] + 1e-6)
        pd.testing.assert_frame_equal(
            approximate.drop(columns="LRT se"), exact, check_exact=False, atol=0.02, rtol=1e-3
        )

    def test_anova_of_separate_fits(self):
        small = [slm.lmer("y ~ x + (1 | u) + (1 | i)", data(), solver=s, reml=False) for s in ("schur", "iterative")]
        large = pair("intercepts", reml=False)
        exact, approximate = (slm.anova(a, b) for a, b in zip(small, large))
        assert list(approximate.columns)[5:7] == ["Chisq", "Chisq se"]
        assert approximate["Chisq se"].iloc[1] < 0.1 * large[1].convergence.monte_carlo.standard_error
        assert approximate["Chisq"].iloc[1] == pytest.approx(exact["Chisq"].iloc[1], abs=1e-3)
        mixed = slm.anova(small[0], large[1])
        values = large[1].convergence.monte_carlo.values
        assert mixed["Chisq se"].iloc[1] == pytest.approx(values.std(ddof=1) / np.sqrt(len(values)))

    def test_ranova_down_to_exact_models(self):
        exact, approximate = (fit.ranova() for fit in pair("slopes"))
        assert approximate["LRT se"].notna().tolist() == [False, True, True]
        np.testing.assert_allclose(approximate["LRT"], exact["LRT"], atol=0.02)

    def test_information_weights(self):
        fits = [slm.lmer("y ~ x + (1 | u) + (1 | i)", data(), solver="iterative", reml=False)]
        fits.append(fitted("intercepts", "iterative", reml=False))
        table = slm.information_weights(*fits)
        best = table["delta_AIC"] == 0
        assert (table["delta_AIC se"] > 0).tolist() == (~best).tolist()
        assert not any(" se" in c for c in slm.information_weights(*(fitted(n, "schur") for n in ("slopes", "three"))))

    def test_a_fit_at_given_theta_has_an_error_too(self):
        fit = fitted("slopes", "iterative")
        other = fit.at(fit.theta * 1.2)
        assert other.convergence is None
        assert len(probe_values(other.result)) == fit.convergence.monte_carlo.probes
        assert difference_error(other.result, fit.result) > 0


class TestRefusal:
    def table(self, chisq):
        rows = {"npar": [3, 4, 5], "Chisq": [np.nan, chisq, 30.0], "Df": [np.nan, 1.0, 1.0]}
        frame = pd.DataFrame(rows, index=["a", "b", "c"])
        return frame.assign(p=[np.nan, *(chi2_tail(x, 1) for x in rows["Chisq"][1:])])

    def test_open_tests_are_refused_and_the_others_kept(self):
        with pytest.raises(UndecidedError, match=r"b: Chisq 3.85 with standard error 0.02, p near 0.05") as caught:
            with_errors(self.table(3.85), [None, 0.02, 0.02], "Chisq", "Df", {"p": chi2_tail})
        kept = caught.value.table
        assert kept["p"].isna().tolist() == [True, True, False]
        assert "standard_error=" in str(caught.value)

    def test_decided_tests_pass(self):
        table = with_errors(self.table(5.0), [None, 0.02, 0.02], "Chisq", "Df", {"p": chi2_tail})
        assert list(table.columns) == ["npar", "Chisq", "Chisq se", "Df", "p"]
        exact = self.table(3.85)
        assert with_errors(exact, [None, None, None], "Chisq", "Df", {"p": chi2_tail}) is exact

    def test_of_real_fits(self):
        """The criteria of two seeds have little in common; that much error leaves a test open."""
        frame = communities()
        base = slm.lmer("y ~ x + (1 | u) + (1 | i)", frame, reml=False, solver="schur")
        z, low, high = np.random.default_rng(8).standard_normal(len(frame)), 0.0, 0.3
        for _ in range(9):  # a column whose test lies near a level
            middle = (low + high) / 2.0
            tried = frame.assign(z=z + middle * base.resid)
            large = slm.lmer("y ~ x + z + (1 | u) + (1 | i)", tried, reml=False, solver="schur")
            low, high = (low, middle) if base.criterion - large.criterion > 3.84 else (middle, high)
        controls = [slm.IterativeControl(**ROUGH, seed=s) for s in (1, 2)]
        formulas = "y ~ x + (1 | u) + (1 | i)", "y ~ x + z + (1 | u) + (1 | i)"
        models = [
            slm.LinearMixedModel.from_formula(f, tried, solver="iterative", control=c)
            for f, c in zip(formulas, controls)
        ]
        fits = [model.at(fit.theta, reml=False) for model, fit in zip(models, (base, large))]
        with pytest.raises(UndecidedError, match="near 0"):
            slm.anova(*fits)


@pytest.mark.parametrize("other", [0, 1000], ids=["same seed", "other seed"])
def test_the_error_of_a_difference_is_honest(other):
    """Over seeds, (difference - exact difference)/se has a spread of about 1 (t with 15 df: 1.07)."""
    frame = communities()
    formulas = "y ~ x + (1 | u) + (1 | i)", "y ~ x + v + (1 | u) + (1 | i)"
    exact = [slm.lmer(f, frame, reml=False, solver="schur") for f in formulas]
    ratios = []
    for seed in range(40):
        controls = [slm.IterativeControl(**ROUGH, seed=seed), slm.IterativeControl(**ROUGH, seed=seed + other)]
        a, b = (
            slm.LinearMixedModel.from_formula(f, frame, solver="iterative", control=c).at(e.theta, reml=False)
            for f, c, e in zip(formulas, controls, exact)
        )
        error = (a.criterion - b.criterion) - (exact[0].criterion - exact[1].criterion)
        ratios.append(error / difference_error(a.result, b.result))
    assert 0.7 < np.std(ratios) < 1.5
    assert abs(np.mean(ratios)) < 0.7


@pytest.mark.parametrize("weights", [None, "w"])
def test_cross_products_without_columns_need_no_rows(weights):
    fit = slm.lmer("y ~ x + year + v + (1 | u) + (1 | i)", data(), solver="iterative", weights=weights)
    xp = fit.crossproducts
    for columns in ([1], [2, 3]):
        found = products_without(xp, columns)
        rows = without_columns(Design(fit.result.layout, fit.result.rows), columns).rows
        wanted = CrossProducts.from_rows(rows, found.basis, found.centres)
        size = np.abs(wanted.XytWXy).max()
        np.testing.assert_allclose(found.XytWXy, wanted.XytWXy, atol=1e-9 * size)
        np.testing.assert_allclose(found.ZtWXy, wanted.ZtWXy, atol=1e-9 * size)
        assert found.basis.position == 0
    assert products_without(xp, [0]) is None
