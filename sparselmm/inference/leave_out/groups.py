"""Leaving out whole groups of rows without refitting: exact at fixed θ, one Newton step beyond it.

The rows of a group are few against q, or touch few columns of Z. Replaced by at most as many rows
as they touch columns (an orthogonal transformation keeps all cross-products), with weights absorbed,
they have Z̃, X̃ and residuals ẽ, and the inverse of P restricted to them is all that is needed:

    P_gg = I - Z̃ΛM⁻¹Λ'Z̃' - D̃(X'V⁻¹X)⁻¹D̃',   D̃ = X̃ - Z̃ΛM⁻¹Λ'Z'WX
    β without g     = β - (X'V⁻¹X)⁻¹D̃'P_gg⁻¹ẽ
    pwrss without g = pwrss - ẽ'P_gg⁻¹ẽ
    X'V⁻¹X without g: its inverse is RX⁻¹(I + A'P_gg⁻¹A)RX'⁻¹, A = D̃RX⁻¹
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.linalg import lapack, solve_triangular

from sparselmm._typing import FloatArray, IntArray
from sparselmm.data.rows import Rows
from sparselmm.inference.predict.solution_limit import refuse_many
from sparselmm.inference.sizes import BATCH_CELLS, CACHED_CELLS, KEPT_CELLS
from sparselmm.linalg.blocks import BlockGram, Templates, apply_factor, apply_transposed
from sparselmm.linalg.protocol import PenalizedSystem
from sparselmm.linalg.rank import triangular_factor
from sparselmm.statistics.transform import FixedTransform

#: Squared pivot of the group's block of P (at most 1) that is rounding: a coefficient is lost with the group.
INESTIMABLE = 1e-9


@dataclass(frozen=True)
class GroupRows:
    """The rows of one group, weights absorbed, compressed to r rows.

    Attributes
    ----------
    touched : (c,) int array
        Columns of Z with a nonzero entry.
    Z : (r, c) sparse or dense array
        Those columns.
    X : (r, p) array
        Transformed fixed-effects rows.
    e : (r,) array
        Conditional residuals.
    n_rows : int
        Rows of the data.
    """

    touched: IntArray
    Z: sp.csr_array | FloatArray
    X: FloatArray
    e: FloatArray
    n_rows: int


def split_rows(
    observed: Rows, basis: FixedTransform, residuals: FloatArray, codes: IntArray, m: int
) -> list[GroupRows]:
    """Return the rows of each of m groups; rows with a negative code belong to none.

    ``observed`` has its Z in the coordinates of the cross-products.
    """
    root = np.ones(observed.n) if observed.weights is None else np.sqrt(observed.weights)
    order = np.argsort(codes, kind="stable")
    bounds = np.searchsorted(codes[order], np.arange(m + 1))
    Z = sp.csr_array(sp.hstack([t.to_sparse() for t in observed.terms], format="csr"))[order]
    Z = sp.csr_array(sp.diags_array(root[order]) @ Z)
    out = []
    for g in range(m):
        a, b = int(bounds[g]), int(bounds[g + 1])
        rows = order[a:b]
        X = basis.apply(observed.X[rows]) * root[rows, None]
        out.append(_compressed(Z[a:b], X, residuals[rows] * root[rows]))
    return out


def _compressed(Z: sp.csr_array, X: FloatArray, e: FloatArray) -> GroupRows:
    found, local = np.unique(Z.indices, return_inverse=True)
    touched: IntArray = found.astype(np.int64)
    n, c, p = Z.shape[0], len(touched), X.shape[1]
    small = sp.csr_array((Z.data, local, Z.indptr), shape=(n, c))
    if n <= 2 * (c + p + 1):
        return GroupRows(touched, small, X, e, n)
    R = np.zeros((0, c + p + 1))
    for first in range(0, n, 16_384):
        rows = slice(first, first + 16_384)
        block = np.column_stack([small[rows].toarray(), X[rows], e[rows]])
        R = triangular_factor(np.vstack([R, block]))
    return GroupRows(touched, R[:, :c], R[:, c : c + p], R[:, -1], n)


@dataclass(frozen=True)
class Kernel:
    """The factored inverse-of-P block of one group.

    Attributes
    ----------
    A : (r, p) array
        D̃RX⁻¹.
    H : (r, r) array
        Z̃ΛM⁻¹Λ'Z̃'.
    L : (r, r) array
        Lower factor of P_gg.
    t : (r,) array
        P_gg⁻¹ẽ.
    half : (r, p) array
        L⁻¹A.
    """

    A: FloatArray
    H: FloatArray
    L: FloatArray
    t: FloatArray
    half: FloatArray


def group_kernel(rows: GroupRows, B: FloatArray, absorbed: FloatArray, RX: FloatArray) -> Kernel | None:
    """Return the kernel of a group, None where a coefficient cannot be estimated without it.

    Parameters
    ----------
    rows : GroupRows
        The group.
    B : (c, c) array
        ΛM⁻¹Λ' at the touched columns.
    absorbed : (c, p) array
        ΛM⁻¹Λ'Z'WX at the touched columns.
    RX : (p, p) array
        Upper triangular factor for the transformed X.
    """
    H = np.asarray(rows.Z @ (rows.Z @ B).T)
    D = rows.X - np.asarray(rows.Z @ absorbed)
    A = solve_triangular(RX, D.T, trans=1).T if len(RX) else D
    P = -(H + A @ A.T)
    P.flat[:: len(P) + 1] += 1.0
    L, info = lapack.dpotrf(P, lower=1, clean=1)
    if info != 0 or np.min(np.diag(L)) ** 2 < INESTIMABLE:
        return None
    half = solve_triangular(L, A, lower=True, check_finite=False)
    t = solve_triangular(L, solve_triangular(L, rows.e, lower=True), lower=True, trans=1)
    return Kernel(A, H, L, t, half)


@dataclass(frozen=True)
class FixedTheta:
    """A fit without one group, at the same θ, relative to σ² and for the transformed X.

    Attributes
    ----------
    gamma : (p,) array
        Change of the coefficients (without less with).
    cov : (p, p) array
        (X'V⁻¹X)⁻¹ without the group.
    pwrss : float
        Penalized residual sum of squares without the group.
    """

    gamma: FloatArray
    cov: FloatArray
    pwrss: float


def without_group(rows: GroupRows, kernel: Kernel, RX: FloatArray, pwrss: float) -> FixedTheta:
    """Return the fit without a group at the same θ."""
    p = len(RX)
    inverse = solve_triangular(RX, np.eye(p)) if p else np.zeros((0, 0))
    gamma = -(inverse @ (kernel.A.T @ kernel.t))
    cov = inverse @ (np.eye(p) + kernel.half.T @ kernel.half) @ inverse.T
    return FixedTheta(gamma, cov, pwrss - float(rows.e @ kernel.t))


# --- entries of ΛM⁻¹Λ' for all groups -------------------------------------------------------------


@dataclass(frozen=True)
class Columns:
    """Columns of ΛM⁻¹Λ' that one group touches.

    Attributes
    ----------
    group : int
        Which group.
    rows : (r,) int array or slice
        Rows of the columns that can be nonzero.
    B : (c, c) array
        Entries of ΛM⁻¹Λ' between them.
    AE : (c, r) array or None
        Z'WZ times the columns, transposed.
    """

    group: int
    rows: IntArray | slice
    B: FloatArray
    AE: FloatArray | None


def refuse_many_groups(groups: int, wanted: int) -> None:
    """Raise unless so many solutions, for the columns that the groups touch, are few enough."""
    instead = "give group= an array that names a few groups and is missing (None) for all other rows"
    refuse_many(wanted, f"leaving out {groups:,} groups one by one", instead)


def column_components(gram: BlockGram) -> IntArray:
    """Return for each column of Z the connected part of the design it belongs to, (q,)."""
    out: IntArray = np.concatenate([np.repeat(labels, k) for labels, k in zip(gram.components, gram.k)])
    return out


def touched_columns(
    system: PenalizedSystem, templates: Templates, touched: Sequence[IntArray], products: bool
) -> Iterator[Columns]:
    """Yield for each group the columns of ΛM⁻¹Λ' that it touches.

    Groups in different connected parts of the design share the right-hand sides of a solve. Where
    groups touch each other's columns and all columns fit into memory, each is solved for once.
    """
    gram = system.gram
    component = column_components(gram)
    layers = _layers(touched, component)
    widths = [max(len(touched[g]) for g in layer) for layer in layers]
    union = np.unique(np.concatenate(touched))
    kept = len(union) < sum(widths) and len(union) * gram.q * (2 if products else 1) <= KEPT_CELLS
    if system.factorization is None:
        refuse_many_groups(len(touched), len(union) if kept else sum(widths))
    if kept:
        yield from _from_kept(system, templates, touched, union, products)
        return
    members = _members(component)
    start = 0
    while start < len(layers):
        stop, width = start + 1, widths[start]
        while stop < len(layers) and (width + widths[stop]) * gram.q <= BATCH_CELLS:
            width += widths[stop]
            stop += 1
        yield from _from_layers(system, templates, touched, layers[start:stop], component, members, products)
        start = stop


def _layers(touched: Sequence[IntArray], component: IntArray) -> list[list[int]]:
    """Return groups in layers; those of one layer lie in different parts of the design."""
    layers: list[list[int]] = []
    depth = np.zeros(int(component.max()) + 1, dtype=np.int64)
    for g, columns in enumerate(touched):
        parts = np.unique(component[columns])
        layer = int(depth[parts].max()) if len(parts) else 0
        depth[parts] = layer + 1
        if layer == len(layers):
            layers.append([])
        layers[layer].append(g)
    return layers


def _members(component: IntArray) -> list[IntArray]:
    order = np.argsort(component, kind="stable")
    bounds = np.searchsorted(component[order], np.arange(1, int(component.max()) + 1))
    return [np.sort(part) for part in np.split(order, bounds)]


def _solve(
    system: PenalizedSystem, templates: Templates, right: FloatArray, products: bool
) -> tuple[FloatArray, FloatArray | None]:
    gram = system.gram
    E = apply_factor(system.solve(apply_transposed(right, templates, gram)), templates, gram)
    return E, gram.dot(E) if products else None


def _from_kept(
    system: PenalizedSystem, templates: Templates, touched: Sequence[IntArray], union: IntArray, products: bool
) -> Iterator[Columns]:
    gram = system.gram
    E = np.empty((len(union), gram.q))
    AE = np.empty((len(union), gram.q)) if products else None
    step = max(1, CACHED_CELLS // gram.q)
    for first in range(0, len(union), step):
        some = union[first : first + step]
        right = np.zeros((gram.q, len(some)))
        right[some, np.arange(len(some))] = 1.0
        solved, product = _solve(system, templates, right, products)
        E[first : first + step] = solved.T
        if AE is not None and product is not None:
            AE[first : first + step] = product.T
    for g, columns in enumerate(touched):
        at = np.searchsorted(union, columns)
        yield Columns(g, slice(None), E[at[:, None], columns], None if AE is None else AE[at])


def _from_layers(
    system: PenalizedSystem,
    templates: Templates,
    touched: Sequence[IntArray],
    layers: list[list[int]],
    component: IntArray,
    members: list[IntArray],
    products: bool,
) -> Iterator[Columns]:
    widths = np.cumsum([0] + [max(len(touched[g]) for g in layer) for layer in layers])
    right = np.zeros((system.gram.q, int(widths[-1])))
    for layer, first in zip(layers, widths):
        for g in layer:
            right[touched[g], first + np.arange(len(touched[g]))] = 1.0
    E, AE = _solve(system, templates, right, products)
    for layer, first in zip(layers, widths):
        for g in layer:
            parts = np.unique(component[touched[g]])
            rows = members[parts[0]] if len(parts) == 1 else np.sort(np.concatenate([members[c] for c in parts]))
            here = slice(int(first), int(first) + len(touched[g]))
            yield Columns(g, rows, E[touched[g], here].T, None if AE is None else AE[rows, here].T)
