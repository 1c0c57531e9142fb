"""VarCorr and the labelled views of a result."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sparselmm import lmer
from sparselmm.api import LinearMixedModel
from sparselmm.likelihood.result import TermCovariance, VarCorr


def varcorr():
    cov = np.array([[4.0, -1.0], [-1.0, 9.0]])
    g = TermCovariance("g", "g", ("Intercept", "x"), cov)
    h = TermCovariance("h", "h", ("Intercept",), np.array([[0.25]]))
    return VarCorr((g, h), 0.5)


def test_frame_is_that_of_r():
    frame = varcorr().to_frame()
    assert list(frame.columns) == ["grp", "var1", "var2", "vcov", "sdcor"]
    assert frame["grp"].tolist() == ["g", "g", "g", "h", "Residual"]
    assert frame["var1"].tolist()[:4] == ["Intercept", "x", "Intercept", "Intercept"]
    assert frame["var2"].isna().tolist() == [True, True, False, True, True]
    np.testing.assert_allclose(frame["vcov"], [4.0, 9.0, -1.0, 0.25, 0.25])
    np.testing.assert_allclose(frame["sdcor"], [2.0, 3.0, -1 / 6, 0.5, 0.5])


def test_lookup_by_name():
    assert varcorr()["h"].sd[0] == 0.5
    with pytest.raises(KeyError, match="there are g, h"):
        varcorr()["k"]


def test_correlation_without_variance_is_nan_not_a_number():
    term = TermCovariance("g", "g", ("a", "b"), np.array([[0.0, 0.0], [0.0, 4.0]]))
    np.testing.assert_array_equal(term.corr, [[1.0, np.nan], [np.nan, 1.0]])


def small():
    rng = np.random.default_rng(0)
    g, h = np.repeat(list("abcdefgh"), 6), np.tile(list("pqrs"), 12)
    frame = pd.DataFrame({"x": rng.standard_normal(48), "g": g, "h": h}, index=[f"row{i}" for i in range(48)])
    frame["y"] = 1 + 2 * frame["x"] + rng.standard_normal(48)
    return frame


@pytest.mark.filterwarnings("ignore::sparselmm.exceptions.SparseLMMWarning")
class TestFrames:
    def fit(self, formula="y ~ x + (x | g) + (1 | h)", **options):
        return lmer(formula, small(), **options)

    def test_modes_are_labelled_by_levels_and_columns(self):
        modes = self.fit().ranef()
        assert list(modes) == ["g", "h"]
        assert modes["g"].index.tolist() == list("abcdefgh")
        assert modes["g"].columns.tolist() == ["Intercept", "x"]
        assert modes["h"].shape == (4, 1)

    def test_modes_of_several_terms_of_one_factor_stand_side_by_side(self):
        fit = self.fit("y ~ x + (1 | g) + (0 + x | g)")
        assert fit.ranef()["g"].columns.tolist() == ["Intercept", "x"]
        assert [t.name for t in fit.varcorr.terms] == ["g", "g.1"]

    def test_coefficients_are_fixed_plus_random(self):
        fit = self.fit()
        coef, modes = fit.coef(), fit.ranef()
        pd.testing.assert_frame_equal(coef["g"], modes["g"] + fit.params[["Intercept", "x"]])
        np.testing.assert_allclose(coef["h"]["x"], fit.params["x"])

    def test_random_columns_without_fixed_ones_start_from_zero(self):
        fit = self.fit("y ~ 1 + (0 + x | g)")
        np.testing.assert_array_equal(fit.coef()["g"]["x"], fit.ranef()["g"]["x"])

    def test_fitted_values_are_put_together_from_coefficients(self):
        fit, data = self.fit(), small()
        coef, h = fit.coef()["g"].loc[data["g"]], fit.ranef()["h"].loc[data["h"], "Intercept"]
        expected = coef["Intercept"].to_numpy() + coef["x"].to_numpy() * data["x"] + h.to_numpy()
        np.testing.assert_allclose(fit.fittedvalues, expected, rtol=1e-10, atol=1e-10)  # sums in another order
        assert fit.fittedvalues.index.equals(data.index)
        np.testing.assert_array_equal(fit.resid, data["y"] - fit.fittedvalues)

    def test_excluded_rows_are_padded(self):
        data = small()
        data.loc["row3", "y"] = np.nan
        fit = lmer("y ~ x + (1 | g)", data, na_action="exclude")
        assert len(fit.fittedvalues) == 48
        assert fit.fittedvalues.isna().tolist() == [name == "row3" for name in data.index]
        assert len(lmer("y ~ x + (1 | g)", data).resid) == 47

    def test_pearson_residuals_carry_the_weights(self):
        data = small().assign(w=np.linspace(0.5, 2, 48))
        fit = lmer("y ~ x + (1 | g)", data, weights="w")
        np.testing.assert_allclose(fit.resid_pearson, fit.resid * np.sqrt(data["w"]))

    def test_standard_errors_are_those_of_the_covariance(self):
        fit = self.fit()
        np.testing.assert_allclose(fit.bse**2, np.diag(fit.cov_params()), rtol=1e-12)
        np.testing.assert_allclose(fit.tvalues, fit.params / fit.bse)
        np.testing.assert_array_equal(fit.cov_params(), fit.cov_params().T)


def test_matrices_of_the_user_also_with_centred_slopes():
    rng = np.random.default_rng(0)
    g, x = np.arange(60) % 6, rng.integers(1990, 2020, 60).astype(float)
    X = np.column_stack([np.ones(60), x])
    fit = LinearMixedModel.from_arrays(x / 10 + rng.standard_normal(60), X, [(g, X, "g")]).at([2.0, -0.001, 0.01])
    T = np.array([[2.0, 0.0], [-0.001, 0.01]])
    np.testing.assert_allclose(fit.Lambda.toarray(), np.kron(np.eye(6), T), rtol=1e-8, atol=1e-9)  # centred by 2005
    np.testing.assert_allclose(fit.Z @ fit.result.b + X @ fit.params, fit.fittedvalues, rtol=1e-9)
    # through a pseudo-inverse
    np.testing.assert_allclose(fit.Lambda @ fit.getME("u"), fit.result.b, rtol=1e-6, atol=1e-9)
