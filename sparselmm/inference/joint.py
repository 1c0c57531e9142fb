"""The joint (u, β) covariance of a fit: variances of prediction errors, without any (q, q) matrix.

With b = R u for each level (R = T, or C T where a term's columns were centred) the errors of the
coefficients have Henderson's covariance σ² J⁻¹, J = [M, Λ'Z'WX; X'WZΛ, X'WX]. For a row (z, x)

    variance/σ² = c'M⁻¹c + |RX'⁻¹ d|²,   c = R'z,   d = x - E'z,   E = R M⁻¹Λ'Z'WX

Only the first part needs the factor of M. Few rows are solved one by one; for many rows the entries
of M⁻¹ that they touch are found by solving for the levels that occur, each once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp
from scipy.linalg import solve_triangular

from sparselmm._typing import BoolArray, FloatArray, IntArray
from sparselmm.crossproducts import Basis
from sparselmm.linalg.blocks import BlockGram, apply_transposed
from sparselmm.linalg.system import PenalizedSystem
from sparselmm.pls import Engine

BATCH_CELLS = 4_000_000
CACHE_CELLS = 16_000_000
DIRECT_SHARE = 0.25

Open = Callable[[], AbstractContextManager[PenalizedSystem]]


@dataclass(frozen=True)
class TermPart:
    """What one random term contributes to a linear combination of coefficients, for n rows.

    Attributes
    ----------
    codes : (n,) int array
        Level of each row; -1 where the term contributes nothing known.
    Z : (n, k) array
        What multiplies the coefficients of that level.
    """

    codes: IntArray
    Z: FloatArray

    def sparse(self, m: int, R: FloatArray) -> sp.csr_array:
        """Return the rows c' = z'R as a sparse matrix, (n, m*k)."""
        n, k = self.Z.shape
        known = self.codes >= 0
        values = (self.Z @ R)[known]
        indices = self.codes[known, None] * k + np.arange(k)
        indptr = np.concatenate([[0], np.cumsum(known) * k])
        return sp.csr_array((values.ravel(), indices.ravel(), indptr), shape=(n, m * k))


@dataclass(frozen=True)
class MatrixPart:
    """The same for a term given as a sparse matrix of rows, (n, m*k)."""

    matrix: sp.csr_array

    def sparse(self, m: int, R: FloatArray) -> sp.csr_array:
        """Return the rows c' = z'R as a sparse matrix, (n, m*k)."""
        return sp.csr_array(self.matrix @ sp.kron(sp.eye_array(m), R))


Part = TermPart | MatrixPart


@dataclass(frozen=True)
class JointCovariance:
    """What the variances of prediction errors are computed from.

    Attributes
    ----------
    gram : BlockGram
        Sizes of the terms (and Z'WZ, for the system).
    factors : tuple of (k, k) arrays
        R of each term.
    cross : tuple of (m*k, p) arrays
        E, the response of b to the fixed effects, for the transformed X.
    basis : Basis
        The transformation of X.
    RX : (p, p) array
        Upper triangular factor for the transformed X.
    open : callable
        Context manager that yields the factored system.
    """

    gram: BlockGram
    factors: tuple[FloatArray, ...]
    cross: tuple[FloatArray, ...]
    basis: Basis
    RX: FloatArray
    open: Open = field(repr=False)


def joint_covariance(engine: Engine, par: FloatArray) -> JointCovariance:
    """Return the joint covariance of a model at one parameter vector."""
    parameters = engine.parameters
    with engine.locked() as pls:
        solution = pls.solve(par)
        gram, basis = pls.crossproducts.gram, pls.crossproducts.basis
        B = pls.system.solve(solution.scaled[:, :-1]) if pls.crossproducts.p else np.zeros((gram.q, 0))
    # rows of the transpose are what `reported_modes` takes
    factors = tuple(s.reported_modes(T.T).T for s, T in zip(parameters.structures, solution.templates))
    cross = apply_transposed(B, tuple(R.T for R in factors), gram)

    @contextmanager
    def opened() -> Iterator[PenalizedSystem]:
        with engine.locked() as pls:
            pls.system.refactor(solution.templates)
            yield pls.system

    parts = tuple(np.split(cross, gram.offsets[1:-1]))
    return JointCovariance(gram, factors, parts, basis, solution.RX, opened)


class InverseEntries:
    """Entries of M⁻¹ on request; what was solved for is kept while it is small.

    It belongs to one computation: make one, use it for all chunks of rows, drop it.
    """

    def __init__(self, gram: BlockGram, open: Open) -> None:
        self._gram = gram
        self._open = open
        self._diagonal: tuple[FloatArray, ...] | None = None
        self._order = sorted(range(len(gram.m)), key=lambda t: int(gram.sizes[t]))
        self._kept: dict[int, tuple[IntArray, FloatArray]] = {}

    def quadratic(self, parts: Sequence[Part | None], factors: Sequence[FloatArray], n: int) -> FloatArray:
        """Return c'M⁻¹c for each of n rows, (n,), c from the parts of the terms present."""
        grouped = {t: part for t, part in enumerate(parts) if isinstance(part, TermPart)}
        if any(isinstance(part, MatrixPart) for part in parts) or n <= DIRECT_SHARE * self._gram.q:
            return self._direct(parts, factors, n)
        scaled = {t: TermPart(part.codes, part.Z @ factors[t]) for t, part in grouped.items()}
        return self._by_pairs(scaled, n)

    def _direct(self, parts: Sequence[Part | None], factors: Sequence[FloatArray], n: int) -> FloatArray:
        gram = self._gram
        blocks = {t: part.sparse(gram.m[t], factors[t]) for t, part in enumerate(parts) if part is not None}
        empty = [sp.csr_array((n, int(size))) for size in gram.sizes]
        C = sp.csr_array(sp.hstack([blocks.get(t, e) for t, e in enumerate(empty)], format="csr"))
        out = np.empty(n)
        step = max(1, BATCH_CELLS // gram.q)
        with self._open() as system:
            for a in range(0, n, step):
                H = system.half_solve(np.ascontiguousarray(C[a : a + step].T.toarray()))
                out[a : a + step] = np.einsum("qn,qn->n", H, H)
        return out

    def _by_pairs(self, parts: dict[int, TermPart], n: int) -> FloatArray:
        out = np.zeros(n)
        for t, part in parts.items():
            rows = np.flatnonzero(part.codes >= 0)
            block = self.diagonal()[t][part.codes[rows]]
            c = part.Z[rows]
            out[rows] += np.einsum("na,nab,nb->n", c, block, c)
        order = [t for t in self._order if t in parts]
        for x, t in enumerate(order[:-1]):
            self._add_cross(out, parts, t, order[x + 1 :])
        return out

    def _add_cross(self, out: FloatArray, parts: dict[int, TermPart], t: int, others: list[int]) -> None:
        """Add 2 c_s'[M⁻¹]_st c_t for a term t and larger terms s."""
        gram, part = self._gram, parts[t]
        k = gram.k[t]
        rows = np.flatnonzero(part.codes >= 0)
        rows = rows[np.argsort(part.codes[rows], kind="stable")]
        levels, first = np.unique(part.codes[rows], return_index=True)
        bounds = np.append(first, len(rows))
        for a, b, columns, place in self._columns(t, levels):
            here = rows[bounds[a] : bounds[b]]
            position = place[np.searchsorted(levels[a:b], part.codes[here])] * k
            right = part.Z[here]
            for s in others:
                left = parts[s]
                both = left.codes[here] >= 0
                at, ks = here[both], gram.k[s]
                base = gram.offsets[s] + left.codes[at] * ks
                for i in range(ks):
                    for j in range(k):
                        entry = columns[base + i, position[both] + j]
                        out[at] += 2.0 * left.Z[at, i] * entry * right[both, j]

    def _columns(self, t: int, levels: IntArray) -> Iterator[tuple[int, int, FloatArray, IntArray]]:
        """Yield ranges of ``levels``, columns of M⁻¹ of term t, (q, c*k), and which of the c each level has."""
        gram, k = self._gram, self._gram.k[t]
        if gram.q * gram.m[t] * k <= CACHE_CELLS:
            yield 0, len(levels), *self._remembered(t, levels)
            return
        step = max(1, BATCH_CELLS // (gram.q * k))
        for a in range(0, len(levels), step):
            some = levels[a : a + step]
            yield a, a + len(some), self._solved(t, some), np.arange(len(some))

    def _remembered(self, t: int, levels: IntArray) -> tuple[FloatArray, IntArray]:
        k = self._gram.k[t]
        if t not in self._kept:
            self._kept[t] = np.full(self._gram.m[t], -1, dtype=np.int64), np.empty((self._gram.q, 0))
        place, known = self._kept[t]
        new = levels[place[levels] < 0]
        if len(new):
            place[new] = known.shape[1] // k + np.arange(len(new))
            known = np.hstack([known, self._solved(t, new)]) if known.size else self._solved(t, new)
            self._kept[t] = place, known
        return known, place[levels]

    def _solved(self, t: int, levels: IntArray) -> FloatArray:
        gram, k = self._gram, self._gram.k[t]
        columns = (gram.offsets[t] + levels[:, None] * k + np.arange(k)).ravel()
        out = np.empty((gram.q, len(columns)))
        step = max(1, BATCH_CELLS // gram.q)
        with self._open() as system:
            for a in range(0, len(columns), step):
                here = columns[a : a + step]
                E = np.zeros((gram.q, len(here)))
                E[here, np.arange(len(here))] = 1.0
                out[:, a : a + len(here)] = system.solve(E)
        return out

    def diagonal(self) -> tuple[FloatArray, ...]:
        """Return the diagonal blocks of M⁻¹, one (m, k, k) array per term."""
        if self._diagonal is None:
            with self._open() as system:
                self._diagonal = system.inverse_diagonal()
        return self._diagonal

    def blocks(self, t: int, s: int) -> FloatArray:
        """Return the blocks of M⁻¹ between equal levels of two terms with the same levels, (m, k_t, k_s)."""
        gram = self._gram
        m, kt, ks = gram.m[t], gram.k[t], gram.k[s]
        out = np.empty((m, kt, ks))
        step = max(1, BATCH_CELLS // (gram.q * ks))
        for a in range(0, m, step):
            levels = np.arange(a, min(a + step, m))
            columns = self._solved(s, levels).reshape(gram.q, len(levels), ks)
            rows = gram.offsets[t] + levels[:, None] * kt + np.arange(kt)
            out[levels] = columns[rows, np.arange(len(levels))[:, None]]
        return out


def fixed_part(joint: JointCovariance, X: FloatArray, parts: Sequence[Part | None]) -> FloatArray:
    """Return |RX'⁻¹ d|², d = x - E'z, for each row, (n,): what the uncertainty of β contributes."""
    if not X.shape[1]:
        return np.zeros(len(X))
    D = joint.basis.apply(X)
    for part, E, k in zip(parts, joint.cross, joint.gram.k):
        if isinstance(part, MatrixPart):
            D = D - part.matrix @ E
        elif part is not None:
            known: BoolArray = part.codes >= 0
            for a in range(k):
                D[known] -= part.Z[known, a, None] * E[part.codes[known] * k + a]
    H = solve_triangular(joint.RX, D.T, trans=1, check_finite=False)
    return np.asarray(np.einsum("pn,pn->n", H, H))


def error_variance(
    joint: JointCovariance, entries: InverseEntries, X: FloatArray, parts: Sequence[Part | None]
) -> FloatArray:
    """Return the variance of x'(β̂ - β) + z'(b̂ - b) over σ² for each row, (n,); all values must be finite.

    Parameters
    ----------
    joint : JointCovariance
        Of the fit.
    entries : InverseEntries
        Of the same fit.
    X : (n, p) array
        Rows of the fixed-effects matrix.
    parts : sequence of TermPart, MatrixPart or None
        For each term what it contributes; None for nothing.
    """
    out = fixed_part(joint, X, parts)
    if len(X) and any(part is not None for part in parts):
        out += entries.quadratic(parts, joint.factors, len(X))
    return out
