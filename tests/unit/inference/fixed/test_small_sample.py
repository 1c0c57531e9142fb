"""Satterthwaite and Kenward-Roger against dense algebra, and their behaviour at bounds and on bad requests."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from dense_kr import DenseKR, gradient, hessian, restricted_deviance

import sparselmm as slm
from sparselmm.covariance import STRUCTURES, make_structure
from sparselmm.exceptions import ParameterError
from sparselmm.inference.fixed.kenward_roger import linear_directions, scaled_f
from sparselmm.inference.fixed.satterthwaite import pooled_df


def small_data(seed=3, n=120):
    rng = np.random.default_rng(seed)
    d = pd.DataFrame({
        "a": rng.integers(0, 9, n).astype(str),
        "b": rng.integers(0, 6, n).astype(str),
        "f": rng.choice(["p", "q", "r"], n),
        "x": rng.standard_normal(n),
        "w": rng.uniform(0.5, 2.0, n),
    })  # fmt: skip
    effect = dict(zip(sorted(d["a"].unique()), rng.standard_normal(9)))
    slope = dict(zip(sorted(d["a"].unique()), rng.standard_normal(9) * 0.6))
    other = dict(zip(sorted(d["b"].unique()), rng.standard_normal(6) * 0.7))
    d["y"] = d["a"].map(effect) + d["x"] * (0.5 + d["a"].map(slope)) + d["b"].map(other) + rng.standard_normal(n)
    return d


def dense_of(fit, weighted):
    """Return X, Σ and its derivatives in the variance parameters, all (n, n)."""
    n, parts = fit.nobs, []
    for term in fit.result.rows.terms:
        Z = term.to_sparse().toarray().reshape(n, term.m, term.k)
        rows = np.tril_indices(term.k)
        for i, j in zip(*rows):
            if term.structure == "us" or i == j:
                B = np.zeros((term.k, term.k))
                B[i, j] = B[j, i] = 1.0
                parts.append(np.einsum("nma,ab,omb->no", Z, B, Z))
    w = fit.result.rows.weights if weighted else np.ones(n)
    G = np.array([*parts, np.diag(1 / w)])
    V = np.diag(1 / w)
    for term, c in zip(fit.result.rows.terms, fit.varcorr.terms):
        Z = term.to_sparse().toarray().reshape(n, term.m, term.k)
        V = V + np.einsum("nma,ab,omb->no", Z, c.cov / fit.scale, Z)
    return fit.X, fit.scale * V, G


FORMULAS = [
    "y ~ f + x + (1 | a) + (1 | b)",
    "y ~ f * x + (x | a) + (1 | b)",
    "y ~ x + (x || a)",
    "y ~ f + diag(x | a)",
]


@pytest.mark.parametrize("weights", [None, "w"])
@pytest.mark.parametrize("formula", FORMULAS)
def test_kenward_roger_is_the_published_algebra(formula, weights):
    fit = slm.lmer(formula, small_data(), weights=weights)
    X, sigma, G = dense_of(fit, weights is not None)
    dense = DenseKR(X, sigma, G)
    method = fit._method("kenward-roger")
    np.testing.assert_allclose(method.cov(), dense.adjusted, rtol=1e-8)
    p = len(fit.params)
    for L in (np.eye(p), np.eye(p)[1:], np.eye(p)[:2] + 0.3):
        found = method.f_test(L, np.zeros(len(L)))
        statistic, df, scale = dense.test(L, fit.params.to_numpy())
        np.testing.assert_allclose([found.statistic, found.den_df, found.scale], [statistic, df, scale], rtol=1e-8)
    rows = method.row_df(np.eye(p))
    np.testing.assert_allclose(rows, [dense.test(e[None], fit.params.to_numpy())[1] for e in np.eye(p)], rtol=1e-8)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("weights", [None, "w"])
def test_satterthwaite_is_what_finite_differences_say(reml, weights):
    fit = slm.lmer("y ~ f + x + (1 | a) + (1 | b)", small_data(), reml=reml, weights=weights)
    X, _, G = dense_of(fit, weights is not None)
    y = fit.result.rows.y

    def V_of(v):
        return v[2] ** 2 * (v[0] ** 2 * G[0] + v[1] ** 2 * G[1] + G[2])

    at = np.append(fit.theta, fit.sigma)
    A = 2 * np.linalg.inv(hessian(lambda v: restricted_deviance(y, X, V_of, v, reml), at))
    np.testing.assert_allclose(fit.cov_varpar().to_numpy(), A, rtol=1e-4, atol=1e-6)
    for i, df in enumerate(fit.coef_table()["df"]):

        def variance(v, i=i):
            return np.linalg.inv(X.T @ np.linalg.solve(V_of(v), X))[i, i]

        g = gradient(variance, at)
        assert df == pytest.approx(2 * variance(at) ** 2 / (g @ A @ g), rel=1e-4)


def test_rows_of_a_hypothesis_may_be_dependent():
    fit = slm.lmer("y ~ f + x + (1 | a)", small_data())
    L = np.array([[0, 1.0, 0, 0], [0, 0, 1, 0], [0, 1, 1, 0]])
    for method in ("satterthwaite", "kenward-roger", "normal", "residual"):
        twice, once = fit.f_test(L, ddf=method).iloc[0], fit.f_test(L[:2], ddf=method).iloc[0]
        assert twice["num_df"] == 2
        assert twice["statistic"] == pytest.approx(once["statistic"])
    with pytest.raises(ParameterError, match="contradict"):
        fit.f_test(L, rhs=[0, 0, 1])


def test_scale_of_the_response_changes_nothing():
    d = small_data()
    one, other = slm.lmer("y ~ f + (x | a)", d), slm.lmer("y ~ f + (x | a)", d.assign(y=1e6 * d["y"]))
    for method in ("satterthwaite", "kenward-roger"):
        np.testing.assert_allclose(one.coef_table(method)["df"], other.coef_table(method)["df"], rtol=1e-5)


def test_year_far_from_zero_gives_the_same_tests():
    d = small_data()
    far = d.assign(x=d["x"] + 2000)
    one, other = slm.lmer("y ~ x + (x | a)", d), slm.lmer("y ~ x + (x | a)", far)
    for method in ("satterthwaite", "kenward-roger"):
        assert one.coef_table(method).loc["x", "df"] == pytest.approx(other.coef_table(method).loc["x", "df"], rel=1e-4)
    sd = [f.cov_varpar("sdcor").loc["sd(x|a)", "sd(x|a)"] for f in (one, other)]
    assert sd[0] == pytest.approx(sd[1], rel=1e-3)


def singular_fit():
    rng = np.random.default_rng(0)
    d = small_data().assign(y=lambda t: t["x"] + rng.standard_normal(len(t)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fits = [slm.lmer("y ~ x + (x | a) + (1 | b)", d.assign(y=np.random.default_rng(s).standard_normal(120)))
                for s in range(8)]  # fmt: skip
    return next(f for f in fits if f.is_singular)


def test_parameters_at_a_bound_are_held_and_this_is_said():
    fit = singular_fit()
    table = fit.coef_table()
    assert np.all(table["df"] > 1)
    assert any("boundary" in note for note in table.attrs["notes"])
    assert "held there" in str(fit.summary())
    intervals = fit.varpar_table()
    assert intervals["std_error"].isna().any()
    assert np.all(intervals["conf_low"].dropna() <= intervals["estimate"][intervals["conf_low"].notna()])


def test_kenward_roger_needs_reml():
    fit = slm.lmer("y ~ x + (1 | a)", small_data(), reml=False)
    with pytest.raises(ParameterError, match="REML"):
        fit.coef_table("kenward-roger")


def test_no_fixed_effects():
    fit = slm.lmer("y ~ 0 + (1 | a)", small_data())
    for call in (fit.coef_table, fit.anova, lambda: fit.t_test("x = 0"), lambda: fit.emmeans("x")):
        with pytest.raises(ParameterError, match="p = 0"):
            call()
    text = str(fit.summary())
    assert "Fixed effects" not in text
    assert "Random effects" in text


def test_unknown_method():
    with pytest.raises(ParameterError, match="unknown ddf 'kr'"):
        slm.lmer("y ~ x + (1 | a)", small_data()).coef_table("kr")


def test_normal_and_residual_are_the_limits():
    fit = slm.lmer("y ~ x + (1 | a)", small_data())
    assert np.all(np.isinf(fit.coef_table("normal")["df"]))
    assert np.all(fit.coef_table("residual")["df"] == fit.nobs - 2)
    wald, f = fit.wald_test("x = 0").iloc[0], fit.f_test("x = 0", ddf="normal").iloc[0]
    assert wald["p_value"] == pytest.approx(f["p_value"])
    t = fit.t_test("x", ddf="normal")["p_value"].iloc[0]
    assert wald["p_value"] == pytest.approx(t)


def test_levels_are_checked():
    fit = slm.lmer("y ~ x + (1 | a)", small_data())
    with pytest.raises(ParameterError, match="between 0 and 1"):
        fit.coef_table(level=95)


@pytest.mark.parametrize("key", sorted(STRUCTURES))
@pytest.mark.parametrize("k", [1, 2, 3])
def test_linear_directions_span_the_covariances(key, k):
    structure = make_structure(key, k)
    basis = np.array([B.ravel() for B in linear_directions(structure)])
    rng = np.random.default_rng(k)
    T = structure.template(rng.uniform(0.5, 1.5, structure.n_par))
    omega = (T @ T.T).ravel()
    weights, *_ = np.linalg.lstsq(basis.T, omega)
    np.testing.assert_allclose(basis.T @ weights, omega, atol=1e-12)


@pytest.mark.parametrize(
    ("nu", "expected"), [([7.0], 7.0), ([5.0, 5.0], 5.0), ([1.5, 30.0], 2.0), ([np.inf] * 2, np.inf)]
)
def test_pooled_df_at_its_edges(nu, expected):
    assert pooled_df(np.array(nu)) == expected


def test_pooled_df_is_the_mean_matching_formula():
    nu = np.array([6.0, 11.0, 40.0])
    E = np.sum(nu / (nu - 2))
    assert pooled_df(nu) == pytest.approx(2 * E / (E - 3))


def test_scaled_f_of_one_row_is_a_t_test():
    assert scaled_f(0.25, 0.25, 1) == (8.0, 1.0)


def test_multiple_membership():
    rng = np.random.default_rng(9)
    n, m = 70, 12
    codes = rng.integers(0, m, (n, 2))
    matrix = sp.coo_array((np.full(2 * n, 0.5), (np.repeat(np.arange(n), 2), codes.ravel())), shape=(n, m)).tocsr()
    X = np.column_stack([np.ones(n), rng.standard_normal(n)])
    y = X @ [1.0, 0.3] + matrix @ rng.standard_normal(m) * 2 + rng.standard_normal(n)
    term = {"matrix": matrix, "k": 1, "name": "members"}
    fit = slm.LinearMixedModel.from_arrays(y, X, [term, (codes[:, 0], None)]).fit()
    dense = DenseKR(*dense_of(fit, False))
    np.testing.assert_allclose(fit._method("kenward-roger").cov(), dense.adjusted, rtol=1e-8)
    assert fit.coef_table()["df"].between(1, n).all()
