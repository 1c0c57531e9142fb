"""What every solver of the penalized system M = Λ'Z'WZΛ + I can do."""

from __future__ import annotations

from typing import Protocol

import scipy.sparse as sp

from sparselmm._typing import FloatArray, IntArray
from sparselmm.linalg.blocks import BlockGram, Templates


class PenalizedSystem(Protocol):
    """A factorisation of M(θ), analysed once for its pattern and refactored for each θ."""

    name: str
    exact: bool
    gram: BlockGram

    def refactor(self, templates: Templates) -> None:
        """Factor M for the k×k templates of the terms."""
        ...

    def logdet(self) -> float:
        """Return log|M|, lme4's ``ldL2``."""
        ...

    def half_solve(self, C: FloatArray) -> FloatArray:
        """Return H, (q, r), with H'H = C'M⁻¹C for C of shape (q, r)."""
        ...

    def solve(self, C: FloatArray) -> FloatArray:
        """Return M⁻¹C, (q, r)."""
        ...

    def inverse_diagonal(self) -> tuple[FloatArray, ...]:
        """Return the diagonal blocks of M⁻¹, one (m, k, k) array per term."""
        ...

    def factor(self) -> tuple[sp.csc_array, IntArray]:
        """Return sparse L and the permutation P with L L' = M[P][:, P]."""
        ...
