"""Limits of bootstrap intervals from arrays of replicates."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from sparselmm._typing import FloatArray
from sparselmm.exceptions import ParameterError

KINDS = ("percentile", "basic", "normal")


def check_kind(kind: str) -> str:
    """Return the kind, or say which there are."""
    if kind not in KINDS:
        raise ParameterError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
    return kind


def intervals(estimate: FloatArray, values: FloatArray, level: float, kind: str) -> FloatArray:
    """Return limits, (r, 2), from replicates (n, r); those that are NaN are left out.

    Quantiles are those of order (n + 1)α, interpolated (Davison and Hinkley 1997, section 5.2.1).

    Examples
    --------
    >>> import numpy as np
    >>> intervals(np.array([5.0]), np.arange(1.0, 100.0)[:, None], 0.9, "percentile").round(6).tolist()
    [[5.0, 95.0]]
    """
    tail = (1.0 - level) / 2.0
    out = np.full((len(estimate), 2), np.nan)
    for j, column in enumerate(values.T):
        x = column[np.isfinite(column)]
        if len(x) < 2:
            continue
        if kind == "normal":
            half = float(ndtri(1.0 - tail)) * x.std(ddof=1)
            centre = 2.0 * estimate[j] - x.mean()
            out[j] = centre - half, centre + half
            continue
        low, high = np.quantile(x, [tail, 1.0 - tail], method="weibull")
        out[j] = (low, high) if kind == "percentile" else (2.0 * estimate[j] - high, 2.0 * estimate[j] - low)
    return out
