"""Inference about fixed effects after a fit: tests, intervals, tables by term, marginal means."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from sparselmm._typing import FloatArray
from sparselmm.api.comparison import drop1_lrt, f_rows, ranova_lrt
from sparselmm.api.fitting import GIVE_BACK, Refitting
from sparselmm.exceptions import NumericalError, ParameterError, RowsNeededError
from sparselmm.hints.names import check_interval
from sparselmm.hints.refusal import refuse_unknown
from sparselmm.inference.bootstrap.intervals import boot_conf_int
from sparselmm.inference.fixed.anova import aliased_note, hypotheses
from sparselmm.inference.fixed.contrasts import anova_type
from sparselmm.inference.fixed.hypotheses import Hypothesis, LinearHypothesis, read_hypothesis
from sparselmm.inference.fixed.methods import DEFAULT, METHODS, method_key
from sparselmm.inference.fixed.tables import f_table, t_table
from sparselmm.inference.fixed.wald import TestMethod
from sparselmm.inference.profile.intervals import profile_conf_int
from sparselmm.likelihood.result import FitResult

INTERVALS: dict[str, Callable[..., pd.DataFrame]] = {"profile": profile_conf_int, "boot": boot_conf_int}

QUICK_SECONDS = 10.0  # what a summary spends unasked


class Inference(Refitting):
    """Mixin of `MixedModelFit`.

    Degrees of freedom (``ddf=``): ``"satterthwaite"`` (default), ``"kenward-roger"`` (REML fits; also
    adjusts the covariance of the estimates), ``"residual"`` (n - p), ``"normal"`` (z and χ² tests).
    """

    # --- the machinery, computed once ----------------------------------------------------------

    @cached_property
    def _methods(self) -> dict[str, TestMethod]:
        return {}

    def _method(self, ddf: str) -> TestMethod:
        key = method_key(ddf)
        if key not in self._methods:
            self._methods[key] = METHODS[key](self.result)
        return self._methods[key]

    # --- coefficients --------------------------------------------------------------------------

    def coef_table(self, ddf: str = DEFAULT, level: float = 0.95) -> pd.DataFrame:
        """Return the table of fixed effects with tests and intervals.

        Parameters
        ----------
        ddf : str
            Degrees of freedom, see the class.
        level : float
            Confidence level.

        Returns
        -------
        DataFrame
            One row per coefficient: ``estimate``, ``std_error``, ``df``, ``statistic``, ``p_value``,
            ``conf_low``, ``conf_high``. ``attrs["method"]`` names the method, ``attrs["notes"]`` says
            what was held at a bound.

        Raises
        ------
        ParameterError
            For a model without fixed effects, or Kenward-Roger after maximum likelihood.

        Examples
        --------
        >>> import sparselmm as slm
        >>> fit = slm.lmer("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
        >>> fit.coef_table()[["estimate", "std_error", "df"]].round(3)
                   estimate  std_error    df
        Intercept   251.405      6.825  17.0
        Days         10.467      1.546  17.0
        """
        method = self._method(ddf)
        p = method.fixed.p
        return t_table(method, np.eye(p), np.zeros(p), method.fixed.names, level)

    @property
    def pvalues(self) -> pd.Series[float]:
        """Two-sided p-values of the coefficients by Satterthwaite's method, (p,)."""
        return self.coef_table()["p_value"].rename("p_value")

    def conf_int(self, level: float = 0.95, method: str = "wald", ddf: str = DEFAULT, **options: Any) -> pd.DataFrame:
        """Return confidence intervals.

        Parameters
        ----------
        level : float
            Confidence level.
        method : {"wald", "profile", "boot"}
            Estimate ± t quantile × standard error, for the coefficients (those of the variance
            parameters are in `varpar_table`); the profile likelihood or the parametric bootstrap, for
            all parameters.
        ddf : str
            Degrees of freedom of Wald intervals, see the class.
        **options
            For ``"profile"`` and ``"boot"``: ``which`` (names, ``"theta_"`` or ``"beta_"``), ``scale``
            (``"sdcor"`` or ``"varcov"``); ``reml`` for the profile; ``n``, ``kind``, ``seed``, ``n_jobs``,
            ``one_step`` and ``progress`` for the bootstrap.

        Returns
        -------
        DataFrame
            ``conf_low`` and ``conf_high`` by parameter. Limits do not leave the parameter space.

        Examples
        --------
        >>> import sparselmm as slm
        >>> fit = slm.lmer("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
        >>> fit.conf_int().round(2).loc["Days"].to_dict()
        {'conf_low': 7.21, 'conf_high': 13.73}
        >>> fit.conf_int(method="profile", which="beta_").round(2).loc["Days"].to_dict()
        {'conf_low': 7.36, 'conf_high': 13.58}
        """
        refuse_unknown(Inference.conf_int, options, "fit.conf_int")
        check_interval(level)
        method = method.lower() if isinstance(method, str) else method
        if method == "wald":
            if options:
                raise ParameterError(
                    f"Wald intervals take no {', '.join(options)}, which goes with method='profile' or 'boot'; "
                    "the table can be cut, as in fit.conf_int().loc[['x']]"
                )
            return self.coef_table(ddf, level)[["conf_low", "conf_high"]]
        if method not in INTERVALS:
            raise ParameterError(f"unknown method {method!r} for conf_int; there are wald, {', '.join(INTERVALS)}")
        refuse_unknown(INTERVALS[method], options, "fit.conf_int")
        return INTERVALS[method](self, level, **options)[["conf_low", "conf_high"]]

    def _type3(self) -> tuple[FloatArray, ...]:
        factors = self.row_facts.type3
        if factors is None:
            raise RowsNeededError(f"tests of type III need the data: {GIVE_BACK}")
        return factors

    # --- hypotheses ----------------------------------------------------------------------------

    def _hypothesis(self, given: Hypothesis, rhs: npt.ArrayLike | None) -> LinearHypothesis:
        names = self.result.layout.columns
        aliases = {} if self.source.encoding is None else self.source.encoding.r_names()
        return read_hypothesis(given, names, rhs, aliases, self.result.layout.dropped_columns)

    def t_test(
        self, hypothesis: Hypothesis, rhs: npt.ArrayLike | None = None, ddf: str = DEFAULT, level: float = 0.95
    ) -> pd.DataFrame:
        """Test linear combinations of coefficients one by one.

        Parameters
        ----------
        hypothesis : str, sequence of str or (r, p) array
            For example ``"f[T.b] - f[T.c]"``, ``"x = 1, 2*x = z"``, or rows of numbers; a Series or
            DataFrame goes by its labels, coefficients left out being zero.
        rhs : (r,) array, optional
            Right-hand sides of rows given as numbers.
        ddf, level
            As for `coef_table`.

        Returns
        -------
        DataFrame
            The columns of `coef_table`; ``statistic`` is (estimate - rhs)/std_error.

        Examples
        --------
        >>> import sparselmm as slm
        >>> fit = slm.lmer("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
        >>> round(float(fit.t_test("Days = 10")["p_value"].iloc[0]), 4)
        0.7661
        """
        method = self._method(ddf)
        read = self._hypothesis(hypothesis, rhs)
        return t_table(method, read.L, read.rhs, read.labels, level)

    def f_test(self, hypothesis: Hypothesis, rhs: npt.ArrayLike | None = None, ddf: str = DEFAULT) -> pd.DataFrame:
        """Test linear combinations of coefficients jointly.

        Parameters are those of `t_test`. The result has one row: ``statistic`` (F), ``num_df``,
        ``den_df`` and ``p_value``.

        Examples
        --------
        >>> import sparselmm as slm
        >>> fit = slm.lmer("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
        >>> fit.f_test("Intercept = 250, Days = 10").round(3).to_dict("records")
        [{'statistic': 0.077, 'num_df': 2, 'den_df': 17.0, 'p_value': 0.926}]
        """
        method = self._method(ddf)
        read = self._hypothesis(hypothesis, rhs)
        found = method.f_test(read.L, read.rhs)
        row = {
            "statistic": found.statistic,
            "num_df": found.num_df,
            "den_df": found.den_df,
            "p_value": found.p_value,
        }
        table = pd.DataFrame([row], index=pd.Index([", ".join(read.labels)], dtype=object))
        table.attrs.update(method=method.name, notes=list(method.notes))
        return table

    def wald_test(self, hypothesis: Hypothesis, rhs: npt.ArrayLike | None = None) -> pd.DataFrame:
        """Test linear combinations jointly by the χ² distribution: ``statistic``, ``df``, ``p_value``.

        This ignores that variances are estimated; with few groups prefer `f_test`.
        """
        method = self._method("normal")
        read = self._hypothesis(hypothesis, rhs)
        found = method.f_test(read.L, read.rhs)
        row = {"statistic": found.statistic * found.num_df, "df": found.num_df, "p_value": found.p_value}
        return pd.DataFrame([row], index=pd.Index([", ".join(read.labels)], dtype=object))

    def anova(self, type: str | int = "III", ddf: str = DEFAULT) -> pd.DataFrame:
        """Return F tests of the terms of the fixed part, as R's lmerTest.

        Parameters
        ----------
        type : {"I", "II", "III"}
            Each term after those before it; after all that do not contain it; or by the type III
            functions of SAS, which do not depend on the coding of factors.
        ddf : str
            Degrees of freedom, see the class.

        Returns
        -------
        DataFrame
            ``Sum Sq``, ``Mean Sq``, ``NumDF``, ``DenDF``, ``F value``, ``Pr(>F)`` by term.

        Examples
        --------
        >>> import sparselmm as slm
        >>> fit = slm.lmer("angle ~ recipe * temperature + (1 | recipe:replicate)", slm.load_dataset("cake"))
        >>> fit.anova()[["NumDF", "DenDF", "F value"]].round(2)
                            NumDF  DenDF  F value
        recipe                  2   42.0     0.25
        temperature             5  210.0    20.52
        recipe:temperature     10  210.0     1.01
        """
        if isinstance(getattr(type, "result", None), FitResult):
            raise ParameterError("fit.anova() tests the terms of one fit; slm.anova(m1, m2) compares fits")
        method = self._method(ddf)
        kind = anova_type(type)
        encoding = self.source.encoding
        table = f_table(method, hypotheses(encoding, self.row_facts.X, self._type3, kind), kind)
        table.attrs["notes"] += aliased_note(encoding, kind)
        return table

    def drop1(self, test: str = "chisq", ddf: str = DEFAULT) -> pd.DataFrame:
        """Test each term that is not part of a higher one, as R's ``drop1``.

        Parameters
        ----------
        test : {"chisq", "F"}
            Likelihood-ratio tests of models refitted by maximum likelihood (columns ``npar``, the
            number of parameters dropped, ``AIC``, ``LRT``, ``Pr(Chi)``), or F tests as in `anova`.
        ddf : str
            For F tests.
        """
        if str(test).lower() in ("chisq", "lrt"):
            return drop1_lrt(self)
        if str(test).upper() != "F":
            raise ParameterError(f"test must be 'chisq' or 'F', not {test!r}")
        return f_table(self._method(ddf), f_rows(self), "")

    def ranova(self) -> pd.DataFrame:
        """Test the random terms by likelihood ratios, as lmerTest's ``ranova``.

        From a term with slopes each variable is dropped in turn, other terms as a whole; REML fits are
        compared by REML. A variance of zero is on the boundary of the parameter space, so the χ² test
        (``Pr(>Chisq)``) is conservative; ``Pr(>Chisq) mixture`` uses ½χ²(Df-1) + ½χ²(Df) instead.

        Examples
        --------
        >>> import sparselmm as slm
        >>> fit = slm.lmer("strength ~ 1 + (1 | batch/cask)", slm.load_dataset("pastes"))
        >>> fit.ranova()[["LRT", "Pr(>Chisq)", "Pr(>Chisq) mixture"]].round(4).iloc[2].to_dict()
        {'LRT': 0.6577, 'Pr(>Chisq)': 0.4174, 'Pr(>Chisq) mixture': 0.2087}
        """
        return ranova_lrt(self)


def trace_seconds(fit: Inference) -> float:
    """Return roughly how long the second derivatives take, on which standard errors of variances and tests rest."""
    with fit.problem.engine.locked() as pls:
        return pls.system.trace_seconds()


def summary_table(fit: Inference, ddf: str) -> tuple[pd.DataFrame | None, str]:
    """Return the coefficient table for a summary, or None and the reason why there is none."""
    if fit.result.p == 0:
        return None, ""
    if ddf == "auto":
        seconds = trace_seconds(fit)
        if seconds > QUICK_SECONDS:
            return None, f'Satterthwaite tests would take about {seconds:.0f} s: ask for them with ddf="satterthwaite".'
        ddf = DEFAULT
    try:
        return fit.coef_table(ddf), ""
    except NumericalError as error:
        return None, f"No tests by the method {ddf!r}: {error}."
