"""Diagonal blocks of M⁻¹ for all levels of a group of terms, estimated with their standard errors.

With K = (I - S)⁻¹, W the block of a level below and R any matrix from the left,

    rest        R [M⁻¹]_ll R' = R L'⁻¹L⁻¹R' + [W H_o G K G'H_o W']_ll,  W = R L'⁻¹G'
    eliminated  R [M⁻¹]_ll R' = R L1'⁻¹L1⁻¹R' + [W A12 G K G'A21 W']_ll,  W = R L1'⁻¹L1⁻¹T1'

and K = E(K b b') over the directions and probes b of the log-determinant; what is known without them is
taken as it is.
"""

from __future__ import annotations

import numpy as np

from sparselmm._typing import AnyArray, FloatArray
from sparselmm.linalg.audit.report import LevelCovariances
from sparselmm.linalg.blocks import BlockGram, Templates
from sparselmm.linalg.exact.batched import batched_lower_solve
from sparselmm.linalg.iterative.border import Border
from sparselmm.linalg.iterative.information import Batch
from sparselmm.linalg.iterative.layout import Group
from sparselmm.linalg.iterative.operator import Blocks, ReducedSystem


class _Mean:
    """The mean of outer products of W left and W right over probes, with its variance, by level."""

    def __init__(self, known: FloatArray, W: FloatArray, probes: int) -> None:
        self._known, self._W, self._probes = known, Blocks(W), probes
        self._sum, self._squares = np.zeros_like(known), np.zeros_like(known)

    def add(self, left: AnyArray, right: AnyArray, random: bool) -> None:
        """Take the columns of a batch in, (m*K, c) each; those without chance count in full."""
        m, K, _ = self._known.shape
        x, y = ((self._W @ part).reshape(m, K, -1) for part in (left, right))
        for i in range(K):
            for j in range(i + 1):
                each = x[:, i] * y[:, j]
                if i != j:
                    each = (each + x[:, j] * y[:, i]) / 2.0
                total = each.sum(axis=1, dtype=np.float64)
                if random:
                    self._sum[:, i, j] += total
                    self._squares[:, i, j] += np.einsum("mc,mc->m", each, each, dtype=np.float64)
                else:
                    self._known[:, i, j] += total

    def result(self) -> LevelCovariances:
        """Return the estimates."""
        n = self._probes
        spread = np.maximum(self._squares - self._sum**2 / n, 0.0)
        blocks, errors = self._known + self._sum / n, np.sqrt(spread / (n * max(n - 1, 1)))
        for A in (blocks, errors):
            A[:] = np.tril(A) + np.tril(A, -1).transpose(0, 2, 1)
        return LevelCovariances(blocks, errors)


def level_covariances(
    gram: BlockGram,
    reduced: ReducedSystem,
    batches: list[Batch],
    border: Border,
    terms: tuple[int, ...],
    factors: Templates,
) -> LevelCovariances | None:
    """Return R [M⁻¹]_ll R' for the levels of terms, R block diagonal from ``factors``, (k, k) per term.

    None where the terms are not treated together by probes.
    """
    groups = (reduced.layout.first, *reduced.layout.rest)
    g = next((g for g, group in enumerate(groups) if set(terms) <= set(group.terms)), None)
    if g is None:
        return None
    R, places, start = np.zeros((groups[g].K, groups[g].K)), {}, 0
    for t in groups[g].terms:
        places[t] = np.arange(start, start + gram.k[t])
        if t in terms:
            R[np.ix_(places[t], places[t])] = factors[terms.index(t)]
        start += gram.k[t]
    found = _rest(reduced, batches, g - 1, R) if g else _eliminated(reduced, batches, R)
    _add_border(found, groups[g], R @ (reduced.T2[g - 1] if g else reduced.T1).T, border)
    own = np.concatenate([places[t] for t in terms])
    pick = np.ix_(np.arange(groups[g].m), own, own)
    return LevelCovariances(found.blocks[pick], found.errors[pick])


def _eliminated(reduced: ReducedSystem, batches: list[Batch], R: FloatArray) -> LevelCovariances:
    L, T = reduced.L1, reduced.T1
    half = _half(R, L)
    N = half @ batched_lower_solve(L, np.broadcast_to(T.T, L.shape))
    known = half @ half.transpose(0, 2, 1)
    for cross, G in zip(reduced.layout.to_first, reduced.G):
        known = known + N @ cross.forms(G.values @ G.values.transpose(0, 2, 1)) @ N.transpose(0, 2, 1)
    mean = _Mean(known, N, _probes(batches))
    for batch in batches:
        mean.add(reduced.raw(batch.X - batch.B)[0], batch.U, batch.random)
    return mean.result()


def _rest(reduced: ReducedSystem, batches: list[Batch], g: int, R: FloatArray) -> LevelCovariances:
    half = _half(R, reduced.L2[g])
    mean = _Mean(half @ half.transpose(0, 2, 1), half @ reduced.G[g].values.transpose(0, 2, 1), _probes(batches))
    for batch in batches:
        left = reduced.raw(batch.X - batch.B)[1] + batch.Y
        mean.add(reduced.parts(left)[g], reduced.parts(batch.Y)[g], batch.random)
    return mean.result()


def _half(R: FloatArray, L: FloatArray) -> FloatArray:
    """Return R L'⁻¹ per level."""
    return batched_lower_solve(L, np.broadcast_to(R.T, L.shape)).transpose(0, 2, 1)


def _probes(batches: list[Batch]) -> int:
    return sum(len(b.forms) for b in batches if b.random)


def _add_border(found: LevelCovariances, group: Group, RT: FloatArray, border: Border) -> None:
    """Add what the uncertainty of the border contributes."""
    scores = border.scores[group.columns.ravel()].reshape(group.m, group.K, -1)
    if scores.shape[2]:
        part = RT @ scores
        found.blocks[:] += part @ part.transpose(0, 2, 1)
