"""Adjustment of p-values and intervals for several comparisons."""

from __future__ import annotations

import numpy as np

from sparselmm._typing import FloatArray
from sparselmm.exceptions import ParameterError
from sparselmm.inference.distributions import t_quantile, t_tail
from sparselmm.inference.means.studentized_range import range_quantile, range_tail

NAMES = {
    "tukey": "Tukey",
    "holm": "Holm",
    "bonferroni": "Bonferroni",
    "sidak": "Šidák",
    "fdr": "Benjamini and Hochberg",
}
ADJUSTMENTS = (*NAMES, "none")
INTERVALS = {name: "bonferroni" if name in ("holm", "fdr") else name for name in NAMES}  # these two have none


def check_adjust(adjust: str | None) -> str:
    """Return the name of an adjustment; None means none."""
    key = "none" if adjust is None else str(adjust).lower()
    if key not in ADJUSTMENTS:
        raise ParameterError(f"unknown adjust {adjust!r}; there are {', '.join(ADJUSTMENTS)}")
    return key


def adjusted_p(statistic: FloatArray, df: FloatArray, adjust: str, n_means: int) -> FloatArray:
    """Return adjusted two-sided p-values of one family of t statistics, (r,).

    Parameters
    ----------
    statistic, df : (r,) arrays
        t statistics and their degrees of freedom; NaN where a contrast cannot be estimated.
    adjust : str
        Name of the adjustment. ``"tukey"`` uses the studentized range of ``n_means`` means.
    n_means : int
        Number of means that are compared.
    """
    known = ~np.isnan(statistic)
    out = np.full(len(statistic), np.nan)
    t, nu = statistic[known], df[known]
    p = t_tail(t, nu)
    r = len(p)
    if adjust == "tukey" and r:
        p = range_tail(np.sqrt(2.0) * np.abs(t), n_means, nu)
    elif adjust == "bonferroni":
        p = np.minimum(1.0, r * p)
    elif adjust == "sidak":
        p = -np.expm1(r * np.log1p(-p))
    elif adjust == "holm":
        order = np.argsort(p)
        p[order] = np.minimum(1.0, np.maximum.accumulate((r - np.arange(r)) * p[order]))
    elif adjust == "fdr":
        order = np.argsort(p)[::-1]
        p[order] = np.minimum(1.0, np.minimum.accumulate(r / (r - np.arange(r)) * p[order]))
    out[known] = np.clip(p, 0.0, 1.0)
    return out


def adjusted_quantile(level: float, df: FloatArray, adjust: str, n_means: int) -> FloatArray:
    """Return half widths of simultaneous intervals in standard errors, (r,); holm and fdr as bonferroni."""
    r = max(1, int(np.sum(~np.isnan(df))))
    if adjust == "tukey":
        out, known = np.full(len(df), np.nan), ~np.isnan(df)
        if known.any():
            out[known] = range_quantile(level, n_means, df[known]) / np.sqrt(2.0)
        return out
    single = {"none": level, "sidak": level ** (1.0 / r), "bonferroni": 1.0 - (1.0 - level) / r}
    return t_quantile(single[INTERVALS.get(adjust, adjust)], df)
