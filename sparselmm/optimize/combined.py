"""The default engine for ordinary models: a derivative-free search finished by Newton steps."""

from __future__ import annotations

from dataclasses import dataclass, field

from sparselmm._typing import FloatArray
from sparselmm.optimize.base import Recorder, Status
from sparselmm.optimize.derivative_free import Nlopt
from sparselmm.optimize.newton import Newton


@dataclass(frozen=True)
class PolishedBobyqa:
    """BOBYQA to a loose tolerance, then exact second-order steps to the optimum.

    Attributes
    ----------
    search : Nlopt
        The derivative-free search.
    finish : Newton
        The second-order finish.
    """

    name: str = "bobyqa+newton"
    search: Nlopt = field(default_factory=lambda: Nlopt(ftol_abs=1e-3, xtol_abs=1e-4, restarts=0))
    finish: Newton = field(default_factory=lambda: Newton(radius=0.3))

    def minimize(self, problem: Recorder, start: FloatArray, lower: FloatArray) -> tuple[FloatArray, Status, str]:
        """Return the best parameters, the status and a message."""
        x, status, text = self.search.minimize(problem, start, lower)
        if status is Status.MAX_EVALUATIONS:
            return x, status, text
        x, status, finish = self.finish.minimize(problem, x, lower)
        return x, status, f"{text}; {finish}"
