"""The table of names and arguments of other packages, and what to write here in their place; it holds nothing else.

People come from R's lme4, lmerTest, emmeans and broom.mixed, and from statsmodels.
"""

from __future__ import annotations

from collections.abc import Mapping

# --- names -------------------------------------------------------------------------------------

#: Attributes of a fit, and what they are called here.
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
    "allFit": "fit again with each optimizer=, fit.converged says by exact derivatives whether one is right",
    "sigma2": "it is fit.scale, the square of fit.sigma",
}

#: Functions of other packages that are not here.
PACKAGE_NAMES = {
    "glmer": "only linear models are fitted here; generalized ones need another program",
    "nlmer": "only linear models are fitted here; nonlinear ones need another program",
    "read_csv": "read the table first, for example with pandas.read_csv",
    "lm": "lmer needs a random term; models without any are fitted by statsmodels' ols",
    "ols": "lmer needs a random term; models without any are fitted by statsmodels' ols",
    "smf": "statsmodels' smf.mixedlm is slm.mixedlm here",
    "lmerControl": "the search is chosen by optimizer='bobyqa', the effort of the iterative solver by control=",
}

#: Names of statsmodels' results, and where their content is.
RESULT_NAMES = {
    "t_test_pairwise": "lmm.emmeans('f', contrasts='pairwise') for a factor f",
    "score": "converged, which exact derivatives certify",
    "hessian": "cov_params(), from the inverse of the second derivatives",
    "wald_test_terms": "lmm.anova()",
    "get_prediction": "lmm.predict(data, se=True)",
    "mle_retvals": "lmm.optimizer_report",
    "remove_data": "lmm.save(path), a file without data",
    "hist": "lmm.optimizer_report",
}

#: Names of statsmodels' models, and where their content is.
MODEL_NAMES = {
    "data": "the table given is model.lmm.source.data; names are in endog_names and exog_names",
    "score": "the fit is checked by exact derivatives already: model.fit().converged says that they are zero",
    "hessian": "write model.fit().cov_params(), from the inverse of the second derivatives",
    "fit_regularized": "penalties are not supported; for fewer effects compare fits, slm.anova(r0.lmm, r1.lmm)",
    "loglike": "write model.lmm.at(theta).llf, or llf of the fit",
}

#: R's optimizers, as lmerControl spells them.
R_OPTIMIZERS = {"Nelder_Mead": "nelder_mead", "nloptwrap": "bobyqa", "nmkbw": "nelder_mead"}

#: Functions of R's formulas that are not available.
FORMULA_FUNCTIONS = {
    "s": "smooth terms are not part of this package: use bs(x, df=...) or cs(x, df=...)",
    "Surv": "survival responses are not supported",
    "cbind": "fit one response at a time",
    "dummy": "write as.numeric(f == 'level')",
}

#: Contrasts of R and patsy that are not available.
CONTRASTS = ("Diff", "SAS", "contr.SAS", "contr.sdif", "Simple", "Scan")

# --- arguments ---------------------------------------------------------------------------------

_DDF = "write ddf='satterthwaite' or ddf='kenward-roger'"
_LEVEL = "write level=0.95"
_JOBS = "n_jobs= sets the number of processes"
_KIND = "write kind="
_REPLICATES = "write n="
_RE_FORM = "write re_form='~0' for none, None for all"
_TABLE = "leave it out; the result is a table"
_TO_FIT = "it belongs to fit: model.fit(reml=False)"
_SUBSET = "select the rows first, for example data[data.x > 0]"
_MISSING = "na_action='omit' (default), 'exclude' or 'fail' says what becomes of missing values"
_FIGURE = "make the axes first, fig, ax = plt.subplots(figsize=(8, 5)), and pass ax=ax"
_LEVEL_OF_ALPHA = {"level": "write alpha=0.05; lmm.conf_int(level=0.95) has intervals with degrees of freedom"}
_COVARIANCE = dict.fromkeys(("cov_p", "invcov"), "the covariance of the estimates is that of cov_params()")

