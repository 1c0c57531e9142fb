"""Tails and quantiles of t, F and χ²; infinite degrees of freedom are their limits.

`scipy.special` is used because importing `scipy.stats` takes a third of a second.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from sparselmm._typing import FloatArray


def t_tail(statistic: FloatArray, df: FloatArray) -> FloatArray:
    """Return two-sided p-values of t statistics.

    Examples
    --------
    >>> t_tail(np.array([2.0, 2.0]), np.array([10.0, np.inf])).round(4)
    array([0.0734, 0.0455])
    """
    size = -np.abs(statistic)
    finite = np.where(np.isinf(df), 1.0, df)
    return np.asarray(2.0 * np.where(np.isinf(df), special.ndtr(size), special.stdtr(finite, size)))


def t_quantile(level: float, df: FloatArray) -> FloatArray:
    """Return the half widths of intervals in standard errors."""
    upper = 0.5 + level / 2.0
    finite = np.where(np.isinf(df), 1.0, df)
    return np.where(np.isinf(df), special.ndtri(upper), special.stdtrit(finite, upper))


def f_tail(statistic: float, num_df: float, den_df: float) -> float:
    """Return the upper tail of F, of χ²/num_df for infinite den_df."""
    if np.isinf(den_df):
        return chi2_tail(statistic * num_df, num_df)
    return float(special.fdtrc(num_df, den_df, statistic))


def chi2_tail(statistic: float, df: float) -> float:
    """Return the upper tail of χ²."""
    return float(special.chdtrc(df, statistic))
