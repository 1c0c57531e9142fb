"""Variance parameters and shares of variance after a fit, and tidy tables of everything."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import pandas as pd

from sparselmm.api.after import AfterFit
from sparselmm.api.means import Means
from sparselmm.inference.fixed.methods import DEFAULT
from sparselmm.inference.tidy import (
    augment_rows,
    check_effects,
    glance_row,
    tidy_fixed,
    tidy_modes_table,
    tidy_variances,
)
from sparselmm.inference.variance.covariance import VarianceParameters, variance_parameters
from sparselmm.inference.variance.shares import (
    icc_by_term,
    icc_series,
    principal_components,
    r2_series,
    variance_shares,
)
from sparselmm.inference.variance.table import scaled_covariance, variance_table


class Components(AfterFit, Means):
    """Mixin of `MixedModelFit`."""

    @cached_property
    def _varpar(self) -> VarianceParameters:
        return variance_parameters(self.result)

    # --- variance parameters ---------------------------------------------------------------------

    def cov_varpar(self, scale: str = "theta") -> pd.DataFrame:
        """Return the asymptotic covariance of the variance parameters, 2 H⁻¹ of the (restricted) deviance.

        Parameters
        ----------
        scale : {"theta", "sdcor", "varcov", "relative"}
            (θ, σ) as in lmerTest; standard deviations and correlations; variances and covariances; or
            these over σ², without σ² itself.
            Parameters at a bound have zero rows (NaN where the scale has no derivative).
        """
        names = self.problem.theta_names
        return scaled_covariance(self.result, self._varpar, scale, names)

    def varpar_table(self, level: float = 0.95) -> pd.DataFrame:
        """Return standard deviations and correlations with standard errors and Wald intervals.

        The intervals are symmetric on the log scale (standard deviations) and for Fisher's z
        (correlations). Profile intervals are better where a variance is near zero.

        Examples
        --------
        >>> import sparselmm as slm
        >>> fit = slm.lmer("Yield ~ 1 + (1 | Batch)", slm.load_dataset("dyestuff"))
        >>> fit.varpar_table()[["estimate", "conf_low", "conf_high"]].round(1)
                             estimate  conf_low  conf_high
        sd(Intercept|Batch)      42.0      18.9       93.1
        sigma                    49.5      37.3       65.7
        """
        return variance_table(self.result, self._varpar, level)

    def icc(self, by_term: bool = False) -> pd.Series[float]:
        """Return intraclass correlations: random over random plus residual variance.

        ``adjusted`` leaves the fixed part out, ``unadjusted`` adds its variance to the denominator; with
        ``by_term`` the share of each random term. Random slopes enter by their mean variance over rows.
        """
        shares = variance_shares(self.result, self.row_facts.moments)
        return icc_by_term(shares) if by_term else icc_series(shares)

    def r2(self) -> pd.Series[float]:
        """Return the marginal and the conditional R² of Nakagawa and Schielzeth (2013) with Johnson (2014).

        Examples
        --------
        >>> import sparselmm as slm
        >>> fit = slm.lmer("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
        >>> fit.r2().round(3).to_dict()
        {'marginal': 0.279, 'conditional': 0.799}
        """
        return r2_series(variance_shares(self.result, self.row_facts.moments))

    def random_effects_pca(self) -> dict[str, pd.DataFrame]:
        """Return principal components of the random effects per grouping label, lme4's ``rePCA``.

        A component with (nearly) no standard deviation says that the random part is too large.
        """
        return principal_components(self.result)

    # --- tidy tables ---------------------------------------------------------------------------------

    def tidy(
        self,
        effects: str | Sequence[str] = ("ran_pars", "fixed"),
        conf_int: bool = False,
        level: float = 0.95,
        ddf: str | None = DEFAULT,
    ) -> pd.DataFrame:
        """Return estimates as one table with broom.mixed's columns.

        Parameters
        ----------
        effects : str or sequence of str
            Some of ``"fixed"``, ``"ran_pars"`` and ``"ran_vals"``.
        conf_int : bool
            Whether to add ``conf.low`` and ``conf.high`` (Wald).
        level, ddf
            As for `coef_table`; ``ddf=None`` leaves out ``df`` and ``p.value``.
        """
        makers = {"fixed": self._tidy_fixed, "ran_pars": self._tidy_variances, "ran_vals": self._tidy_modes}
        parts = [makers[e](level, ddf) for e in check_effects(effects)]
        out = pd.concat([p for p in parts if len(p)] or parts[:1], ignore_index=True)
        order = ["effect", "group", "level", "term", "estimate", "std.error", "statistic", "df", "p.value"]
        order += ["conf.low", "conf.high"] if conf_int else []
        return out[[name for name in order if name in out.columns]]

    def _tidy_fixed(self, level: float, ddf: str | None) -> pd.DataFrame:
        if self.result.layout.p == 0:
            return pd.DataFrame()
        found = tidy_fixed(self.coef_table(ddf or "normal", level))
        return found if ddf is not None else found.drop(columns=["df", "p.value"])

    def _tidy_variances(self, level: float, ddf: str | None) -> pd.DataFrame:
        found = tidy_variances(self.result)
        intervals = self.varpar_table(level)
        found["std.error"] = intervals["std_error"].to_numpy()
        found["conf.low"], found["conf.high"] = intervals["conf_low"].to_numpy(), intervals["conf_high"].to_numpy()
        return found

    def _tidy_modes(self, level: float, ddf: str | None) -> pd.DataFrame:
        return tidy_modes_table(self.ranef_table(level))

    def glance(self) -> pd.DataFrame:
        """Return one row: nobs, sigma, logLik, AIC, BIC, REMLcrit or deviance, df.residual, as broom.mixed."""
        return glance_row(self.result, self.npar)

    def augment(self) -> pd.DataFrame:
        """Return the rows used with broom.mixed's columns: .fitted, .resid, .hat, .cooksd, .fixed, .mu, .offset, ...

        Under ``na_action="exclude"`` all rows of the data, with NaN in these columns where a row was left out.
        """
        return augment_rows(self.result, self.source)
