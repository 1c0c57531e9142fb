"""Marginal means, variance tables and tidy frames."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import sparselmm as slm
from sparselmm.exceptions import DataError, ParameterError
from sparselmm.inference.means.multiplicity import adjusted_p


@pytest.fixture(scope="module")
def cake():
    return slm.lmer("angle ~ recipe * temperature + (1 | recipe:replicate)", slm.load_dataset("cake"))


@pytest.fixture(scope="module")
def sleep():
    return slm.lmer("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))


def test_means_of_balanced_data_are_cell_means(cake):
    found = cake.emmeans(["recipe", "temperature"]).means
    cells = slm.load_dataset("cake").groupby(["recipe", "temperature"], observed=True)["angle"].mean()
    for row in found.itertuples():
        assert row.emmean == pytest.approx(cells[row.recipe, row.temperature])


def test_means_by_groups_are_those_of_the_joint_grid(cake):
    joint = cake.emmeans(["recipe", "temperature"]).means
    by = cake.emmeans("recipe", by="temperature", contrasts="consec", adjust="none")
    np.testing.assert_allclose(by.means["emmean"], joint["emmean"])
    assert len(by.contrasts) == 2 * 6
    first = by.contrasts.iloc[0]
    assert first["estimate"] == pytest.approx(joint["emmean"].iloc[1] - joint["emmean"].iloc[0])


def test_contrasts_of_ones_own(cake):
    found = cake.emmeans("recipe", contrasts={"A against the rest": [1, -0.5, -0.5]}, adjust="none").contrasts
    means = cake.emmeans("recipe").means["emmean"]
    assert found["estimate"].iloc[0] == pytest.approx(means[0] - (means[1] + means[2]) / 2)
    effects = cake.emmeans("recipe", contrasts="eff").contrasts
    assert effects["estimate"].sum() == pytest.approx(0, abs=1e-9)


def test_contrasts_by_the_labels_of_the_means(cake):
    by_place = cake.emmeans("recipe", contrasts={"C - A": [-1, 0, 1]})
    by_label = cake.emmeans("recipe", contrasts={"C - A": {"C": 1, "A": -1}})
    assert by_label.contrasts.equals(by_place.contrasts)


@pytest.mark.parametrize(
    ("specs", "options", "text"),
    [
        ("recipe", {"contrasts": {"d": {"A": 1, "Z": -1}}}, r"'d' names Z; the means are A, B, C"),
        ("recipe", {"contrasts": {"d": ["A", "B", "C"]}}, "must hold a number for each mean"),
        ("recipe", {"contrasts": [1, -1, 0]}, "unknown contrasts"),
        ("~ recipe", {}, r"write fit\.emmeans\('recipe'\)"),
        ("pairwise ~ recipe", {}, r"write fit\.emmeans\('recipe', contrasts='pairwise'\)"),
        (
            "pairwise ~ recipe * temperature | replicate",
            {},
            r"\(\['recipe', 'temperature'\], by='replicate', contrasts='pairwise'\)",
        ),
    ],
)
def test_requests_for_means_that_cannot_be_read(cake, specs, options, text):
    with pytest.raises(ParameterError, match=text):
        cake.emmeans(specs, **options)


def test_means_of_a_variable_in_backticks():
    data = slm.load_dataset("machines").rename(columns={"Machine": "Machine (2)"})
    fit = slm.lmer("score ~ `Machine (2)` + (1 | Worker)", data)
    assert fit.emmeans("`Machine (2)`").means.equals(fit.emmeans("Machine (2)").means)
    assert list(fit.emmeans(["`Machine (2)`"]).means["Machine (2)"]) == ["A", "B", "C"]


def test_covariates_stand_at_their_mean(sleep):
    data = slm.load_dataset("sleepstudy")
    at_mean = sleep.emmeans("Days").means.iloc[0]
    assert at_mean["emmean"] == pytest.approx(sleep.params.iloc[0] + sleep.params.iloc[1] * data["Days"].mean())
    chosen = sleep.emmeans("Days", at={"Days": [0, 10]}, contrasts="pairwise", adjust="none")
    assert chosen.contrasts["estimate"].iloc[0] == pytest.approx(-10 * sleep.params.iloc[1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: f.emmeans("nothing"), "'nothing' is not a variable of the fixed part"),
        (lambda f: f.emmeans("recipe", by="recipe"), "different variables"),
        (lambda f: f.emmeans("recipe", at={"recipe": ["Z"]}), "levels are A, B, C"),
        (lambda f: f.emmeans("recipe", at={"oven": 1}), "at= names oven"),
        (lambda f: f.emmeans("recipe", contrasts="all"), "unknown contrasts 'all'"),
        (lambda f: f.emmeans("recipe", contrasts={"a": [1, -1]}), "has 2 coefficients; there are 3 means"),
        (lambda f: f.emmeans("recipe", contrasts="pairwise", adjust="lsd"), "unknown adjust 'lsd'"),
        (lambda f: f.anova("IV"), "type must be"),
        (lambda f: f.cov_varpar("log"), "scale must be one of"),
        (lambda f: f.tidy("random"), "effects must be some of"),
    ],
)
def test_bad_requests(cake, call, message):
    with pytest.raises(ParameterError, match=message):
        call(cake)


def test_means_need_the_data(cake):
    copy = pickle.loads(pickle.dumps(cake))
    with pytest.raises(DataError, match="not kept"):
        copy.emmeans("recipe")
    assert copy.anova("II").shape == (3, 6)


def test_several_kinds_of_columns():
    rng = np.random.default_rng(5)
    n = 90
    g = np.repeat(np.arange(9), 10).astype(str)
    d = pd.DataFrame({"g": g, "t": rng.random(n) > 0.4, "k": rng.integers(1, 4, n), "y": rng.standard_normal(n)})
    d["y"] += rng.standard_normal(9)[d["g"].astype(int)]
    d["c"] = pd.Categorical(rng.choice([3, 1, 2], n), categories=[3, 1, 2], ordered=True)
    fit = slm.lmer("y ~ t + factor(k) + c + (1 | g)", d)
    found = fit.emmeans(["t", "k", "c"])
    assert len(found.means) == 2 * 3 * 3
    assert fit.emmeans("c").means["c"].tolist() == [3, 1, 2]
    assert list(fit.emmeans("t", contrasts="pairwise").contrasts["contrast"]) == ["False - True"]


@pytest.mark.parametrize("adjust", ["bonferroni", "holm", "sidak", "fdr", "none"])
def test_adjusted_p_values(adjust):
    t, df = np.array([3.0, -2.2, 0.4, 2.9]), np.full(4, 12.0)
    p = 2 * stats.t.sf(np.abs(t), df)
    expected = {
        "bonferroni": np.minimum(1, 4 * p),
        "holm": np.array([4 * p[0], 2 * p[1], p[2], max(4 * p[0], 3 * p[3])]),
        "sidak": 1 - (1 - p) ** 4,
        "fdr": stats.false_discovery_control(p),
        "none": p,
    }[adjust]
    np.testing.assert_allclose(adjusted_p(t, df, adjust, 4), expected)


def test_tukey_of_two_means_is_the_t_test():
    t, df = np.array([2.1]), np.array([14.0])
    np.testing.assert_allclose(adjusted_p(t, df, "tukey", 2), 2 * stats.t.sf(2.1, 14), rtol=1e-6)


def test_wald_intervals_of_variances(sleep):
    table = sleep.varpar_table()
    se, sd = table["std_error"], table["estimate"]
    row = "sd(Days|Subject)"
    assert table.loc[row, "conf_high"] == pytest.approx(sd[row] * np.exp(1.959964 * se[row] / sd[row]), rel=1e-6)
    corr = table.loc["cor(Intercept,Days|Subject)"]
    assert -1 < corr["conf_low"] < corr["estimate"] < corr["conf_high"] < 1


def test_scales_of_the_variance_parameters_agree_with_each_other(sleep):
    sdcor, varcov = sleep.cov_varpar("sdcor"), sleep.cov_varpar("varcov")
    sd = sleep.varpar_table().loc["sd(Days|Subject)", "estimate"]
    ratio = varcov.loc["var(Days|Subject)", "var(Days|Subject)"] / sdcor.loc["sd(Days|Subject)", "sd(Days|Subject)"]
    assert ratio == pytest.approx(4 * sd**2)
    assert varcov.loc["sigma^2", "sigma^2"] == pytest.approx(4 * sleep.scale * sdcor.loc["sigma", "sigma"])


def test_shares_of_each_term():
    fit = slm.lmer("diameter ~ 1 + (1 | plate) + (1 | sample)", slm.load_dataset("penicillin"))
    assert fit.icc(by_term=True).sum() == pytest.approx(fit.icc()["adjusted"])


def test_sparse_terms_have_the_same_shares():
    data = slm.load_dataset("sleepstudy")
    fit = slm.lmer("Reaction ~ Days + (Days | Subject)", data)
    term = fit.result.rows.terms[0]
    sparse = slm.SparseTerm("Subject", "Subject", "us", term.columns, term.levels, term.to_sparse())
    other = slm.LinearMixedModel.from_arrays(data["Reaction"], fit.X, [sparse]).at(fit.theta)
    np.testing.assert_allclose(other.r2(), fit.r2())


def test_tidy_has_the_columns_of_broom(sleep):
    found = sleep.tidy()
    assert list(found.columns) == ["effect", "group", "term", "estimate", "std.error", "statistic", "df", "p.value"]
    assert list(found["term"])[-2:] == ["Intercept", "Days"]
    assert "sd__Observation" in set(found["term"])
    assert "conf.low" in sleep.tidy(conf_int=True)
    assert len(sleep.tidy("ran_vals")) == 36
    assert "df" not in sleep.tidy("fixed", ddf=None)


def test_glance_and_augment(sleep):
    row = sleep.glance().iloc[0]
    assert row["REMLcrit"] == sleep.criterion
    assert row["df.residual"] == 174
    rows = sleep.augment()
    np.testing.assert_allclose(rows[".fitted"] + rows[".resid"], rows["Reaction"])
    np.testing.assert_allclose(rows[".hat"], sleep.leverage())
    np.testing.assert_allclose(rows[".fixed"], sleep.X @ sleep.params)


def test_augment_pads_as_fitted_values_do():
    data = slm.load_dataset("sleepstudy").set_index(pd.RangeIndex(100, 280))
    data.loc[105, "Days"] = np.nan
    fit = slm.lmer("Reaction ~ Days + (1 | Subject)", data, na_action="exclude")
    rows = fit.augment()
    assert rows.index.equals(data.index)
    assert rows["Reaction"].equals(data["Reaction"])
    assert rows.loc[105, [c for c in rows if c.startswith(".")]].isna().all()
    np.testing.assert_array_equal(rows[".fitted"], fit.fittedvalues)
    omitted = fit.update(na_action="omit").augment()
    pd.testing.assert_frame_equal(rows.drop(105), omitted, rtol=1e-9)


def test_summary_follows_the_method(sleep):
    assert "Satterthwaite" in str(sleep.summary())
    assert "Kenward-Roger" in str(sleep.summary(ddf="kenward-roger"))
    normal = str(sleep.summary(ddf="normal"))
    assert "z tests" in normal and "z value Pr(>|z|)" in normal and "Inf" not in normal
    assert "Pr(>|t|)" not in str(sleep.summary(ddf=None))
    assert sleep.pvalues["Days"] == sleep.coef_table().loc["Days", "p_value"]


def test_empty_cells_are_mentioned():
    rng = np.random.default_rng(8)
    d = pd.DataFrame({"g": np.arange(120) % 12, "a": np.arange(120) % 3, "b": rng.integers(0, 2, 120)})
    d = d.assign(a=d["a"].map(str), b=np.where(d["a"] == 2, 0, d["b"]).astype(str), y=rng.standard_normal(120))
    d["y"] += rng.standard_normal(12)[d["g"]]
    with pytest.warns(slm.exceptions.RankDeficiencyWarning):
        fit = slm.lmer("y ~ a * b + (1 | g)", d)
    table = fit.anova("III")
    assert table.loc["a:b", "NumDF"] == 1
    assert any("empty cells" in note for note in table.attrs["notes"])
    cells = fit.emmeans(["a", "b"]).means
    assert cells.loc[(cells["a"] == "2") & (cells["b"] == "1"), "emmean"].isna().all()
    assert cells["emmean"].notna().sum() == 5
