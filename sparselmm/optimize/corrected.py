"""Problems whose Hessian is nearer to the criterion's own than the average information.

With few levels and uneven weights the average information can be a thousand times the observed one.
Newton steps are then a thousand times too short, and so is the decrease that they predict.
"""

from __future__ import annotations

import numpy as np

from sparselmm._typing import FloatArray
from sparselmm.optimize.base import BoxedProblem

RELATIVE_STEP = 1e-5  # of a parameter's size: gradients have 10 digits, so the Hessian gets five
LEAST_COSINE = 1e-6  # between a step and what its gradient tells anew; below it the quotient is rounding


class Secant:
    """A problem whose Hessian learns from the gradients seen, by symmetric rank-one corrections.

    With δ a step in units of the parameters' sizes, y the change of the gradient over it and r = y - Hδ, the
    correction is rr'/r'δ. It costs nothing and needs about n_par steps to help, so ordinary fits end before it does.
    One object serves one path.

    Parameters
    ----------
    problem : BoxedProblem
        The criterion with exact gradients.
    """

    def __init__(self, problem: BoxedProblem) -> None:
        self._problem = problem
        self._seen: tuple[FloatArray, FloatArray, FloatArray] | None = None  # par, gradient, sum of corrections

    @property
    def box(self) -> tuple[FloatArray, FloatArray] | None:
        """The bounds of the problem."""
        return self._problem.box

    def value(self, par: FloatArray) -> float:
        """Return the criterion."""
        return self._problem.value(par)

    def typical(self, par: FloatArray) -> FloatArray:
        """Return the size of change in each parameter that matters, (n_par,)."""
        return self._problem.typical(par)

    def derivatives(self, par: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        """Return criterion, gradient (n_par,) and the corrected Hessian, (n_par, n_par)."""
        value, gradient, hessian = self._problem.derivatives(par)
        corrections = np.zeros_like(hessian)
        if self._seen is not None:
            before, slope, corrections = self._seen
            unit = np.maximum(np.abs(par), self.typical(par))
            delta, y = (par - before) / unit, (gradient - slope) * unit
            r = y - unit * ((hessian + corrections) @ (unit * delta))
            along = float(r @ delta)
            if abs(along) > LEAST_COSINE * np.linalg.norm(r) * np.linalg.norm(delta):
                corrections = corrections + np.outer(r, r) / along / np.outer(unit, unit)
        self._seen = np.array(par), gradient, corrections
        return value, gradient, hessian + corrections


class Differenced:
    """A problem whose Hessian comes from differences of gradients: n_par further gradients at each point.

    Parameters
    ----------
    problem : BoxedProblem
        The criterion with exact gradients.
    """

    def __init__(self, problem: BoxedProblem) -> None:
        self._problem = problem

    @property
    def box(self) -> tuple[FloatArray, FloatArray] | None:
        """The bounds of the problem."""
        return self._problem.box

    def value(self, par: FloatArray) -> float:
        """Return the criterion."""
        return self._problem.value(par)

    def typical(self, par: FloatArray) -> FloatArray:
        """Return the size of change in each parameter that matters, (n_par,)."""
        return self._problem.typical(par)

    def derivatives(self, par: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        """Return criterion, gradient (n_par,) and the symmetrized differences of the gradient, (n_par, n_par)."""
        value, gradient, hessian = self._problem.derivatives(par)
        steps = RELATIVE_STEP * np.copysign(np.maximum(np.abs(par), self.typical(par)), par)  # away from zero
        H = np.empty_like(hessian)
        for i, step in enumerate(steps):
            moved = np.array(par)
            moved[i] += step
            H[:, i] = (self._problem.derivatives(moved)[1] - gradient) / step
        return value, gradient, (H + H.T) / 2.0
