"""Newton's method: the loop, for one point and for many at once, and the steps that it takes.

Who minimizes says how long a step is worth (`Descent.step`), the loop tries it, moves or stays, and changes the
radius. The loop for many points at once (`descend_many`) has the same rules on arrays; it stands beside the first
since one loop for both would cost small models, whose step takes some ten microseconds, as much again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol

import numpy as np

from sparselmm._typing import BoolArray, FloatArray, IntArray
from sparselmm.optimize.base import BoxedProblem, Status

LEAST_RATE = 0.05  # the information is never so exact that a step leaves less than this share
CERTAIN = 1e-6  # no step that promises more is taken without evaluating the criterion after it


# --- the loop ----------------------------------------------------------------------------------------


class Step(NamedTuple):
    """A step from a point.

    ``final`` says that what it leaves is below tolerance: it is taken without another evaluation. ``length`` is in
    the units of the radius, ``predicted`` the decrease that the quadratic model promises.
    """

    trial: FloatArray
    predicted: float
    length: float
    final: bool


class Descent(Protocol):
    """A function to minimize, and the steps that suit it."""

    def value(self, x: FloatArray) -> float:
        """Return the function; infinite where it is not defined."""
        ...

    def derivatives(self, x: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        """Return value, gradient and Hessian at the point last moved to."""
        ...

    def step(self, x: FloatArray, value: float, g: FloatArray, H: FloatArray, radius: float) -> Step:
        """Return a step of at most the radius."""
        ...


class End(Enum):
    """Why a descent ended."""

    FINAL = "what a last step leaves is below tolerance"
    ROUNDING = "no step, however short, brings a decrease"
    LIMIT = "too many steps"


class Descended(NamedTuple):
    """The end of a descent.

    ``x`` is the end, ``origin`` the point where derivatives were last taken, ``value`` the function there, ``step``
    the final one from it (None unless ``end`` is `End.FINAL`), ``tried`` the number of further values.
    """

    x: FloatArray
    origin: FloatArray
    value: float
    step: Step | None
    end: End
    tried: int


def by_ratio(radius: float, step: Step, decrease: float) -> float:
    """Return the next radius: a quarter of a step that was poor, twice a step that was good."""
    ratio = decrease / step.predicted if step.predicted > 0 else 0.0
    if ratio < 0.25:
        return 0.25 * step.length
    return max(radius, 2.0 * step.length) if ratio > 0.75 else radius


def by_success(radius: float, step: Step, decrease: float) -> float:
    """Return the next radius: twice the last up to one after a success, else a quarter."""
    return min(2.0 * radius, 1.0) if decrease > 0 else 0.25 * radius


def descend(
    problem: Descent,
    x: FloatArray,
    *,
    radius: float,
    limit: int,
    resize: Callable[[float, Step, float], float] = by_ratio,
    least: float = 1e-8,
) -> Descended:
    """Minimize from x by steps within a radius, at most ``limit`` of them, until it is below ``least``."""
    value, g, H = problem.derivatives(x)
    for tried in range(limit):
        step = problem.step(x, value, g, H, radius)
        if step.final:
            return Descended(step.trial, x, value, step, End.FINAL, tried)
        trial_value = problem.value(step.trial)
        radius = resize(radius, step, value - trial_value)
        if trial_value < value:
            x = step.trial
            value, g, H = problem.derivatives(x)
        elif radius < least:
            return Descended(x, x, value, None, End.ROUNDING, tried + 1)
    return Descended(x, x, value, None, End.LIMIT, limit)


class ManyDescents(Protocol):
    """Many functions to minimize at once, each from its own point."""

    def step(self, rows: IntArray, radius: FloatArray) -> tuple[FloatArray, BoolArray]:
        """Return trial points of some, (r, n), and whether the step to each is final."""
        ...

    def move(self, rows: IntArray, trial: FloatArray, final: BoolArray) -> BoolArray:
        """Move those whose trial point is better or final to it, and return which these are, (r,)."""
        ...


def descend_many(problem: ManyDescents, n: int, *, limit: int) -> BoolArray:
    """Minimize n functions at once; return which have come to a final step, (n,).

    Radii change `by_success`.
    """
    active, radius = np.ones(n, dtype=bool), np.ones(n)
    for _ in range(limit):
        rows = np.flatnonzero(active)
        trial, final = problem.step(rows, radius[rows])
        moved = problem.move(rows, trial, final)
        radius[rows] = np.where(moved, np.minimum(2.0 * radius[rows], 1.0), 0.25 * radius[rows])
        active[rows[final]] = False
        if not active.any():
            break
    return ~active


# --- the optimizer -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Newton:
    """Newton steps within a trust region, with the average information as Hessian.

    Corrections from differences of gradients (symmetric rank-one, BFGS) were tried: they cost more steps
    than they saved.

    Bounds are kept where the problem has a box. Where the criterion depends on a parameter through its square only
    there is none: signs are folded by the caller. Negative curvature (a column of T that should leave zero) is
    followed.

    Attributes
    ----------
    ftol : float
        Stop with a step after which a decrease below it is left.
    rtol : float
        The same relative to the criterion (rounding floor).
    radius : float
        First trust radius, relative to the size of the parameters.
    max_iterations : int
        Limit on accepted and refused steps.
    """

    name: str = "newton"
    ftol: float = 1e-11
    rtol: float = 2e-15
    radius: float = 1.0
    max_iterations: int = 200

    def minimize(self, problem: BoxedProblem, start: FloatArray, lower: FloatArray) -> tuple[FloatArray, Status, str]:
        """Return the best parameters, the status and a message."""
        path = _Path(problem, self.ftol, self.rtol)
        found = descend(path, np.array(start, dtype=float), radius=self.radius, limit=self.max_iterations)
        if found.step is not None:
            promise = f"predicted decrease of the last step {found.step.predicted:.1e}"
            return found.x, Status.CONVERGED, f"{self.name}: {promise}"
        if found.end is End.ROUNDING:
            return found.x, Status.CONVERGED, f"{self.name}: limited by rounding"
        return found.x, Status.MAX_EVALUATIONS, f"{self.name}: no convergence in {self.max_iterations} iterations"


class _Path:
    """A recorded problem with steps in units of the size of its parameters."""

    def __init__(self, problem: BoxedProblem, ftol: float, rtol: float) -> None:
        self._typical, self._box, self._ftol, self._rtol = problem.typical, problem.box, ftol, rtol
        self.value, self.derivatives = problem.value, problem.derivatives
        self._before, self._rate = np.nan, 1.0

    def step(self, x: FloatArray, value: float, g: FloatArray, H: FloatArray, radius: float) -> Step:
        """Return the step; the worse of the last two rates of convergence bounds what it leaves."""
        scale, box = np.maximum(np.abs(x), self._typical(x)), self._box
        g, H = scale * g, scale[:, None] * H * scale
        if box is None:
            s, predicted = trust_region_step(g, H, radius)
        else:
            s, predicted, _ = bounded_step(g, H, radius, (box[0] - x) / scale, (box[1] - x) / scale)
        last, self._rate = self._rate, min(1.0, predicted / self._before) if self._before > 0 else 1.0
        worst = max(self._rate, last, LEAST_RATE)
        left, self._before = predicted * worst / max(1.0 - worst, LEAST_RATE), predicted
        length = float(np.linalg.norm(s))
        tolerance = max(self._ftol, self._rtol * abs(value))
        return Step(x + scale * s, predicted, length, left < tolerance and predicted < CERTAIN and length < radius)


# --- steps -------------------------------------------------------------------------------------------


def bounded_step(
    g: FloatArray, H: FloatArray, radius: float, low: FloatArray, high: FloatArray
) -> tuple[FloatArray, float, BoolArray]:
    """Return a low point of g's + s'Hs/2 over |s| <= radius and low <= s <= high, its decrease, and who moves freely.

    Coordinates that the slope holds at a bound stay. The others go towards their minimum in the ball until one meets
    a bound, stay there with it, and so on (an active set without release; the next step decides anew).
    """
    s, held = np.zeros(len(g)), ((low >= 0) & (g > 0)) | ((high <= 0) & (g < 0))
    best, most, moving = s, 0.0, ~held
    for _ in range(len(g) + 1):
        free, target = ~held, s.copy()
        left = radius**2 - float(s[held] @ s[held])
        if free.any() and left > 0:
            slope = g[free] + H[np.ix_(free, held)] @ s[held]
            target[free], _ = trust_region_step(slope, H[np.ix_(free, free)], float(np.sqrt(left)))
        share, meets = _until_bound(s, target, low, high)
        s = np.clip(s + share * (target - s), low, high) if meets.any() else target
        held = held | meets
        decrease = float(-(g @ s + s @ (H @ s) / 2.0))
        if decrease > most:
            best, most, moving = s, decrease, ~held
        if not meets.any():
            break
    return best, most, moving


def _until_bound(s: FloatArray, target: FloatArray, low: FloatArray, high: FloatArray) -> tuple[float, BoolArray]:
    """Return the share of the way from s to a target that stays within bounds, and who meets one there."""
    way = target - s
    room = np.where(way > 0, high - s, s - low)
    shares = np.divide(room, np.abs(way), out=np.full(len(s), np.inf), where=way != 0)
    share = min(float(shares.min(initial=np.inf)), 1.0)
    return share, np.asarray((shares <= share) & (shares < 1.0))


def trust_region_step(g: FloatArray, H: FloatArray, radius: float) -> tuple[FloatArray, float]:
    """Return the minimizer of g's + s'Hs/2 over |s| <= radius and the decrease it predicts.

    Exact by the eigenvalues of H, also where H is indefinite or singular.
    """
    w, Q = np.linalg.eigh((H + H.T) / 2.0)
    c = Q.T @ g
    floor = 1e-10 * max(float(np.abs(w).max()), 1e-300)
    if w[0] > floor:
        s = -c / w
        if np.linalg.norm(s) <= radius:
            return Q @ s, float(-(c @ s) / 2.0)
    elif w[0] > -floor:  # flat directions without slope stay where they are
        flat = np.abs(w) <= floor
        s = np.where(flat, 0.0, -c / np.where(flat, 1.0, w))
        if np.linalg.norm(s) <= radius and np.all(np.abs(c[flat]) * radius < 1e-12 * (1.0 + np.abs(c).max())):
            return Q @ s, float(-(c @ s) / 2.0)
    shift = _secular(w, c, radius)
    s = -c / np.maximum(w + shift, floor)
    length = float(np.linalg.norm(s))
    if length < radius * 0.999 and w[0] < -floor:  # hard case: go on along the most negative curvature
        s[0] += np.copysign(np.sqrt(radius**2 - length**2), -c[0] if c[0] else 1.0)
    elif length > radius:
        s *= radius / length
    return Q @ s, float(-(c @ s + s @ (w * s) / 2.0))


def _secular(w: FloatArray, c: FloatArray, radius: float) -> float:
    """Return λ > max(0, -w_min) with |c/(w + λ)| = radius, by bisection on a log scale."""
    low = max(0.0, -float(w[0]))
    high = low + float(np.linalg.norm(c)) / radius + 1e-12
    low += 1e-12 * max(1.0, low)
    for _ in range(100):
        middle = (low + high) / 2.0
        if np.linalg.norm(c / (w + middle)) > radius:
            low = middle
        else:
            high = middle
        if high - low < 1e-6 * high:
            break
    return high
