"""Comparing fits: what may be compared, and the tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import sparselmm as slm
from sparselmm.exceptions import ParameterError, SparseLMMWarning
from sparselmm.inference.compare.lrt import boundary_p, fixed_nested


@pytest.fixture(scope="module")
def data():
    return slm.load_dataset("sleepstudy")


@pytest.fixture(scope="module")
def fits(data):
    formulas = ["1 + (1 | Subject)", "Days + (1 | Subject)", "Days + (Days || Subject)", "Days + (Days | Subject)"]
    return [slm.lmer(f"Reaction ~ {f}", data, reml=False) for f in formulas]


def test_a_chain_of_nested_models(fits):
    table = slm.anova(*fits[::-1], names=["d", "c", "b", "a"])
    assert list(table.index) == ["a", "b", "c", "d"]
    assert list(table["npar"]) == [3, 4, 5, 6]
    expected = np.diff([-f.criterion for f in fits])
    np.testing.assert_allclose(table["Chisq"].iloc[1:], expected)
    np.testing.assert_allclose(table["Pr(>Chisq)"].iloc[1:], stats.chi2.sf(expected, 1))


def test_reml_fits_are_refitted_and_this_is_said(data, fits):
    reml = [slm.lmer(f.formula, data) for f in fits[:2]]
    with pytest.warns(SparseLMMWarning, match="refitted by maximum likelihood instead of REML: m1, m2"):
        table = slm.anova(*reml)
    assert table["Chisq"].iloc[1] == pytest.approx(slm.anova(*fits[:2])["Chisq"].iloc[1])
    assert table.attrs["notes"]
    with pytest.raises(ParameterError, match="fixed effects differ"):
        slm.anova(*reml, refit=False)


def test_reml_criteria_may_be_compared_for_random_parts(data):
    small = slm.lmer("Reaction ~ Days + (1 | Subject)", data)
    large = slm.lmer("Reaction ~ Days + (Days | Subject)", data)
    table = slm.anova(small, large, refit=False)
    assert table["Chisq"].iloc[1] == pytest.approx(large.ranova()["LRT"].iloc[1])
    with pytest.raises(ParameterError, match="some fits are by REML"):
        slm.anova(small, slm.lmer("Reaction ~ Days + (Days | Subject)", data, reml=False), refit=False)


def test_what_cannot_be_compared(data, fits):
    base = fits[1]
    cases = {
        "170 rows|180 and 170": slm.lmer("Reaction ~ Days + (Days | Subject)", data.iloc[10:], reml=False),
        "responses differ": slm.lmer("log(Reaction) ~ Days + (Days | Subject)", data, reml=False),
        "weights differ": slm.lmer("Reaction ~ Days + (Days | Subject)", data.assign(w=2.0), weights="w", reml=False),
        "fixed effects of m1 are not": slm.lmer("Reaction ~ 1 + I(Days == 3) + (Days | Subject)", data, reml=False),
        "random effects of m1 are not": slm.lmer(
            "Reaction ~ Days + I(Days**2) + (0 + Days | Subject)", data, reml=False
        ),
        "same number of parameters": slm.lmer("Reaction ~ Days + (0 + Days | Subject)", data, reml=False),
    }
    for message, other in cases.items():
        with pytest.raises(ParameterError, match=message):
            slm.anova(base, other)
    other_rows = slm.lmer("Reaction ~ Days + (Days | Subject)", data.iloc[1:], reml=False)
    with pytest.raises(ParameterError, match="different rows"):
        slm.anova(slm.lmer("Reaction ~ Days + (1 | Subject)", data.iloc[:-1], reml=False), other_rows)
    with pytest.raises(ParameterError, match="at least two"):
        slm.anova(base)
    with pytest.raises(ParameterError, match="only fits"):
        slm.anova(base, "y ~ x")
    with pytest.raises(ParameterError, match=r"one by one, .* slm\.anova\(\*fits\)"):
        slm.anova([base, base])
    door = slm.mixedlm("Reaction ~ Days", data, groups="Subject").fit(reml=False)
    with pytest.raises(ParameterError, match=r"MixedLMResults; pass the fit inside, result\.lmm"):
        slm.anova(base, door)


def test_rows_are_recognised(fits):
    table = slm.anova(fits[3], fits[1])
    assert list(table.index) == ["m2", "m1"]
    assert table.attrs["formulas"] == {"m2": fits[1].formula, "m1": fits[3].formula}
    assert str(table).splitlines()[:2] == [f"m2: {fits[1].formula}", f"m1: {fits[3].formula}"]
    assert table._repr_html_().startswith(f"<p>m2: {fits[1].formula}<br>m1: {fits[3].formula}</p><div>")
    assert str(table.iloc[1:].round(2)).startswith(f"m1: {fits[3].formula}\n\n")
    assert str(table.T) == str(pd.DataFrame(table).T)
    with pd.option_context("display.width", 60):
        assert "Pr(>Chisq)" in str(table)
        assert "logLik" in str(table)
    with pd.option_context("display.max_rows", 1):
        assert "..." in str(table)
    assert str(slm.information_weights(*fits[:2], names=["a", "b"])).startswith(f"a: {fits[0].formula}\nb: ")


def test_information_criteria_need_no_nesting(data):
    one = slm.lmer("Reaction ~ Days + (1 | Subject)", data, reml=False)
    other = slm.lmer("Reaction ~ Days + (0 + Days | Subject)", data, reml=False)
    table = slm.information_weights(one, other, names=["level", "slope"])
    assert table["weight_AIC"].sum() == pytest.approx(1)
    assert table["delta_BIC"].min() == 0
    assert table.loc["slope", "AIC"] == pytest.approx(other.aic)


def test_span_of_columns():
    rng = np.random.default_rng(1)
    X = rng.standard_normal((30, 3)) + 1e3
    assert fixed_nested(X @ np.array([[1.0], [2], [3]]), X)
    assert not fixed_nested(rng.standard_normal((30, 1)), X)
    assert fixed_nested(np.zeros((30, 0)), X)


def test_nested_grouping_factors():
    data = slm.load_dataset("pastes")
    small = slm.lmer("strength ~ 1 + (1 | batch:cask)", data, reml=False)
    large = slm.lmer("strength ~ 1 + (1 | batch/cask)", data, reml=False)
    assert slm.anova(small, large)["Df"].iloc[1] == 1


def test_boundary_p_is_the_mixture():
    assert boundary_p(0.0, 1) == 1.0
    assert boundary_p(3.0, 1) == pytest.approx(0.5 * stats.chi2.sf(3, 1))
    assert boundary_p(3.0, 2) == pytest.approx(0.5 * (stats.chi2.sf(3, 1) + stats.chi2.sf(3, 2)))


def test_ranova_without_any_other_term():
    data = slm.load_dataset("dyestuff")
    table = slm.lmer("Yield ~ 1 + (1 | Batch)", data).ranova()
    y = data["Yield"].to_numpy()
    n, rss = len(y), np.sum((y - y.mean()) ** 2)
    criterion = np.log(n) + (n - 1) * (1 + np.log(2 * np.pi * rss / (n - 1)))
    assert table["logLik"].iloc[1] == pytest.approx(-criterion / 2)


def test_ranova_names_a_term_that_is_dropped_as_a_whole(data):
    lone = slm.lmer("Reaction ~ Days + (0 + Days | Subject)", data).ranova()
    assert list(lone.index) == ["<none>", "(0 + Days | Subject)"]
    beside = slm.lmer("Reaction ~ Days + (Days || Subject)", data).ranova()
    assert list(beside.index) == ["<none>", "(1 | Subject)", "Days in (0 + Days | Subject)"]


def test_ranova_of_arrays_drops_whole_terms():
    rng = np.random.default_rng(2)
    g = np.repeat(np.arange(8), 10)
    Z = np.column_stack([np.ones(80), rng.standard_normal(80)])
    y = rng.standard_normal(8)[g] + rng.standard_normal(8)[g] * Z[:, 1] + rng.standard_normal(80)
    fit = slm.LinearMixedModel.from_arrays(y, np.ones((80, 1)), [(g, Z)]).fit()
    table = fit.ranova()
    assert table["Df"].iloc[1] == 3
    for call in (fit.anova, fit.drop1, lambda: fit.emmeans("x")):
        with pytest.raises(ParameterError, match="made from arrays"):
            call()


def test_drop1_keeps_the_rows_of_the_full_model(data):
    gaps = data.assign(z=np.where(np.arange(180) % 9 == 0, np.nan, np.arange(180) % 5))
    fit = slm.lmer("Reaction ~ Days + z + (1 | Subject)", gaps)
    table = fit.drop1()
    kept = gaps.dropna()
    small = slm.lmer("Reaction ~ Days + (1 | Subject)", kept, reml=False)
    assert table.loc["z", "AIC"] == pytest.approx(small.aic, abs=1e-6)


def test_drop1_without_a_constant():
    data = slm.load_dataset("machines")
    data = data.assign(g=pd.Categorical(np.where(np.arange(len(data)) % 3 == 0, "p", "q")))
    fit = slm.lmer("score ~ 0 + Machine + g + (1 | Worker)", data)
    small = slm.lmer("score ~ 0 + g + (1 | Worker)", data, reml=False)
    assert fit.drop1().loc["Machine", "AIC"] == pytest.approx(small.aic, abs=1e-6)


def test_drop1_refuses_other_tests(fits):
    with pytest.raises(ParameterError, match="'chisq' or 'F'"):
        fits[1].drop1("Rao")
