"""M = Λ'Z'WZΛ + I by elimination of its largest block-diagonal part and a dense Schur complement.

With the eliminated terms first, M = [M11 M12; M21 M22], M11 = blocks of K×K. The dense matrix
``S = M22 - M21 M11⁻¹ M12 = I + Λ2'(A22 - A21 F'F A12)Λ2`` with ``F = L1⁻¹Λ1'`` is factored by
LAPACK as U'U in the upper triangle of one Fortran-ordered array; A is Z'WZ.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from scipy.linalg import lapack

from sparselmm._typing import FloatArray, IntArray
from sparselmm.exceptions import NumericalError
from sparselmm.linalg.blocks import BlockGram, Templates, same_templates
from sparselmm.linalg.exact.batched import batched_cholesky, batched_lower_solve, batched_upper_solve
from sparselmm.linalg.exact.elimination import (
    cross_block,
    cross_values,
    dense_rest,
    eliminable_terms,
    eliminated_blocks,
    fill_rest,
)
from sparselmm.linalg.exact.sandwich import Sandwich
from sparselmm.linalg.exact.selected import EliminatedLevels
from sparselmm.linalg.exact.traces import Direction, Eliminated
from sparselmm.linalg.inverse_blocks import (
    NEARLY_SINGULAR,
    grouped_products,
    information_by_columns,
    information_from_inverse,
    relative_diagonal,
)
from sparselmm.linalg.iterative.control import Effort
from sparselmm.linalg.machine import TRACE_RATE
from sparselmm.linalg.protocol import Pairs

REGULAR = 1e8


class SchurSystem:
    """Eliminates one set of K×K blocks and factors the dense rest."""

    name = "schur"
    monte_carlo = None

    def __init__(self, gram: BlockGram) -> None:
        self.gram = gram
        self._first = eliminable_terms(gram)
        if not self._first:
            raise NumericalError("no term has a block-diagonal cross-product: the Schur system does not apply")
        self._rest = tuple(t for t in range(len(gram.m)) if t not in self._first)
        self._m = gram.m[self._first[0]]
        self._K = sum(gram.k[t] for t in self._first)
        self._D = eliminated_blocks(gram, self._first)
        self._index1 = np.concatenate(
            [(gram.offsets[t] + np.arange(self._m)[:, None] * gram.k[t] + np.arange(gram.k[t])) for t in self._first],
            axis=1,
        ).ravel()
        self._index2 = np.concatenate(
            [np.arange(gram.offsets[t], gram.offsets[t + 1]) for t in self._rest] or [np.zeros(0, dtype=np.int64)]
        )
        self._q2 = len(self._index2)
        # slices avoid copies where the elimination order is the order of the columns
        self._in_order = bool(np.array_equal(np.concatenate([self._index1, self._index2]), np.arange(gram.q)))
        if self._q2:
            position = np.empty(gram.q, dtype=np.int64)
            position[self._index1], position[self._index2] = np.arange(len(self._index1)), np.arange(self._q2)
            A12, self._source = cross_block(gram, self._first, self._rest, position)
            self._A22 = dense_rest(gram, self._rest, position, self._q2)
            self._sandwich, self._position = Sandwich(A12, self._K), position
            self._S = np.zeros((self._q2, self._q2), order="F")
        self._T1 = np.eye(self._K)
        self._T2: Templates = ()
        self.templates: Templates = ()
        self.flops = float(self._q2) ** 3 / 3.0 + 10.0 * self._m * self._K**2
        if self._q2:
            self.flops += 2.0 * self._sandwich.work
        self._logdet = 0.0

    @property
    def factorization(self) -> SchurSystem:
        """Itself: the factor is there."""
        return self

    @property
    def blas_flops(self) -> float:
        """Operations that BLAS may spread over threads."""
        return self.flops

    def holds(self, templates: Templates, effort: Effort | None = None) -> bool:
        """Return whether M is factored for these templates."""
        return same_templates(self.templates, templates)

    def update(self, gram: BlockGram) -> None:
        """Take other numbers of Z'WZ in the same pattern; nothing is factored until `refactor`."""
        self.gram.refuse_other_pattern(gram)
        self.gram, self.templates = gram, ()
        self._D = eliminated_blocks(gram, self._first)
        if self._q2:
            self._sandwich.update(np.take(cross_values(gram, self._first, self._rest), self._source))
            fill_rest(gram, self._rest, self._position, self._A22)

    def refactor(self, templates: Templates, effort: Effort | None = None) -> None:
        """Factor M for the k×k templates of the terms."""
        self.templates = ()
        T1 = _block_diagonal([templates[t] for t in self._first])
        M11 = T1.T @ self._D @ T1
        diagonal = np.arange(self._K)
        M11[:, diagonal, diagonal] += 1.0
        self._L1 = batched_cholesky(M11)
        self._T1 = T1
        self._logdet = 2.0 * float(np.log(self._L1[:, diagonal, diagonal]).sum())
        if not np.isfinite(self._logdet):
            raise NumericalError("the penalized system is not finite")
        if not self._q2:
            self.templates = templates
            return
        self._T2 = tuple(templates[t] for t in self._rest)
        if self._K == 1:
            self._F = T1[0, 0] / self._L1
        else:
            self._F = batched_lower_solve(self._L1, np.broadcast_to(T1.T, self._D.shape))
        S = self._S
        self._Q = self._gain()
        self._sandwich.fill_lower(self._F, S.T, self._Q)
        np.subtract(self._A22, S, out=S)
        self._scale_rest(S)
        S.flat[:: self._q2 + 1] += 1.0
        _, info = lapack.dpotrf(S, lower=0, clean=0, overwrite_a=1)
        if info != 0:
            raise NumericalError(f"the Schur complement is not positive definite (column {info})")
        self._logdet += 2.0 * float(np.log(S.diagonal()).sum())
        if not np.isfinite(self._logdet):
            raise NumericalError("the penalized system is not finite")
        self.templates = templates

    def _scale_rest(self, S: FloatArray) -> None:
        """Replace the upper triangle of the symmetric S by that of Λ2'SΛ2, in place."""
        if all(T.shape == (1, 1) for T in self._T2):
            s = np.repeat([T[0, 0] for T in self._T2], [self.gram.m[t] for t in self._rest])
            S *= s[:, None]
            S *= s[None, :]
            return
        _mirror_upper(S)
        _congruence(S, self._T2, [self.gram.m[t] for t in self._rest])

    def _rest_times(self, B: FloatArray, transposed: bool) -> FloatArray:
        """Return Λ2'B or Λ2B, (q2, r)."""
        out, start = np.empty_like(B), 0
        for T, t in zip(self._T2, self._rest):
            stop = start + self.gram.m[t] * self.gram.k[t]
            block = B[start:stop].reshape(self.gram.m[t], self.gram.k[t], B.shape[1])
            out[start:stop] = ((T.T if transposed else T) @ block).reshape(stop - start, B.shape[1])
            start = stop
        return out

    def _split(self, C: FloatArray) -> tuple[FloatArray, FloatArray]:
        if self._in_order:
            cut = len(self._index1)
            return C[:cut].reshape(self._m, self._K, -1), C[cut:]
        return C[self._index1].reshape(self._m, self._K, -1), C[self._index2]

    def _join(self, X1: FloatArray, X2: FloatArray | None) -> FloatArray:
        flat = X1.reshape(len(self._index1), -1)
        if X2 is None and self._in_order:
            return flat
        out = np.empty((self.gram.q, flat.shape[1]))
        out[self._index1] = flat
        if X2 is not None:
            out[self._index2] = X2
        return out

    def _forward(self, C: FloatArray) -> tuple[FloatArray, FloatArray | None]:
        """Return L1⁻¹C1, (m, K, r), and L2⁻¹(C2 - M21 M11⁻¹C1), (q2, r)."""
        C1, C2 = self._split(C)
        H1 = batched_lower_solve(self._L1, C1)
        if not self._q2:
            return H1, None
        back = (self._F.transpose(0, 2, 1) @ H1).reshape(self._m * self._K, -1)
        right = C2 - self._rest_times(self._sandwich.cross.T @ back, transposed=True)
        H2, _ = lapack.dtrtrs(self._S, right, lower=0, trans=1)
        return H1, H2

    def logdet(self) -> float:
        """Return log|M|."""
        return self._logdet

    def quadratic(self, C: FloatArray, width: int | None = None) -> FloatArray:
        """Return C_g'M⁻¹C_g for each group of ``width`` columns, (groups, width, width)."""
        H1, H2 = self._forward(C)
        H1 = H1.reshape(-1, C.shape[1])
        out = grouped_products(H1, H1, width)
        return out if H2 is None else out + grouped_products(H2, H2, width)

    def solve(self, C: FloatArray) -> FloatArray:
        """Return M⁻¹C, (q, r)."""
        H1, H2 = self._forward(C)
        if H2 is None:
            return self._join(batched_upper_solve(self._L1, H1), None)
        X2, _ = lapack.dtrtrs(self._S, H2, lower=0)
        cross = (self._sandwich.cross @ self._rest_times(X2, transposed=False)).reshape(self._m, self._K, -1)
        return self._join(batched_upper_solve(self._L1, H1 - self._F @ cross), X2)

    def inverse_diagonal(self) -> tuple[FloatArray, ...]:
        """Return the diagonal blocks of M⁻¹, one (m, k, k) array per term."""
        eye = np.broadcast_to(np.eye(self._K), self._D.shape)
        L1inv = batched_lower_solve(self._L1, eye)
        B11 = L1inv.transpose(0, 2, 1) @ L1inv
        rest: dict[int, FloatArray] = {}
        if self._q2:
            inverse = self.schur_inverse()
            rest = self._rest_blocks(inverse)
            N = batched_upper_solve(self._L1, self._F)
            B11 = B11 + N @ self._sandwich.level_forms(self._scaled_back(inverse)) @ N.transpose(0, 2, 1)
        return self._by_term(B11, rest)

    def covariance_pairs(self) -> Pairs:
        """Return the blocks of ΛM⁻¹Λ' in the pattern of Z'WZ, aligned with ``gram.pairs``."""
        if not self._q2:
            F = batched_lower_solve(self._L1, np.broadcast_to(self._T1.T, self._D.shape))
            return EliminatedLevels(self._first, (), F.transpose(0, 2, 1) @ F, None, np.zeros((0, 0))).pairs(self.gram)
        G = self._F.transpose(0, 2, 1) @ self._F
        E22 = self._scaled_back(self.schur_inverse())
        return EliminatedLevels(self._first, self._rest, G, self._sandwich.sparse, E22).pairs(self.gram)

    def information_blocks(self) -> tuple[FloatArray, ...]:
        """Return the diagonal blocks of Z'V⁻¹Z, one (m, k, k) array per term."""
        Q = self._gain()
        first = Q @ self._D
        rest: dict[int, FloatArray] = {}
        if self._q2:
            inverse = self.schur_inverse()
            for t, blocks in self._rest_blocks(inverse).items():
                T = self.templates[t]
                if relative_diagonal(self.gram, t, T) > NEARLY_SINGULAR:
                    rest[t] = information_from_inverse(blocks, T)
                else:
                    rest[t] = information_by_columns(self, t, self.templates)
            first = first - Q @ self._sandwich.level_forms(self._scaled_back(inverse)) @ Q.transpose(0, 2, 1)
        return self._by_term(first, rest)

    def information_sums(self) -> tuple[FloatArray, ...]:
        """Return the sums over levels of `information_blocks`, one (k, k) array per term, without the levels."""
        Q = self._Q if self._q2 else self._gain()
        first = (Q @ self._D).sum(axis=0)
        rest: dict[int, FloatArray] = {}
        if self._q2:
            inverse = self.schur_inverse()
            for t, blocks in self._rest_blocks(inverse).items():
                T = self.templates[t]
                if relative_diagonal(self.gram, t, T) > NEARLY_SINGULAR:
                    rest[t] = information_from_inverse(blocks.sum(axis=0), T, len(blocks))
                else:
                    rest[t] = information_by_columns(self, t, self.templates).sum(axis=0)
            first = first - self._sandwich.form_sums(self._scaled_back(inverse), Q)
        return tuple(x[0] for x in self._by_term(first[None], {t: x[None] for t, x in rest.items()}))

    def _gain(self) -> FloatArray:
        """Return Q = (I + DΛ1Λ1')⁻¹ per level: the eliminated part of Z'V⁻¹Z is QD - Q(A12 E A21)Q'."""
        if np.linalg.cond(self._T1) < REGULAR:
            # Q = T⁻ᵀM11⁻¹T' keeps its digits at large θ, where the difference below has none left
            L1inv = batched_lower_solve(self._L1, np.broadcast_to(np.eye(self._K), self._D.shape))
            inverse = L1inv.transpose(0, 2, 1) @ L1inv
            return np.asarray(np.linalg.inv(self._T1.T) @ inverse @ self._T1.T)
        F = self._F if self._q2 else batched_lower_solve(self._L1, np.broadcast_to(self._T1.T, self._D.shape))
        return np.asarray(np.eye(self._K) - self._D @ (F.transpose(0, 2, 1) @ F))

    def trace_products(self, directions: Sequence[Direction]) -> FloatArray:
        """Return tr(Z'V⁻¹Z B_i Z'V⁻¹Z B_j) for changes of Ω of single terms, (n, n)."""
        Q = self._gain()
        if not self._q2:
            none = np.zeros((0, 0))
            parts = Eliminated(self.gram, self._first, (), self._D, Q, self.templates, None, none, none)
            return parts.traces(directions)
        G = np.zeros((self._q2, self._q2), order="F")
        self._sandwich.fill_lower(self._F, G.T)
        np.subtract(self._A22, G, out=G)
        _mirror_upper(G)
        E = self._scaled_back(self.schur_inverse())
        return Eliminated(self.gram, self._first, self._rest, self._D, Q, self.templates, self._sandwich, E, G).traces(
            directions
        )

    def _rest_blocks(self, S: FloatArray) -> dict[int, FloatArray]:
        """Return the diagonal blocks of a (q2, q2) matrix for each term of the rest."""
        out, start = {}, 0
        for t in self._rest:
            m, k = self.gram.m[t], self.gram.k[t]
            rows = start + np.arange(m)[:, None] * k + np.arange(k)
            out[t] = S[rows[:, :, None], rows[:, None, :]]
            start += m * k
        return out

    def _by_term(self, merged: FloatArray, rest: dict[int, FloatArray]) -> tuple[FloatArray, ...]:
        """Split the (m, K, K) blocks of the eliminated terms and return all in the order of the terms."""
        out, start = dict(rest), 0
        for t in self._first:
            k = self.gram.k[t]
            out[t] = merged[:, start : start + k, start : start + k]
            start += k
        return tuple(out[t] for t in range(len(self.gram.m)))

    def _scaled_back(self, inverse: FloatArray) -> FloatArray:
        """Return Λ2S⁻¹Λ2', in the array of S⁻¹."""
        _congruence(inverse, tuple(T.T for T in self._T2), [self.gram.m[t] for t in self._rest])
        return inverse

    def schur_inverse(self) -> FloatArray:
        """Return S⁻¹, (q2, q2), symmetric and dense, Fortran-ordered, owned by the caller."""
        inverse, _ = lapack.dpotri(self._S, lower=0)
        _mirror_upper(inverse)
        return np.asarray(inverse)

    def trace_seconds(self) -> float:
        """Return roughly the time that `trace_products` takes: a few dense products of the complement."""
        return 20.0 * self.flops / TRACE_RATE

    def factor(self) -> tuple[sp.csc_array, IntArray]:
        """Return sparse L and the permutation P with L L' = M[P][:, P]."""
        P = np.concatenate([self._index1, self._index2])
        L11 = sp.block_diag(list(self._L1), format="csr") if self._K > 1 else sp.diags_array(self._L1[:, 0, 0])
        if not self._q2:
            return sp.csc_array(L11), P
        F = sp.block_diag(list(self._F), format="csr") if self._K > 1 else sp.diags_array(self._F[:, 0, 0])
        L21 = self._rest_times((F @ self._sandwich.sparse).T.toarray(), transposed=True)
        empty = sp.csr_array((len(self._index1), self._q2))
        top = sp.hstack([sp.csr_array(L11), empty])
        bottom = sp.hstack([sp.csr_array(L21), sp.csr_array(np.triu(self._S).T)])
        return sp.csc_array(sp.vstack([top, bottom])), P


