"""Paths of the signed root of the profiled deviance, ζ(c) = sign(c - ĉ) √(d(c) - d_min).

Every minimum gives ζ with its slope ζ' = d'/(2ζ) at no cost (envelope theorem) and the direction in
which the other parameters move, so few, long steps suffice and roots are polished by Newton's method.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparselmm._typing import FloatArray
from sparselmm.exceptions import NumericalError
from sparselmm.inference.profile.point import HeldDeviance, Minimum, minimize

MAX_POINTS = 60  # of one side of a profile; 7 are usual
MAX_HALVINGS = 12  # of a step; twelve shorten it 4,000 times
MAX_NEWTON = 20  # steps towards one limit, each of which about doubles its digits
PAST = 1.005  # the last step aims a little beyond the end, so that no tiny one must follow
OVERSHOOT = 1.6  # a step that raises |ζ| by more than this many spacings is taken again, shorter
ROOT_TOL = 1e-7  # of ζ: a limit is off by less than 1e-7 of a standard error
LOWER = 1e-5  # a profile this far below the minimum of the fit means that the fit is not the minimum


@dataclass(frozen=True)
class Curve:
    """Where a parameter is profiled, from its estimate.

    Attributes
    ----------
    deviance : HeldDeviance
        With the parameter held.
    start : (n,) array
        The other coordinates at the estimate.
    c : float
        The estimate in the coordinate of the profile.
    low, high : float
        Bounds of that coordinate.
    minimum : float
        The deviance at the estimate.
    longest : float
        Longest step in the coordinate: a correlation's ζ is flat beyond a kink where a standard
        deviation becomes zero.
    """

    deviance: HeldDeviance
    start: FloatArray
    c: float
    low: float
    high: float
    minimum: float
    longest: float = np.inf


@dataclass(frozen=True)
class Knot:
    """One point of a path: the minimum with its ζ and dζ/dc."""

    at: Minimum
    zeta: float
    slope: float


def knot(curve: Curve, at: Minimum) -> Knot:
    """Return ζ and its slope at a minimum."""
    excess = at.value - curve.minimum
    sign = np.sign(at.c - curve.c)
    zeta = float(sign * np.sqrt(max(excess, 0.0)))
    if abs(zeta) < 1e-4 or sign == 0:
        return Knot(at, zeta, float(np.sqrt(max(at.bend, 0.0) / 2.0)))
    return Knot(at, zeta, max(at.slope / (2.0 * zeta), 0.0))


def first_knot(curve: Curve) -> Knot:
    """Return the knot at the estimate."""
    at = minimize(curve.deviance, curve.start, curve.c)
    return knot(curve, at)


def trace(curve: Curve, first: Knot, side: float, spacing: float, reach: float) -> list[Knot]:
    """Return the knots from the estimate to |ζ| >= reach, or to the bound, on one side (-1 or 1)."""
    knots: list[Knot] = []
    last, before = first, None
    bound = curve.high if side > 0 else curve.low
    for _ in range(MAX_POINTS):
        if abs(last.zeta) >= reach or last.at.c == bound:
            break
        goal = min(abs(last.zeta) + spacing, PAST * reach)
        following = _advance(curve, last, before, side, goal, bound, spacing)
        knots.append(following)
        last, before = following, last
    return knots


def _advance(
    curve: Curve, last: Knot, before: Knot | None, side: float, goal: float, bound: float, spacing: float
) -> Knot:
    """Return a knot with |ζ| near the goal, or at the bound."""
    h = _step(curve, last, side, goal)
    if before is not None:
        h = min(h, 3.0 * abs(last.at.c - before.at.c))
    h, room = min(h, curve.longest), abs(bound - last.at.c)
    for _ in range(MAX_HALVINGS):
        c = bound if h >= 0.8 * room else last.at.c + side * h
        try:
            following = knot(curve, minimize(curve.deviance, _extrapolate(last, before, c), c))
        except NumericalError:
            following = None
        if following is not None and abs(following.zeta) - abs(last.zeta) < OVERSHOOT * spacing:
            return following
        h = 0.5 * min(h, room)
    raise NumericalError(f"the profile cannot be followed beyond {last.at.c:.6g} (zeta {last.zeta:.3g})")


def _step(curve: Curve, last: Knot, side: float, goal: float) -> float:
    """Return the length of the step after which a quadratic model of the deviance has |ζ| at the goal."""
    gain = goal**2 - last.zeta**2
    slope, bend = abs(last.at.slope), last.at.bend
    if last.at.c == curve.c:
        slope = 0.0
    inside = slope**2 + 2.0 * bend * gain
    if inside > 0 and slope + np.sqrt(inside) > 0:
        return float(2.0 * gain / (slope + np.sqrt(inside)))
    return gain / slope if slope > 0 else float(max(abs(last.at.c), 1e-3 * curve.deviance.units[-1]))


def _extrapolate(last: Knot, before: Knot | None, c: float) -> FloatArray:
    """Return the expected minimum at c, from the tangents of the last two knots."""
    h = c - last.at.c
    z = last.at.z + h * last.at.tangent
    if before is not None and before.at.c != last.at.c:
        bend = (last.at.tangent - before.at.tangent) / (last.at.c - before.at.c)
        z = z + 0.5 * h * h * bend
    return np.asarray(z)


def root(curve: Curve, knots: list[Knot], target: float) -> Knot:
    """Return the knot where ζ = target, or at the bound of the parameter if ζ does not go so far.

    ``knots`` are those of one side, from the estimate to near the target or to the bound.
    """
    last = knots[-1]
    if last.at.c in (curve.low, curve.high) and abs(last.zeta) < abs(target):
        return last
    near = min(knots, key=lambda k: abs(k.zeta - target))
    for _ in range(MAX_NEWTON):
        gap = target - near.zeta
        ended = near.at.c in (curve.low, curve.high) and abs(near.zeta) < abs(target)
        if abs(gap) < ROOT_TOL or ended or near.slope <= 0:
            break
        c = float(np.clip(near.at.c + gap / near.slope, curve.low, curve.high))
        near = knot(curve, minimize(curve.deviance, _extrapolate(near, None, c), c))
    return near
