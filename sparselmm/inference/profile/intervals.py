"""Profile-likelihood intervals, each limit solved for exactly: ζ(x) = ± the normal quantile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import pandas as pd

from sparselmm.inference.profile.curves import (
    Optimum,
    Parameter,
    chosen,
    covariance_of,
    is_flat,
    is_undetermined,
    opened,
    optimum,
)
from sparselmm.inference.profile.path import Curve, Knot, first_knot, root, trace
from sparselmm.inference.profile.profile import normal_quantile, warn_if_lower
from sparselmm.inference.variance.sdcor import SIGMA2, check_scale
from sparselmm.likelihood.criterion import criterion_for
from sparselmm.likelihood.problem import Problem
from sparselmm.likelihood.result import FitResult

NEAR = 0.97  # from here Newton's method finds the limit


class Fitted(Protocol):
    """A fit, as far as intervals need it."""

    @property
    def problem(self) -> Problem:
        """The model."""
        ...

    @property
    def result(self) -> FitResult:
        """The numbers."""
        ...


def profile_conf_int(
    fit: Fitted,
    level: float = 0.95,
    which: str | Sequence[str] | None = None,
    *,
    reml: bool = False,
    scale: str = "sdcor",
) -> pd.DataFrame:
    """Return profile-likelihood intervals.

    Parameters
    ----------
    fit : MixedModelFit
        The fit.
    level : float
        Confidence level.
    which : str or sequence of str, optional
        Names of parameters, ``"theta_"`` for all variance parameters or ``"beta_"`` for all fixed
        effects; by default all.
    reml : bool
        Profile the REML criterion (variance parameters only) in place of the ML deviance.
    scale : {"sdcor", "varcov"}
        Standard deviations and correlations, or variances and covariances.

    Returns
    -------
    DataFrame
        Index: parameters; columns ``estimate``, ``conf_low``, ``conf_high``. The estimates are those
        of the criterion that is profiled. A limit that the likelihood does not give within the
        parameter space is the bound itself: 0 for a standard deviation, ±1 for a correlation. Parameters
        that the design does not identify have no limits: NaN, with a warning.

    Notes
    -----
    The limits are the two values where the profiled deviance exceeds its minimum by the χ²₁ quantile;
    each is found by Newton's method on ζ, not read from an interpolation.

    Examples
    --------
    >>> import sparselmm as slm
    >>> from sparselmm.inference.profile.intervals import profile_conf_int
    >>> fit = slm.lmer("Yield ~ 1 + (1 | Batch)", slm.load_dataset("Dyestuff"))
    >>> profile_conf_int(fit).round(2)
                         estimate  conf_low  conf_high
    sd(Intercept|Batch)     37.26     12.20      84.06
    sigma                   49.51     38.23      67.66
    Intercept             1527.50   1486.45    1568.55
    """
    z = normal_quantile(level)
    check_scale(scale)
    best = optimum(fit.problem, fit.result, criterion_for(reml))
    rows = {}
    for parameter in chosen(best, which):
        name, squared = parameter.name, False
        if scale == "varcov":
            if parameter.kind == "cor" and not is_undetermined(best, parameter):
                parameter = covariance_of(parameter)
            squared = parameter.kind in ("sd", "sigma")
            name = _variance_name(parameter)
        row = _interval(best, parameter, z)
        rows[name] = tuple(x**2 for x in row) if squared else row
    return pd.DataFrame.from_dict(rows, orient="index", columns=["estimate", "conf_low", "conf_high"])


def _variance_name(parameter: Parameter) -> str:
    if parameter.kind == "sigma":
        return SIGMA2
    return parameter.name if parameter.entry is None else parameter.entry.variance_name


def _interval(best: Optimum, parameter: Parameter, z: float) -> tuple[float, float, float]:
    if is_undetermined(best, parameter):
        return float("nan"), -1.0, 1.0
    with opened(best, parameter) as curve:
        if is_flat(best, parameter):
            return float(parameter.value(curve.c)), float("nan"), float("nan")
        first = first_knot(curve)
        low, high = (_limit(curve, first, side, z) for side in (-1.0, 1.0))
    warn_if_lower(curve, parameter, [low, high])
    estimate, a, b = parameter.value([curve.c, low.at.c, high.at.c])  # type: ignore[arg-type]
    return float(estimate), float(a), float(b)


def _limit(curve: Curve, first: Knot, side: float, z: float) -> Knot:
    """Return the knot at the limit on one side."""
    bound = curve.high if side > 0 else curve.low
    if curve.c == bound:
        return first
    return root(curve, [first, *trace(curve, first, side, z / 2.0, NEAR * z)], side * z)
