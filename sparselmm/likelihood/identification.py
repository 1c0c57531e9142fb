"""Which random terms a design cannot tell apart: covariances of y that are combinations of each other.

The covariance of y is a combination of Z_t(I⊗B)Z_t' for a basis of covariances B of each term t. Where
these depend on each other, the likelihood sees certain sums of the Ω_t only. Their products with a few
random vectors of the row space of Z' show it, in q-space: Z'WZ_t(I⊗B)Z_t'WZu.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from sparselmm._typing import BoolArray, FloatArray
from sparselmm.covariance.directions import covariance_basis
from sparselmm.covariance.parameters import ParameterMap
from sparselmm.linalg.blocks import BlockGram

DEPENDENT = 1e-9  # least singular value of the unit columns; rounding leaves about 1e-14
STILL = 1e-8  # share of a change of Ω that is rounding
PROBES = 2


@dataclass(frozen=True)
class Confounding:
    """Combinations of covariances that leave the distribution of y as it is.

    Attributes
    ----------
    directions : tuple of tuples of (k, k) arrays
        Changes dΩ_t of all terms, one tuple for each dimension, in the coordinates of the solver.
    pairs : tuple of (int, int)
        Terms of which the first lies in the span of the second.
    joint : tuple of int
        The terms involved.
    """

    directions: tuple[tuple[FloatArray, ...], ...]
    pairs: tuple[tuple[int, int], ...]
    joint: tuple[int, ...]

    def moved(self, parameters: ParameterMap) -> tuple[BoolArray, ...]:
        """Return which entries of each Ω, (k, k), in the user's coordinates, the data do not determine."""
        out = []
        for t, C in enumerate(parameters.maps):
            changes = [C @ direction[t] @ C.T for direction in self.directions]
            rounding = [np.abs(C) @ np.abs(direction[t]) @ np.abs(C).T for direction in self.directions]
            own = [np.abs(c) > STILL * max(float(r.max()), 1e-300) for c, r in zip(changes, rounding)]
            out.append(np.any(own, axis=0))
        return tuple(out)


def confounding(gram: BlockGram, parameters: ParameterMap) -> Confounding | None:
    """Return which covariances the design does not tell apart, None where it tells all of them."""
    bases = [covariance_basis(s) for s in parameters.structures]
    images = _images(gram, bases)
    size = [np.linalg.norm(A, axis=0) for A in images]
    unit = [A / np.where(d > 0, d, 1.0) for A, d in zip(images, size)]
    null = _null_space(np.hstack(unit))
    if not null.shape[1]:
        return None
    ends = np.cumsum([len(b) for b in bases])[:-1]
    directions, joint = [], set()
    for vector in null.T:
        parts = np.split(vector, ends)
        joint |= {t for t, c in enumerate(parts) if np.abs(c).max() > np.sqrt(DEPENDENT)}
        clean = [np.where(np.abs(c) > np.sqrt(DEPENDENT), c, 0.0) for c in parts]
        scaled = [c / np.where(d > 0, d, 1.0) for c, d in zip(clean, size)]
        directions.append(tuple(np.tensordot(c, np.array(b), 1) for c, b in zip(scaled, bases)))
    return Confounding(tuple(directions), tuple(_pairs(unit)), tuple(sorted(joint)))


def _images(gram: BlockGram, bases: Sequence[Sequence[FloatArray]]) -> list[FloatArray]:
    """Return Z'WZ_t(I⊗B)Z_t'WZu for each term, (q·probes, number of B)."""
    count = sum(map(len, bases))
    u = np.random.default_rng(20_240_817).standard_normal((gram.q, PROBES + count // gram.q))
    s = gram.dot(u)
    out = []
    for t, basis in enumerate(bases):
        here = slice(gram.offsets[t], gram.offsets[t + 1])
        blocks = s[here].reshape(gram.m[t], gram.k[t], -1)
        columns = []
        for B in basis:
            v = np.zeros_like(s)
            v[here] = (B @ blocks).reshape(-1, s.shape[1])
            columns.append(gram.dot(v).ravel())
        out.append(np.array(columns).T)
    return out


def _null_space(A: FloatArray) -> FloatArray:
    """Return orthonormal combinations of unit columns that vanish, (columns, dimensions)."""
    d, V = np.linalg.svd(A, full_matrices=False)[1:]
    return np.asarray(V[d < DEPENDENT * max(1.0, float(d[0]))].T)


def _pairs(unit: Sequence[FloatArray]) -> Iterator[tuple[int, int]]:
    """Yield terms that depend on each other, the one with fewer covariances first."""
    for t, s in combinations(range(len(unit)), 2):
        inner, outer = (t, s) if unit[t].shape[1] <= unit[s].shape[1] else (s, t)
        own = _null_space(unit[t]).shape[1] + _null_space(unit[s]).shape[1]
        if _null_space(np.hstack([unit[t], unit[s]])).shape[1] > own:
            yield inner, outer