_EVERYWHERE = {
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
_LMER = {
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
_MIXEDLM = {
    "subset": _SUBSET,
    "reml": "it belongs to fit: slm.mixedlm(...).fit(reml=False)",
    "REML": "it belongs to fit: slm.mixedlm(...).fit(reml=False)",
    "family": _LMER["family"],
    "weights": "slm.lmer takes weights=",
    "na_action": "missing='drop' (default) or 'none' says what becomes of missing values",
}
_COMPARISON = {
    **_EVERYWHERE,
    "test": "fits are compared by likelihood ratios, so leave it out",
    "type": "it belongs to one fit: fit.anova(type='III')",
    "ddf": "it belongs to one fit: fit.anova(ddf=...)",
    "model_names": "write names=",
}
_PROFILES = {
    "figsize": "resize what it returns, axes[0, 0].figure.set_size_inches(8, 5)",
    "level": "write levels=(0.95,)",
    "which": "choose in the profile, fit.profile('beta_')",
}

#: What to do in place of an argument, by function; ``fit.*`` stands for every method of a fit, the argument ``*`` for
#: too many by position.
ARGUMENTS: Mapping[str, Mapping[str, str]] = {
    "anova": _COMPARISON,
    "bootstrap_lrt": {"nsim": _REPLICATES, **_EVERYWHERE},
    "diagnose": _LMER,
    "fit_many": {"REML": _LMER["REML"]},
    "simulate": {
        "newparams": "write theta=, beta= and sigma=",
        "newdata": "write data=",
        "object": "write formula=",
        "family": _LMER["family"],
    },
    "information_weights": _COMPARISON,
    "lmer": _LMER,
    "plot_profile": _PROFILES,
    "plot_profile_pairs": _PROFILES,
    "plots.*": {"figsize": _FIGURE, "fig": _FIGURE, "show": "plt.show() shows the figure"},
    "model.from_formula": {**_LMER, "reml": _TO_FIT, "REML": _TO_FIT},
    "model.from_arrays": {"groups": "terms=[(groups, None)] is a random intercept", "reml": _TO_FIT, "REML": _TO_FIT},
    "model.fit": {"REML": _LMER["REML"], "method": _LMER["method"]},
    "model.at": {"REML": _LMER["REML"]},
    "fit.*": _EVERYWHERE,
    "fit.anova": {"test": "terms are tested by F; slm.anova(m1, m2) compares fits by likelihood ratios"},
    "fit.augment": {"data": "the columns of the data are there already", "newdata": "fit.predict takes new data"},
    "fit.bootstrap": {
        "nsim": _REPLICATES,
        "FUN": "write statistic=",
        "type": _KIND,
        "use_u": "random effects are drawn anew, as in bootMer by default",
    },
    "fit.coef": {"*": "choose a factor from what it returns, as in fit.coef()['g']"},
    "fit.conf_int": {
        "parm": "write which=, with method='profile' or 'boot'; Wald intervals are a table, fit.conf_int().loc['x']",
        "nsim": "write n=, with method='boot'",
        "boot_type": "write kind=, with method='boot'",
        "type": "write method=; of the bootstrap kind=",
        "quiet": "progress=False silences the bootstrap",
    },
    "fit.drop1": {"scope": "every term that can go is tested"},
    "fit.emmeans": {
        "trend": "write fit.emtrends(specs, 'x')",
        "tran": "write type='response'",
        "mode": _DDF,
        "method": "write contrasts='pairwise'",
        "infer": "intervals are always there, tests with contrasts=",
        "cov_reduce": "at={'x': value} sets covariates",
    },
    "fit.emtrends": {
        "variable": "write var=",
        "mode": _DDF,
        "method": "write contrasts='pairwise'",
        "max_degree": "slopes only; contrasts='poly' compares means",
    },
    "fit.evaluate": {"par": "write theta="},
    "fit.f_test": _TESTS,
    "fit.getME": {"object": "leave it out"},
    "fit.influence": {"obs": "leave group out for single rows"},
    "fit.predict": {
        "se_fit": "write se=True",
        "type": "there is no link function, so leave it out",
        "na_action": "rows that lack a variable are predicted as NaN",
        "exog": "write newdata=, a table with the columns of the formula",
        "transform": "newdata are transformed as in the fit, so leave it out",
        "random_only": "subtract predictions with re_form='~0'",
        "ReForm": _RE_FORM,
        "REform": _RE_FORM,
    },
    "fit.profile": {"signames": "leave it out", "delta": "write spacing=", "alphamax": "write zeta_max="},
    "fit.ranef": {
        "condVar": "write condvar=True",
        "postVar": "write condvar=True",
        "whichel": "choose from what it returns, as in fit.ranef()['g']",
        "drop": "leave it out; the result is a table per factor",
    },
    "fit.ranova": {"reduce_terms": "slopes leave one by one"},
    "fit.refit": {"newresp": "write y=", "REML": "write reml=False"},
    "fit.residuals": {"type": _KIND, "scaled": "write kind='scaled'"},
    "fit.simulate": {"use_u": "re_form=None keeps the random effects", "family": _LMER["family"]},
    "fit.summary": {
        "xname_fe": "names are those of the formula",
        "xname_re": "names are those of the formula",
        "yname": "names are those of the formula",
        "corr": "write correlation=True",
    },
    "fit.t_test": _TESTS,
    "fit.tidy": {"conf_method": "intervals are Wald here; fit.conf_int(method='profile') has others"},
    "fit.update": _LMER,
    "fit.wald_test": _TESTS,
    "mixedlm": _MIXEDLM,
    "MixedLM.from_formula": _MIXEDLM,
    "MixedLMResults.conf_int": {**_LEVEL_OF_ALPHA, "cols": "choose rows of the table, as in conf_int().loc[['x']]"},
    "MixedLMResults.f_test": _COVARIANCE,
    "MixedLMResults.predict": {
        name: f"write lmm.predict(data, {name}=...)" for name in ("re_form", "se", "interval", "offset")
    },
    "MixedLMResults.summary": {**_LEVEL_OF_ALPHA, "ddf": "write lmm.summary(ddf=...)"},
    "MixedLMResults.t_test": {**_COVARIANCE, "use_f": "f_test does this"},
    "MixedLMResults.wald_test": {**_COVARIANCE, "use_t": "t_test does this"},
}


def advice(where: str) -> dict[str, str]:
    """Return what to do in place of the arguments of a function, such as ``"lmer"`` or ``"fit.predict"``."""
    owner, dot, _ = where.rpartition(".")
    return {**ARGUMENTS.get(f"{owner}{dot}*", {}), **ARGUMENTS.get(where, {})}
