"""What every solver of the penalized system M = Λ'Z'WZΛ + I can do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, cast

import scipy.sparse as sp

from sparselmm._typing import FloatArray, IntArray
from sparselmm.linalg.audit.report import AuditCost, LevelCovariances, MonteCarlo
from sparselmm.linalg.blocks import BlockGram, Templates


class PenalizedSystem(Protocol):
    """A factorisation of M(θ), analysed once for its pattern and refactored for each θ."""

    name: str
    exact: bool
    flops: float
    gram: BlockGram
    templates: Templates

    def refactor(self, templates: Templates) -> None:
        """Factor M for the k×k templates of the terms; ``templates`` keeps them, empty after a failure."""
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

    def covariance_pairs(self) -> dict[tuple[int, int], FloatArray]:
        """Return the blocks of ΛM⁻¹Λ' in the pattern of Z'WZ, aligned with ``gram.pairs``.

        σ² times a block is the covariance of the conditional modes of two levels.
        """
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

    def trace_flops(self) -> float:
        """Return a rough count of the operations of `trace_products`, before it is asked for."""
        ...

    def factor(self) -> tuple[sp.csc_array, IntArray]:
        """Return sparse L and the permutation P with L L' = M[P][:, P]."""
        ...


class ApproximateSystem(PenalizedSystem, Protocol):
    """A system that finds log|M| and its derivatives by Monte Carlo, the same draws for all θ."""

    def adapt(self, templates: Templates, *, grow: bool = True, more: float = 1.0) -> None:
        """Fit the effort to these templates; ``grow`` until the standard error is as wanted.

        ``more`` asks for so many times the draws there are, where the derivatives need them.
        """
        ...

    @property
    def effort(self) -> object:
        """What `adapt` found, the same for all θ until the next call; None before the first."""
        ...

    def use(self, effort: object) -> None:
        """Work with an effort found before, or with None: the next templates choose it anew."""
        ...

    @property
    def exhausted(self) -> bool:
        """Whether `adapt` cannot add anything to the effort."""
        ...

    def audit_cost(self) -> AuditCost:
        """Return what `exact_logdet` costs."""
        ...

    def exact_logdet(self, listener: Callable[[float], None] | None = None) -> float:
        """Return log|M| by a dense factorisation; the listener is told the share of it that is done."""
        ...

    @property
    def aim(self) -> float:
        """The standard error of log|M| that is wanted."""
        ...

    @property
    def standard_error(self) -> float:
        """Monte Carlo standard error of log|M|."""
        ...

    def monte_carlo(self) -> MonteCarlo:
        """Return what is known of the error of log|M|."""
        ...

    def level_covariances(self, terms: tuple[int, ...], factors: Templates) -> LevelCovariances | None:
        """Return R [M⁻¹]_ll R' of all levels of terms on the same levels, with standard errors.

        R is block diagonal from ``factors``. None where the blocks are not estimated together: solve for them.
        """
        ...

    def information_samples(self) -> tuple[FloatArray, ...]:
        """Return what each draw says of the uncertain part of `information_sums`, (draws, k, k) per term."""
        ...


def approximate(system: PenalizedSystem) -> ApproximateSystem | None:
    """Return the system if it works by Monte Carlo, else None."""
    return None if system.exact else cast(ApproximateSystem, system)
