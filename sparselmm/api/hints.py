"""Names that people bring from R and statsmodels, and what they are called here."""

from __future__ import annotations

import difflib
import functools
import inspect
import os
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from sparselmm.exceptions import DataError, ParameterError, SparseLMMWarning, warn_user

P = ParamSpec("P")
T = TypeVar("T")

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
    "tvals": "tvalues",
}

PACKAGE_NAMES = {
    "glmer": "only linear models are fitted here; generalized ones need another program",
    "nlmer": "only linear models are fitted here; nonlinear ones need another program",
    "read_csv": "read the table first, for example with pandas.read_csv",
    "lm": "lmer needs a random term; models without any are fitted by statsmodels' ols",
    "ols": "lmer needs a random term; models without any are fitted by statsmodels' ols",
    "smf": "statsmodels' smf.mixedlm is slm.mixedlm here",
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

_INTERVAL_BELOW = 0.5


def fit_hint(name: str) -> str:
    """Return the text of the error for an unknown attribute of a fit."""
    known = FIT_NAMES.get(name)
    return f"a fit has no attribute {name!r}" + (f"; it is called {known} here" if known else "")


def result_hint(name: str) -> str:
    """Return the text of the error for an unknown attribute of statsmodels' kind of result.

    >>> result_hint("df_resid")
    "MixedLMResults has no attribute 'df_resid'; there is lmm.df_resid"
    """
    from sparselmm.api.fit import MixedModelFit

    text = f"MixedLMResults has no attribute {name!r}"
    if name in RESULT_NAMES:
        return f"{text}; there is {RESULT_NAMES[name]}"
    return f"{text}; there is lmm.{name}" if not name.startswith("_") and hasattr(MixedModelFit, name) else text


def package_hint(name: str) -> str:
    """Return the text of the error for an unknown name of the package.

    >>> package_hint("fixef")
    "module 'sparselmm' has no attribute 'fixef': ask the fit, fit.params"
    """
    text = f"module 'sparselmm' has no attribute {name!r}"
    if name in PACKAGE_NAMES:
        return f"{text}: {PACKAGE_NAMES[name]}"
    from sparselmm.api.fit import MixedModelFit

    own = not name.startswith("_") and hasattr(MixedModelFit, name)
    if name not in FIT_NAMES and not own:
        return text
    known = FIT_NAMES.get(name, f"{name}()" if callable(getattr(MixedModelFit, name, None)) else name)
    return f"{text}: ask the fit, fit.{known}"


def argument_hints(hints: Mapping[str, str]) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Return a decorator that refuses arguments a function does not have, with what to write instead.

    Parameters
    ----------
    hints : mapping
        What to do, by the name of the argument.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        parameters = inspect.signature(function).parameters
        places = sum(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters.values())
        name = function.__name__

        @functools.wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> T:
            for given in kwargs:
                if given not in parameters:
                    raise TypeError(f"{name}() has no argument {given!r}; {_instead(given, hints, list(parameters))}")
            if len(args) > places:
                first = ", ".join(list(parameters)[:places])
                raise TypeError(f"{name}() takes only {first} by position; name the others, as in {_example(name)}")
            return function(*args, **kwargs)

        return checked

    return decorate


def _instead(given: str, hints: Mapping[str, str], names: list[str]) -> str:
    near = difflib.get_close_matches(given.lower(), names, n=1)
    return hints.get(given) or (f"did you mean {near[0]}=?" if near else f"there are {', '.join(names)}")


def _example(name: str) -> str:
    return "groups='g'" if name == "mixedlm" else "reml=False"


def refuse_file_name(data: Any) -> None:
    """Refuse the name of a file in place of a table, and say how to read one."""
    if isinstance(data, str | os.PathLike) and "~" not in str(data):
        reader = "read_parquet" if str(data).endswith(".parquet") else "read_csv"
        raise DataError(f"the data must be a table, not the name of one: read it first, pandas.{reader}({str(data)!r})")


def check_interval(level: float, options: Mapping[str, Any]) -> None:
    """Refuse statsmodels' ``alpha=``, and warn when a level looks like one."""
    if "alpha" in options:
        raise ParameterError("conf_int takes the coverage, level=0.95, in place of alpha=0.05")
    if isinstance(level, float) and 0.0 < level < _INTERVAL_BELOW:
        text = f"these intervals cover {100 * level:g} %; for {100 * (1 - level):g} % pass level={1 - level:g}"
        warn_user(text, SparseLMMWarning)
