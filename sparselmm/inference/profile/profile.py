"""Profiles of the deviance: ζ as a smooth, monotone function of each parameter.

ζ(x) = sign(x - x̂) √(d(x) - d_min), d(x) the minimum of the deviance over all other parameters, is
nearly standard normal at the true x; a straight line means that Wald intervals do (Bates et al. 2015,
J. Stat. Softw. 67(1), section 5.1). Between the knots a cubic with the exact slopes of ζ is used.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from sparselmm._typing import FloatArray, frozen
from sparselmm.exceptions import ConvergenceWarning, ParameterError
from sparselmm.inference.fixed.tables import check_level
from sparselmm.inference.profile.curves import (
    Optimum,
    Parameter,
    all_values,
    chosen,
    is_flat,
    is_undetermined,
    opened,
    optimum,
)
from sparselmm.inference.profile.path import LOWER, Curve, Knot, first_knot, trace
from sparselmm.inference.variance.sdcor import SIGMA2, check_scale
from sparselmm.likelihood.criterion import criterion_for
from sparselmm.likelihood.problem import Problem
from sparselmm.likelihood.result import FitResult

if TYPE_CHECKING:
    from scipy.interpolate import CubicHermiteSpline

REACH_LEVEL = 0.99  # the default profile carries joint regions of two parameters at this level


@dataclass(frozen=True)
class ParameterProfile:
    """The profile of one parameter.

    Attributes
    ----------
    parameter : Parameter
        Name and kind.
    estimate : float
        Where ζ = 0; NaN for a correlation that the data say nothing about.
    c, zeta, slope : (m,) arrays
        Knots in the coordinate of the profile, ζ there and dζ/dc.
    others : (m, r) array
        All parameters of the model at the knots.
    evaluations : int
        Factorisations it took.
    """

    parameter: Parameter
    estimate: float
    c: FloatArray
    zeta: FloatArray
    slope: FloatArray
    others: FloatArray = field(repr=False)
    evaluations: int

    @property
    def name(self) -> str:
        """Name of the parameter."""
        return self.parameter.name

    @property
    def knots(self) -> FloatArray:
        """The parameter at the knots, (m,)."""
        return self.parameter.value(self.c)

    @cached_property
    def _unit(self) -> float:
        """Where the interpolation of a standard deviation turns from linear to logarithmic; 0 for other kinds."""
        positive = self.c[self.c > 0]
        return float(self.estimate or positive[0]) if self.parameter.kind == "sd" and len(positive) else 0.0

    def _stretched(self, c: FloatArray) -> FloatArray:
        """Return arsinh(c / unit), in which ζ of a standard deviation is nearly straight."""
        return np.arcsinh(c / self._unit) if self._unit else c

    @property
    def is_flat(self) -> bool:
        """Whether the design does not identify the parameter, so that its profile is flat."""
        return bool(np.isnan(self.zeta).all())

    @cached_property
    def spline(self) -> CubicHermiteSpline:
        """ζ as a function of the (stretched) coordinate."""
        x = self._stretched(self.c)
        slopes = self.slope * (np.hypot(self.c, self._unit) if self._unit else 1.0)
        from scipy.interpolate import CubicHermiteSpline

        return CubicHermiteSpline(x, self.zeta, monotone_slopes(x, self.zeta, slopes))

    def zeta_at(self, values: npt.ArrayLike) -> FloatArray:
        """Return ζ at values of the parameter; NaN outside the knots, and everywhere if the profile is flat."""
        if self.is_flat:
            return np.full(np.shape(values), np.nan)
        c = self.parameter.coordinate(np.asarray(values, dtype=float))
        slack = 1e-9 * (self.c[-1] - self.c[0])  # values of knots come back with rounding
        inside = (c >= self.c[0] - slack) & (c <= self.c[-1] + slack)
        return np.where(inside, self.spline(self._stretched(np.clip(c, self.c[0], self.c[-1]))), np.nan)

    def value_at(self, zeta: float) -> float:
        """Return the parameter where the spline has this ζ, at its bound where ζ does not go so far.

        Raises
        ------
        ParameterError
            When the profile was not followed so far.
        """
        for end in (0, -1):
            if abs(zeta - self.zeta[end]) < 1e-6:
                return float(self.knots[end])
        if self.zeta[0] < zeta < self.zeta[-1]:
            f, (low, high) = self.spline, self._stretched(self.c[[0, -1]]).tolist()
            from scipy.optimize import brentq

            x = float(brentq(lambda x: float(f(x)) - zeta, low, high, xtol=1e-14, rtol=1e-13))
            return float(self.parameter.value(self._unit * np.sinh(x) if self._unit else x))
        end = 0 if zeta < self.zeta[0] else -1
        bound = self.parameter.bounds[end]
        if self.c[end] == bound:
            return float(self.parameter.value(bound))
        raise ParameterError(
            f"the profile of {self.name} was followed to zeta = {self.zeta[end]:.3f} only; "
            f"make it with profile(zeta_max={abs(zeta) * 1.05:.2f})"
        )

    def interval(self, level: float) -> tuple[float, float]:
        """Return the values with ``|ζ|`` below the normal quantile of the level; NaN if the profile is flat."""
        if self.is_flat:
            return float("nan"), float("nan")
        z = normal_quantile(level)
        return self.value_at(-z), self.value_at(z)


def normal_quantile(level: float) -> float:
    """Return the quantile with the given probability between its negative and itself.

    >>> round(normal_quantile(0.95), 3)
    1.96
    """
    return float(special.ndtri(0.5 + check_level(level) / 2.0))


def monotone_slopes(x: FloatArray, y: FloatArray, slopes: FloatArray) -> FloatArray:
    """Return slopes with which the cubic Hermite interpolant of rising y is monotone, (m,).

    Slopes with α² + β² <= 9 in units of the secant suffice (Fritsch and Carlson 1980, SIAM J. Numer.
    Anal. 17, 238-246); they are shortened only where they exceed this.

    >>> import numpy as np
    >>> monotone_slopes(np.array([0.0, 1.0]), np.array([0.0, 1.0]), np.array([1.0, 6.0])).round(3).tolist()
    [0.493, 2.959]
    """
    out = np.maximum(slopes, 0.0)
    secant = np.diff(y) / np.diff(x)
    for i, m in enumerate(secant):
        if m <= 0:
            out[i] = out[i + 1] = 0.0
            continue
        size = float(np.hypot(out[i], out[i + 1])) / m
        if size > 3.0:
            out[i : i + 2] *= 3.0 / size
    return out


@dataclass(frozen=True)
class Profile:
    """Profiles of the parameters of a model, as `MixedModelFit.profile` returns them.

    Attributes
    ----------
    profiles : tuple of ParameterProfile
        One per parameter.
    columns : tuple of str
        Names of all parameters of the model, the columns of ``others``.
    criterion : str
        What was profiled, ``"deviance"`` or ``"REML criterion"``.
    minimum : float
        Its minimum.
    """

    profiles: tuple[ParameterProfile, ...]
    columns: tuple[str, ...]
    criterion: str
    minimum: float

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the profiled parameters."""
        return tuple(p.name for p in self.profiles)

    @property
    def evaluations(self) -> int:
        """Factorisations that all profiles took."""
        return sum(p.evaluations for p in self.profiles)

    def __iter__(self) -> Iterator[ParameterProfile]:
        return iter(self.profiles)

    def __len__(self) -> int:
        return len(self.profiles)

    def __getitem__(self, name: str) -> ParameterProfile:
        for p in self.profiles:
            if p.name == name:
                return p
        raise KeyError(f"no profile of {name!r}; there are {', '.join(self.names)}")

    def to_frame(self) -> pd.DataFrame:
        """Return one row per knot: parameter, zeta, value, then all parameters at that knot."""
        parts = []
        for p in self.profiles:
            head = pd.DataFrame({"parameter": p.name, "zeta": p.zeta, "value": p.knots})
            parts.append(pd.concat([head, pd.DataFrame(p.others, columns=list(self.columns))], axis=1))
        return pd.concat(parts, ignore_index=True)

    def conf_int(self, level: float = 0.95, scale: str = "sdcor") -> pd.DataFrame:
        """Return the intervals where ``|ζ|`` is below the normal quantile.

        Parameters
        ----------
        level : float
            Confidence level.
        scale : {"sdcor", "varcov"}
            Standard deviations (and correlations), or variances; a covariance has a profile of its
            own, see `profile_conf_int`, and is left out here.

        Returns
        -------
        DataFrame
            Index: parameters; columns ``estimate``, ``conf_low``, ``conf_high``.
        """
        check_scale(scale)
        rows = {p.name: (p.estimate, *p.interval(level)) for p in self.profiles}
        frame = pd.DataFrame.from_dict(rows, orient="index", columns=["estimate", "conf_low", "conf_high"])
        return frame if scale == "sdcor" else _variances(self.profiles, frame)

    def __repr__(self) -> str:
        return f"<Profile of the {self.criterion} in {', '.join(self.names)}; {self.evaluations} factorisations>"


