"""Names of R and statsmodels lead to ours."""

from __future__ import annotations

import ast
import inspect
import re
import traceback
from pathlib import Path

import pytest

import sparselmm as slm
from sparselmm.api.fitting import LMER_TAKES
from sparselmm.doors.mixedlm import MixedLMResults
from sparselmm.exceptions import DataError, FormulaError, ParameterError, SparseLMMWarning
from sparselmm.hints.table import ARGUMENTS, FIT_ADVICE, FIT_NAMES, advice
from sparselmm.report.plots import Plots


@pytest.fixture(scope="module")
def fit():
    return slm.lmer("Yield ~ 1 + (1 | Batch)", slm.load_dataset("dyestuff"))


@pytest.mark.parametrize(("name", "ours"), FIT_NAMES.items())
def test_hint_names_something_that_exists(fit, name, ours):
    with pytest.raises(AttributeError, match="is called"):
        getattr(fit, name)
    assert hasattr(fit, ours.removesuffix("()"))


def test_unknown_names_have_no_hint(fit):
    with pytest.raises(AttributeError, match=r"'zzz'$"):
        _ = fit.zzz


def test_models_that_are_not_fitted_here_are_named():
    with pytest.raises(AttributeError, match="only linear models"):
        _ = slm.glmer


@pytest.mark.parametrize(
    ("name", "ours"),
    [("fixef", "fit.params"), ("summary", "fit.summary()"), ("ranef", "fit.ranef()"), ("aic", "fit.aic")],
)
def test_functions_of_r_are_asked_of_the_fit(name, ours):
    with pytest.raises(AttributeError, match=re.escape(ours) + "$"):
        getattr(slm, name)


def test_unknown_names_of_the_package_have_no_hint():
    with pytest.raises(AttributeError, match=r"'zzz'$"):
        _ = slm.zzz
    assert not hasattr(slm, "__wrapped__")


@pytest.mark.parametrize(
    ("function", "arguments", "text"),
    [
        (slm.lmer, {"REML": False}, r"lmer\(\) has no argument 'REML'; write reml=True or reml=False"),
        (slm.lmer, {"groups": "Batch"}, r"\(1 \| group\)'; slm.mixedlm"),
        (slm.lmer, {"family": "binomial"}, "only Gaussian responses"),
        (slm.lmer, {"weight": "w"}, "did you mean weights=?"),
        (slm.lmer, {"zzz": 1}, "there are formula, data, reml,"),
        (slm.mixedlm, {"reml": False}, r"\.fit\(reml=False\)"),
    ],
)
def test_unknown_arguments(function, arguments, text):
    with pytest.raises(TypeError, match=text):
        function("Yield ~ 1 + (1 | Batch)", slm.load_dataset("dyestuff"), **arguments)


def test_arguments_by_position():
    with pytest.raises(TypeError, match="takes only formula, data by position; name the others, as in reml="):
        slm.lmer("Yield ~ 1 + (1 | Batch)", slm.load_dataset("dyestuff"), False)
    with pytest.raises(TypeError, match="as in groups="):
        slm.mixedlm("Yield ~ 1", slm.load_dataset("dyestuff"), "Batch")


def test_help_shows_the_signature():
    assert tuple(inspect.signature(slm.lmer).parameters) == LMER_TAKES
    assert list(inspect.signature(slm.lmer).parameters)[:3] == ["formula", "data", "reml"]
    assert slm.lmer.__doc__.startswith("Fit a linear mixed-effects model")


@pytest.mark.parametrize("name", ["scores.csv", Path("scores.csv")])
def test_a_file_in_place_of_a_table(name):
    for function in (slm.lmer, slm.mixedlm):
        with pytest.raises(DataError, match=r"pandas\.read_csv\('scores\.csv'\)"):
            function("y ~ x + (1 | g)", name)
    with pytest.raises(DataError, match="read_parquet"):
        slm.lmer("y ~ x + (1 | g)", "scores.parquet")


