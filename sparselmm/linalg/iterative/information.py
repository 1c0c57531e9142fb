"""Diagonal blocks of Z'V⁻¹Z, the derivative of log|M| with respect to Ω, from deflation and probes.

With K = (I - S)⁻¹, P = (I + HΩ)⁻¹ per level and H_o the off-diagonal blocks of H,

    rest        [Z'V⁻¹Z]_ll = P H_l - P [H_o G K G'H_o]_ll P'
    eliminated  [Z'V⁻¹Z]_ll = P A_l - P [A12 G K G'A21]_ll P',  P = (I + A_lΩ)⁻¹

and K = E(K b b') over the same directions and probes b as in the log-determinant; for the eliminated
group the part with K = I is known exactly. No template is inverted, so θ may be 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparselmm._typing import AnyArray, FloatArray
from sparselmm.linalg.blocks import BlockGram
from sparselmm.linalg.iterative.border import Border
from sparselmm.linalg.iterative.lanczos import Tridiagonals, column_dots
from sparselmm.linalg.iterative.operator import Blocks, ReducedSystem, gain


@dataclass(frozen=True)
class Batch:
    """Columns whose forms and solutions were found together.

    Attributes
    ----------
    B, X : (q2, c) arrays
        Columns and (I - S)⁻¹B.
    U, Y : (q1, c), (q2, c) arrays
        A12 G B and H_o G B.
    forms : (c,) array
        b'(log(I - S) + S)b.
    tridiagonals : Tridiagonals
        The Lanczos matrices.
    random : bool
        Whether they are probes.
    """

    B: AnyArray
    X: AnyArray
    U: AnyArray
    Y: AnyArray
    forms: FloatArray
    tridiagonals: Tridiagonals
    random: bool


@dataclass(frozen=True)
class Information:
    """Diagonal blocks of Z'V⁻¹Z.

    Attributes
    ----------
    sums : tuple of (k, k) arrays
        Sums over levels per term.
    blocks : tuple of (m, k, k) arrays
        By level, when asked for; else empty.
    samples : tuple of (probes, k, k) arrays
        What each probe says of the uncertain part of the sums; empty for terms of the border.
    """

    sums: tuple[FloatArray, ...]
    blocks: tuple[FloatArray, ...]
    samples: tuple[FloatArray, ...]


class _Sums:
    """Sums and samples of one group; with the levels kept if asked for."""

    def __init__(self, exact: FloatArray, P: FloatArray, by_level: bool) -> None:
        self.P = Blocks(P)
        self.sum = exact.sum(axis=0)
        self.blocks = np.array(exact) if by_level else None
        self.samples: list[FloatArray] = []

    def add(self, left: AnyArray, right: AnyArray, random: bool, probes: int) -> None:
        """Take the products of P left and P right, (m*K, c), of a batch away."""
        left, right = self.P @ left, self.P @ right
        K, c = self.P.values.shape[1], left.shape[1]
        x, y = left.reshape(-1, K, c), right.reshape(-1, K, c)
        each = np.empty((c, K, K))
        for i in range(K):
            for j in range(K):
                each[:, i, j] = column_dots(x[:, i], y[:, j])
        each = (each + each.transpose(0, 2, 1)) / 2.0
        if random:
            self.samples.append(-each)
        share = 1.0 / probes if random else 1.0
        self.sum = self.sum - share * each.sum(axis=0)
        if self.blocks is not None:
            part = np.einsum("mic,mjc->mij", x, y, dtype=np.float64)
            self.blocks -= share / 2.0 * (part + part.transpose(0, 2, 1))


def information(
    gram: BlockGram, reduced: ReducedSystem, batches: list[Batch], border: Border, *, by_level: bool = False
) -> Information:
    """Return the diagonal blocks of Z'V⁻¹Z, summed over levels or also one by one."""
    found = _exact_parts(reduced, by_level)
    probes = sum(len(b.forms) for b in batches if b.random)
    for batch in batches:
        Y = batch.Y
        dU, dY = reduced.raw(batch.X - batch.B)
        dY += Y
        found[0].add(dU, batch.U, batch.random, probes)
        for part, left, right in zip(found[1:], reduced.parts(dY), reduced.parts(Y)):
            part.add(left, right, batch.random, probes)
    layout = reduced.layout
    sums: dict[int, FloatArray] = {}
    blocks: dict[int, FloatArray] = {}
    samples: dict[int, FloatArray] = {}
    for group, found_group in zip((layout.first, *layout.rest), found):
        scores = border.scores[group.columns.ravel()].reshape(group.m, group.K, -1)
        total = found_group.sum - np.einsum("mib,mjb->ij", scores, scores)
        drawn = np.concatenate(found_group.samples)
        start = 0
        for t in group.terms:
            own = slice(start, start + gram.k[t])
            sums[t], samples[t] = total[own, own], drawn[:, own, own]
            if found_group.blocks is not None:
                here = scores[:, own]
                blocks[t] = found_group.blocks[:, own, own] - np.einsum("mib,mjb->mij", here, here)
            start += gram.k[t]
    for t in layout.border_terms:
        own_blocks = border.information(t)
        sums[t], samples[t] = own_blocks.sum(axis=0), np.zeros((0, gram.k[t], gram.k[t]))
        blocks[t] = own_blocks
    order = range(len(gram.m))
    return Information(
        tuple(sums[t] for t in order),
        tuple(blocks[t] for t in order) if by_level else (),
        tuple(samples[t] for t in order),
    )


def _exact_parts(reduced: ReducedSystem, by_level: bool) -> list[_Sums]:
    """Return the parts that need no probes, the eliminated group first."""
    layout = reduced.layout
    first = layout.first
    P = gain(first.diagonal, reduced.T1, reduced.L1)
    exact = P @ first.diagonal
    for cross, G in zip(layout.to_first, reduced.G):
        exact = exact - P @ cross.forms(G.values @ G.values.transpose(0, 2, 1)) @ P.transpose(0, 2, 1)
    out = [_Sums(exact, P, by_level)]
    for H, T, L in zip(reduced.H, reduced.T2, reduced.L2):
        P = gain(H, T, L)
        out.append(_Sums(P @ H, P, by_level))
    return out