def _mirror_upper(S: FloatArray) -> None:
    """Copy the upper triangle of a Fortran-ordered S to its lower one, in column blocks."""
    n, step = len(S), 256
    for a in range(0, n, step):
        b = min(a + step, n)
        S[b:, a:b] = S[a:b, b:].T
        square = S[a:b, a:b]
        square[:] = np.triu(square) + np.triu(square, 1).T


def _congruence(S: FloatArray, templates: Templates, m: list[int]) -> None:
    """Replace the symmetric S by Λ'SΛ in place, Λ holding m_t copies of each template."""
    q, start = len(S), 0
    for T, count in zip(templates, m):
        k = len(T)
        stop = start + count * k
        if k == 1:
            S[start:stop] *= T[0, 0]
            S[:, start:stop] *= T[0, 0]
        else:
            S[start:stop] = (T.T @ S[start:stop].reshape(count, k, q)).reshape(stop - start, q)
            S[:, start:stop] = (S[:, start:stop].reshape(q, count, k) @ T).reshape(q, stop - start)
        start = stop


def _block_diagonal(templates: list[FloatArray]) -> FloatArray:
    if len(templates) == 1:
        return templates[0]
    k = sum(len(T) for T in templates)
    out, start = np.zeros((k, k)), 0
    for T in templates:
        out[start : start + len(T), start : start + len(T)] = T
        start += len(T)
    return out