def _variances(profiles: Sequence[ParameterProfile], frame: pd.DataFrame) -> pd.DataFrame:
    squared = frame.copy()
    names = {}
    for p in profiles:
        if p.parameter.kind in ("sd", "sigma"):
            squared.loc[p.name] = frame.loc[p.name] ** 2
            names[p.name] = SIGMA2 if p.parameter.entry is None else p.parameter.entry.variance_name
    keep = [p.name for p in profiles if p.parameter.kind != "cor"]
    return squared.loc[keep].rename(index=names)


def profile(
    problem: Problem,
    result: FitResult,
    which: str | Sequence[str] | None = None,
    *,
    reml: bool = False,
    zeta_max: float | None = None,
    spacing: float = 0.5,
) -> Profile:
    """Return the profiles of a fit; see `MixedModelFit.profile`."""
    if zeta_max is None:
        zeta_max = float(np.sqrt(special.chdtri(2, 1.0 - REACH_LEVEL)))
    for name, number in (("zeta_max", zeta_max), ("spacing", spacing)):
        if not 0.0 < number < np.inf:
            raise ParameterError(f"{name} must be a positive number, not {number!r}")
    best = optimum(problem, result, criterion_for(reml))
    profiles = tuple(_one(best, p, zeta_max, spacing) for p in chosen(best, which))
    columns = tuple(p.name for p in best.parameters)
    return Profile(profiles, columns, best.result.criterion_type.name, best.result.criterion)


