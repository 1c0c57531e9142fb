"""The studentized range of k means: upper tail and quantiles, for a whole family of comparisons at once.

With w the range of k standard normal variables and s = χ_ν/√ν independent of it,

    P(w/s > q) = ∫ f_ν(s) T(q s) ds,   T(w) = k ∫ φ(z) {Φ(z)^(k-1) - [Φ(z) - Φ(z - w)]^(k-1)} dz

T depends on k alone: its logarithm is tabulated once, and every tail is a sum over nodes of s. Both integrals
are trapezoidal sums, which converge faster than any power for integrands that are analytic and die out (the
inner one over the whole line, the outer one over x with log s = x - e^-x, which makes the tail at s = 0 short).
The tails agree with scipy's to 1e-10; R's ``ptukey`` agrees to 1e-6 from five degrees of freedom on, and is off
by up to 0.005 for two or three and many means.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from sparselmm._typing import FloatArray

if TYPE_CHECKING:
    from scipy.interpolate import CubicSpline

FARTHEST = 52.0  # a range beyond which exp(-w²/4) is below the smallest number
TABLE_STEP = 0.02  # the error of a cubic spline of log T is then below 1e-9
NORMAL_STEP, NORMAL_REACH = 0.1, 9.0  # of z around w/2
NODES = 160  # of s
NEGLIGIBLE = 37.0  # -log of a share of f_ν that is left out
LEAST_DF = 0.1  # smaller ones are taken for it: the tail at s = 0 would have no end
MANY_DF = 1e8  # taken for infinite
STEPS = 100  # of the search for a quantile; Newton's need about 6


def range_tail(q: FloatArray, k: int, df: FloatArray) -> FloatArray:
    """Return P(Q > q) for the studentized range Q of ``k`` means, (r,).

    Parameters
    ----------
    q : (r,) array
        Ranges over standard errors, at least zero.
    k : int
        Number of means, at least 2.
    df : (r,) array
        Degrees of freedom ν of the standard errors; may be infinite.

    Examples
    --------
    >>> range_tail(np.array([3.5, 3.5]), 3, np.array([10.0, np.inf])).round(4)
    array([0.0771, 0.0356])
    """
    s, weights = _scales(df)
    return np.asarray((weights * _tail(q[:, None] * s, k)).sum(axis=1))


def range_quantile(level: float, k: int, df: FloatArray) -> FloatArray:
    """Return q with P(Q <= q) = ``level``, (r,), by Newton's method in log q and log P(Q > q) within a bracket.

    Examples
    --------
    >>> range_quantile(0.95, 3, np.array([10.0, np.inf])).round(4)
    array([3.8768, 3.3145])
    """
    s, weights = _scales(df)
    table, wanted = _log_tail(k), np.log1p(-level)
    x, low, high = np.full(len(df), np.log(3.0)), np.full(len(df), -40.0), np.full(len(df), 60.0)
    for _ in range(STEPS):
        w = np.exp(x)[:, None] * s
        tail = _tail(w, k)
        p = (weights * tail).sum(axis=1)
        gap = np.log(np.maximum(p, 1e-300)) - wanted
        low, high = np.where(gap > 0, x, low), np.where(gap > 0, high, x)
        slope = (weights * tail * table(np.minimum(w, FARTHEST), 1) * w).sum(axis=1) / np.maximum(p, 1e-300)
        step = gap / np.where(slope < 0, slope, -1e-300)
        inside = (x - step > low) & (x - step < high)
        moved = np.where(inside, x - step, (low + high) / 2.0)
        done = np.abs(moved - x) < 1e-13
        x = moved
        if done.all():
            break
    return np.asarray(np.exp(x))


def _tail(w: FloatArray, k: int) -> FloatArray:
    """Return T(w) from the table."""
    return np.where(w < FARTHEST, np.exp(_log_tail(k)(np.minimum(w, FARTHEST))), 0.0)


@lru_cache(maxsize=16)
def _log_tail(k: int) -> CubicSpline:
    """Return log T as a spline of w.

    The difference of powers is Φ(z)^(k-1) {1 - [1 - Φ(z - w)/Φ(z)]^(k-1)}, and is taken in this form, which
    does not cancel.
    """
    from scipy.interpolate import CubicSpline  # not needed by most fits

    w = np.arange(0.0, FARTHEST + TABLE_STEP, TABLE_STEP)
    z = w[:, None] / 2.0 + np.arange(-NORMAL_REACH, NORMAL_REACH, NORMAL_STEP)
    log_upper = special.log_ndtr(z)
    with np.errstate(divide="ignore"):  # the ratio is 1 at w = 0, whose power is 0
        ratio = np.log1p(-np.exp(np.minimum(special.log_ndtr(z - w[:, None]) - log_upper, 0.0)))
    density = k / np.sqrt(2.0 * np.pi) * np.exp(-0.5 * z**2 + (k - 1) * log_upper)
    tail = NORMAL_STEP * (density * -np.expm1((k - 1) * ratio)).sum(axis=1)
    return CubicSpline(w, np.log(tail))


def _scales(df: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return nodes of s and weights that sum to one, (r, NODES) each; of equal df computed once."""
    unique, place = np.unique(df, return_inverse=True)
    nu = np.clip(unique, LEAST_DF, MANY_DF)[:, None]
    # the density of t = log s is proportional to exp(-ν (e^2t - 1 - 2t) / 2); it is negligible outside:
    far = NEGLIGIBLE / nu
    first: FloatArray = -np.maximum(1.3 * np.sqrt(far), far + 0.5)
    last: FloatArray = np.minimum(np.sqrt(far), 0.5 * np.log1p(2.0 * far) + 0.5)
    a, b = (t + np.real(special.lambertw(np.exp(-t), 0)) for t in (first, last))
    x = a + (b - a) * np.linspace(0.0, 1.0, NODES)
    t = x - np.exp(-x)
    weights = np.exp(-0.5 * nu * (np.expm1(2.0 * t) - 2.0 * t)) * (1.0 + np.exp(-x))
    weights /= weights.sum(axis=1, keepdims=True)
    s = np.where(np.isinf(unique)[:, None], 1.0, np.exp(t))
    return s[place], weights[place]
