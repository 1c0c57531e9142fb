"""What a solver that draws random vectors reports about its error, and what the exact value beside it costs."""

from __future__ import annotations

from dataclasses import dataclass, field

from sparselmm._typing import FloatArray
from sparselmm.exceptions import PlanError
from sparselmm.linalg.machine import GIGA, MEMORY_SHARE


@dataclass(frozen=True)
class MonteCarlo:
    """What is known of the error of a criterion found by the iterative solver.

    Attributes
    ----------
    standard_error : float
        Monte Carlo standard error of the criterion, in deviance units.
    target : float
        What was aimed for.
    probes, deflation : int
        Random vectors, and directions treated exactly.
    quadrature : float
        Width of the Gauss / Gauss-Radau bracket of the log-determinant, beyond the Monte Carlo error.
    solve : float
        Bound of the relative error of the penalized residual sum of squares from stopping the
        conjugate gradients.
    precision : float
        Change of the criterion when one block of probes is repeated in double precision; 0 if all were.
    theta : (n_par,) array
        Standard errors of the free parameters that are due to the probes, as a share of their own
        standard errors.
    values : (probes,) array
        log|M| by each probe alone; values of one seed and one set of levels belong together.
    """

    standard_error: float
    target: float
    probes: int
    deflation: int
    quadrature: float
    solve: float
    precision: float
    theta: FloatArray = field(repr=False)
    values: FloatArray = field(repr=False)

    @property
    def reached(self) -> bool:
        """Whether the standard error is within the aim."""
        return self.standard_error <= self.target

    @property
    def effort(self) -> str:
        """Probes and directions in words."""
        return f"{self.probes} probes, {self.deflation} direction{'s' * (self.deflation != 1)} exact"

    def __str__(self) -> str:
        share = float(self.theta.max(initial=0.0))
        return (
            f"Monte Carlo standard error {self.standard_error:.2g} (aim {self.target:.2g}; {self.effort}), "
            f"theta within {share:.1g} of its standard error"
        )


@dataclass(frozen=True)
class LevelCovariances:
    """R [M⁻¹]_ll R' for all levels of some terms.

    Attributes
    ----------
    blocks : (m, K, K) array
        Estimates.
    errors : (m, K, K) array
        Their Monte Carlo standard errors.
    """

    blocks: FloatArray
    errors: FloatArray


@dataclass(frozen=True)
class AuditCost:
    """What the dense factorisation costs, known before it is made.

    Attributes
    ----------
    size : int
        Rows of the matrix, q2.
    bytes, flops, seconds : float
        Memory, operations and predicted time, at the speed measured on this machine.
    memory : float or None
        Bytes available, where the system tells.
    """

    size: int
    bytes: float
    flops: float
    seconds: float
    memory: float | None

    @property
    def fits(self) -> bool:
        """Whether the memory is there (unknown counts as yes)."""
        return self.memory is None or self.bytes < MEMORY_SHARE * self.memory

    def refuse_if_too_large(self) -> None:
        """Raise an error with the forecast where the memory is not there."""
        if not self.fits:
            raise PlanError(f"the exact criterion cannot be had here: {self}")

    def __str__(self) -> str:
        room = "" if self.memory is None else f" of {self.memory / GIGA:.3g} GB available"
        return (
            f"a dense Cholesky factorisation of {self.size:,} rows needs {self.bytes / GIGA:.3g} GB{room}, "
            f"{self.flops:.2g} operations and about {self.seconds:.2g} s"
        )
