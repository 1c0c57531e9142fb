"""A fit under statsmodels' names: views of a `MixedModelFit`, with no numbers of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from sparselmm._typing import FloatArray
from sparselmm.api import MixedModelFit
from sparselmm.doors.mixedlm.effects import GroupEffects, group_effects, product_by_name
from sparselmm.doors.mixedlm.hypotheses import HypothesisTests
from sparselmm.doors.mixedlm.summary import Labels, MixedLMSummary, summarize
from sparselmm.doors.mixedlm.translation import Translation
from sparselmm.exceptions import ParameterError
from sparselmm.hints.arguments import method_hints
from sparselmm.hints.names import result_hint
from sparselmm.inference.predict.error_variance import prediction_errors
from sparselmm.inference.variance.covariance import (
    ReportedTerm,
    VarianceParameters,
    reported_terms,
    variance_parameters,
)
from sparselmm.inference.variance.sdcor import variance_entries

if TYPE_CHECKING:
    from sparselmm.doors.mixedlm.model import MixedLM

VTYPES = ("re", "vc")
ROUNDING = 1e-12
REACHES = (3.0, 6.0, 12.0, 24.0, 48.0)  # how far profiles are followed, in units of zeta, until they reach


_LEVEL = {"level": "write alpha=0.05; lmm.conf_int(level=0.95) has intervals with degrees of freedom"}
_COVARIANCE = dict.fromkeys(("cov_p", "invcov"), "the covariance of the estimates is that of cov_params()")
_RESULT_ARGUMENTS = {
    "conf_int": {**_LEVEL, "cols": "choose rows of the table, as in conf_int().loc[['x']]"},
    "summary": {**_LEVEL, "ddf": "write lmm.summary(ddf=...)"},
    "predict": {name: f"write lmm.predict(data, {name}=...)" for name in ("re_form", "se", "interval", "offset")},
    "t_test": {**_COVARIANCE, "use_f": "f_test does this"},
    "wald_test": {**_COVARIANCE, "use_t": "t_test does this"},
    "f_test": _COVARIANCE,
}


@method_hints(_RESULT_ARGUMENTS)
@dataclass(frozen=True, repr=False)
class MixedLMResults(HypothesisTests):
    """A fitted `MixedLM`; nothing in it changes.

    Attributes
    ----------
    model : MixedLM
        The model.
    lmm : MixedModelFit
        The fit with everything this package offers: tests with degrees of freedom, prediction, plots.
    translation : Translation
        Where the parts of the model are.
    """

    model: MixedLM
    lmm: MixedModelFit
    translation: Translation

    # --- estimates -------------------------------------------------------------------------------

    @property
    def fe_params(self) -> pd.Series[float]:
        """Fixed effects, (k_fe,)."""
        return self.lmm.params

    @property
    def bse_fe(self) -> pd.Series[float]:
        """Standard errors of the fixed effects, (k_fe,)."""
        return self.lmm.bse

    @property
    def scale(self) -> float:
        """Residual variance."""
        return self.lmm.scale

    @cached_property
    def cov_re(self) -> pd.DataFrame:
        """Covariance of the correlated random effects of a group, (k_re, k_re)."""
        names = list(self.translation.re_names)
        re = self.translation.re
        cov = np.zeros((0, 0)) if re is None else self.lmm.varcorr.terms[re.term].cov
        return pd.DataFrame(cov, index=names, columns=names)

    @property
    def cov_re_unscaled(self) -> pd.DataFrame:
        """`cov_re` over `scale`."""
        return self.cov_re / self.scale

    @cached_property
    def vcomp(self) -> FloatArray:
        """Variances of the components, (k_vc,), sorted by name."""
        terms = self.lmm.varcorr.terms
        return np.array([terms[m.term].cov[0, 0] for m in self.translation.vcs])

    @property
    def vcomp_names(self) -> list[str]:
        """Names of the variance components, sorted."""
        return list(self.translation.vc_names)

    @cached_property
    def params(self) -> pd.Series[float]:
        """Fixed effects, then variances and covariances *over scale*, as statsmodels packs them."""
        cov = self.cov_re.to_numpy()
        random = [*cov[np.tril_indices(len(cov))], *self.vcomp]
        values = np.concatenate([self.fe_params.to_numpy(), np.asarray(random, dtype=float) / self.scale])
        return pd.Series(values, index=pd.Index(self.param_names, dtype=object))

    @cached_property
    def param_names(self) -> list[str]:
        """Names of `params`: fixed effects, ``g Var``, ``g x z Cov``, ``component Var``."""
        re = self.translation.re_names
        pairs = [(j, i) for i in range(len(re)) for j in range(i + 1)]
        random = [f"{re[i]} Var" if i == j else f"{re[j]} x {re[i]} Cov" for j, i in pairs]
        return [*self.fe_params.index, *random, *(f"{name} Var" for name in self.translation.vc_names)]

    @property
    def k_fe(self) -> int:
        """Number of fixed effects."""
        return len(self.fe_params)

    @property
    def k_re(self) -> int:
        """Number of correlated random effects per group."""
        return len(self.translation.re_names)

    @property
    def k_re2(self) -> int:
        """Number of entries of the covariance of these."""
        return self.k_re * (self.k_re + 1) // 2

    @property
    def k_vc(self) -> int:
        """Number of variance components."""
        return len(self.translation.vc_names)

    # --- uncertainty -----------------------------------------------------------------------------

    def _random_jacobian(self, variances: bool) -> FloatArray:
        """Return derivatives of the random part of `params`, or of it times scale, in (par, σ)."""
        terms = reported_terms(self.lmm.result.engine.parameters, self.lmm.result.par)
        starts = np.cumsum([0, *(len(t.domega) for t in terms)])
        members = self.translation.vcs if self.translation.re is None else (self.translation.re, *self.translation.vcs)
        rows = []
        for m in members:
            t: ReportedTerm = terms[m.term]
            pairs = [(0, 0)] if m is not self.translation.re else [*zip(*np.tril_indices(len(t.omega)))]
            for i, j in pairs:
                row = np.zeros(int(starts[-1]) + 1)
                row[starts[m.term] : starts[m.term + 1]] = t.domega[:, i, j]
                if variances:
                    row *= self.scale
                    row[-1] = 2.0 * self.lmm.sigma * t.omega[i, j]
                rows.append(row)
        return np.array(rows)

    @cached_property
    def _varpar(self) -> VarianceParameters:
        return variance_parameters(self.lmm.result)

    def _random_cov(self, variances: bool) -> FloatArray:
        J = self._random_jacobian(variances)
        return np.asarray(J @ self._varpar.cov @ J.T)

    def cov_params(self) -> pd.DataFrame:
        """Return the covariance of `params`; fixed effects and variances are taken as uncorrelated."""
        p = self.k_fe
        cov = np.zeros((len(self.param_names),) * 2)
        cov[:p, :p] = self.lmm.cov_params()
        cov[p:, p:] = self._random_cov(False)
        return pd.DataFrame(cov, index=self.param_names, columns=self.param_names)

    @cached_property
    def bse(self) -> pd.Series[float]:
        """Standard errors of `params`; NaN for a variance of zero."""
        return self._roots(np.diag(self.cov_params()), 1.0)

    @cached_property
    def bse_re(self) -> pd.Series[float]:
        """Standard errors of the entries of `cov_re` and of `vcomp`; NaN for a variance of zero."""
        return self._roots(np.diag(self._random_cov(True)), self.scale)

    def _roots(self, variances: FloatArray, unit: float) -> pd.Series[float]:
        """Return roots; NaN for those of the random part that are nothing but rounding in the unit given."""
        first = len(self.param_names) - len(variances)
        names = self.param_names[first:]
        zero = np.sqrt(variances.clip(min=0.0)) <= ROUNDING * unit
        zero[: self.k_fe - first] = False
        return pd.Series(np.sqrt(np.where(zero, np.nan, variances)), index=pd.Index(names, dtype=object))

    @property
    def tvalues(self) -> pd.Series[float]:
        """`params` over `bse`."""
        return self.params / self.bse

    @property
    def pvalues(self) -> pd.Series[float]:
        """Two-sided p-values from the normal distribution; ``lmm.pvalues`` has degrees of freedom."""
        return pd.Series(2.0 * ndtr(-np.abs(self.tvalues)), index=self.params.index)

    def conf_int(self, alpha: float = 0.05) -> pd.DataFrame:
        """Return normal intervals for `params`, columns 0 and 1; ``lmm.conf_int`` has better ones."""
        if not 0.0 < alpha < 1.0:
            raise ParameterError(f"alpha must be between 0 and 1, not {alpha!r}")
        half = -float(ndtri(alpha / 2.0)) * self.bse
        return pd.DataFrame({0: self.params - half, 1: self.params + half})

    # --- random effects and rows -----------------------------------------------------------------

    @cached_property
    def _effects(self) -> GroupEffects:
        return group_effects(self.translation)

    @cached_property
    def random_effects(self) -> dict[Any, pd.Series[float]]:
        """Predicted random effects of each group: correlated ones first, then the components by name."""
        return self._effects.split(np.concatenate([modes.ravel() for modes in self.lmm.result.term_modes]))

    @cached_property
    def random_effects_cov(self) -> dict[Any, pd.DataFrame]:
        """Covariance of `random_effects` given the data, by group; the parameters count as known."""
        found = self.lmm.result
        return self._effects.covariances(prediction_errors(found.engine, found.par), found.sigma)

    @property
    def fittedvalues(self) -> pd.Series[float]:
        """Fitted values with the predicted random effects, by row."""
        return self.lmm.fittedvalues

    @property
    def resid(self) -> pd.Series[float]:
        """Response minus `fittedvalues`, by row."""
        return self.lmm.resid

    def predict(self, exog: Any = None, transform: bool = True) -> pd.Series[float] | FloatArray:
        """Return the fixed part of the mean, as statsmodels: for new rows, or those of the fit.

        Parameters
        ----------
        exog : table or (n, k_fe) array, optional
            New data for a model made by formula, a matrix for one made from arrays; columns of a
            DataFrame go by their names. For predictions with random effects use ``lmm.predict``.
        transform : bool
            False where ``exog`` is the matrix although the model was made by formula.
        """
        if exog is None:
            return pd.Series(self.translation.design.X @ self.fe_params.to_numpy(), index=self.translation.design.index)
        if self.lmm.source.encoding is None or not transform:
            return product_by_name(exog, self.fe_params)
        found = self.lmm.predict(exog, re_form="~0")
        return pd.Series(found.to_numpy(), index=found.index)

    # --- criteria ----------------------------------------------------------------------------------

    @property
    def llf(self) -> float:
        """Log-likelihood, restricted for REML; statsmodels' definition and lme4's agree."""
        return self.lmm.llf

    @property
    def aic(self) -> float:
        """Akaike's criterion; by REML it compares random parts only (statsmodels has NaN there)."""
        return self.lmm.aic

    @property
    def bic(self) -> float:
        """Schwarz's criterion; by REML it compares random parts only (statsmodels has NaN there)."""
        return self.lmm.bic

    @property
    def nobs(self) -> int:
        """Number of rows used."""
        return self.lmm.nobs

    @property
    def reml(self) -> bool:
        """Whether the fit is by REML."""
        return self.lmm.reml

    @property
    def method(self) -> str:
        """``"REML"`` or ``"ML"``."""
        return "REML" if self.reml else "ML"

    @property
    def converged(self) -> bool:
        """Whether the optimum is certified by exact derivatives."""
        return self.lmm.converged

    @property
    def lmer_formula(self) -> str | None:
        """The formula with which `sparselmm.lmer` gives the same fit; None where there is none."""
        return self.translation.lmer_formula

    def profile_re(
        self,
        re_ix: int | str,
        vtype: str,
        num_low: int = 5,
        dist_low: float = 1.0,
        num_high: int = 5,
        dist_high: float = 1.0,
    ) -> FloatArray:
        """Return the profile log-likelihood of a variance.

        Parameters
        ----------
        re_ix : int or str
            Position among the correlated random effects, or name of a variance component.
        vtype : {"re", "vc"}
            Which of these.
        num_low, num_high : int
            Number of points below and above the estimate.
        dist_low, dist_high : float
            How far below and above, in units of the variance.

        Returns
        -------
        (num_low + num_high + 1, 2) array
            Variances and log-likelihoods maximized over all other parameters. The variance itself is
            held, where statsmodels holds its ratio to the residual variance. ``lmm.profile`` has
            all parameters and intervals.

        Raises
        ------
        ParameterError
            When there is no such variance, or ``dist_low`` would make it negative.
        """
        term, column = self._variance(re_ix, vtype)
        estimate = float(self.lmm.varcorr.terms[term].cov[column, column])
        if dist_low >= estimate:
            raise ParameterError(f"dist_low = {dist_low} would make the variance {estimate:.4g} negative or zero")
        low = np.linspace(estimate - dist_low, estimate, num_low + 1)
        values = np.concatenate([low, np.linspace(estimate, estimate + dist_high, num_high + 1)[1:]])
        entries = variance_entries(self.translation.design.terms, self.lmm.result.engine.parameters.structures)
        name = next(e.name for e in entries if (e.term, e.row, e.col) == (term, column, column))
        for reach in REACHES:
            zeta = self._zeta(name, values, reach)
            if not np.isnan(zeta).any():
                return np.column_stack([values, self.llf - 0.5 * zeta**2])
        raise ParameterError(f"the profile does not reach {values[-1]:.4g}; take a smaller dist_high or dist_low")

    def _zeta(self, name: str, variances: FloatArray, reach: float) -> FloatArray:
        (profile,) = self.lmm.profile(name, reml=self.reml, zeta_max=reach).profiles
        return profile.zeta_at(np.sqrt(variances))

    def _variance(self, re_ix: int | str, vtype: str) -> tuple[int, int]:
        """Return the term and the column of a variance."""
        t = self.translation
        if vtype not in VTYPES:
            raise ParameterError(f"vtype must be one of {', '.join(VTYPES)}, not {vtype!r}")
        if vtype == "vc" and re_ix in t.vc_names:
            return t.vcs[t.vc_names.index(str(re_ix))].term, 0
        if vtype == "re" and t.re is not None and isinstance(re_ix, int) and 0 <= re_ix < self.k_re:
            return t.re.term, re_ix
        known = ", ".join(map(repr, t.vc_names)) if vtype == "vc" else f"0 to {self.k_re - 1}"
        raise ParameterError(f"there is no {vtype} variance {re_ix!r}; there are {known or 'none'}")

    # --- report ------------------------------------------------------------------------------------

    def summary(
        self,
        yname: str | None = None,
        xname_fe: Sequence[str] | None = None,
        xname_re: Sequence[str] | None = None,
        title: str | None = None,
        alpha: float = 0.05,
    ) -> MixedLMSummary:
        """Return the summary in statsmodels' layout; ``lmm.summary()`` is the one in lme4's.

        Parameters
        ----------
        yname, title : str, optional
            Name of the response; heading.
        xname_fe, xname_re : sequence of str, optional
            Names of the fixed effects, and of the entries of `cov_re`.
        alpha : float
            One minus the coverage of the intervals.
        """
        return summarize(self, alpha, Labels(yname, xname_fe, xname_re, title))

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    if not TYPE_CHECKING:  # type checkers know the names

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(result_hint(name))

    def __repr__(self) -> str:
        return f"<MixedLMResults by {self.method}: {self.nobs} rows; log-likelihood {self.llf:.4f}>"
