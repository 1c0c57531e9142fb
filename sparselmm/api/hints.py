"""Names that people bring from R and statsmodels, and what they are called here."""

from __future__ import annotations

FIT_NAMES = {
    "fixef": "params",
    "fe_params": "params",
    "VarCorr": "varcorr",
    "cov_re": "varcorr",
    "random_effects": "ranef()",
    "confint": "conf_int()",
    "vcov": "cov_params()",
    "logLik": "llf",
    "loglike": "llf",
    "AIC": "aic",
    "BIC": "bic",
    "residual": "resid",
    "fitted": "fittedvalues",
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
}


def fit_hint(name: str) -> str:
    """Return the text of the error for an unknown attribute of a fit."""
    known = FIT_NAMES.get(name)
    return f"a fit has no attribute {name!r}" + (f"; it is called {known} here" if known else "")
