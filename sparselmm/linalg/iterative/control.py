"""How much effort the iterative solver may spend, and how much an evaluation does."""

from __future__ import annotations

from dataclasses import dataclass

from sparselmm._typing import FloatArray
from sparselmm.exceptions import ParameterError


@dataclass(frozen=True)
class IterativeControl:
    """Effort of the iterative solver.

    Attributes
    ----------
    standard_error : float
        Aim for the Monte Carlo standard error of the criterion, in deviance units.
    probes, max_probes : int
        Random vectors at first, and at most; 16 are handled at a time.
    deflation, max_deflation : int
        Directions treated exactly at first, and at most.
    seed : int
        Of the probes. All values of one model use the same probes.

    Examples
    --------
    >>> import sparselmm as slm
    >>> control = slm.IterativeControl(standard_error=0.01, seed=7)
    >>> control.max_probes
    256
    """

    standard_error: float = 0.005
    probes: int = 16
    max_probes: int = 256
    deflation: int = 32
    max_deflation: int = 256
    seed: int = 20_240_229

    def __post_init__(self) -> None:
        if not self.standard_error > 0:
            raise ParameterError(f"standard_error must be positive, not {self.standard_error!r}")
        for name in ("probes", "max_probes", "deflation", "max_deflation"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 2:
                raise ParameterError(f"{name} must be an integer of at least 2, not {value!r}")
        if self.max_probes < self.probes or self.max_deflation < self.deflation:
            raise ParameterError("max_probes and max_deflation must not be below probes and deflation")
        if not isinstance(self.seed, int) or self.seed < 0:
            raise ParameterError(f"seed must be a non-negative integer, not {self.seed!r}")


@dataclass(frozen=True, eq=False)
class Effort:
    """What an evaluation does.

    Attributes
    ----------
    directions : (q, k) array
        Treated exactly.
    probes : int
        Random vectors.
    order : int
        Powers of S whose traces are known: 1, or 2 with the sum of squares.
    grown : bool
        Whether all this was made to suffice.
    """

    directions: FloatArray
    probes: int
    order: int = 1
    grown: bool = False
