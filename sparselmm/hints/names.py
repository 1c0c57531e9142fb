"""Names that people bring from R and statsmodels, and what they are called here."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from sparselmm.exceptions import DataError, ParameterError, SparseLMMWarning, warn_user
from sparselmm.hints.arguments import argument_hints as argument_hints

FIT_NAMES = {
    "fixef": "params",
    "fe_params": "params",
    "bse_fe": "bse",
    "VarCorr": "varcorr",
    "cov_re": "varcorr",
    "vcomp": "varcorr",
    "random_effects": "ranef()",
    "confint": "conf_int()",
    "vcov": "cov_params()",
    "logLik": "llf",
    "loglike": "llf",
    "AIC": "aic",
    "BIC": "bic",
    "residual": "resid",
    "fitted": "fittedvalues",
    "coefficients": "coef()",
    "lsmeans": "emmeans()",
    "show": "summary()",
    "REMLcrit": "criterion",
    "isSingular": "is_singular",
    "hatvalues": "leverage()",
    "bootMer": "bootstrap()",
    "rePCA": "random_effects_pca()",
    "std_errors": "bse",
    "se": "bse",
    "tvals": "tvalues",
    "beta": "params",
    "fixed_effects": "params",
    "loglik": "llf",
    "var_corr": "varcorr",
    "fitted_values": "fittedvalues",
    "ngrps": "ngroups",
    "contest": "f_test()",
}

#: What to do for names that have no counterpart of one word.
FIT_ADVICE = {
    "fit": "it is fitted already; fit.update() and fit.refit() fit again",
    "data": "the table given is fit.source.data",
    "refitML": "write fit.refit(reml=False)",
    "qqnorm": "fit.plot.qq() draws it",
    "step": "fit.drop1() and fit.ranova() test each term that can go, fit.update('. ~ . - x') fits without it",
    "emtrends": "slopes are coefficients and their sums: fit.t_test('x + x:f[T.b]')",
    "allFit": "fit again with each optimizer=, fit.converged says by exact derivatives whether one is right",
    "sigma2": "it is fit.scale, the square of fit.sigma",
}

PACKAGE_NAMES = {
    "glmer": "only linear models are fitted here; generalized ones need another program",
    "nlmer": "only linear models are fitted here; nonlinear ones need another program",
    "read_csv": "read the table first, for example with pandas.read_csv",
    "lm": "lmer needs a random term; models without any are fitted by statsmodels' ols",
    "ols": "lmer needs a random term; models without any are fitted by statsmodels' ols",
    "smf": "statsmodels' smf.mixedlm is slm.mixedlm here",
    "lmerControl": "the search is chosen by optimizer='bobyqa', the effort of the iterative solver by control=",
}

_SUBSET = "select the rows first, for example data[data.x > 0]"
_MISSING = "na_action='omit' (default), 'exclude' or 'fail' says what becomes of missing values"

#: Arguments of lme4's and statsmodels' functions that `lmer` does not have.
LMER_ARGUMENTS = {
    "REML": "write reml=True or reml=False",
    "family": "only Gaussian responses are fitted here; R's glmer fits others",
    "groups": "the groups stand in the formula, as in 'y ~ x + (1 | group)'; slm.mixedlm takes groups=",
    "re_formula": "random terms stand in the formula, as in 'y ~ x + (x | group)'; slm.mixedlm takes re_formula=",
    "vc_formula": "random terms stand in the formula, as in 'y ~ x + (1 | a/b)'; slm.mixedlm takes vc_formula=",
    "random": "random terms stand in the formula, as in 'y ~ x + (x | group)'",
    "correlation": "residuals are independent here",
    "method": "reml= chooses the criterion, optimizer= the search",
    "subset": _SUBSET,
    "na": _MISSING,
    "missing": _MISSING,
    "ddf": "degrees of freedom are chosen afterwards: fit.summary(ddf=...), fit.coef_table(ddf)",
}

#: Arguments that `mixedlm` does not have.
MIXEDLM_ARGUMENTS = {
    "subset": _SUBSET,
    "use_sparse": "matrices are always sparse; leave it out",
    "reml": "it belongs to fit: slm.mixedlm(...).fit(reml=False)",
    "REML": "it belongs to fit: slm.mixedlm(...).fit(reml=False)",
    "family": LMER_ARGUMENTS["family"],
    "weights": "slm.lmer takes weights=",
    "na_action": "missing='drop' (default) or 'none' says what becomes of missing values",
}

#: Names of statsmodels' results, and where their content is.
RESULT_NAMES = {
    "wald_test_terms": "lmm.anova()",
    "get_prediction": "lmm.predict(data, se=True)",
    "mle_retvals": "lmm.optimizer_report",
    "remove_data": "lmm.save(path), a file without data",
    "hist": "lmm.optimizer_report",
}

#: R's optimizers, as lmerControl spells them.
R_OPTIMIZERS = {"Nelder_Mead": "nelder_mead", "nloptwrap": "bobyqa", "nmkbw": "nelder_mead"}

_INTERVAL_BELOW = 0.5


def fit_hint(name: str) -> str:
    """Return the text of the error for an unknown attribute of a fit."""
    text = f"a fit has no attribute {name!r}"
    if name in FIT_ADVICE:
        return f"{text}; {FIT_ADVICE[name]}"
    known = FIT_NAMES.get(name)
    return f"{text}; it is called {known} here" if known else text


def loaded_hint(name: str, loaded: type, fit: type) -> str:
    """Return the text of the error for an unknown attribute of a loaded model, given its class and that of a fit.

    >>> class Fit:
    ...     anova = None
    >>> loaded_hint("anova", object, Fit)
    "a loaded model has no attribute 'anova', which needs the whole fit; keep that by pickle.dump(fit, file)"
    """
    text = f"a loaded model has no attribute {name!r}"
    known = FIT_NAMES.get(name, name).removesuffix("()")
    if name.startswith("_") or not hasattr(fit, known):
        return text
    if known != name and hasattr(loaded, known):
        return f"{text}; it is called {FIT_NAMES[name]} here"
    return f"{text}, which needs the whole fit; keep that by pickle.dump(fit, file)"


def result_hint(name: str, fit: type) -> str:
    """Return the text of the error for an unknown attribute of statsmodels' kind of result, given the class of a fit.

    >>> class Fit:
    ...     df_resid = None
    >>> result_hint("df_resid", Fit)
    "MixedLMResults has no attribute 'df_resid'; there is lmm.df_resid"
    """
    text = f"MixedLMResults has no attribute {name!r}"
    if name in RESULT_NAMES:
        return f"{text}; there is {RESULT_NAMES[name]}"
    return f"{text}; there is lmm.{name}" if not name.startswith("_") and hasattr(fit, name) else text


def package_hint(name: str, fit: Callable[[], type]) -> str:
    """Return the text of the error for an unknown name of the package; ``fit`` returns the class of a fit if need be.

    >>> package_hint("fixef", lambda: object)
    "module 'sparselmm' has no attribute 'fixef': ask the fit, fit.params"
    """
    text = f"module 'sparselmm' has no attribute {name!r}"
    if name in PACKAGE_NAMES:
        return f"{text}: {PACKAGE_NAMES[name]}"
    own = not name.startswith("_") and hasattr(fit(), name)
    if name in FIT_ADVICE:
        return f"{text}: {FIT_ADVICE[name]}"
    if name not in FIT_NAMES and not own:
        return text
    known = FIT_NAMES.get(name, f"{name}()" if callable(getattr(fit(), name, None)) else name)
    return f"{text}: ask the fit, fit.{known}"


def refuse_file_name(data: Any) -> None:
    """Refuse the name of a file in place of a table, and say how to read one."""
    if isinstance(data, str | os.PathLike) and "~" not in str(data):
        reader = "read_parquet" if str(data).endswith(".parquet") else "read_csv"
        raise DataError(f"the data must be a table, not the name of one: read it first, pandas.{reader}({str(data)!r})")


def check_choice(optimizer: Any = None, control: Any = None) -> None:
    """Refuse the name of an optimizer where another one, or none, is meant."""
    if isinstance(control, str):
        raise ParameterError(f"control= holds the effort of the iterative solver; write optimizer={control!r}")
    if isinstance(optimizer, str) and optimizer in R_OPTIMIZERS:
        raise ParameterError(f"R's optimizer {optimizer!r} is called {R_OPTIMIZERS[optimizer]!r} here")


def check_interval(level: float) -> None:
    """Warn when a level looks like statsmodels' ``alpha``."""
    if isinstance(level, float) and 0.0 < level < _INTERVAL_BELOW:
        text = f"these intervals cover {100 * level:g} %; for {100 * (1 - level):g} % pass level={1 - level:g}"
        warn_user(text, SparseLMMWarning)
