"""Simulated responses by their sufficient statistics alone: no row is drawn.

With B = [Z X] and A = B'WB, the residuals e ~ N(0, σ²W⁻¹) of a response split into their projection
B w on the columns of B and a rest that is independent of it:

    B'We = A w,   e'We = w'A w + σ²χ²,   Cov(A w) = σ² A,   χ² with n - rank B degrees of freedom.

So ``y - o - Xβ = Zb + e`` has the statistics of the response B a, a = (b + w_z, w_x), plus σ²χ². A is
singular as a rule (an intercept lies in the span of Z). The draw needs Cov(w) = A⁺ only up to the null
space of A, where A w forgets everything. With M = Λ'Z'WZΛ + I at a large Λ (each column of Z in units of
its length, times κ) and μ the eigenvalues of M - I,

    v = M⁻¹(L z₁ + z₂),   w_z = Λ v:   Cov(v) = M⁻¹ + M⁻²,

which gives an eigen-direction of the statistics the variance 1 - (1 + μ)⁻² in place of 1, or 0 where
μ = 0: with κ² = 1e7 the error is below 1e-8 for all directions longer than a thousandth of a typical
column. What X adds is drawn from the exact p×p matrix of X projected off Z.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import scipy.sparse as sp

from sparselmm._typing import FloatArray, IntArray
from sparselmm.linalg.blocks import BlockGram, Templates, apply_factor, apply_transposed
from sparselmm.linalg.protocol import PenalizedSystem, factorization_of

#: Squared relative SD of the wide templates: a projection by them leaves 1/(1 + KAPPA2 d) of what it removes.
KAPPA2 = 1e7
REFINEMENTS = 4  # passes of a projection; after four, what the first leaves of directions with d > 1e-3 is rounding
RANK_TOL = 1e-9  # eigenvalues of a scaled X'X without Z below this are rounding


@dataclass(frozen=True)
class ResponseSums:
    """Sufficient statistics of r responses, for the transformed X.

    Attributes
    ----------
    ZtWy : (q, r) array
        Z'W(y - o - Xβ).
    XtWy : (p, r) array
        X'W(y - o - Xβ).
    yWy : (r,) array
        Its weighted sum of squares.
    """

    ZtWy: FloatArray
    XtWy: FloatArray
    yWy: FloatArray


class StatisticsSource(Protocol):
    """What draws the statistics of responses."""

    @property
    def gram(self) -> BlockGram:
        """Z'WZ."""
        ...

    def draw(
        self, system: PenalizedSystem, templates: Templates, sigma: float, rngs: Sequence[np.random.Generator]
    ) -> ResponseSums:
        """Return statistics of one response per generator, with Cov(b) = σ² T T'."""
        ...


@dataclass(frozen=True)
class Sampler:
    """Draws sufficient statistics of responses with given covariance parameters.

    Attributes
    ----------
    gram : BlockGram
        Z'WZ.
    ZtWX, XtWX : (q, p) and (p, p) arrays
        The other blocks of A.
    wide : tuple of (k, k) arrays
        The large templates.
    L, P : sparse array and (q,) array
        Factor of M at them.
    E : (q, p) array
        Coefficients of the projection of X on Z.
    K : (p, r_x) array
        K K' is the generalized inverse of X'WX with X projected off Z.
    rank_z, df : int
        Rank of Z; n minus the rank of [Z X].
    """

    gram: BlockGram
    ZtWX: FloatArray
    XtWX: FloatArray
    wide: Templates
    L: sp.csc_array = field(repr=False)
    P: IntArray = field(repr=False)
    E: FloatArray = field(repr=False)
    K: FloatArray
    rank_z: int
    df: int

    @classmethod
    def of(cls, system: PenalizedSystem, ZtWX: FloatArray, XtWX: FloatArray, n: int) -> Sampler:
        """Prepare the draws; the system is factored at the large templates."""
        gram = system.gram
        wide = wide_templates(gram)
        system.refactor(wide)
        trace = sum(float(np.einsum("mkk->", blocks)) for blocks in system.inverse_diagonal())
        rank_z = gram.q - round(trace)
        E = project(system, wide, ZtWX)
        off = XtWX - ZtWX.T @ E
        K = _generalized_root((off + off.T) / 2.0, np.diag(XtWX))
        L, P = factorization_of(system, "drawing statistics without rows needs a factor of M").factor()
        return cls(gram, ZtWX, XtWX, wide, sp.csc_array(L), P, E, K, rank_z, n - rank_z - K.shape[1])

    def draw(
        self, system: PenalizedSystem, templates: Templates, sigma: float, rngs: Sequence[np.random.Generator]
    ) -> ResponseSums:
        """Return statistics of one response per generator; the system is left factored at the large templates.

        Parameters
        ----------
        system : PenalizedSystem
            Of the same Z'WZ.
        templates : tuple of (k, k) arrays
            T of each term, with Cov(b) = σ² T T'; zero where a term has no effects.
        sigma : float
            Residual standard deviation.
        rngs : sequence of Generator
            One per response; the response depends on it alone.
        """
        q, r_x = self.gram.q, self.K.shape[1]
        normals = np.stack([rng.standard_normal(3 * q + r_x) for rng in rngs], axis=1)
        chi2 = np.array([rng.chisquare(self.df) if self.df > 0 else 0.0 for rng in rngs])
        z1, z2, u, zx = np.split(normals, [q, 2 * q, 3 * q])
        if not system.holds(self.wide):
            system.refactor(self.wide)
        mixed = z2.copy()
        mixed[self.P] += self.L @ z1
        ax = self.K @ zx
        w = apply_factor(system.solve(mixed), self.wide, self.gram) - self.E @ ax
        a = apply_factor(u, templates, self.gram) + w
        ZtWy = self.gram.dot(a) + self.ZtWX @ ax
        XtWy = self.ZtWX.T @ a + self.XtWX @ ax
        yWy = np.einsum("qr,qr->r", a, ZtWy) + np.einsum("pr,pr->r", ax, XtWy)
        return ResponseSums(sigma * ZtWy, sigma * XtWy, sigma**2 * (yWy + chi2))


def wide_templates(gram: BlockGram) -> Templates:
    """Return κ times the inverse lengths of the columns of Z, a diagonal template per term."""
    out = []
    for t in range(len(gram.m)):
        d = np.einsum("mkk->mk", gram.diagonal(t)).mean(axis=0)
        out.append(np.diag(np.sqrt(KAPPA2 / np.where(d > 0, d, 1.0))))
    return tuple(out)


def project(system: PenalizedSystem, wide: Templates, ZtWX: FloatArray) -> FloatArray:
    """Return coefficients E with Z E the projection of X on Z, (q, p), by refined ridge regressions."""
    E = np.zeros_like(ZtWX)
    if not ZtWX.shape[1]:
        return E
    for _ in range(REFINEMENTS):
        rest = ZtWX - system.gram.dot(E)
        E = E + apply_factor(system.solve(apply_transposed(rest, wide, system.gram)), wide, system.gram)
    return E


def _generalized_root(S: FloatArray, size: FloatArray) -> FloatArray:
    """Return K, (p, r), with K K' a generalized inverse of the positive semidefinite S of rank r."""
    if not len(S):
        return np.zeros((0, 0))
    scale = 1.0 / np.sqrt(np.where(size > 0, size, 1.0))
    d, Q = np.linalg.eigh(scale[:, None] * S * scale)
    good = d > RANK_TOL
    return np.asarray(scale[:, None] * Q[:, good] / np.sqrt(d[good]))
