"""What a fit must offer to be summarised: public names of results only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd

from sparselmm._typing import FloatArray

__all__ = ["SummarizableFit", "VarCorrLike", "VarCorrTermLike"]


class VarCorrTermLike(Protocol):
    """Standard deviations and correlations of one random term with k coefficients."""

    @property
    def name(self) -> str:
        """Unique name, for example ``Subject.1``."""

    @property
    def columns(self) -> Sequence[str]:
        """The k coefficient names."""

    @property
    def sd(self) -> FloatArray:
        """Standard deviations, (k,)."""

    @property
    def corr(self) -> FloatArray:
        """Correlations, (k, k)."""


class VarCorrLike(Protocol):
    """Variances of all random terms."""

    @property
    def terms(self) -> Sequence[VarCorrTermLike]:
        """The random terms in the order of the report."""


class SummarizableFit(Protocol):
    """The names a summary reads from a fitted model."""

    @property
    def params(self) -> pd.Series[float]:
        """Fixed-effects estimates, (p,)."""

    @property
    def bse(self) -> pd.Series[float]:
        """Standard errors, (p,)."""

    @property
    def tvalues(self) -> pd.Series[float]:
        """Ratios of estimates to standard errors, (p,)."""

    def cov_params(self) -> pd.DataFrame:
        """Return the covariance matrix of the fixed effects, (p, p)."""

    @property
    def dropped_columns(self) -> Sequence[str]:
        """Fixed-effects columns left out for rank deficiency."""

    @property
    def varcorr(self) -> VarCorrLike:
        """Variances of the random terms."""

    @property
    def sigma(self) -> float:
        """Residual standard deviation."""

    @property
    def reml(self) -> bool:
        """True for REML, False for maximum likelihood."""

    @property
    def criterion(self) -> float:
        """REML criterion or ML deviance."""

    @property
    def llf(self) -> float:
        """Log-likelihood."""

    @property
    def aic(self) -> float:
        """Akaike's criterion."""

    @property
    def bic(self) -> float:
        """Schwarz's criterion."""

    @property
    def df_resid(self) -> int:
        """Residual degrees of freedom, nobs - npar."""

    @property
    def nobs(self) -> int:
        """Number of rows in the likelihood."""

    @property
    def ngroups(self) -> Mapping[str, int]:
        """Number of levels per grouping label."""

    @property
    def resid_pearson(self) -> pd.Series[float] | np.ndarray[Any, Any]:
        """Residuals times the square root of the prior weights."""

    @property
    def messages(self) -> Sequence[Any]:
        """Machine-readable messages (code, severity, what, how)."""

    @property
    def optimizer_report(self) -> Any:
        """Name, status, message and n_evaluations of the optimizer."""

    @property
    def formula(self) -> str:
        """The model formula."""

    @property
    def weights_name(self) -> str | None:
        """Name of the weights, if any."""

    @property
    def offset_name(self) -> str | None:
        """Name of the offset given beside the formula, if any."""

    @property
    def data_name(self) -> str | None:
        """Name of the data, if known."""
