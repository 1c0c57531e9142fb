"""Trust-region Newton method on exact gradients and average information."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparselmm._typing import FloatArray
from sparselmm.optimize.base import SmoothProblem, Status

LEAST_RATE = 0.05  # the information is never so exact that a step leaves less than this share
CERTAIN = 1e-6  # no step that promises more is taken without evaluating the criterion after it


@dataclass(frozen=True)
class Newton:
    """Newton steps within a trust region, with the average information as Hessian.

    Corrections from differences of gradients (symmetric rank-one, BFGS) were tried: they cost more steps
    than they saved.

    The criterion depends on a template T only through T T', so no bounds are needed: signs are
    folded by the caller. Negative curvature (a column of T that should leave zero) is followed.

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

    def minimize(self, problem: SmoothProblem, start: FloatArray, lower: FloatArray) -> tuple[FloatArray, Status, str]:
        """Return the best parameters, the status and a message."""
        x, radius = np.array(start, dtype=float), self.radius
        value, g, H = problem.derivatives(x)
        before, rate = np.nan, 1.0
        for _ in range(self.max_iterations):
            scale = np.maximum(np.abs(x), problem.typical(x))
            step, predicted = trust_region_step(scale * g, scale[:, None] * H * scale, radius)
            tolerance = max(self.ftol, self.rtol * abs(value))
            # steps converge at a steady rate: the worse of the last two bounds what this one leaves
            last_rate, rate = rate, min(1.0, predicted / before) if before > 0 else 1.0
            worst = max(rate, last_rate, LEAST_RATE)
            left, before = predicted * worst / max(1.0 - worst, LEAST_RATE), predicted
            if left < tolerance and predicted < CERTAIN and np.linalg.norm(step) < radius:
                # taken on the strength of the gradient alone, without another evaluation
                x = x + scale * step
                return x, Status.CONVERGED, f"{self.name}: predicted decrease of the last step {predicted:.1e}"
            trial = x + scale * step
            trial_value = problem.value(trial)
            ratio = (value - trial_value) / predicted
            if ratio < 0.25:
                radius = 0.25 * float(np.linalg.norm(step))
            elif ratio > 0.75:
                radius = max(radius, 2.0 * float(np.linalg.norm(step)))
            if trial_value < value:
                x = trial
                value, g, H = problem.derivatives(x)
            elif radius < 1e-8:
                return x, Status.CONVERGED, f"{self.name}: limited by rounding"
        return x, Status.MAX_EVALUATIONS, f"{self.name}: no convergence in {self.max_iterations} iterations"


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
