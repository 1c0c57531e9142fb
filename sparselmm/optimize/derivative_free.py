"""Derivative-free optimizers of nlopt: BOBYQA (default) and Nelder-Mead."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparselmm._typing import FloatArray
from sparselmm.optimize.base import Recorder, Status


@dataclass(frozen=True)
class Nlopt:
    """A local derivative-free algorithm of nlopt with bounds.

    Attributes
    ----------
    name : str
        ``"bobyqa"`` or ``"nelder_mead"``.
    ftol_abs, xtol_abs : float
        Absolute tolerances on criterion and parameters.
    max_evaluations : int
        Limit over all restarts.
    restarts : int
        Runs from the best point, each with a small initial step, until one brings no gain.
    """

    name: str = "bobyqa"
    ftol_abs: float = 1e-9
    xtol_abs: float = 1e-8
    max_evaluations: int = 10_000
    restarts: int = 3

    def minimize(self, problem: Recorder, start: FloatArray, lower: FloatArray) -> tuple[FloatArray, Status, str]:
        """Return the best parameters, the status and a message."""
        x, step, status, text = np.maximum(start, lower), None, Status.STOPPED, ""
        if problem.upper is not None:
            x = np.minimum(x, problem.upper)
        unit = problem.typical(x)  # tolerances and steps mean the same whatever the scale of a column
        for _ in range(self.restarts + 1):
            before = problem.best_value
            status, text = self._run(problem, x, lower, unit, step)
            assert problem.best_par is not None
            x, step = problem.best_par, 0.05
            if not status.ok or before - problem.best_value < 1e-8:
                break
        return x, status, text

    def _run(
        self, problem: Recorder, start: FloatArray, lower: FloatArray, unit: FloatArray, step: float | None
    ) -> tuple[Status, str]:
        import nlopt

        algorithm = {"bobyqa": nlopt.LN_BOBYQA, "nelder_mead": nlopt.LN_NELDERMEAD}[self.name]
        opt = nlopt.opt(algorithm, len(start))
        # infinite bounds on off-diagonals: finite ones would set the initial step and ruin it
        opt.set_lower_bounds(lower / unit)
        if problem.upper is not None:
            opt.set_upper_bounds(problem.upper / unit)
        opt.set_ftol_abs(self.ftol_abs)
        opt.set_xtol_abs(self.xtol_abs)
        opt.set_maxeval(max(1, self.max_evaluations - len(problem.trace)))
        if step is not None:
            opt.set_initial_step(step * np.maximum(np.abs(start / unit), 0.1))
        opt.set_min_objective(lambda x, _gradient: problem.value(x * unit))
        try:
            opt.optimize(start / unit)
        except nlopt.RoundoffLimited:
            return Status.CONVERGED, f"{self.name}: limited by rounding"
        code = opt.last_optimize_result()
        if code == nlopt.MAXEVAL_REACHED:
            return Status.MAX_EVALUATIONS, f"{self.name}: {Status.MAX_EVALUATIONS.value} ({self.max_evaluations})"
        if code < 0:
            return Status.STOPPED, f"{self.name}: nlopt returned code {code}"
        return Status.CONVERGED, f"{self.name}: converged"
