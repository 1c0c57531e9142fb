"""The joint (u, β) covariance of a fit: variances of prediction errors, without any (q, q) matrix.

With b = R u for each level (R = T, or C T where a term's columns were centred) the errors of the
coefficients have Henderson's covariance σ² J⁻¹, J = [M, Λ'Z'WX; X'WZΛ, X'WX]. For a row (z, x)

    variance/σ² = c'M⁻¹c + |RX'⁻¹ d|²,   c = R'z,   d = x - E'z,   E = R M⁻¹Λ'Z'WX

Only the first part needs the factor of M. Few rows are solved one by one; for many rows the entries
of M⁻¹ that they touch are looked up, or found by solving for the levels that occur, each once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp
from scipy.linalg import solve_triangular

from sparselmm._typing import BoolArray, FloatArray, IntArray
from sparselmm.inference.predict.solution_limit import refuse_many
from sparselmm.inference.sizes import BATCH_CELLS, CACHE_CELLS, ITERATED_COLUMNS
from sparselmm.likelihood.engine import Engine
from sparselmm.linalg.blocks import BlockGram, apply_factor
from sparselmm.linalg.protocol import PenalizedSystem, factorization_of
from sparselmm.statistics.transform import FixedTransform

DIRECT_SHARE, DIRECT_ROWS = 0.25, 500

Open = Callable[[], AbstractContextManager[PenalizedSystem]]

ALL_PAIRS = "this needs the covariances of all levels that occur together, from a factor of M"


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
class PredictionErrors:
    """What the variances of prediction errors are computed from.

    Attributes
    ----------
    gram : BlockGram
        Z'WZ, for the pairs of levels that occur together.
    templates : tuple of (k, k) arrays
        T of each term, for the columns of Z as they were centred.
    maps : tuple of (k, k) arrays
        C of each term: b = C b_c for the coefficients b_c of the centred columns.
    cross : tuple of (m*k, p) arrays
        E, the response of b to the fixed effects, for the transformed X.
    basis : FixedTransform
        The transformation of X.
    RX : (p, p) array
        Upper triangular factor for the transformed X.
    open : callable
        Context manager that yields the factored system.
    """

    gram: BlockGram
    templates: tuple[FloatArray, ...]
    maps: tuple[FloatArray, ...]
    cross: tuple[FloatArray, ...]
    basis: FixedTransform
    RX: FloatArray
    open: Open = field(repr=False)

    @property
    def factors(self) -> tuple[FloatArray, ...]:
        """R = C T of each term."""
        return tuple(C @ T for C, T in zip(self.maps, self.templates))


def prediction_errors(engine: Engine, par: FloatArray) -> PredictionErrors:
    """Return the joint covariance of a model at one parameter vector."""
    with engine.locked() as pls:
        solution = pls.solve(par)
        gram, basis = pls.crossproducts.gram, pls.crossproducts.basis
        B = pls.system.solve(solution.scaled[:, :-1]) if pls.crossproducts.p else np.zeros((gram.q, 0))
    templates = solution.templates
    maps = engine.parameters.maps
    cross = apply_factor(B, tuple(C @ T for C, T in zip(maps, templates)), gram)

    @contextmanager
    def opened() -> Iterator[PenalizedSystem]:
        with engine.locked() as pls:
            pls.factor(templates)
            yield pls.system

    parts = tuple(np.split(cross, gram.offsets[1:-1]))
    return PredictionErrors(gram, templates, maps, parts, basis, solution.RX, opened)


class InverseEntries:
    """Entries of M⁻¹ on request; what was solved for is kept while it is small.

    It belongs to one computation: make one, use it for all chunks of rows, drop it. Entries for levels
    that occur together in the data come from one pass over the factor, others from solves with the
    columns of the smaller term.
    """

    def __init__(self, joint: PredictionErrors) -> None:
        self._joint = joint
        self._gram = joint.gram
        self._order = sorted(range(len(joint.gram.m)), key=lambda t: int(joint.gram.sizes[t]))
        self._pairs: dict[tuple[int, int], FloatArray] | None = None
        self._kept: dict[int, tuple[IntArray, FloatArray]] = {}

    def pairs(self) -> dict[tuple[int, int], FloatArray]:
        """Return the blocks of ΛM⁻¹Λ' in the pattern of Z'WZ, aligned with ``gram.pairs``."""
        if self._pairs is None:
            with self._joint.open() as system:
                self._pairs = factorization_of(system, ALL_PAIRS).covariance_pairs()
        return self._pairs

    def equal_levels(self, t: int, s: int) -> FloatArray:
        """Return the blocks of ΛM⁻¹Λ' between equal levels of terms on the same levels, (m, k_t, k_s)."""
        key = max(t, s), min(t, s)
        pair = self._gram.pairs[key]
        same = pair.rows == pair.cols
        out = np.zeros((self._gram.m[t], self._gram.k[key[0]], self._gram.k[key[1]]))
        out[pair.rows[same]] = self.pairs()[key][same]
        return out if key == (t, s) else out.transpose(0, 2, 1)

    def quadratic(self, parts: Sequence[Part | None], n: int) -> FloatArray:
        """Return c'M⁻¹c for each of n rows, (n,), c from the parts of the terms present.

        Raises
        ------
        UnsupportedError
            For too many rows of a system without a factor.
        """
        few = n <= min(DIRECT_SHARE * self._gram.q, DIRECT_ROWS)
        if not few:
            with self._joint.open() as system:
                factored = system.factorization is not None
            if not factored:
                return self._by_touched(parts, n)
        if few or any(isinstance(part, MatrixPart) for part in parts):
            return self._forms(self._rows(parts, n))
        centred = {
            t: TermPart(part.codes, part.Z @ C)
            for t, (part, C) in enumerate(zip(parts, self._joint.maps))
            if isinstance(part, TermPart)
        }
        return self._by_pairs(centred, n)

    def _rows(self, parts: Sequence[Part | None], n: int) -> sp.csr_array:
        """Return the rows c', (n, q)."""
        gram, factors = self._gram, self._joint.factors
        blocks = {t: part.sparse(gram.m[t], factors[t]) for t, part in enumerate(parts) if part is not None}
        empty = [sp.csr_array((n, int(size))) for size in gram.sizes]
        return sp.csr_array(sp.hstack([blocks.get(t, e) for t, e in enumerate(empty)], format="csr"))

    def _forms(self, C: sp.csr_array) -> FloatArray:
        """Return c'M⁻¹c for each row of a sparse matrix by one right-hand side each."""
        out = np.empty(C.shape[0])
        with self._joint.open() as system:
            step = self._batch(system)
            for a in range(0, len(out), step):
                columns = np.ascontiguousarray(C[a : a + step].T.toarray())
                out[a : a + step] = system.quadratic(columns, 1)[:, 0, 0]
        return out

    def _batch(self, system: PenalizedSystem) -> int:
        """Return how many right-hand sides to solve for at once; iterations are quickest on a few."""
        step = max(1, BATCH_CELLS // self._gram.q)
        return step if system.factorization is not None else min(step, ITERATED_COLUMNS)

    def _by_touched(self, parts: Sequence[Part | None], n: int) -> FloatArray:
        """Return the same by one right-hand side per row or per column that some row touches, if they are few."""
        touched = self._touched(parts)
        instead = "ask for fewer rows with fit.predict(newdata, se=True) (a leverage is weight·se²/σ²)"
        refuse_many(min(n, len(touched)), f"the variances of the fitted values of {n:,} rows", instead)
        C = self._rows(parts, n)
        if n <= len(touched):
            return self._forms(C)
        B, small, out = self.between(touched), sp.csr_array(C[:, touched]), np.empty(n)
        step = max(1, BATCH_CELLS // len(touched))
        for a in range(0, n, step):
            some = small[a : a + step]
            out[a : a + step] = np.asarray(some.multiply(some @ B).sum(axis=1)).ravel()
        return out

    def _touched(self, parts: Sequence[Part | None]) -> IntArray:
        """Return the columns of Z that the rows of the parts touch."""
        gram, found = self._gram, np.zeros(self._gram.q, dtype=bool)
        for part, first, last, k in zip(parts, gram.offsets, gram.offsets[1:], gram.k):
            if isinstance(part, MatrixPart):
                levels = part.matrix.indices // k
            elif part is not None:
                levels = part.codes[part.codes >= 0]
            else:
                continue
            found[first:last].reshape(-1, k)[levels] = True
        return np.flatnonzero(found)

    def _unit_solutions(self, columns: IntArray) -> Iterator[tuple[int, FloatArray]]:
        """Yield where a batch starts and its columns of M⁻¹, (q, b)."""
        with self._joint.open() as system:
            step = self._batch(system)
            for a in range(0, len(columns), step):
                yield a, system.solve(self._units(columns[a : a + step]))

    def _units(self, columns: IntArray) -> FloatArray:
        """Return unit vectors for columns of Z, (q, c)."""
        E = np.zeros((self._gram.q, len(columns)))
        E[columns, np.arange(len(columns))] = 1.0
        return E

    def between(self, columns: IntArray) -> FloatArray:
        """Return the entries of M⁻¹ between some columns of Z, (c, c), by solutions for them."""
        out = np.empty((len(columns), len(columns)))
        for a, found in self._unit_solutions(columns):
            out[:, a : a + found.shape[1]] = found[columns]
        return out

    def diagonal_blocks(self, columns: IntArray) -> FloatArray:
        """Return the entries of M⁻¹ within each row of columns of Z, (b, K) -> (b, K, K)."""
        b, K = columns.shape
        out = np.empty((b, K, K))
        with self._joint.open() as system:
            step = max(1, self._batch(system) // K)
            for a in range(0, b, step):
                here = columns[a : a + step].ravel()
                out[a : a + step] = system.quadratic(self._units(here), K)
        return out

    def _by_pairs(self, parts: dict[int, TermPart], n: int) -> FloatArray:
        out = np.zeros(n)
        for t, part in parts.items():
            rows = np.flatnonzero(part.codes >= 0)
            z = part.Z[rows]
            out[rows] += np.einsum("na,nab,nb->n", z, self.equal_levels(t, t)[part.codes[rows]], z)
        order = [t for t in self._order if t in parts]
        for x, t in enumerate(order[:-1]):
            apart = {s: self._add_met(out, parts, t, s) for s in order[x + 1 :]}
            self._add_apart(out, parts, t, {s: rows for s, rows in apart.items() if rows.any()})
        return out

    def _add_met(self, out: FloatArray, parts: dict[int, TermPart], t: int, s: int) -> BoolArray:
        """Add twice the covariance of two terms where their levels met in the data; return the other rows."""
        key = i, j = max(t, s), min(t, s)
        pair, row, col = self._gram.pairs[key], parts[i], parts[j]
        both = (row.codes >= 0) & (col.codes >= 0)
        if not len(pair.rows):
            return both
        width = self._gram.m[j]
        keys, asked = pair.keys(width), row.codes.astype(np.int64) * width + col.codes
        at = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
        met = both & (keys[at] == asked)
        blocks = self.pairs()[key][at[met]]
        out[met] += 2.0 * np.einsum("na,nab,nb->n", row.Z[met], blocks, col.Z[met])
        apart: BoolArray = both & ~met
        return apart

    def _add_apart(self, out: FloatArray, parts: dict[int, TermPart], t: int, apart: dict[int, BoolArray]) -> None:
        """Add 2 c_s'[M⁻¹]_st c_t for a term t and larger terms s, for levels that never met."""
        if not apart:
            return
        gram, part, templates = self._gram, parts[t], self._joint.templates
        k = gram.k[t]
        rows = np.flatnonzero(np.logical_or.reduce(list(apart.values())))
        rows = rows[np.argsort(part.codes[rows], kind="stable")]
        levels, first = np.unique(part.codes[rows], return_index=True)
        bounds = np.append(first, len(rows))
        for a, b, columns, place in self._columns(t, levels):
            here = rows[bounds[a] : bounds[b]]
            position = place[np.searchsorted(levels[a:b], part.codes[here])] * k
            for s, mask in apart.items():
                wanted = mask[here]
                at, ks = here[wanted], gram.k[s]
                left, right = parts[s].Z[at] @ templates[s], part.Z[at] @ templates[t]
                base = gram.offsets[s] + parts[s].codes[at] * ks
                for i in range(ks):
                    for j in range(k):
                        out[at] += 2.0 * left[:, i] * columns[base + i, position[wanted] + j] * right[:, j]

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
        for a, found in self._unit_solutions(columns):
            out[:, a : a + found.shape[1]] = found
        return out


def fixed_part(joint: PredictionErrors, X: FloatArray, parts: Sequence[Part | None]) -> FloatArray:
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
    joint: PredictionErrors, entries: InverseEntries, X: FloatArray, parts: Sequence[Part | None]
) -> FloatArray:
    """Return the variance of x'(β̂ - β) + z'(b̂ - b) over σ² for each row, (n,); all values must be finite.

    Parameters
    ----------
    joint : PredictionErrors
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
        out += entries.quadratic(parts, len(X))
    return out
