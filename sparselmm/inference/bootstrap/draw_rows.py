"""Sufficient statistics of simulated responses from draws of the rows, for systems without a factor.

With a = Λu, ε ~ N(0, I_n) and G = Z'WZ a response ``y - o - Xβ = σ(Za + W^-1/2 ε)`` has

    Z'Wy = Ga + Z'W^½ε,   X'Wy = X'WZa + X'W^½ε,   y'Wy = a'Ga + 2a'Z'W^½ε + ε'ε   (times σ, σ and σ²)

so one pass over the rows per response is all it takes, in place of the factor that `sufficient` needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from sparselmm._typing import FloatArray
from sparselmm.data.rows import Rows
from sparselmm.data.tables.codes import chunks
from sparselmm.inference.bootstrap.draw_statistics import ResponseSums
from sparselmm.linalg.blocks import BlockGram, Templates, apply_factor
from sparselmm.linalg.protocol import PenalizedSystem
from sparselmm.statistics.crossproducts import CrossProducts
from sparselmm.statistics.moments import add_term_products
from sparselmm.statistics.transform import with_centred_terms


@dataclass(frozen=True)
class RowSampler:
    """Draws sufficient statistics of responses by drawing their residuals row by row.

    Attributes
    ----------
    observed : Rows
        The rows, Z in the coordinates of the cross-products.
    crossproducts : CrossProducts
        Of the same design.
    """

    observed: Rows = field(repr=False)
    crossproducts: CrossProducts = field(repr=False)

    @classmethod
    def of(cls, observed: Rows, crossproducts: CrossProducts) -> RowSampler:
        """Prepare the draws from the rows of a design."""
        return cls(with_centred_terms(observed, crossproducts.centres), crossproducts)

    @property
    def gram(self) -> BlockGram:
        """Z'WZ."""
        return self.crossproducts.gram

    def draw(
        self, system: PenalizedSystem, templates: Templates, sigma: float, rngs: Sequence[np.random.Generator]
    ) -> ResponseSums:
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
            own = np.zeros((q, 1))
            for rows in chunks(self.observed.n):
                e = rng.standard_normal(rows.stop - rows.start)
                eWe[j] += float(e @ e)
                self._add(rows, e, own, XtWe[:, j])
            ZtWe[:, j] = own[:, 0]
        a = apply_factor(u, templates, self.gram)
        Ga, cross = self.gram.dot(a), xp.ZtWXy[:, :p].T @ a
        yWy = np.einsum("qr,qr->r", a, Ga + 2.0 * ZtWe) + eWe
        return ResponseSums(sigma * (Ga + ZtWe), sigma * (cross + XtWe), sigma**2 * yWy)

    def _add(self, rows: slice, e: FloatArray, ZtWe: FloatArray, XtWe: FloatArray) -> None:
        """Add what residuals of unit variance of a chunk of rows contribute, ZtWe (q, 1) and XtWe (p,)."""
        observed, xp = self.observed, self.crossproducts
        root = e if observed.weights is None else np.sqrt(observed.weights[rows]) * e
        if xp.p:
            XtWe += xp.basis.apply(observed.X[rows]).T @ root
        for t, term in enumerate(observed.terms):
            here = slice(self.gram.offsets[t], self.gram.offsets[t + 1])
            add_term_products(term, root[:, None], rows, ZtWe[here])
