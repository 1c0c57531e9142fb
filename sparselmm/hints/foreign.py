"""Arguments that people bring from R and statsmodels to the methods of a fit, and what to write instead."""

from __future__ import annotations

from sparselmm.hints.names import LMER_ARGUMENTS

_DDF = "write ddf='satterthwaite' or ddf='kenward-roger'"
_LEVEL = "write level=0.95"
_JOBS = "n_jobs= sets the number of processes"
_KIND = "write kind="
_REPLICATES = "write n="
_RE_FORM = "write re_form='~0' for none, None for all"
_TABLE = "leave it out; the result is a table"

#: Arguments that no function here has.
EVERYWHERE = {
    "alpha": "write level=0.95, the coverage, in place of alpha=0.05",
    "conf_level": _LEVEL,
    "lmer_df": _DDF,
    "use_t": "write ddf='normal' for normal quantiles",
    "parallel": _JOBS,
    "ncpus": _JOBS,
}

_TESTS = {
    "r_matrix": "write hypothesis=",
    "R": "write hypothesis=",
    "L": "write hypothesis=",
    "scalar": _TABLE,
    "use_f": "f_test is the F test, wald_test the χ² test",
    "joint": "f_test tests jointly, t_test one by one",
    "q": "write rhs=",
}

#: Arguments by the method of a fit.
FIT_ARGUMENTS: dict[str, dict[str, str]] = {
    "anova": {"test": "terms are tested by F; slm.anova(m1, m2) compares fits by likelihood ratios"},
    "augment": {"data": "the columns of the data are there already", "newdata": "fit.predict takes new data"},
    "bootstrap": {
        "nsim": _REPLICATES,
        "FUN": "write statistic=",
        "type": _KIND,
        "use_u": "random effects are drawn anew, as in bootMer by default",
    },
    "coef": {"*": "choose a factor from what it returns, as in fit.coef()['g']"},
    "conf_int": {
        "parm": "write which=, with method='profile' or 'boot'; Wald intervals are a table, fit.conf_int().loc['x']",
        "nsim": "write n=, with method='boot'",
        "boot_type": "write kind=, with method='boot'",
        "type": "write method=; of the bootstrap kind=",
        "quiet": "progress=False silences the bootstrap",
    },
    "drop1": {"scope": "every term that can go is tested"},
    "emmeans": {
        "type": "means are on the scale of the left side of the formula; transform their table yourself",
        "mode": _DDF,
        "method": "write contrasts='pairwise'",
        "infer": "intervals are always there, tests with contrasts=",
        "cov_reduce": "at={'x': value} sets covariates",
    },
    "evaluate": {"par": "write theta="},
    "f_test": _TESTS,
    "getME": {"object": "leave it out"},
    "influence": {"obs": "leave group out for single rows"},
    "predict": {
        "se_fit": "write se=True",
        "type": "there is no link function, so leave it out",
        "na_action": "rows that lack a variable are predicted as NaN",
        "exog": "write newdata=, a table with the columns of the formula",
        "transform": "newdata are transformed as in the fit, so leave it out",
        "random_only": "subtract predictions with re_form='~0'",
        "ReForm": _RE_FORM,
        "REform": _RE_FORM,
    },
    "profile": {"signames": "leave it out", "delta": "write spacing=", "alphamax": "write zeta_max="},
    "ranef": {
        "condVar": "write condvar=True",
        "postVar": "write condvar=True",
        "whichel": "choose from what it returns, as in fit.ranef()['g']",
        "drop": "leave it out; the result is a table per factor",
    },
    "ranova": {"reduce_terms": "slopes leave one by one"},
    "refit": {"newresp": "write y=", "REML": "write reml=False"},
    "residuals": {"type": _KIND, "scaled": "write kind='scaled'"},
    "simulate": {"use_u": "re_form=None keeps the random effects", "family": LMER_ARGUMENTS["family"]},
    "summary": {
        "xname_fe": "names are those of the formula",
        "xname_re": "names are those of the formula",
        "yname": "names are those of the formula",
        "corr": "write correlation=True",
    },
    "t_test": _TESTS,
    "tidy": {"conf_method": "intervals are Wald here; fit.conf_int(method='profile') has others"},
    "update": LMER_ARGUMENTS,
    "wald_test": _TESTS,
}

_TO_FIT = "it belongs to fit: model.fit(reml=False)"

#: Arguments by the method of an unfitted model.
MODEL_ARGUMENTS: dict[str, dict[str, str]] = {
    "from_formula": {**LMER_ARGUMENTS, "reml": _TO_FIT, "REML": _TO_FIT},
    "from_arrays": {"groups": "terms=[(groups, None)] is a random intercept", "reml": _TO_FIT, "REML": _TO_FIT},
    "fit": {"REML": LMER_ARGUMENTS["REML"], "method": LMER_ARGUMENTS["method"]},
    "at": {"REML": LMER_ARGUMENTS["REML"]},
}

#: Arguments by function of the package.
FUNCTION_ARGUMENTS: dict[str, dict[str, str]] = {
    "anova": {
        "test": "fits are compared by likelihood ratios, so leave it out",
        "type": "it belongs to one fit: fit.anova(type='III')",
        "ddf": "it belongs to one fit: fit.anova(ddf=...)",
        "model_names": "write names=",
    },
    "bootstrap_lrt": {"nsim": _REPLICATES, **EVERYWHERE},
    "diagnose": LMER_ARGUMENTS,
    "fit_many": {"REML": LMER_ARGUMENTS["REML"]},
    "simulate": {
        "newparams": "write theta=, beta= and sigma=",
        "newdata": "write data=",
        "object": "write formula=",
        "family": LMER_ARGUMENTS["family"],
    },
}
