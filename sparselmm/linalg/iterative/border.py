"""A few columns of Z that are kept as a dense border of the system and treated exactly."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.linalg import solve_triangular

from sparselmm._typing import FloatArray
from sparselmm.exceptions import NumericalError
from sparselmm.linalg.blocks import BlockGram, Templates, apply_factor, apply_transposed
from sparselmm.linalg.inverse_blocks import grouped_products
from sparselmm.linalg.iterative.layout import Layout


class Border:
    """Terms with few columns: M_bb less its part explained by the others is a small dense matrix.

    Attributes
    ----------
    columns : (qb,) int array
        Their columns in Z.
    logdet : float
        Their part of log|M|.
    J : (qb, qb) array
        Z_b'V⁻¹Z_b, V without the border's random effects.
    scores : (q, qb) array
        Z'V⁻¹Z_b Λ_b L⁻ᵀ: the border takes ``scores scores'`` from Z'V⁻¹Z.
    """

    def __init__(self, gram: BlockGram, layout: Layout) -> None:
        self._gram, self._terms = gram, layout.border_terms
        self.columns = layout.border
        qb = len(self.columns)
        E = np.zeros((gram.q, qb))
        E[self.columns, np.arange(qb)] = 1.0
        self._A = gram.dot(E) if qb else E
        self.logdet = 0.0
        self._T: FloatArray = np.zeros((0, 0))
        self._L: FloatArray = np.zeros((0, 0))
        self.J: FloatArray = np.zeros((0, 0))
        self._Y: FloatArray = E
        self.scores: FloatArray = E

    def factor(self, templates: Templates, big_solve: Callable[[FloatArray], FloatArray]) -> None:
        """Factor the complement; ``big_solve`` solves the system of the other columns."""
        qb = len(self.columns)
        if not qb:
            return
        self._T = _expanded(self._gram, self._terms, templates)
        C = apply_transposed(self._A, templates, self._gram)
        C[self.columns] = 0.0
        Y = big_solve(C)
        R = self._A - self._gram.dot(apply_factor(Y, templates, self._gram))
        J = R[self.columns]
        self.J = (J + J.T) / 2.0
        inner = np.eye(qb) + self._T.T @ self.J @ self._T
        if not np.all(np.isfinite(inner)):
            raise NumericalError("the border of the penalized system is not finite")
        try:
            self._L = np.asarray(np.linalg.cholesky(inner))
        except np.linalg.LinAlgError as error:
            raise NumericalError("the border of the penalized system is not positive definite") from error
        self.logdet = 2.0 * float(np.log(np.diag(self._L)).sum())
        self._Y = Y @ self._T
        self.scores = solve_triangular(self._L, (R @ self._T).T, lower=True).T

    def _half(self, C: FloatArray) -> FloatArray:
        right = C[self.columns] - self._Y.T @ C
        return np.asarray(solve_triangular(self._L, right, lower=True))

    def quadratic(self, C: FloatArray, width: int | None) -> FloatArray:
        """Return what the border adds to C_g'M⁻¹C_g, (groups, width, width)."""
        H = self._half(C) if len(self.columns) else np.zeros((0, C.shape[1]))
        return grouped_products(H, H, width)

    def complete(self, C: FloatArray, big: FloatArray) -> FloatArray:
        """Return M⁻¹C, (q, r), from the solution without the border."""
        if not len(self.columns):
            return big
        x = solve_triangular(self._L, self._half(C), lower=True, trans="T")
        out: FloatArray = big - self._Y @ x
        out[self.columns] = x
        return out

    def information(self, t: int) -> FloatArray:
        """Return the diagonal blocks of Z_t'V⁻¹Z_t of a term of the border, (m, k, k)."""
        J = self.J - self.scores[self.columns] @ self.scores[self.columns].T
        start = sum(int(self._gram.sizes[s]) for s in self._terms[: self._terms.index(t)])
        m, k = self._gram.m[t], self._gram.k[t]
        rows = start + np.arange(m)[:, None] * k + np.arange(k)
        return np.asarray(J[rows[:, :, None], rows[:, None, :]])


def _expanded(gram: BlockGram, terms: tuple[int, ...], templates: Templates) -> FloatArray:
    """Return the block-diagonal Λ of the border, (qb, qb)."""
    sizes = [int(gram.sizes[t]) for t in terms]
    out, start = np.zeros((sum(sizes), sum(sizes))), 0
    for t, size in zip(terms, sizes):
        out[start : start + size, start : start + size] = np.kron(np.eye(gram.m[t]), templates[t])
        start += size
    return out
