"""Names of R and statsmodels lead to ours."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

import sparselmm as slm
from sparselmm.api.hints import FIT_NAMES, LMER_ARGUMENTS, MIXEDLM_ARGUMENTS
from sparselmm.exceptions import DataError, FormulaError, ParameterError, SparseLMMWarning


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


@pytest.mark.parametrize("function", [slm.lmer, slm.mixedlm])
def test_hints_about_arguments_name_none_that_exist(function):
    hints = LMER_ARGUMENTS if function is slm.lmer else MIXEDLM_ARGUMENTS
    assert not set(hints) & set(inspect.signature(function).parameters)


@pytest.mark.parametrize(
    ("function", "arguments", "text"),
    [
        (slm.lmer, {"REML": False}, r"lmer\(\) has no argument 'REML'; write reml=True or reml=False"),
        (slm.lmer, {"groups": "Batch"}, r"\(1 \| group\)'; slm.mixedlm"),
        (slm.lmer, {"family": "binomial"}, "only Gaussian responses"),
        (slm.lmer, {"weight": "w"}, "did you mean weights=?"),
        (slm.lmer, {"zzz": 1}, "there are formula, data, reml,"),
        (slm.mixedlm, {"use_sparse": True}, "always sparse"),
        (slm.mixedlm, {"reml": False}, r"\.fit\(reml=False\)"),
    ],
)
def test_unknown_arguments(function, arguments, text):
    with pytest.raises(TypeError, match=text):
        function("Yield ~ 1 + (1 | Batch)", slm.load_dataset("dyestuff"), **arguments)


def test_arguments_by_position():
    with pytest.raises(TypeError, match="takes only formula, data by position; name the others, as in reml=False"):
        slm.lmer("Yield ~ 1 + (1 | Batch)", slm.load_dataset("dyestuff"), False)
    with pytest.raises(TypeError, match="groups='g'"):
        slm.mixedlm("Yield ~ 1", slm.load_dataset("dyestuff"), "Batch")


def test_help_shows_the_signature():
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
    with pytest.raises(ParameterError, match=r"level=0\.95"):
        fit.conf_int(alpha=0.05)
    assert fit.conf_int(method="Wald").equals(fit.conf_int())
    with pytest.warns(SparseLMMWarning, match=r"cover 5 %; for 95 % pass level=0\.95"):
        fit.conf_int(0.05)


def test_completion_offers_public_names_only(fit):
    assert not [name for name in dir(fit) if name.startswith("_")]
    assert {"params", "summary", "plot", "predict"} < set(dir(fit))


def test_type_checkers_see_every_public_name():
    tree = ast.parse(Path(slm.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
    seen = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == set(slm.__all__) - {"__version__"}
    assert Path(slm.__file__).with_name("py.typed").is_file()
