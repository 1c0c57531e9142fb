"""Estimates of a fit under statsmodels' names, with their standard errors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from sparselmm._typing import FloatArray
from sparselmm.api import MixedModelFit
from sparselmm.doors.mixedlm.stated import StatedModel
from sparselmm.doors.mixedlm.translation import Translation
from sparselmm.exceptions import ParameterError
from sparselmm.hints.refusal import Hinted

CONSTANT = 1e-8  # how far a combination of columns may be from one everywhere
ROUNDING = 1e-12  # standard errors below this, in units of the estimates' scale, are those of a zero variance


@dataclass(frozen=True, repr=False)
class MixedLMEstimates(Hinted, hints="MixedLMResults"):
    """Part of `MixedLMResults`: estimates, standard errors and criteria.

    Vectors and matrices are Series and DataFrames with labels, or plain arrays for a model made from arrays
    without any, as in statsmodels.

    Attributes
    ----------
    model : MixedLM
        The model.
    lmm : MixedModelFit
        The fit with everything this package offers.
    translation : Translation
        Where the parts of the model are.
    """

    model: StatedModel
    lmm: MixedModelFit
    translation: Translation

    def _as_given(self, labelled: pd.Series[float] | pd.DataFrame) -> Any:
        """Return values as they are, or as an array of their own for a model made from arrays without labels."""
        return labelled.to_numpy(copy=True) if self.translation.plain else labelled

    def _of_params(self, values: FloatArray) -> pd.Series[float]:
        """Return values for the last of `params`, or for all, with their names."""
        names = self.param_names[len(self.param_names) - len(values) :]
        return pd.Series(values, index=pd.Index(names, dtype=object))

    # --- estimates -------------------------------------------------------------------------------

    @property
    def fe_params(self) -> Any:
        """Fixed effects, (k_fe,)."""
        return self._as_given(self.lmm.params)

    @property
    def bse_fe(self) -> Any:
        """Standard errors of the fixed effects, (k_fe,)."""
        return self._as_given(self.lmm.bse)

    @property
    def scale(self) -> float:
        """Residual variance."""
        return self.lmm.scale

    @property
    def cov_re(self) -> Any:
        """Covariance of the correlated random effects of a group, (k_re, k_re)."""
        return self._as_given(self._cov_re)

    @cached_property
    def _cov_re(self) -> pd.DataFrame:
        names = list(self.translation.re_names)
        re = self.translation.re
        cov = np.zeros((0, 0)) if re is None else self.lmm.varcorr.terms[re.term].cov
        return pd.DataFrame(cov, index=names, columns=names)

    @property
    def cov_re_unscaled(self) -> Any:
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

    @property
    def params(self) -> Any:
        """Fixed effects, then variances and covariances *over scale*, as statsmodels packs them."""
        return self._as_given(self._params)

    @cached_property
    def _params(self) -> pd.Series[float]:
        cov = self._cov_re.to_numpy()
        random = [*cov[np.tril_indices(len(cov))], *self.vcomp]
        values = np.concatenate([self.lmm.params.to_numpy(), np.asarray(random, dtype=float) / self.scale])
        return self._of_params(values)

    @cached_property
    def param_names(self) -> list[str]:
        """Names of `params`: fixed effects, ``g Var``, ``g x z Cov``, ``component Var``."""
        re = self.translation.re_names
        pairs = [(j, i) for i in range(len(re)) for j in range(i + 1)]
        random = [f"{re[i]} Var" if i == j else f"{re[j]} x {re[i]} Cov" for j, i in pairs]
        return [*self.lmm.params.index, *random, *(f"{name} Var" for name in self.translation.vc_names)]

    @property
    def k_fe(self) -> int:
        """Number of fixed effects."""
        return len(self.lmm.params)

    @property
    def df_resid(self) -> int:
        """n - p, rows less fixed effects, as there; ``lmm.df_resid`` counts the variances, as lme4."""
        return self.nobs - self.k_fe

    @property
    def df_modelwc(self) -> int:
        """Number of `params`."""
        return len(self.param_names)

    @cached_property
    def k_constant(self) -> int:
        """1 where the fixed effects hold a constant, as a column or a sum of columns, else 0."""
        X = self.model.exog
        if not X.shape[1]:
            return 0
        rest = 1.0 - X @ np.linalg.lstsq(X, np.ones(len(X)), rcond=None)[0]
        return int(np.abs(rest).max() < CONSTANT)

    @property
    def use_t(self) -> bool:
        """False: `tvalues` and `pvalues` are of the normal distribution."""
        return False

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

    def _random_cov(self, scale: str) -> FloatArray:
        """Return the covariance of the random part of `params` on a scale of `cov_varpar`."""
        at: dict[tuple[int, int, int], int] = {}  # where each entry is: the diagonal, then below by columns
        start = 0
        for t, term in enumerate(self.lmm.varcorr.terms):
            k = len(term.columns)
            entries = [*((i, i) for i in range(k)), *((i, j) for j in range(k) for i in range(j + 1, k))]
            at |= {(t, *entry): start + x for x, entry in enumerate(entries)}
            start += len(entries)
        re = self.translation.re
        chosen = [] if re is None else [at[re.term, i, j] for i in range(self.k_re) for j in range(i + 1)]
        chosen += [at[m.term, 0, 0] for m in self.translation.vcs]
        return self.lmm.cov_varpar(scale).to_numpy()[np.ix_(chosen, chosen)]

    def cov_params(self) -> Any:
        """Return the covariance of `params`; fixed effects and variances are taken as uncorrelated."""
        p = self.k_fe
        cov = np.zeros((len(self.param_names),) * 2)
        cov[:p, :p] = self.lmm.cov_params()
        cov[p:, p:] = self._random_cov("relative")
        return self._as_given(pd.DataFrame(cov, index=self.param_names, columns=self.param_names))

    @property
    def bse(self) -> Any:
        """Standard errors of `params`; NaN for a variance of zero."""
        return self._as_given(self._bse)

    @cached_property
    def _bse(self) -> pd.Series[float]:
        return self._roots(np.diag(self.cov_params()), 1.0)

    @property
    def bse_re(self) -> Any:
        """Standard errors of the entries of `cov_re` and of `vcomp`; NaN for a variance of zero."""
        return self._as_given(self._bse_re)

    @cached_property
    def _bse_re(self) -> pd.Series[float]:
        return self._roots(np.diag(self._random_cov("varcov")), self.scale)

    def _roots(self, variances: FloatArray, unit: float) -> pd.Series[float]:
        """Return roots; NaN for those of the random part that are nothing but rounding in the unit given."""
        first = len(self.param_names) - len(variances)
        zero = np.sqrt(variances.clip(min=0.0)) <= ROUNDING * unit
        zero[: self.k_fe - first] = False
        return self._of_params(np.sqrt(np.where(zero, np.nan, variances)))

    @property
    def tvalues(self) -> Any:
        """`params` over `bse`."""
        return self.params / self.bse

    @property
    def pvalues(self) -> Any:
        """Two-sided p-values from the normal distribution; ``lmm.pvalues`` has degrees of freedom."""
        return self._as_given(self._of_params(2.0 * ndtr(-np.abs(np.asarray(self.tvalues)))))

    def conf_int(self, alpha: float = 0.05) -> Any:
        """Return normal intervals for `params`, columns 0 and 1; ``lmm.conf_int`` has better ones."""
        if not 0.0 < alpha < 1.0:
            raise ParameterError(f"alpha must be between 0 and 1, not {alpha!r}")
        half = -float(ndtri(alpha / 2.0)) * self._bse
        return self._as_given(pd.DataFrame({0: self._params - half, 1: self._params + half}))

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
