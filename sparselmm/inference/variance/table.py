"""Variance parameters with standard errors and Wald intervals, as data frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from sparselmm._typing import BoolArray, FloatArray
from sparselmm.exceptions import ParameterError
from sparselmm.inference.distributions import t_quantile
from sparselmm.inference.fixed.tables import check_level
from sparselmm.inference.variance.covariance import (
    VarianceParameters,
    entry_pairs,
    reported_terms,
    sdcor_jacobian,
    theta_jacobian,
    varcov_jacobian,
)
from sparselmm.inference.variance.sdcor import undetermined
from sparselmm.likelihood.result import FitResult

SCALES = ("theta", "sdcor", "varcov", "relative")


def parameter_names(frame: pd.DataFrame, scale: str) -> list[str]:
    """Return names of the rows of `VarCorr.to_frame`, such as ``sd(Days|Subject)``."""
    words = ("sd", "cor") if scale == "sdcor" else ("var", "cov")
    out = []
    for grp, var1, var2 in zip(frame["grp"], frame["var1"], frame["var2"]):
        if not isinstance(var1, str):
            out.append("sigma" if scale == "sdcor" else "sigma^2")
        elif isinstance(var2, str):
            out.append(f"{words[1]}({var1},{var2}|{grp})")
        else:
            out.append(f"{words[0]}({var1}|{grp})")
    return out


def scaled_covariance(result: FitResult, varpar: VarianceParameters, scale: str, names: Sequence[str]) -> pd.DataFrame:
    """Return the covariance of the variance parameters on a scale, by the delta method from (par, σ).

    Parameters
    ----------
    result : FitResult
        The fit.
    varpar : VarianceParameters
        Its covariance of (par, σ).
    scale : {"theta", "sdcor", "varcov", "relative"}
        (θ, σ); standard deviations and correlations; variances and covariances; these over σ².
    names : sequence of str
        Names of the entries of θ.
    """
    if scale not in SCALES:
        raise ParameterError(f"scale must be one of {', '.join(SCALES)}, not {scale!r}")
    terms = reported_terms(result.engine.parameters, result.par)
    if scale == "theta":
        J, labels = theta_jacobian(terms), [*names, "sigma"]
    elif scale == "relative":
        J = varcov_jacobian(terms, 1.0)[:-1]
        J[:, -1] = 0.0  # σ divides out
        labels = [f"{name}/sigma^2" for name in parameter_names(result.varcorr.to_frame(), scale)[: len(J)]]
    else:
        jacobian = sdcor_jacobian if scale == "sdcor" else varcov_jacobian
        J, labels = jacobian(terms, result.sigma), parameter_names(result.varcorr.to_frame(), scale)
    return pd.DataFrame(sandwich(J, varpar.cov), index=labels, columns=labels)


def sandwich(J: FloatArray, cov: FloatArray) -> FloatArray:
    """Return J cov J', NaN only in the rows that are undefined."""
    bad: BoolArray = np.any(np.isnan(J), axis=1)
    clean = np.where(bad[:, None], 0.0, J)
    out = clean @ cov @ clean.T
    out[bad], out[:, bad] = np.nan, np.nan
    return np.asarray(out)


def variance_table(result: FitResult, varpar: VarianceParameters, level: float) -> pd.DataFrame:
    """Return standard deviations and correlations with standard errors and intervals.

    Intervals are symmetric for log sd and for atanh of correlations, so they stay where they belong.
    Parameters at a bound, and those that the design does not identify, have no standard error and no interval.
    """
    level = check_level(level)
    frame = result.varcorr.to_frame()
    cov = scaled_covariance(result, varpar, "sdcor", ())
    estimate = frame["sdcor"].to_numpy(dtype=float)
    variance = np.diag(cov)
    se = np.sqrt(np.where(variance >= 0, variance, np.nan))  # rounding may leave a flat direction below zero
    correlation = frame["var2"].notna().to_numpy()
    places = [(t, i, j) for t, term in enumerate(result.varcorr.terms) for i, j in entry_pairs(len(term.columns))]
    known = np.append(~undetermined(result, places), True)
    se = np.where(_free(estimate, correlation, se) & known, se, np.nan)
    z = float(t_quantile(level, np.array([np.inf]))[0])
    with np.errstate(divide="ignore", invalid="ignore"):
        log_half = z * se / estimate
        atanh, atanh_half = np.arctanh(np.where(correlation, estimate, 0.0)), z * se / (1.0 - estimate**2)
        low = np.where(correlation, np.tanh(atanh - atanh_half), estimate * np.exp(-log_half))
        high = np.where(correlation, np.tanh(atanh + atanh_half), estimate * np.exp(log_half))
    out = frame[["grp", "var1", "var2"]].copy()
    out["estimate"], out["std_error"], out["conf_low"], out["conf_high"] = estimate, se, low, high
    out.index = pd.Index(list(cov.index), dtype=object)
    out.attrs.update(level=level)
    return out


def _free(estimate: FloatArray, correlation: BoolArray, se: FloatArray) -> BoolArray:
    """Return which parameters are inside their range."""
    inside = np.where(correlation, np.abs(estimate) < 1.0 - 1e-8, estimate > 0)
    return np.asarray(inside & (se > 0))
