"""Plots of profiles: ζ of each parameter, and joint regions of pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.interpolate import CubicSpline, PchipInterpolator
from scipy.stats import chi2

from sparselmm._typing import FloatArray
from sparselmm.exceptions import ParameterError
from sparselmm.hints.refusal import hinted
from sparselmm.inference.profile.profile import ParameterProfile, Profile, normal_quantile
from sparselmm.report.plots.canvas import BLUE, GREY, ORANGE, finish, new_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEVELS = (0.5, 0.8, 0.9, 0.95, 0.99)
PANELS_PER_ROW = 3  # of a page
CURVE_POINTS = 121  # of a curve that looks smooth
MOST_PAIRS = 8  # profiled parameters whose panels can be read on a page


@hinted("plot_profile")
def plot_profile(profile: Profile, absolute: bool = False, levels: tuple[float, ...] = (0.5, 0.8, 0.95)) -> Any:
    """Draw ζ against each parameter, with intervals of several levels.

    A straight line means that the estimate is nearly normal on this scale; a curve, that Wald intervals
    mislead.

    Parameters
    ----------
    profile : Profile
        From `MixedModelFit.profile`.
    absolute : bool
        Draw ``|ζ|``, with the intervals as horizontal bars.
    levels : tuple of float
        Confidence levels.

    Returns
    -------
    (rows, columns) array of matplotlib axes

    Examples
    --------
    >>> import sparselmm as slm
    >>> fit = slm.lmer("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    >>> slm.plot_profile(fit.profile("beta_")).shape
    (1, 2)
    """
    _check_profile(profile, "plot_profile")
    n = len(profile)
    columns = min(n, PANELS_PER_ROW)
    rows = -(-n // columns)
    axes = new_grid(rows, columns, (3.2 * columns, 2.8 * rows))
    for ax, one in zip(axes.flat, profile):
        draw_zeta(ax, one, absolute, levels)
    for ax in axes.flat[n:]:
        ax.set_visible(False)
    return axes


def _check_profile(profile: object, function: str) -> None:
    if not isinstance(profile, Profile):
        raise ParameterError(f"{function} takes a profile, not {type(profile).__name__}: slm.{function}(fit.profile())")


def draw_zeta(ax: Axes, one: ParameterProfile, absolute: bool, levels: tuple[float, ...]) -> None:
    """Draw one profile with its intervals."""
    x = np.linspace(one.knots[0], one.knots[-1], CURVE_POINTS)
    zeta = one.zeta_at(x)
    ax.plot(x, np.abs(zeta) if absolute else zeta, color=BLUE)
    ax.axhline(0.0, color=GREY, linewidth=0.8)
    for level in levels:
        z = normal_quantile(level)
        if z > np.abs(one.zeta).max():
            continue
        low, high = one.interval(level)
        if absolute:
            ax.plot([low, high], [z, z], color=ORANGE, linewidth=1)
        for end, sign in ((low, -1.0), (high, 1.0)):
            reached = float(np.abs(one.zeta_at(end)))
            ax.plot([end, end], [0.0, reached if absolute else sign * reached], color=ORANGE, linewidth=1)
    finish(ax, one.name, "|zeta|" if absolute else "zeta")


@hinted("plot_profile_pairs")
def plot_profile_pairs(profile: Profile, levels: tuple[float, ...] = LEVELS) -> Any:
    """Draw joint likelihood regions of all pairs of parameters, with the profile traces.

    The traces are the best values of one parameter for given values of the other; where they cross at
    a sharp angle the two are correlated. Regions are drawn below the diagonal on the parameters' own
    scales and above it on the ζ scale, on which a quadratic likelihood gives ellipses.

    Parameters
    ----------
    profile : Profile
        Of two to eight parameters.
    levels : tuple of float
        Joint confidence levels, χ² with two degrees of freedom.

    Returns
    -------
    (n, n) array of matplotlib axes

    Examples
    --------
    >>> import sparselmm as slm
    >>> fit = slm.lmer("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    >>> slm.plot_profile_pairs(fit.profile("beta_")).shape
    (2, 2)
    """
    _check_profile(profile, "plot_profile_pairs")
    n = len(profile)
    if not 2 <= n <= MOST_PAIRS:
        raise ParameterError(f"pairs can be drawn of 2 to {MOST_PAIRS} profiled parameters, not {n}; choose which=")
    axes = new_grid(n, n, (1.9 * n, 1.9 * n))
    for i, row in enumerate(profile.profiles):
        for j, column in enumerate(profile.profiles):
            ax = axes[i, j]
            ax.tick_params(labelsize="x-small")
            if i == j:
                ax.text(0.5, 0.5, row.name, ha="center", va="center", fontsize="small", wrap=True)
                ax.set_axis_off()
                continue
            draw_pair(ax, profile, column, row, levels, own_scale=i > j)
    return axes


def draw_pair(
    ax: Axes, profile: Profile, x: ParameterProfile, y: ParameterProfile, levels: tuple[float, ...], own_scale: bool
) -> None:
    """Draw the regions and traces of two parameters."""
    for level in levels:
        zx, zy = pair_contour(profile, x, y, level)
        ax.plot(*(_values(x, zx), _values(y, zy)) if own_scale else (zx, zy), color=BLUE, linewidth=0.9)
    for given, other, swapped in ((x, y, False), (y, x, True)):
        along = given.zeta, trace_zeta(profile, given, other)
        if own_scale:
            along = given.knots, given.others[:, profile.columns.index(other.name)]
        ax.plot(*(along[::-1] if swapped else along), color=GREY, linewidth=0.9)


def _values(one: ParameterProfile, zeta: FloatArray) -> FloatArray:
    inside = np.clip(zeta, one.zeta[0], one.zeta[-1])
    return np.array([one.value_at(float(z)) for z in inside])


def trace_zeta(profile: Profile, given: ParameterProfile, other: ParameterProfile) -> FloatArray:
    """Return ζ of one parameter's best values at the knots of another, (m,)."""
    values = given.others[:, profile.columns.index(other.name)]
    zeta = other.zeta_at(np.clip(values, other.knots[0], other.knots[-1]))
    return np.nan_to_num(zeta)


def pair_contour(
    profile: Profile, x: ParameterProfile, y: ParameterProfile, level: float
) -> tuple[FloatArray, FloatArray]:
    """Return an approximate joint region on the ζ scale, as a closed curve.

    The curve touches the four points that the profile traces know exactly: where one parameter is at
    ±τ, τ² the χ²₂ quantile. Between them the phase between the two is interpolated by a periodic
    spline (Bates and Watts 1988, Nonlinear Regression Analysis, appendix A6).
    """
    tau = float(np.sqrt(chi2.ppf(level, 2)))
    angles, phases = [], []
    for given, other, side in ((x, y, -1.0), (y, x, 1.0)):
        order = np.argsort(given.zeta)
        known = np.concatenate([[True], np.diff(given.zeta[order]) > 1e-9])
        trace = PchipInterpolator(given.zeta[order][known], trace_zeta(profile, given, other)[order][known])
        for sign in (1.0, -1.0):
            at = float(np.clip(sign * tau, given.zeta.min(), given.zeta.max()))
            phase = float(np.arccos(np.clip(sign * float(trace(at)) / tau, -1.0, 1.0)))
            angles.append((0.0 if sign > 0 else np.pi) + side * phase / 2.0)
            phases.append(phase)
    a = np.mod(np.array(angles), 2.0 * np.pi)
    order = np.argsort(a)
    a, d = a[order], np.array(phases)[order]
    spline = CubicSpline(np.append(a, a[0] + 2.0 * np.pi), np.append(d, d[0]), bc_type="periodic")
    t = np.linspace(0.0, 2.0 * np.pi, CURVE_POINTS)
    between = spline(t)
    return tau * np.cos(t + between / 2.0), tau * np.cos(t - between / 2.0)
