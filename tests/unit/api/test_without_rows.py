"""Fits whose rows were dropped: what works as before, and what says that it needs the rows."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm.exceptions import DataError, ParameterError, RowsNeededError

N = 240


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    d = pd.DataFrame(
        {
            "g": rng.integers(0, 15, N).astype(str),
            "h": rng.integers(0, 6, N).astype(str),
            "f": rng.choice(list("abc"), N),
            "x": rng.standard_normal(N) + 3.0,
            "w": rng.uniform(0.5, 2.0, N),
            "z": rng.standard_normal(N),
        }
    )
    d["y"] = 2.0 + 0.5 * d["x"] + (d["f"] == "b") + rng.standard_normal(15)[d["g"].astype(int)]
    d["y"] += rng.standard_normal(6)[d["h"].astype(int)] + rng.standard_normal(N)
    d.loc[3, "y"] = np.nan
    return d


FORMULA = "y ~ x * f + offset(z) + (1 + x | g) + (1 | h)"


@pytest.fixture(scope="module")
def fit(data):
    return slm.lmer(FORMULA, data, weights="w")


@pytest.fixture(scope="module")
def bare(fit):
    return pickle.loads(pickle.dumps(fit.without_rows()))


NEW = {"x": [3.0, 4.0], "f": ["a", "c"], "g": ["1", "2"], "h": ["0", "1"], "z": [0.0, 1.0], "w": [1.0, 2.0]}

AS_BEFORE = {
    "params": lambda m: m.params,
    "bse": lambda m: m.bse,
    "cov_params": lambda m: m.cov_params(),
    "satterthwaite": lambda m: m.coef_table(),
    "kenward_roger": lambda m: m.coef_table("kenward-roger"),
    "wald": lambda m: m.conf_int(),
    "t_test": lambda m: m.t_test("x = 0"),
    "f_test": lambda m: m.f_test("x = 0, x:f[T.b] = 0"),
    "wald_test": lambda m: m.wald_test("x = 0"),
    "anova_1": lambda m: m.anova("I"),
    "anova_2": lambda m: m.anova("II"),
    "anova_3": lambda m: m.anova("III"),
    "drop1_f": lambda m: m.drop1("F"),
    "emmeans": lambda m: m.emmeans("f", contrasts="pairwise").contrasts,
    "emmeans_at": lambda m: m.emmeans("f", at={"x": [1, 2]}).means,
    "varcorr": lambda m: m.varcorr.to_frame(),
    "varpar": lambda m: m.varpar_table(),
    "cov_varpar": lambda m: m.cov_varpar(),
    "icc": lambda m: m.icc(),
    "icc_by_term": lambda m: m.icc(by_term=True),
    "r2": lambda m: m.r2(),
    "pca": lambda m: m.random_effects_pca()["g"],
    "coef": lambda m: m.coef()["g"],
    "ranef": lambda m: m.ranef()["h"],
    "ranef_table": lambda m: m.ranef_table(),
    "condvar": lambda m: pd.DataFrame(m.ranef(condvar=True)["g"].cov[:, 0]),
    "predict": lambda m: m.predict(NEW),
    "predict_se": lambda m: m.predict(NEW, interval="prediction"),
    "simulate": lambda m: m.simulate(2, seed=1, newdata=NEW),
    "profile": lambda m: m.conf_int(method="profile", which="theta_"),
    "boot": lambda m: m.bootstrap(20, seed=2, progress=False).to_frame(),
    "tidy": lambda m: m.tidy(["fixed", "ran_pars", "ran_vals"]),
    "glance": lambda m: m.glance(),
    "evaluate": lambda m: pd.Series([m.evaluate(m.theta * 1.1), m.deviance, m.aic, m.bic]),
    "at": lambda m: m.at(m.theta * 1.1).params,
    "refit_ml": lambda m: m.refit(reml=False).params,
    "components": lambda m: pd.Series({k: m.getME(k) for k in ("n", "p", "q", "sigma")}),
    "cnms": lambda m: pd.Series(m.getME("cnms")),
}


@pytest.mark.parametrize("question", AS_BEFORE)
def test_answers_as_before(fit, bare, question):
    before, after = (AS_BEFORE[question](m) for m in (fit, bare))
    same = pd.testing.assert_frame_equal if isinstance(before, pd.DataFrame) else pd.testing.assert_series_equal
    same(after, before, rtol=1e-9, atol=1e-12)


NEEDS_ROWS = {
    "resid": lambda m: m.resid,
    "resid_pearson": lambda m: m.resid_pearson,
    "fittedvalues": lambda m: m.fittedvalues,
    "residuals": lambda m: m.residuals("marginal_standardized"),
    "scaled": lambda m: m.residuals("scaled"),
    "leverage": lambda m: m.leverage(),
    "cooks_distance": lambda m: m.cooks_distance(),
    "dfbetas": lambda m: m.dfbetas(),
    "influence": lambda m: m.influence(),
    "influence_of_levels": lambda m: m.influence("g"),
    "augment": lambda m: m.augment(),
    "refit": lambda m: m.refit(np.arange(N)),
    "fit_many": lambda m: slm.fit_many(m, np.ones((N, 2))),
    "update": lambda m: m.update(". ~ . - x:f"),
    "predict": lambda m: m.predict(),
    "simulate": lambda m: m.simulate(),
    "drop1": lambda m: m.drop1(),
    "ranova": lambda m: m.ranova(),
    "diagnose": lambda m: m.diagnose(),
    "X": lambda m: m.X,
    "Z": lambda m: m.Z,
    "y": lambda m: m.getME("y"),
    "flist": lambda m: m.getME("flist"),
    "weights": lambda m: m.getME("weights"),
    "qq": lambda m: m.plot.qq(),
    "resid_fitted": lambda m: m.plot.resid_fitted(by="g"),
    "plot_leverage": lambda m: m.plot.leverage(),
    "shrinkage": lambda m: m.plot.shrinkage("g"),
}


@pytest.mark.parametrize("question", NEEDS_ROWS)
def test_questions_about_rows_say_what_to_pass(bare, question):
    with pytest.raises(RowsNeededError, match=r"which were dropped: pass (newdata|data=|the data to fit\.with_rows)"):
        NEEDS_ROWS[question](bare)


def test_nothing_left_grows_with_the_rows(data):
    sizes = []
    for copies in (1, 40):
        long = pd.concat([data] * copies, ignore_index=True)
        fit = slm.lmer("y ~ x + f + (1 | g) + (1 | h)", long, weights=np.tile(data["w"], copies))
        sizes.append(len(pickle.dumps(fit.without_rows())))
    assert sizes[1] < sizes[0] + 5_000  # the path of the optimizer may be longer; a vector of the rows takes 77,000


def test_the_summary_leaves_the_residuals_out(fit, bare):
    before, after = str(fit.summary()), str(bare.summary())
    assert "Scaled residuals" in before
    lines = before.splitlines()
    at = lines.index("Scaled residuals:")
    assert [line for line in after.splitlines() if line] == [line for line in lines[:at] + lines[at + 3 :] if line]


def test_a_saved_model_predicts_alike(fit, bare, tmp_path):
    bare.save(tmp_path / "bare.slmm", include="variances")
    loaded = slm.load(tmp_path / "bare.slmm")
    pd.testing.assert_frame_equal(loaded.predict(NEW, se=True), fit.predict(NEW, se=True), rtol=1e-9)
    assert len(loaded.resid_pearson) == 0
    assert "Scaled residuals" not in str(loaded.summary())


def test_other_data_need_no_rows_of_their_own(fit, bare, data):
    pd.testing.assert_series_equal(bare.update(". ~ . - x:f", data=data).params, fit.update(". ~ . - x:f").params)


def test_rows_can_be_given_back(fit, bare, data):
    again = bare.with_rows(data)
    pd.testing.assert_series_equal(again.resid, fit.resid)
    pd.testing.assert_frame_equal(again.influence("g"), fit.influence("g"))
    assert again.kept is None
    with pytest.raises(DataError, match=r"not the data of the fit: the response differs"):
        bare.with_rows(data.assign(y=data["y"] + 1.0))
    with pytest.raises(DataError, match=r"other rows are used"):
        bare.with_rows(data.drop(index=5))
    with pytest.raises(DataError, match=r"the weights differ"):
        bare.with_rows(data.assign(w=1.0))


def test_arrays_go_with_the_rows(data):
    fit = slm.lmer("y ~ x + (1 | g)", data, weights=data["w"].to_numpy())
    bare = fit.without_rows()
    assert bare.weights_name == "(array)"
    with pytest.raises(RowsNeededError, match="pass weights="):
        bare.with_rows(data)
    with pytest.raises(RowsNeededError, match="pass weights="):
        bare.update(". ~ . + f", data=data)
    pd.testing.assert_series_equal(bare.with_rows(data, weights=data["w"].to_numpy()).resid, fit.resid)


def test_models_made_from_arrays(data):
    rng = np.random.default_rng(1)
    y, X, g = rng.standard_normal(60), np.ones((60, 1)), np.repeat(np.arange(6), 10)
    fit = slm.LinearMixedModel.from_arrays(y + g, X, [(g, None)]).fit()
    bare = fit.without_rows()
    pd.testing.assert_frame_equal(bare.coef_table(), fit.coef_table())
    pd.testing.assert_series_equal(bare.r2(), fit.r2())
    with pytest.raises(ParameterError, match="made from arrays"):
        bare.with_rows(data)
    with pytest.raises(ParameterError, match="made from arrays"):
        bare.emmeans("x")


class TestComparisons:
    SMALL = "y ~ x + f + offset(z) + (1 | g) + (1 | h)"

    def table(self, *fits):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return slm.anova(*fits)

    @pytest.mark.parametrize("which", [(True, True), (True, False), (False, True)])
    def test_likelihood_ratios(self, fit, data, which):
        small = slm.lmer(self.SMALL, data, weights="w")
        wanted = self.table(small, fit)
        pair = [m.without_rows() if drop else m for m, drop in zip((small, fit), which)]
        pd.testing.assert_frame_equal(self.table(*pair), wanted, rtol=1e-9)
        assert np.isfinite(slm.information_weights(*[m.refit(reml=False) for m in pair])["AIC"]).all()

    def test_other_data_are_refused(self, bare, data):
        for change, said in (
            ({"y": data["y"] + 1}, "their responses differ"),
            ({"w": data["w"] + 1}, "their weights differ"),
            ({"z": data["z"] + 1}, "their offsets differ"),
            ({"x": data["x"].where(data.index != 7)}, r"239 rows|238 and 239|239 and 238"),
        ):
            other = slm.lmer(self.SMALL, data.assign(**change), weights="w").without_rows()
            with pytest.raises(ParameterError, match=said):
                self.table(other, bare)

    def test_columns_of_one_name_must_be_the_same(self, bare, data):
        other = slm.lmer(self.SMALL, data.assign(x=data["x"] ** 2), weights="w").without_rows()
        with pytest.raises(RowsNeededError, match="names of columns"):
            self.table(other, bare)

    @pytest.mark.parametrize(
        "formula",
        ["y ~ w + offset(z) + (1 | g)", "y ~ x + offset(z) + (1 | f)", "y ~ x + offset(z) + (0 + z | g)"],
    )
    def test_what_names_do_not_show_is_left_open(self, bare, data, formula):
        other = slm.lmer(formula, data, weights="w").without_rows()
        with pytest.raises(RowsNeededError, match="names of columns"):
            self.table(other, bare)

    def test_structures_by_their_span(self, data):
        full, diagonal = (
            slm.lmer(f"y ~ x + {t}", data, reml=False).without_rows() for t in ("(1 + x | g)", "(1 + x || g)")
        )
        assert self.table(diagonal, full)["Df"].iloc[1] == 1

    def test_the_bootstrap_of_two_fits_needs_their_rows(self, fit, bare, data):
        small = slm.lmer(self.SMALL, data, weights="w")
        with pytest.raises(RowsNeededError, match="bootstrap tests of nested models"):
            slm.bootstrap_lrt(small, bare, n=5)