def _one(best: Optimum, parameter: Parameter, zeta_max: float, spacing: float) -> ParameterProfile:
    if is_undetermined(best, parameter):
        c = np.array(parameter.bounds)
        others = np.tile(best.values(), (2, 1))
        return ParameterProfile(parameter, np.nan, frozen(c), np.zeros(2), np.zeros(2), frozen(others), 0)
    with opened(best, parameter) as curve:
        if is_flat(best, parameter):
            c, nothing = np.full(2, curve.c), np.full(2, np.nan)
            others = np.tile(best.values(), (2, 1))
            estimate = float(parameter.value(curve.c))
            return ParameterProfile(parameter, estimate, frozen(c), frozen(nothing), frozen(nothing), frozen(others), 0)
        first = first_knot(curve)
        below = trace(curve, first, -1.0, spacing, zeta_max)
        above = trace(curve, first, 1.0, spacing, zeta_max)
        knots = [*reversed(below), first, *above]
        others = np.array([all_values(best, curve, k.at) for k in knots])
    warn_if_lower(curve, parameter, knots)
    return ParameterProfile(
        parameter,
        float(parameter.value(curve.c)),
        frozen(np.array([k.at.c for k in knots])),
        frozen(np.array([k.zeta for k in knots])),
        frozen(np.array([k.slope for k in knots])),
        frozen(others),
        sum(k.at.evaluations for k in knots),
    )


def warn_if_lower(curve: Curve, parameter: Parameter, knots: Sequence[Knot]) -> None:
    """Warn when a profile finds a lower deviance than the fit."""
    lowest = min(knots, key=lambda k: k.at.value)
    gap = curve.minimum - lowest.at.value
    if gap > LOWER * max(1.0, 1e-6 * abs(curve.minimum)):
        warnings.warn(
            f"The profile of {parameter.name} reaches a deviance {gap:.3g} below the fit, at "
            f"{float(parameter.value(lowest.at.c)):.5g}: the fit is a local optimum. Fit again from another start.",
            ConvergenceWarning,
            stacklevel=2,
        )