def test_arguments_in_the_wrong_order():
    with pytest.raises(FormulaError, match="must be a text"):
        slm.lmer(slm.load_dataset("dyestuff"), "Yield ~ 1 + (1 | Batch)")


def test_plots_say_which_there_are(fit):
    with pytest.raises(TypeError, match=r"fit\.plot\.qq\(\); there are caterpillar, "):
        fit.plot()
    with pytest.raises(AttributeError, match="there is no plot 'residuals'; there are caterpillar, "):
        _ = fit.plot.residuals
    with pytest.raises(AttributeError, match="plot_profile"):
        _ = fit.plot.profile
    assert repr(fit.plot).startswith("<plots of a fit: caterpillar, ")


def test_a_level_that_looks_like_alpha(fit):
    with pytest.raises(TypeError, match=r"level=0\.95"):
        fit.conf_int(alpha=0.05)
    assert fit.conf_int(method="Wald").equals(fit.conf_int())
    with pytest.warns(SparseLMMWarning, match=r"cover 5 %; for 95 % pass level=0\.95"):
        fit.conf_int(0.05)


OWNERS = {
    "fit": slm.MixedModelFit,
    "model": slm.LinearMixedModel,
    "MixedLM": slm.MixedLM,
    "MixedLMResults": MixedLMResults,
    "plots": Plots,
    "": slm,
}


def functions_of(where):
    """Return the functions that a key of the table stands for."""
    owner, _, name = where.rpartition(".")
    names = [n for n in dir(OWNERS[owner]) if not n.startswith("_")] if name == "*" else [name]
    return [f for f in (getattr(OWNERS[owner], n) for n in names) if callable(f)]


@pytest.mark.parametrize("where", ARGUMENTS)
def test_hints_about_arguments_name_none_that_exists(where):
    found = functions_of(where)
    assert found
    for function in found:
        taken = {*inspect.signature(function).parameters}
        if where == "fit.update":
            taken = taken - {"subset"} | {*inspect.signature(slm.lmer).parameters}
        assert not set(ARGUMENTS[where]) & taken


def test_the_hints_of_a_method_are_its_own_and_those_of_all():
    assert set(advice("fit.evaluate")) == {"par", *ARGUMENTS["fit.*"]}
    assert advice("lmer") == ARGUMENTS["lmer"]
    assert advice("plots.qq") == ARGUMENTS["plots.*"]


