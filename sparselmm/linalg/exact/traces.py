"""Traces tr(Z_r'V⁻¹Z_s B_j Z_s'V⁻¹Z_r B_i): second derivatives of log|V| without any n×n matrix.

With R = Z'V⁻¹Z in blocks R_rs of the terms r and s, and B_i the change of Ω in direction i applied to
every level, all traces follow from one small array per pair of terms,

    F_rs[a, b, c, d] = Σ_l Σ_l' R[la, l'c] R[lb, l'd],   trace_ij = Σ F_rs[a, b, c, d] B_i[a, b] B_j[c, d].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparselmm._typing import FloatArray
from sparselmm.linalg.blocks import BlockGram, Templates, apply_factor, apply_transposed
from sparselmm.linalg.exact.sandwich import Sandwich
from sparselmm.linalg.inverse_blocks import BATCH_CELLS, NEARLY_SINGULAR, relative_diagonal
from sparselmm.linalg.protocol import PenalizedSystem

Direction = tuple[int, FloatArray]
"""A term and a symmetric (k, k) change of its Ω."""


def block_products(R: FloatArray, kr: int, ks: int) -> FloatArray:
    """Return F of one block R_rs, (m_r*k_r, m_s*k_s), as (k_r, k_r, k_s, k_s)."""
    mr, ms = R.shape[0] // kr, R.shape[1] // ks
    Y = R.reshape(mr, kr, ms, ks).transpose(1, 3, 0, 2).reshape(kr * ks, mr * ms)
    return np.asarray((Y @ Y.T).reshape(kr, ks, kr, ks).transpose(0, 2, 1, 3))


def contract(products: dict[tuple[int, int], FloatArray], directions: Sequence[Direction]) -> FloatArray:
    """Return the traces of all pairs of directions, (n, n), from F of the pairs r >= s."""
    out = np.zeros((len(directions), len(directions)))
    for i, (r, Bi) in enumerate(directions):
        for j, (s, Bj) in enumerate(directions[: i + 1]):
            if (r, s) in products:
                value = np.einsum("abcd,ab,cd->", products[r, s], Bi, Bj, optimize=True)
            else:
                value = np.einsum("abcd,ab,cd->", products[s, r], Bj, Bi, optimize=True)
            out[i, j] = out[j, i] = value
    return out


def traces_by_columns(system: PenalizedSystem, directions: Sequence[Direction]) -> FloatArray:
    """Return the traces by solves with batches of columns of Z'WZ, for any system."""
    gram, templates = system.gram, system.templates
    used = sorted({t for t, _ in directions})
    products = {(r, s): np.zeros((gram.k[r], gram.k[r], gram.k[s], gram.k[s])) for r in used for s in used if r >= s}
    for s in used:
        for _, _, columns in gram.column_batches(s, BATCH_CELLS):
            solved = apply_factor(system.solve(apply_transposed(columns, templates, gram)), templates, gram)
            R = columns - gram.dot(solved)
            for r in used:
                if r >= s:
                    products[r, s] += block_products(R[gram.offsets[r] : gram.offsets[r + 1]], gram.k[r], gram.k[s])
    return contract(products, directions)


