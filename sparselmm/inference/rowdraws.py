"""Sufficient statistics of simulated responses from draws of the rows, for systems without a factor.

With a = Λu, ε ~ N(0, I_n) and G = Z'WZ a response ``y - o - Xβ = σ(Za + W^-1/2 ε)`` has

    Z'Wy = Ga + Z'W^½ε,   X'Wy = X'WZa + X'W^½ε,   y'Wy = a'Ga + 2a'Z'W^½ε + ε'ε   (times σ, σ and σ²)

so one pass over the rows per response is all it takes, in place of the factor that `sufficient` needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from sparselmm._typing import FloatArray
from sparselmm.crossproducts import CrossProducts, with_centred_terms
from sparselmm.data.design import Design, DesignTerm, GroupedTerm
from sparselmm.inference.sufficient import Statistics
from sparselmm.linalg.blocks import BlockGram, Templates, apply_factor
from sparselmm.linalg.cells import CodedRows, add_level_sums, level_sums, many
from sparselmm.linalg.system import PenalizedSystem

CHUNK_ROWS = 1_048_576


@dataclass(frozen=True)
class RowSampler:
    """Draws sufficient statistics of responses by drawing their residuals row by row.

    Attributes
    ----------
    design : Design
        The rows, Z in the coordinates of the cross-products.
    crossproducts : CrossProducts
        Of the same design.
    """

    design: Design = field(repr=False)
    crossproducts: CrossProducts = field(repr=False)

    @classmethod
    def of(cls, design: Design, crossproducts: CrossProducts) -> RowSampler:
        """Prepare the draws."""
        return cls(with_centred_terms(design, crossproducts.centres), crossproducts)

    @property
    def gram(self) -> BlockGram:
        """Z'WZ."""
        return self.crossproducts.gram

    def draw(
        self, system: PenalizedSystem, templates: Templates, sigma: float, rngs: Sequence[np.random.Generator]
    ) -> Statistics:
        """Return statistics of one response per generator; the system plays no part.

        Parameters
        ----------
        system : PenalizedSystem
            Not used; `sufficient.Sampler` needs it.
        templates : tuple of (k, k) arrays
            T of each term, with Cov(b) = σ² T T'; zero where a term has no effects.
        sigma : float
            Residual standard deviation.
        rngs : sequence of Generator
            One per response; the response depends on it alone.
        """
        xp = self.crossproducts
        p, q, r = xp.p, self.gram.q, len(rngs)
        u = np.stack([rng.standard_normal(q) for rng in rngs], axis=1)
        ZtWe, XtWe, eWe = np.zeros((q, r)), np.zeros((p, r)), np.zeros(r)
        for j, rng in enumerate(rngs):
            for rows in _chunks(self.design.n):
                e = rng.standard_normal(rows.stop - rows.start)
                eWe[j] += float(e @ e)
                self._add(rows, e, ZtWe[:, j : j + 1], XtWe[:, j])
        a = apply_factor(u, templates, self.gram)
        Ga, cross = self.gram.dot(a), xp.ZtWXy[:, :p].T @ a
        yWy = np.einsum("qr,qr->r", a, Ga + 2.0 * ZtWe) + eWe
        return Statistics(sigma * (Ga + ZtWe), sigma * (cross + XtWe), sigma**2 * yWy)

    def _add(self, rows: slice, e: FloatArray, ZtWe: FloatArray, XtWe: FloatArray) -> None:
        """Add what residuals of unit variance of a chunk of rows contribute, ZtWe (q, 1) and XtWe (p,)."""
        design, xp = self.design, self.crossproducts
        root = e if design.weights is None else np.sqrt(design.weights[rows]) * e
        if xp.p:
            XtWe += xp.basis.apply(design.X[rows]).T @ root
        for t, term in enumerate(design.terms):
            ZtWe[self.gram.offsets[t] : self.gram.offsets[t + 1]] += _transposed_times(term, rows, root)


def _transposed_times(term: DesignTerm, rows: slice, v: FloatArray) -> FloatArray:
    """Return Z'v of a chunk of rows, (m*k, 1)."""
    if not isinstance(term, GroupedTerm):
        return np.asarray(term.matrix[rows].T @ v[:, None])
    coded = CodedRows(term.codes[rows], term.m, term.Z[rows])
    if many(len(term.codes)):
        out = np.zeros((term.m, term.k, 1))
        add_level_sums(coded, v[:, None], out)
        return out.reshape(-1, 1)
    return level_sums(coded, v[:, None]).reshape(-1, 1)


def _chunks(n: int) -> Iterator[slice]:
    for start in range(0, n, CHUNK_ROWS):
        yield slice(start, min(start + CHUNK_ROWS, n))