@pytest.mark.parametrize(
    "cls", [slm.MixedModelFit, slm.LinearMixedModel, slm.FittedModel, slm.MixedLM, MixedLMResults, Plots]
)
def test_every_public_method_refuses_an_unknown_argument_by_its_own_name(cls):
    names = [n for n, f in inspect.getmembers(cls) if inspect.isfunction(f) or inspect.ismethod(f)]
    names = [n for n in names if not n.startswith("_")]
    assert len(names) >= 2
    for name in names:
        takes = inspect.signature(getattr(cls, name)).parameters.values()
        if not any(p.kind is p.VAR_KEYWORD for p in takes):
            with pytest.raises(TypeError, match=rf"^{name}\(\) has no argument 'zzz'; "):
                getattr(cls, name)(None, zzz=1)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda m: m.predict(se_fit=True), r"^predict\(\) has no argument 'se_fit'; write se=True$"),
        (lambda m: m.predict(type="response"), "no link function"),
        (lambda m: m.ranef(condVar=True), "write condvar=True"),
        (lambda m: m.residuals(type="pearson"), "write kind="),
        (lambda m: m.residuals(scaled=True), "write kind='scaled'"),
        (lambda m: m.bootstrap(nsim=10), "write n="),
        (lambda m: m.bootstrap(10, "parametric", 1), "only n, kind by position; name the others, as in seed="),
        (lambda m: m.emmeans("x", tran="log"), "write type='response'"),
        (lambda m: m.emtrends("f", "x", method="pairwise"), "write contrasts="),
        (lambda m: m.emmeans("x", mode="kenward-roger"), "write ddf="),
        (lambda m: m.tidy(conf_level=0.9), r"write level=0\.95"),
        (lambda m: m.conf_int(method="boot", nsim=100), "write n="),
        (lambda m: m.conf_int(parm="sigma"), "write which=, with method='profile'"),
        (lambda m: m.conf_int(method="profile", zzz=1), r"profile_conf_int\(\) has no argument 'zzz'; there are"),
        (lambda m: m.update(REML=False), "write reml=True or reml=False"),
        (lambda m: m.update(weight="w"), "did you mean weights="),
        (lambda m: m.summary(alpha=0.1), r"write level=0\.95"),
        (lambda m: m.coef("Batch"), r"coef\(\) takes nothing by position; choose a factor .* fit\.coef\(\)\['g'\]"),
        (lambda m: m.plot.qq(figsize=(3, 3)), r"plt\.subplots\(figsize="),
        (lambda m: m.t_test(), r"^t_test\(\) needs hypothesis$"),
        (lambda m: slm.lmer("y ~ x + (1 | g)"), r"^lmer\(\) needs data$"),
        (lambda m: slm.simulate("~ 1 + (1 | Batch)", {}, sigma=1), "needs theta and beta"),
        (lambda m: slm.plot_profile(m, figsize=(3, 3)), "set_size_inches"),
        (lambda m: slm.anova(m, m, test="Chisq"), "leave it out"),
        (lambda m: slm.bootstrap_lrt(m, m, nsim=9), "write n="),
        (lambda m: slm.diagnose("Yield ~ 1 + (1 | Batch)", {}, REML=True), "write reml="),
        (lambda m: slm.simulate("~ 1 + (1 | Batch)", {}, newparams={}), "write theta="),
        (lambda m: slm.LinearMixedModel.from_formula("y ~ 1 + (1 | g)", {}, reml=False), "belongs to fit"),
    ],
)
def test_arguments_of_r_and_statsmodels(fit, call, text):
    with pytest.raises(TypeError, match=text):
        call(fit)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda m: m.ranef("Batch"), r"True or False; .* ranef\(\)\['Batch'\]"),
        (lambda m: m.anova(m), r"slm\.anova\(m1, m2\) compares fits"),
        (lambda m: m.conf_int(which="beta_"), "no which, which goes with method='profile' or 'boot'"),
        (lambda m: m.update(control="bobyqa"), "write optimizer='bobyqa'"),
        (lambda m: m.update(optimizer="Nelder_Mead"), "is called 'nelder_mead' here"),
        (lambda m: m.getME(["theta", "zzz"]), "unknown component 'zzz'"),
        (lambda m: m.plot.criterion_contour(), r"two entries of theta; this model has 1, .* slm\.plot_profile"),
        (lambda m: m.plot.fitted_lines(), "numeric variable; there are none"),
        (lambda m: slm.plot_profile(m), r"not MixedModelFit: slm\.plot_profile\(fit\.profile\(\)\)"),
        (lambda m: slm.plot_profile_pairs(m), r"slm\.plot_profile_pairs\(fit\.profile\(\)\)"),
    ],
)
def test_calls_that_lead_elsewhere(fit, call, text):
    with pytest.raises(ParameterError, match=text):
        call(fit)


def test_several_components_at_once(fit):
    found = fit.getME(["theta", "beta"])
    assert list(found) == ["theta", "beta"]
    assert found["beta"] is fit.getME("beta")


def test_methods_keep_their_signatures_and_texts():
    assert next(iter(inspect.signature(slm.MixedModelFit.predict).parameters)) == "self"
    assert slm.MixedModelFit.predict.__doc__.startswith("Predict means")
    assert slm.LinearMixedModel.from_formula.__self__ is slm.LinearMixedModel


