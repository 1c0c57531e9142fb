"""The statsmodels-shaped door on its own: translations, names, errors."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest

import sparselmm as slm
from sparselmm import exceptions
from sparselmm.data import SparseTerm


@pytest.fixture(scope="module")
def schools():
    rng = np.random.default_rng(5)
    n = 480
    school = np.repeat(np.arange(n // 16), 16)
    room = np.tile(np.repeat(["a", "b", "c", "d"], 4), n // 16)
    data = pd.DataFrame({"school": school, "room": room, "x": rng.normal(size=n), "z": rng.normal(size=n)})
    effects = rng.normal(size=(n // 4, 2)) @ np.diag([1.0, 0.7])
    rows = np.repeat(np.arange(n // 4), 4)
    data["y"] = 1 + data["x"] + rng.normal(size=n // 16)[school] + effects[rows, 0] + effects[rows, 1] * data["z"]
    data["y"] += rng.normal(size=n)
    return data


def dummies(data, column=None):
    out = {}
    for school, part in data.groupby("school"):
        matrix = pd.get_dummies(part["room"]).astype(float)
        out[school] = matrix if column is None else matrix.mul(part[column], axis=0)
    return out


@pytest.mark.parametrize(
    ("options", "formula"),
    [
        ({}, "y ~ x + (1 | school)"),
        ({"re_formula": "~z"}, "y ~ x + (1 + z | school)"),
        ({"vc_formula": {"room": "0 + C(room)"}}, "y ~ x + (1 | school:room)"),
        ({"vc_formula": {"s": "1", "z": "0 + z"}}, "y ~ x + (1 | school) + (0 + z | school)"),
        (
            {"re_formula": "1", "vc_formula": {"room": "0 + room", "slope": "0 + room:z"}},
            "y ~ x + (1 | school) + (1 | school:room) + (0 + z | school:room)",
        ),
        (
            {"vc_formula": {"room": "0 + C(room) + C(room):z"}},
            "y ~ x + diag(1 + z | school:room, hom=TRUE)",
        ),
        ({"vc_formula": {"sign": "0 + (z > 0)"}}, "y ~ x + (1 | school:(z > 0))"),
    ],
)
def test_formulas_become_lmers(schools, options, formula):
    model = slm.mixedlm("y ~ x", schools, groups="school", **options)
    assert model.lmer_formula == formula
    assert model.fit().llf == pytest.approx(slm.lmer(formula, schools).llf, abs=1e-9)


def test_labels_restart_in_each_group(schools):
    unique = schools.assign(room=schools["school"].astype(str) + schools["room"])
    fits = [slm.mixedlm("y ~ x", d, groups="school", vc_formula={"r": "0 + C(room)"}).fit() for d in (schools, unique)]
    assert fits[0].llf == pytest.approx(fits[1].llf, abs=1e-9)


def test_arrays_and_formulas_agree(schools):
    vc_formula = {"room": "0 + C(room)", "slope": "0 + C(room):z"}
    by_formula = slm.mixedlm("y ~ x", schools, groups="school", re_formula="1", vc_formula=vc_formula).fit()
    exog = np.column_stack([np.ones(len(schools)), schools["x"]])
    vc = {"slope": dummies(schools, "z"), "room": dummies(schools)}
    model = slm.MixedLM(schools["y"], exog, schools["school"], exog_re=exog[:, 0], exog_vc=vc)
    by_array = model.fit()
    assert model.lmer_formula is None
    assert by_array.llf == pytest.approx(by_formula.llf, abs=1e-9)
    assert list(by_array.params.index) == ["const", "x1", "x_re1 Var", "room Var", "slope Var"]
    np.testing.assert_allclose(by_array.params, by_formula.params, rtol=1e-6)
    for group, effects in by_formula.random_effects.items():
        np.testing.assert_allclose(by_array.random_effects[group], effects, rtol=1e-5, atol=1e-7)
    assert list(by_array.random_effects[3].index)[:2] == ["x_re1", "room[a]"]
    assert list(by_formula.random_effects[3].index)[:2] == ["school", "room[C(room)[a]]"]
    np.testing.assert_allclose(by_array.predict(exog), by_formula.predict(schools), rtol=1e-8)


def test_rows_in_any_order_and_uneven_groups(schools):
    part = schools.drop(index=range(8)).sample(frac=1.0, random_state=1)
    vc = dummies(part)
    assert vc[0].shape[1] < vc[1].shape[1]
    exog = np.column_stack([np.ones(len(part)), part["x"]])
    by_array = slm.MixedLM(part["y"], exog, part["school"], exog_vc={"room": vc}).fit()
    by_formula = slm.mixedlm("y ~ x", part, groups="school", vc_formula={"room": "0 + C(room)"}).fit()
    assert by_array.llf == pytest.approx(by_formula.llf, abs=1e-9)
    assert len(by_array.random_effects[0]) == 2


def test_rows_with_several_columns_need_a_sparse_term(schools):
    rng = np.random.default_rng(2)
    vc = {g: rng.normal(size=(16, 3)) for g in schools["school"].unique()}
    y = schools["y"] + np.concatenate([vc[g] @ rng.normal(size=3) for g in vc])
    exog = np.ones((len(schools), 1))
    model = slm.MixedLM(y, exog, schools["school"], exog_vc={"v": vc, "room": dummies(schools)})
    assert any(isinstance(t, SparseTerm) for t in model.lmm.problem.rows.terms)
    result = model.fit()
    assert result.vcomp.min() > 0.1
    assert len(result.random_effects[0]) == 7
    # the marginal likelihood at the estimates, by dense matrices
    V = result.scale * np.eye(len(schools))
    for j, matrices in enumerate([dummies(schools), vc]):
        for g, matrix in matrices.items():
            at = np.flatnonzero(schools["school"] == g)
            V[np.ix_(at, at)] += result.vcomp[j] * np.asarray(matrix) @ np.asarray(matrix).T
    r = y.to_numpy() - exog @ result.fe_params.to_numpy()
    W = np.linalg.inv(V)
    expected = -0.5 * (
        np.linalg.slogdet(V)[1] + np.linalg.slogdet(exog.T @ W @ exog)[1] + r @ W @ r + (len(r) - 1) * np.log(2 * np.pi)
    )
    assert result.llf == pytest.approx(expected, abs=1e-7)


def test_one_group_for_crossed_components():
    data = slm.load_dataset("penicillin")
    vc = {"plate": "0 + C(plate)", "sample": "0 + C(sample)"}
    model = slm.mixedlm("diameter ~ 1", data, groups=np.ones(len(data)), vc_formula=vc)
    assert model.lmer_formula == "diameter ~ 1 + (1 | plate) + (1 | sample)"
    result = model.fit()
    fit = slm.lmer("diameter ~ 1 + (1 | plate) + (1 | sample)", data)
    np.testing.assert_allclose(result.vcomp, [t.cov[0, 0] for t in fit.varcorr.terms], rtol=1e-8)
    assert result.k_re == 0
    assert result.cov_re.shape == (0, 0)
    assert len(result.random_effects[1]) == 30


def test_groups_as_column_series_array_and_other_tables():
    data = slm.load_dataset("sleepstudy")
    fits = [
        slm.mixedlm("Reaction ~ Days", data, groups="Subject").fit(),
        slm.mixedlm("Reaction ~ Days", data, groups=data["Subject"]).fit(),
        slm.mixedlm("Reaction ~ Days", data[["Reaction", "Days"]], groups=data["Subject"].to_numpy()).fit(),
        slm.mixedlm("Reaction ~ Days", pl.from_pandas(data[["Reaction", "Days"]]), groups=list(data["Subject"])).fit(),
    ]
    assert [f.lmer_formula for f in fits] == ["Reaction ~ Days + (1 | Subject)"] * 2 + [None] * 2
    assert [f.param_names[-1] for f in fits] == ["Subject Var"] + ["Group Var"] * 3
    np.testing.assert_allclose([f.llf for f in fits], fits[0].llf, rtol=1e-12)
    assert "Group" not in data.columns


def test_names_and_numbers_of_a_result():
    data = slm.load_dataset("sleepstudy")
    r = slm.mixedlm("Reaction ~ Days", data, groups="Subject", re_formula="~Days").fit(reml=False)
    assert r.param_names == ["Intercept", "Days", "Subject Var", "Subject x Days Cov", "Days Var"]
    np.testing.assert_allclose(r.params.iloc[2:] * r.scale, r.cov_re.to_numpy()[np.tril_indices(2)])
    np.testing.assert_allclose(r.cov_re_unscaled * r.scale, r.cov_re)
    assert (r.k_fe, r.k_re, r.k_re2, r.k_vc, r.nobs, r.method, r.converged) == (2, 2, 3, 0, 180, "ML", True)
    assert r.aic == pytest.approx(-2 * r.llf + 2 * 6)
    assert r.bic == pytest.approx(-2 * r.llf + np.log(180) * 6)
    np.testing.assert_allclose(r.fittedvalues + r.resid, data["Reaction"])
    interval = r.conf_int(alpha=0.1)
    np.testing.assert_allclose(interval[1] - interval[0], 2 * 1.6448536 * r.bse, rtol=1e-6)
    assert r.wald_test("Days = 0")["p_value"].iloc[0] == pytest.approx(r.pvalues["Days"], rel=1e-6, abs=1e-300)
    wide = np.eye(5)[[1]]
    assert r.t_test(wide)["estimate"].iloc[0] == r.t_test("Days")["estimate"].iloc[0] == r.fe_params["Days"]
    assert r.f_test("Days = 0", ddf="satterthwaite")["den_df"].iloc[0] < 20
    assert "Subject x Days Cov" in str(r.summary())
    assert "<table" in r._repr_html_()
    assert len(r.summary().tables) == 2
    with pytest.raises(AttributeError):
        r.lmm = None


def test_standard_errors_of_variances_are_those_of_the_table():
    r = slm.mixedlm("Yield ~ 1", slm.load_dataset("dyestuff"), groups="Batch").fit()
    table = r.lmm.varpar_table()
    expected = 2 * table["estimate"].iloc[0] * table["std_error"].iloc[0]
    assert r.bse_re["Batch Var"] == pytest.approx(expected, rel=1e-8)


def test_a_variance_of_zero_has_no_standard_error():
    with pytest.warns(exceptions.SingularFitWarning):
        r = slm.mixedlm("Yield ~ 1", slm.load_dataset("dyestuff2"), groups="Batch").fit()
    assert r.params["Batch Var"] == 0.0
    assert np.isnan(r.bse["Batch Var"])
    assert np.isfinite(r.bse["Intercept"])
    assert "Batch Var" in str(r.summary())


def test_profile_is_the_likelihood_with_the_variance_held():
    data = slm.load_dataset("dyestuff")
    r = slm.mixedlm("Yield ~ 1", data, groups="Batch").fit(reml=False)
    profile = r.profile_re(0, "re", num_low=2, dist_low=900.0, num_high=3, dist_high=3000.0)
    assert profile.shape == (6, 2)
    assert profile[2] == pytest.approx([r.cov_re.iloc[0, 0], r.llf])
    for variance, llf in profile[[0, 5]]:
        # balanced one-way layout: closed form in the residual variance
        y = data["Yield"].to_numpy().reshape(6, 5)
        within = ((y - y.mean(axis=1, keepdims=True)) ** 2).sum()
        between = 5 * ((y.mean(axis=1) - y.mean()) ** 2).sum()
        s = np.linspace(800, 6000, 200001)
        total = 24 * np.log(s) + 6 * np.log(s + 5 * variance) + within / s + between / (s + 5 * variance)
        assert llf == pytest.approx(-0.5 * (total.min() + 30 * np.log(2 * np.pi)), abs=1e-4)


def test_missing_rows_are_left_out_or_refused():
    data = slm.load_dataset("sleepstudy")
    data.loc[3, "Reaction"] = np.nan
    assert slm.mixedlm("Reaction ~ Days", data, groups="Subject").fit().nobs == 179
    exog = np.column_stack([np.ones(180), data["Days"]])
    assert slm.MixedLM(data["Reaction"], exog, data["Subject"]).fit().nobs == 179
    with pytest.raises(exceptions.DataError, match="missing"):
        slm.mixedlm("Reaction ~ Days", data, groups="Subject", missing="none")
    with pytest.raises(exceptions.DataError, match="missing"):
        slm.MixedLM(data["Reaction"], exog, data["Subject"], missing="none")


@pytest.mark.parametrize(
    ("formula", "options", "error", "text"),
    [
        ("y ~ x + (1 | school)", {"groups": "school"}, exceptions.FormulaError, "re_formula"),
        ("y ~ x", {}, exceptions.ParameterError, "groups= is needed"),
        ("y ~ x", {"groups": "shool"}, exceptions.DataError, "school"),
        ("y ~ x", {"groups": [1, 2]}, exceptions.DataError, "480 rows"),
        ("y ~ x", {"groups": "school", "re_formula": " "}, exceptions.FormulaError, "empty"),
        ("y ~ x", {"groups": "school", "vc_formula": {"r": "C(room)"}}, exceptions.UnsupportedError, "0 \\+"),
        ("y ~ x", {"groups": np.ones(480), "vc_formula": {"r": "0 + z"}}, exceptions.FormulaError, "only group"),
        ("y ~ x", {"groups": np.ones(480)}, exceptions.DesignError, "only one level"),
        ("y ~ x", {"groups": "school", "missing": "keep"}, exceptions.ParameterError, "drop"),
    ],
)
def test_formula_errors_say_what_is_wrong(schools, formula, options, error, text):
    with pytest.raises(error, match=text):
        slm.mixedlm(formula, schools, **options)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (lambda vc: vc.pop(3), exceptions.DataError, "no matrix for the groups 3"),
        (lambda vc: vc.update({99: np.ones((2, 1))}), exceptions.DataError, "unknown groups: 99"),
        (lambda vc: vc.update({3: np.ones((2, 1))}), exceptions.DataError, "group 3 has shape"),
    ],
)
def test_array_errors_name_component_and_group(schools, change, error, text):
    vc = dummies(schools)
    change(vc)
    with pytest.raises(error, match=text):
        slm.MixedLM(schools["y"], np.ones((480, 1)), schools["school"], exog_vc={"room": vc})


def test_options_of_the_other_search_are_ignored_aloud_and_other_models_refused(schools):
    model = slm.mixedlm("y ~ x", schools, groups="school")
    with pytest.warns(exceptions.DataWarning, match="method"):
        assert model.fit(method="lbfgs").llf == model.fit().llf
    with pytest.raises(exceptions.UnsupportedError, match="free"):
        model.fit(free=object())
    with pytest.raises(exceptions.ParameterError, match="speed"):
        model.fit(speed=11)
    with pytest.raises(exceptions.ParameterError, match="vtype"):
        model.fit().profile_re(0, "sd")
    with pytest.raises(exceptions.ParameterError, match="negative"):
        model.fit().profile_re(0, "re", dist_low=1e9)


@pytest.mark.filterwarnings("ignore::sparselmm.exceptions.SingularFitWarning")
@pytest.mark.parametrize("cells", [1, 4_000_000])
def test_conditional_covariances_are_those_of_the_dense_formula(schools, cells, monkeypatch):
    monkeypatch.setattr("sparselmm.inference.predict.conditional_variance.BATCH_CELLS", cells)
    part = schools.drop(index=range(8)).sample(frac=1.0, random_state=1)
    vc = {"room": dummies(part), "slope": dummies(part, "z")}
    exog = np.column_stack([np.ones(len(part)), part["x"]])
    result = slm.MixedLM(part["y"], exog, part["school"], exog_re=exog, exog_vc=vc).fit()
    Z, Lambda = result.lmm.Z.toarray(), result.lmm.Lambda.toarray()
    A = Z @ Lambda
    dense = result.scale * Lambda @ np.linalg.inv(A.T @ A + np.eye(A.shape[1])) @ Lambda.T
    b = np.concatenate([m.ravel() for m in result.lmm.result.term_modes])
    assert [len(V) for V in result.random_effects_cov.values()][:2] == [6, 10]
    for label, found in result.random_effects_cov.items():
        at = [int(np.flatnonzero(b == value)[0]) for value in result.random_effects[label]]
        np.testing.assert_allclose(found, dense[np.ix_(at, at)], atol=1e-10)


def test_names_of_statsmodels_that_are_elsewhere():
    result = slm.mixedlm("Yield ~ 1", slm.load_dataset("dyestuff"), groups="Batch").fit()
    for name, place in [
        ("t_test_pairwise", "lmm.emmeans"),
        ("get_prediction", "lmm.predict"),
        ("plot", "lmm.plot"),
    ]:
        with pytest.raises(AttributeError, match=f"there is {place}"):
            getattr(result, name)
    with pytest.raises(AttributeError, match=r"no attribute 'zzz'$"):
        _ = result.zzz
    assert result.summary().as_html() == result._repr_html_()


def test_a_base_level_in_patsys_words(schools):
    found = slm.mixedlm("y ~ C(room, Treatment(reference='c'))", schools, groups="school").fit()
    same = slm.mixedlm("y ~ C(room, contr.treatment('c'))", schools, groups="school").fit()
    np.testing.assert_allclose(found.fe_params, same.fe_params)


def test_arrays_that_are_not_numbers(schools):
    with pytest.raises(exceptions.DataError, match=r"exog must be a matrix of numbers.*slm\.mixedlm"):
        slm.MixedLM(schools["y"], schools[["room"]], schools["school"])
    with pytest.raises(exceptions.DataError, match="exog_re must be a matrix of numbers"):
        slm.MixedLM(schools["y"], schools[["x"]], schools["school"], exog_re=np.ones(7))


@pytest.mark.filterwarnings("ignore::sparselmm.exceptions.SingularFitWarning")
def test_variances_that_are_zero_but_for_rounding_have_no_standard_error():
    data = pd.DataFrame({"g": np.repeat(range(8), 6), "x": np.tile(np.arange(6.0), 8)})
    data["y"] = data["x"] + np.random.default_rng(4).normal(size=48)
    data["y"] -= data.groupby("g")["y"].transform("mean")
    result = slm.mixedlm("y ~ x", data, groups="g").fit()
    assert result.bse_re.isna().all()
    assert result.bse.notna().tolist() == [True, True, False]


def test_rows_in_another_order_than_the_response_are_refused(schools):
    exog = schools[["x"]].assign(const=1.0)
    mixed, school = exog.sample(frac=1.0, random_state=2), schools["school"]
    with pytest.raises(exceptions.DataError, match=r"exog has the rows of the endog in another order; pass exog\.loc"):
        slm.MixedLM(schools["y"], mixed, school)
    with pytest.raises(exceptions.DataError, match="exog_re has the rows"):
        slm.MixedLM(schools["y"], exog, school, exog_re=mixed)
    with pytest.raises(exceptions.DataError, match="groups has the rows"):
        slm.MixedLM(schools["y"], exog, school.loc[mixed.index])
    with pytest.raises(exceptions.DataError, match=r"different row labels.*exog\.to_numpy\(\)"):
        slm.MixedLM(schools["y"][16:], exog[16:].reset_index(drop=True), school[16:])
    vc = dummies(schools)
    vc[3] = vc[3][::-1]
    with pytest.raises(exceptions.DataError, match=r"exog_vc\['room'\]\[3\] has the rows"):
        slm.MixedLM(schools["y"], exog, school, exog_vc={"room": vc})
    with pytest.raises(exceptions.DataError, match="groups has the rows of the data in another order"):
        slm.mixedlm("y ~ x", schools, groups=school.loc[mixed.index])
    assert slm.MixedLM(schools["y"].to_numpy(), exog, school.reset_index(drop=True)).nobs == 480


def test_labels_of_hypotheses_are_parameters(schools):
    result = slm.mixedlm("y ~ x + z", schools, groups="school").fit()
    by_label = pd.Series({"z": 1.0, "school Var": 0.0, "x": 0.0})
    for test in (result.t_test, result.wald_test, result.f_test):
        pd.testing.assert_frame_equal(test(by_label), test("z"))
    with pytest.raises(exceptions.ParameterError, match="only fixed effects"):
        result.t_test(pd.Series({"school Var": 1.0}))
    with pytest.raises(exceptions.ParameterError, match="label 'q'"):
        result.t_test(pd.Series({"q": 1.0}))


def test_everything_after_the_fit_knows_patsys_names(schools, tmp_path):
    data = schools.assign(**{"my x": schools["x"] ** 2})
    formula = 'y ~ scale(x) + C(room, Treatment("b")) + Q("my x"):room + bs(z, df=3)'
    model = slm.mixedlm(formula, data, groups="school", re_formula="x + 1")
    assert "standardize(x)" in model.lmer_formula
    result = model.fit()
    names = list(result.fe_params.index)
    assert names[:4] == ["Intercept", *(f'C(room, Treatment("b"))[T.{r}]' for r in "acd")]
    assert names[4:] == [
        "scale(x)",
        *(f'Q("my x"):room[{r}]' for r in "abcd"),
        *(f"bs(z, df=3)[{j}]" for j in range(3)),
    ]
    hypothesis = 'C(room, Treatment("b"))[T.c] = 2*scale(x), bs(z, df=3)[0] = 1'
    assert result.t_test(hypothesis)["estimate"].notna().all()
    np.testing.assert_allclose(result.predict(data.iloc[:9]), result.predict().iloc[:9])
    result.lmm.save(tmp_path / "door.slmm")
    np.testing.assert_allclose(slm.load(tmp_path / "door.slmm").predict(data), result.fittedvalues)
    same = slm.lmer(model.lmer_formula, data)
    assert result.llf == pytest.approx(same.llf, abs=1e-8)
    ours, theirs = result.lmm.anova("III")["F value"], same.anova("III")["F value"]
    np.testing.assert_allclose(ours.loc[theirs.index], theirs, rtol=1e-4)


def test_terms_without_their_margins_come_in_parts(schools):
    data = schools.assign(half=np.where(schools["z"] > 0, "up", "down"))
    result = slm.mixedlm("y ~ half:room", data, groups="school").fit()
    assert list(result.fe_params.index[:5]) == ["Intercept", *(f"room[T.{r}]" for r in "bcd"), "half[T.up]:room[a]"]
    assert result.llf == pytest.approx(slm.lmer("y ~ half:room + (1 | school)", data).llf, abs=1e-6)
    assert len(result.lmm.anova()) == 2


@pytest.mark.parametrize("nothing", ["0", "~0", "-1"])
def test_no_correlated_effects(schools, nothing):
    components = {"room": "0 + C(room)"}
    model = slm.mixedlm("y ~ x", schools, groups="school", re_formula=nothing, vc_formula=components)
    assert model.lmer_formula == "y ~ x + (1 | school:room)"
    assert model.fit().k_re == 0
    with pytest.raises(exceptions.FormulaError, match="leaves no random effects"):
        slm.mixedlm("y ~ x", schools, groups="school", re_formula=nothing)


@pytest.mark.parametrize("given", ["0 + C(room)", ["0 + C(room)"], {"room": ["0 + C(room)"]}])
def test_components_are_named_formulas(schools, given):
    with pytest.raises(exceptions.ParameterError, match=r"vc_formula.* must be a"):
        slm.mixedlm("y ~ x", schools, groups="school", vc_formula=given)


def test_tests_are_statsmodels_unless_degrees_of_freedom_are_asked_for(schools):
    r = slm.mixedlm("y ~ x + z", schools, groups="school").fit()
    R = np.eye(3)[1:]
    f, wald = r.f_test(R).iloc[0], r.wald_test(R, scalar=True).iloc[0]
    assert f["den_df"] == len(schools) - 3
    assert wald["statistic"] == pytest.approx(2 * f["statistic"])
    assert r.wald_test(R, use_f=True).iloc[0]["p_value"] == f["p_value"]
    assert r.wald_test(R, ddf="satterthwaite").iloc[0]["den_df"] == r.f_test(R, ddf="satterthwaite").iloc[0]["den_df"]
    assert r.t_test(R)["p_value"].tolist() == pytest.approx(r.pvalues[["x", "z"]].tolist())
    assert (r.t_test(R, use_t=True)["df"] == len(schools) - 3).all()
    moved = r.wald_test((R, [1.0, 0.5]))
    pd.testing.assert_frame_equal(moved, r.wald_test("x = 1, z = 0.5"), check_names=False)
    with pytest.raises(exceptions.ParameterError, match="matrix of numbers"):
        r.t_test(np.array([["x", 1.0]], dtype=object))


def test_predictions_keep_the_index_and_go_by_names(schools):
    exog = pd.DataFrame({"const": 1.0, "x": schools["x"]}).set_axis(schools.index + 1000)
    r = slm.MixedLM(schools["y"].to_numpy(), exog, schools["school"].to_numpy()).fit()
    new = exog.iloc[[5, 2]]
    found = r.predict(new)
    assert list(found.index) == [1005, 1002]
    np.testing.assert_allclose(found, r.predict(new.to_numpy()))
    pd.testing.assert_series_equal(r.predict(new[["x", "const"]]), found)
    with pytest.raises(exceptions.DataError, match="a column for each of const, x"):
        r.predict(new[["x"]])
    by_formula = slm.mixedlm("y ~ x", schools, groups="school").fit()
    matrix = by_formula.model.exog[:4]
    np.testing.assert_allclose(by_formula.predict(matrix, transform=False), by_formula.predict(schools.head(4)))


def test_a_summary_with_other_names_and_in_latex(schools):
    r = slm.mixedlm("y ~ x", schools, groups="school").fit()
    found = r.summary(yname="score", xname_fe=["const", "slope_1"], xname_re=["between"], title="Schools", alpha=0.1)
    text = found.as_text()
    for part in ("Schools", "score", "const", "slope_1", "between", "[0.05", "0.95]"):
        assert part in text
    latex = found.as_latex(label="tab:a")
    assert latex.startswith(r"\begin{table}") and r"\label{tab:a}" in latex and r"slope\_1" in latex
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 2
    with pytest.raises(exceptions.ParameterError, match="xname_fe has 1 names; it needs one each for Intercept, x"):
        r.summary(xname_fe=["a"])


def test_what_a_model_knows_and_what_only_its_fit(schools):
    part = schools.assign(school="s" + schools["school"].astype(str)).sample(frac=0.5, random_state=3)
    model = slm.mixedlm("y ~ x", part, groups="school")
    assert model.formula == "y ~ x"
    np.testing.assert_array_equal(model.endog, part["y"])
    np.testing.assert_array_equal(model.exog, np.column_stack([np.ones(len(part)), part["x"]]))
    np.testing.assert_array_equal(model.groups, part["school"])
    for name in ("summary", "fe_params", "t_test"):
        with pytest.raises(AttributeError, match=rf"belongs to the fit: write model\.fit\(\)\.{name}"):
            getattr(model, name)
    with pytest.raises(AttributeError, match=r"lmm\.source\.data"):
        _ = model.data
    with pytest.raises(AttributeError, match=r"no attribute 'zzz'$"):
        _ = model.zzz
    assert slm.MixedLM(part["y"], part[["x"]], part["school"]).formula is None


def test_a_level_that_only_treatment_contrasts_take(schools):
    with pytest.raises(exceptions.ParameterError, match="only Treatment takes a level"):
        slm.mixedlm("y ~ C(room, Sum('b'))", schools, groups="school")


def test_arguments_that_there_are_not_are_named_with_what_to_write(schools):
    model = slm.mixedlm("y ~ x", schools, groups="school")
    result = model.fit()
    for call, advice in [
        (lambda: result.conf_int(level=0.9), r"conf_int\(\) has no argument 'level'; write alpha"),
        (lambda: result.wald_test("x", cov_p=np.eye(3)), r"wald_test\(\) has no argument 'cov_p'; the covariance"),
        (lambda: result.predict(schools, re_form=None), r"lmm\.predict"),
        (lambda: result.summary(alfa=0.1), "did you mean alpha"),
        (lambda: slm.MixedLM.from_formula("y ~ x", schools, groups="school", subset="x > 0"), "select the rows first"),
    ]:
        with pytest.raises(TypeError, match=advice):
            call()


def test_standard_errors_are_those_of_the_relative_covariances(schools):
    result = slm.mixedlm("y ~ x", schools, groups="school", re_formula="1").fit()
    sd = float(result.lmm.cov_varpar().iloc[0, 0]) ** 0.5
    theta = float(result.lmm.theta[0])
    assert result.bse.iloc[-1] == pytest.approx(2.0 * theta * sd, rel=1e-10)  # d(θ²) = 2θ dθ
    relative = result.lmm.cov_varpar("relative")
    assert list(relative) == ["var(Intercept|school)/sigma^2"]
    assert relative.iloc[0, 0] == pytest.approx(result.bse.iloc[-1] ** 2, rel=1e-12)
    with pytest.raises(exceptions.ParameterError, match="theta, sdcor, varcov, relative"):
        result.lmm.cov_varpar("nope")


def test_a_model_is_whole_and_stays_as_it_is(schools):
    model = slm.mixedlm("y ~ x", schools, groups="school")
    assert type(model) is slm.MixedLM
    assert vars(model).keys() == vars(slm.MixedLM(schools["y"], schools[["x"]], schools["school"])).keys()
    with pytest.raises(AttributeError):
        model._translation = None


def test_columns_of_a_component_need_names_of_their_own():
    n = 12
    groups, two = np.repeat([0, 1], 6), pd.DataFrame(np.eye(6)[:, :2], columns=["a", "a"])
    with pytest.raises(exceptions.DataError, match=r"component 'v' has two columns called 'a' in the group 0"):
        slm.MixedLM(np.arange(n) % 5.0, np.ones((n, 1)), groups, exog_vc={"v": {0: two, 1: two}})


def test_the_numbers_of_tests_have_statsmodels_names(schools):
    r = slm.mixedlm("y ~ x + z", schools, groups="school").fit()
    t, f, wald = r.t_test(np.eye(3)[1:]), r.f_test("x, z"), r.wald_test("x, z")
    np.testing.assert_allclose(t.effect, r.fe_params.iloc[1:])
    np.testing.assert_allclose(t.sd, r.bse_fe.iloc[1:])
    np.testing.assert_allclose(t.tvalue, t.effect / t.sd)
    np.testing.assert_allclose(t.conf_int(0.1), r.conf_int(0.1).iloc[1:3])
    assert list(t.summary_frame()) == ["coef", "std err", "z", "P>|z|", "Conf. Int. Low", "Conf. Int. Upp."]
    assert r.t_test("x", use_t=True).df_denom == f.df_denom == r.df_resid == len(schools) - 3
    assert (f.df_num, f.fvalue) == (2, pytest.approx(wald.statistic / 2))
    assert "F test" in f.summary()
    with pytest.raises(AttributeError, match="write statistic"):
        _ = wald.fvalue


def test_matrices_of_a_model_state_it_anew(schools):
    vcf = {"room": "0 + C(room)", "slope": "0 + C(room):x"}
    model = slm.mixedlm("y ~ x", schools, groups="school", re_formula="1 + z", vc_formula=vcf)
    again = slm.MixedLM(model.endog, model.exog, model.groups, model.exog_re, model.exog_vc)
    assert again.fit().llf == pytest.approx(model.fit().llf, abs=1e-8)
    assert model.exog_re.shape == (len(schools), 2)
    only = slm.mixedlm("y ~ x", schools, groups="school", vc_formula=vcf).exog_re
    assert only is None


def test_groups_by_a_list_of_names_and_use_sparse(schools):
    with pytest.raises(exceptions.ParameterError, match="write groups='school', the name alone"):
        slm.mixedlm("y ~ x", schools, groups=["school"])
    with pytest.raises(exceptions.ParameterError, match=r"vc_formula=\{'room': '0 \+ C\(room\)'\}"):
        slm.mixedlm("y ~ x", schools, groups=["school", "room"])
    for make in (slm.mixedlm, slm.MixedLM.from_formula):
        with pytest.warns(exceptions.DataWarning, match="always sparse"):
            make("y ~ x", schools, groups="school", use_sparse=True)
    with pytest.warns(exceptions.DataWarning, match="always sparse"):
        slm.MixedLM(schools["y"], schools[["x"]], schools["school"], use_sparse=False)


def test_the_column_of_standard_errors_goes_by_what_it_costs():
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(4000), 3)
    data = pd.DataFrame({"g": groups, "y": rng.normal(size=4000)[groups] + rng.normal(size=12000)})
    result = slm.mixedlm("y ~ 1", data, groups="g").fit()
    assert result.summary().table.loc["g Var", "Std.Err."] == f"{result.bse_re['g Var']:.3f}"
    assert "take" not in str(result.summary())
