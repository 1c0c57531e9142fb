"""What every solver of the penalized system M = Λ'Z'WZΛ + I can do, and what only some can: their capabilities.

Callers ask for the capability that they need, which is None where it is absent, never for the kind of a solver.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import scipy.sparse as sp

from sparselmm._typing import FloatArray, IntArray
from sparselmm.exceptions import UnsupportedError
from sparselmm.linalg.audit.report import AuditCost, LevelCovariances, MonteCarlo
from sparselmm.linalg.blocks import BlockGram, Templates
from sparselmm.linalg.iterative.control import Effort

Pairs = dict[tuple[int, int], FloatArray]
"""Blocks aligned with ``BlockGram.pairs``: (nb, k_row, k_col) for each pair of terms."""


class Factorization(Protocol):
    """What is known from a factor of M."""

    def factor(self) -> tuple[sp.csc_array, IntArray]:
        """Return sparse L and the permutation P with L L' = M[P][:, P]."""
        ...

    def covariance_pairs(self) -> Pairs:
        """Return the blocks of ΛM⁻¹Λ' in the pattern of Z'WZ, aligned with ``gram.pairs``.

        σ² times a block is the covariance of the conditional modes of two levels.
        """
        ...


class MonteCarloEstimates(Protocol):
    """What is known of log|M| and its derivatives where they are found with random draws, the same for all θ."""

    def adapt(
        self, templates: Templates, effort: Effort | None = None, *, grow: bool = True, more: float = 1.0
    ) -> Effort:
        """Return the effort that suits these templates; the system is left factored with it.

        Parameters
        ----------
        templates : tuple of (k, k) arrays
            Of the terms.
        effort : Effort, optional
            That of a search so far, of whose draws at least ``more`` times as many are taken.
        grow : bool
            Whether to draw until the standard error is as wanted.
        more : float
            Where the derivatives need more draws than the criterion.
        """
        ...

    @property
    def exhausted(self) -> bool:
        """Whether `adapt` cannot add anything to the effort in use."""
        ...

    @property
    def aim(self) -> float:
        """The standard error of log|M| that is wanted."""
        ...

    @property
    def standard_error(self) -> float:
        """Monte Carlo standard error of log|M|."""
        ...

    def report(self) -> MonteCarlo:
        """Return what is known of the error of log|M|."""
        ...

    def information_samples(self) -> tuple[FloatArray, ...]:
        """Return what each draw says of the uncertain part of `information_sums`, (draws, k, k) per term."""
        ...

    def level_covariances(self, terms: tuple[int, ...], factors: Templates) -> LevelCovariances | None:
        """Return R [M⁻¹]_ll R' of all levels of terms on the same levels, with standard errors.

        R is block diagonal from ``factors``. None where the blocks are not estimated together: solve for them.
        """
        ...

    def audit_cost(self) -> AuditCost:
        """Return what `exact_logdet` costs."""
        ...

    def exact_logdet(self, listener: Callable[[float], None] | None = None) -> float:
        """Return log|M| by a dense factorisation; the listener is told the share of it that is done."""
        ...


class PenalizedSystem(Protocol):
    """A solver of M(θ), analysed once for its pattern and refactored for each θ.

    Attributes
    ----------
    name : str
        Under which it is registered.
    flops : float
        Operations per factorisation.
    gram : BlockGram
        Z'WZ.
    templates : tuple of (k, k) arrays
        Those that M is factored for; empty before the first and after a failure.
    """

    name: str
    flops: float
    gram: BlockGram
    templates: Templates

    @property
    def blas_flops(self) -> float:
        """Operations per factorisation that BLAS may spread over threads."""
        ...

    @property
    def factorization(self) -> Factorization | None:
        """What is known from a factor; None where there is none."""
        ...

    @property
    def monte_carlo(self) -> MonteCarloEstimates | None:
        """What is known of the error of values found with random draws; None where they have no such error."""
        ...

    def refactor(self, templates: Templates, effort: Effort | None = None) -> None:
        """Factor M for the k×k templates of the terms.

        ``effort`` is that of `MonteCarloEstimates.adapt`, chosen for these templates if it is None; factors need none.
        """
        ...

    def update(self, gram: BlockGram) -> None:
        """Take other numbers of Z'WZ in the same pattern, without a new analysis; factored when next asked.

        Raises
        ------
        ValueError
            For another pattern.
        """
        ...

    def holds(self, templates: Templates, effort: Effort | None = None) -> bool:
        """Return whether `refactor` was called with just these arguments last, and did not fail."""
        ...

    def logdet(self) -> float:
        """Return log|M|, lme4's ``ldL2``."""
        ...

    def quadratic(self, C: FloatArray, width: int | None = None) -> FloatArray:
        """Return C_g'M⁻¹C_g for each group of ``width`` columns of C, (q, r), (groups, width, width).

        All columns are one group by default.
        """
        ...

    def solve(self, C: FloatArray) -> FloatArray:
        """Return M⁻¹C, (q, r)."""
        ...

    def inverse_diagonal(self) -> tuple[FloatArray, ...]:
        """Return the diagonal blocks of M⁻¹, one (m, k, k) array per term."""
        ...

    def information_blocks(self) -> tuple[FloatArray, ...]:
        """Return the diagonal blocks of Z'V⁻¹Z, V = W⁻¹ + ZΛΛ'Z', one (m, k, k) array per term.

        Valid at singular templates too.
        """
        ...

    def information_sums(self) -> tuple[FloatArray, ...]:
        """Return Σ_l of the diagonal blocks of Z'V⁻¹Z, one (k, k) array per term: `information_blocks` summed."""
        ...

    def trace_products(self, directions: Sequence[tuple[int, FloatArray]]) -> FloatArray:
        """Return tr(Z'V⁻¹Z B_i Z'V⁻¹Z B_j), (n, n), for directions (term, (k, k) change of its Ω).

        Each B is applied to all levels of its term. Valid at singular templates too.
        """
        ...

    def trace_seconds(self) -> float:
        """Return roughly the time that `trace_products` takes, before it is asked for."""
        ...


def factorization_of(system: PenalizedSystem, what: str) -> Factorization:
    """Return the factorization of a system, without which ``what`` cannot be had.

    Raises
    ------
    UnsupportedError
        When the system has none.
    """
    if system.factorization is None:
        raise UnsupportedError(
            f"{what}, which the {system.name} solver does not make; fit with solver='schur' or 'cholmod' if the design "
            "allows"
        )
    return system.factorization