@dataclass(frozen=True)
class Eliminated:
    """The parts of a Schur factorisation that the traces need.

    Attributes
    ----------
    gram : BlockGram
        Z'WZ.
    first, rest : tuple of int
        Eliminated terms and the others.
    D, Q : (m, K, K) arrays
        Eliminated blocks of Z'WZ and (I + DΛ1Λ1')⁻¹.
    templates : tuple
        Templates of all terms.
    sandwich : Sandwich or None
        The cross block A12.
    E : (q2, q2) array
        Λ2S⁻¹Λ2'.
    G : (q2, q2) array
        Z2'V1⁻¹Z2, symmetric.
    """

    gram: BlockGram
    first: tuple[int, ...]
    rest: tuple[int, ...]
    D: FloatArray
    Q: FloatArray
    templates: Templates
    sandwich: Sandwich | None
    E: FloatArray
    G: FloatArray

    def _slices(self) -> dict[int, slice]:
        out, start = {}, 0
        for t in self.rest:
            out[t] = slice(start, start + self.gram.m[t] * self.gram.k[t])
            start = out[t].stop
        return out

    def traces(self, directions: Sequence[Direction]) -> FloatArray:
        """Return the traces of all pairs of directions, (n, n)."""
        n = len(directions)
        out = np.zeros((n, n))
        own = [i for i, (t, _) in enumerate(directions) if t in self.first]
        other = [i for i in range(n) if i not in own]
        B = {i: self._embedded(*directions[i]) for i in own}
        # R_11 = QD - Q A12 E A12'Q', with QD = Z1'V1⁻¹Z1 within levels: tr(QD B_i QD B_j), level by level
        QD = self.Q @ self.D
        for i in own:
            left = QD @ B[i]
            for j in own:
                out[i, j] = np.einsum("mab,mba->", left, QD @ B[j])
        if self.sandwich is None:
            return out
        # with X the blocks of Q A12 E A12'Q' within levels and N_i = A12'Q'B_i Q A12 the rest is
        # tr(E N_i E N_j) - tr(QD B_i X B_j) - tr(X B_i QD B_j)
        X = self.Q @ self.sandwich.level_forms(self.E) @ self.Q.transpose(0, 2, 1)
        N = {i: self.sandwich.middle(self.Q.transpose(0, 2, 1) @ B[i] @ self.Q) for i in own}
        EN = {i: self.E @ N[i] for i in own}
        for i in own:
            for j in own:
                cross = np.einsum("mab,mba->", QD @ B[i], X @ B[j]) + np.einsum("mab,mba->", X @ B[i], QD @ B[j])
                out[i, j] += np.einsum("ab,ba->", EN[i], EN[j]) - cross
        self._rest_traces(directions, other, out)
        # R_12 = Q A12 W, W = I - EG: the trace with a term s that was not eliminated is <W_s'N_i W_s, B_j>
        for s in {directions[j][0] for j in other}:
            for i in own:
                blocks = self._mixed_blocks(s, N[i], EN[i])
                for j in other:
                    if directions[j][0] == s:
                        out[i, j] = out[j, i] = float(np.sum(blocks * directions[j][1]))
        return out

    def _embedded(self, t: int, B: FloatArray) -> FloatArray:
        """Return a direction of one eliminated term as a (K, K) matrix."""
        K, start = self.D.shape[1], 0
        for s in self.first:
            k = self.gram.k[s]
            if s == t:
                out = np.zeros((K, K))
                out[start : start + k, start : start + k] = B
                return out
            start += k
        raise KeyError(t)

    def _regular(self, t: int) -> bool:
        return relative_diagonal(self.gram, t, self.templates[t]) > NEARLY_SINGULAR

    def _projected(self, s: int) -> FloatArray:
        """Return the columns of I - EG of term s, (q2, m*k)."""
        here = self._slices()[s]
        W = -(self.E @ self.G[:, here])
        W[here] += np.eye(W.shape[1])
        return W

    def _mixed_blocks(self, s: int, N: FloatArray, EN: FloatArray) -> FloatArray:
        """Return Σ_l of the diagonal blocks of W_s'NW_s, (k, k), W = I - EG."""
        k, here = self.gram.k[s], self._slices()[s]
        if self._regular(s):  # W_s = E_s Ω_s⁻¹
            T = self.templates[s]
            inverse = np.linalg.inv(T @ T.T)
            left = self.E[here].reshape(-1, k, self.E.shape[1])
            right = EN[here].reshape(-1, k, EN.shape[1])
            return np.asarray(inverse @ np.einsum("laq,lbq->ab", left, right) @ inverse)
        W = self._projected(s)
        return np.asarray(np.einsum("qla,qlb->ab", W.reshape(len(W), -1, k), (N @ W).reshape(len(W), -1, k)))

    def _rest_traces(self, directions: Sequence[Direction], other: list[int], out: FloatArray) -> None:
        """Fill the traces among directions of terms that were not eliminated."""
        at, gram = self._slices(), self.gram
        used = sorted({directions[j][0] for j in other})
        full = {s: self.G @ self._projected(s) for s in used if not self._regular(s)}
        products = {}
        for r in used:
            for s in used:
                if r < s:
                    continue
                if s in full:
                    R = full[s][at[r]]
                elif r in full:
                    R = full[r][at[s]].T
                else:
                    R = self._regular_block(r, s, at)
                products[r, s] = block_products(R, gram.k[r], gram.k[s])
        found = contract(products, [directions[j] for j in other])
        out[np.ix_(other, other)] = found

    def _regular_block(self, r: int, s: int, at: dict[int, slice]) -> FloatArray:
        """Return R_rs = δ_rs Ω_s⁻¹ - Ω_r⁻¹ E_rs Ω_s⁻¹."""
        inverse = {t: np.linalg.inv(self.templates[t] @ self.templates[t].T) for t in (r, s)}
        kr, ks = self.gram.k[r], self.gram.k[s]
        mr, ms = self.gram.m[r], self.gram.m[s]
        block = self.E[at[r], at[s]]
        if kr == ks == 1:
            R = block * (-inverse[r][0, 0] * inverse[s][0, 0])
        else:
            R = -(inverse[r] @ block.reshape(mr, kr, ms * ks)).reshape(mr * kr, ms, ks) @ inverse[s]
            R = R.reshape(mr * kr, ms * ks)
        if r == s:
            index = np.arange(mr)[:, None, None] * kr
            a, b = np.arange(kr)[None, :, None], np.arange(kr)[None, None, :]
            R[index + a, index + b] += inverse[r]
        return np.asarray(R)