@pytest.mark.parametrize("name", FIT_ADVICE)
def test_names_without_counterpart_have_advice(fit, name):
    with pytest.raises(AttributeError, match=rf"no attribute '{name}'; {re.escape(FIT_ADVICE[name])}"):
        getattr(fit, name)
    for ours in re.findall(r"fit\.(\w+)", FIT_ADVICE[name]):
        assert hasattr(fit, ours)


@pytest.mark.parametrize("name", ["step", "qqnorm", "refitML", "allFit", "contest", "lmerControl"])
def test_functions_of_r_without_counterpart(name):
    with pytest.raises(AttributeError, match=rf"'sparselmm' has no attribute '{name}': "):
        getattr(slm, name)


def test_a_loaded_model_says_what_only_a_fit_has(fit, tmp_path):
    fit.save(tmp_path / "m.slmm")
    loaded = slm.load(tmp_path / "m.slmm")
    for name in ("anova", "conf_int", "coef_table", "pvalues", "emmeans", "coef", "tidy", "t_test", "confint"):
        with pytest.raises(AttributeError, match=rf"no attribute '{name}', which needs the whole fit; .* pickle"):
            getattr(loaded, name)
    with pytest.raises(AttributeError, match="it is called params here"):
        _ = loaded.fixef
    with pytest.raises(AttributeError, match=r"'zzz'$"):
        _ = loaded.zzz


def test_completion_offers_public_names_only(fit):
    assert not [name for name in dir(fit) if name.startswith("_")]
    assert {"params", "summary", "plot", "predict"} < set(dir(fit))


def test_type_checkers_see_every_public_name():
    tree = ast.parse(Path(slm.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
    seen = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == set(slm.__all__) - {"__version__"}
    assert Path(slm.__file__).with_name("py.typed").is_file()


def files_of(error):
    """Return the files of the package in the traceback of an error, from the call to the place."""
    package, files = Path(slm.__file__).parent, [Path(f.filename) for f in traceback.extract_tb(error.__traceback__)]
    return [file.relative_to(package).as_posix() for file in files if package in file.parents]


@pytest.mark.parametrize(
    "call",
    [
        lambda m: slm.lmer("y ~ 1 + (1 | g)", {}, REML=False),
        lambda m: m.predict(se_fit=True),
        lambda m: m.coef("Batch"),
        lambda m: slm.LinearMixedModel.from_formula("y ~ 1 + (1 | g)", {}, reml=False),
    ],
)
def test_a_refused_call_is_refused_where_it_stands(fit, call):
    with pytest.raises(TypeError) as info:
        call(fit)
    assert files_of(info.value.with_traceback(info.tb)) == []


@pytest.mark.parametrize(
    ("call", "first"),
    [
        (lambda m: slm.lmer("Yield ~ nope + (1 | Batch)", slm.load_dataset("dyestuff")), "api/model.py"),
        (lambda m: m.summary(ddf="nope"), "api/fit.py"),
        (lambda m: m.tidy(ddf="nope"), "api/components.py"),
        (lambda m: m.t_test(None), "api/inference.py"),
        (lambda m: m.conf_int(alpha=0.1), "api/inference.py"),
        (lambda m: m.plot.qq("nope"), "report/plots/collection.py"),
    ],
)
def test_tracebacks_go_straight_to_the_fault(fit, call, first):
    with pytest.raises((ParameterError, DataError, TypeError)) as info:
        call(fit)
    files = files_of(info.value.with_traceback(info.tb))
    assert files[0] == first
    assert sum(name.startswith("hints/") for name in files) <= 1


def test_an_error_of_ones_own_keeps_its_text_and_cause(fit):
    def statistic(replicate):
        raise TypeError("mine") from ValueError("below")

    with pytest.raises(TypeError, match=r"^mine$") as info:
        fit.bootstrap(2, seed=1, statistic=statistic, progress=False)
    assert isinstance(info.value.__cause__, ValueError)
    assert info.traceback[-1].name == "statistic"
