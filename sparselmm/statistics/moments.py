"""Sums over rows: products of the transformed [X y], of Z with them by level, and the pilot that centres them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.linalg import solve_triangular

from sparselmm._typing import FloatArray, frozen
from sparselmm.data.rows import DesignTerm, GroupedTerm, Rows, is_ones_column
from sparselmm.data.tables.codes import chunks
from sparselmm.linalg.cells import CodedRows, add_level_sums, level_sums, many
from sparselmm.linalg.rank import triangular_factor
from sparselmm.statistics.transform import FixedTransform, constant_column, rounded

CHUNK_ROWS = 262_144
NEAR = 1.0  # a column of X is centred when its mean exceeds so many standard deviations
NEARLY_DEPENDENT = 1e3  # condition of the centred and scaled X beyond which its columns are made orthogonal
DEPENDENT = 1e14  # condition beyond which columns of a part of the rows depend on each other


def sum_of_logs(weights: FloatArray | None) -> float:
    """Return Σ log w."""
    return 0.0 if weights is None else float(np.sum(np.log(weights)))


def _centred(observed: Rows, rows: slice) -> FloatArray:
    return observed.y[rows] if observed.offset is None else observed.y[rows] - observed.offset[rows]


def transformed(observed: Rows, basis: FixedTransform, rows: slice) -> tuple[FloatArray, FloatArray]:
    """Return the transformed [X y] and W[X y] of a chunk of rows, each (c, p + 1)."""
    p = observed.p
    Xy = np.empty((rows.stop - rows.start, p + 1))
    fixed = basis.apply(observed.X[rows], Xy[:, :p])
    Xy[:, p] = _centred(observed, rows)
    if basis.b0.any():
        b0 = basis.b0
        if basis.position >= 0 and basis.mix is None:
            # the common part first and by itself: its difference from y is exact, where their sum with the rest is not
            b0 = np.array(b0)
            Xy[:, p] -= fixed[:, basis.position] * b0[basis.position]
            b0[basis.position] = 0.0
        Xy[:, p] -= fixed @ b0
    if observed.weights is None:
        return Xy, Xy
    return Xy, Xy * observed.weights[rows, None]


def coded(term: GroupedTerm, rows: slice = slice(None)) -> CodedRows:
    """Return the rows of a term, a column of ones as None."""
    return CodedRows(term.codes[rows], term.m, None if is_ones_column(term.Z) else term.Z[rows])


def add_term_products(term: DesignTerm, WXy: FloatArray, rows: slice, out: FloatArray) -> None:
    """Add Z_t'W[X y] of a chunk of rows to out, (m*k, r)."""
    if not isinstance(term, GroupedTerm):
        out += term.matrix[rows].T @ WXy
    elif many(len(term.codes)):
        add_level_sums(coded(term, rows), WXy, out.reshape(term.m, term.k, -1))
    else:
        out += level_sums(coded(term, rows), WXy).reshape(out.shape)


def pilot_basis(observed: Rows) -> FixedTransform:
    """Return centres and scales from the first rows and the least-squares fit of all of them."""
    p = observed.p
    if p == 0:
        return FixedTransform(-1, np.zeros(0), np.zeros(0), np.zeros(0))
    head = observed.X[:CHUNK_ROWS]
    position = constant_column(observed.X)
    mean, sd = head.mean(axis=0), head.std(axis=0)
    centre = np.zeros(p)
    if position >= 0:
        far = np.abs(mean) > NEAR * sd
        far[position] = False
        centre[far] = rounded(mean, sd)[far] / observed.X[0, position]
    size = np.sqrt((head**2).mean(axis=0) if position < 0 else np.where(centre != 0, sd**2, (head**2).mean(axis=0)))
    scale = np.exp2(-np.floor(np.log2(np.where(size > 0, size, 1.0))))
    basis = FixedTransform(position, frozen(centre), frozen(scale), np.zeros(p))
    R = np.zeros((0, p + 1))
    for rows in chunks(observed.n, CHUNK_ROWS):
        Xy, _ = transformed(observed, basis, rows)
        if observed.weights is not None:
            Xy *= np.sqrt(observed.weights[rows])[:, None]
        R = triangular_factor(np.vstack([R, Xy]) if len(R) else Xy)
    Rx = R[:p, :p]
    condition = np.linalg.cond(Rx) if len(R) >= p else np.inf
    if not condition < DEPENDENT:  # of a part of the rows only: a design has full rank
        return replace(basis, b0=frozen(np.linalg.lstsq(Rx, R[:p, p])[0]))
    if condition < NEARLY_DEPENDENT:
        return replace(basis, b0=frozen(solve_triangular(Rx, R[:p, p])))
    # cross-products square the condition of X: orthogonal columns keep what the rounding would take
    return replace(basis, b0=frozen(R[:p, p].copy()), mix=frozen(solve_triangular(Rx, np.eye(p))))
