"""Group-deletion influence: which subject or item moves β, σ and θ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sparselmm._typing import BoolArray, FloatArray, IntArray, frozen
from sparselmm.data.rows import GroupedTerm, Rows
from sparselmm.inference.leave_out.groups import (
    Columns,
    FixedTheta,
    GroupRows,
    Kernel,
    group_kernel,
    refuse_many_groups,
    split_rows,
    touched_columns,
    without_group,
)
from sparselmm.inference.leave_out.leverage import absorbed_fixed
from sparselmm.inference.leave_out.newton_step import (
    FullData,
    WithoutGroup,
    directions,
    full_data,
    newton_step,
    quadratic_forms,
    without,
)
from sparselmm.inference.sizes import BATCH_CELLS
from sparselmm.likelihood.result import FitResult
from sparselmm.linalg.rank import triangular_factor
from sparselmm.statistics.transform import with_centred_terms

INFLUENCE = "influences"
NULL = 1e-7  # of a column's length that counts as dependent, as for the columns of the model


@dataclass(frozen=True)
class GroupInfluence:
    """What leaving out each of m groups does; NaN where a coefficient needs the group.

    Changes are values without the group less those of the fit.

    Attributes
    ----------
    n_rows : (m,) int array
        Rows of each group.
    change : (m, p) array
        Of the fixed effects, at fixed θ.
    dfbetas : (m, p) array
        The same over the standard errors without the group.
    change_sigma : (m,) array
        Of σ, at fixed θ.
    cook : (m,) array
        change' Cov(β)⁻¹ change / p.
    estimable : (m,) bool array
        Whether all fixed effects can be estimated without the group.
    step_theta : (m, n_theta) array or None
        Of θ, by one Newton step.
    step_beta, step_sigma : (m, p), (m,) arrays or None
        Of β and σ, with that step.
    """

    n_rows: IntArray
    change: FloatArray
    dfbetas: FloatArray
    change_sigma: FloatArray
    cook: FloatArray
    estimable: BoolArray
    step_theta: FloatArray | None = None
    step_beta: FloatArray | None = None
    step_sigma: FloatArray | None = None


def group_influence(result: FitResult, codes: IntArray, m: int, *, theta: bool = False) -> GroupInfluence:
    """Return the influence of m groups of rows.

    Parameters
    ----------
    result : FitResult
        The fit.
    codes : (n,) int array
        Group of each row; -1 for none.
    m : int
        Number of groups.
    theta : bool
        Whether to add one Newton step in θ.
    """
    engine = result.engine
    xp, criterion = engine.crossproducts, result.criterion_type
    with engine.locked() as pls:
        if pls.system.factorization is None:
            refuse_many_groups(m, touched_levels(result.observed(INFLUENCE), codes))
    observed = with_centred_terms(result.observed(INFLUENCE), xp.centres)
    groups = split_rows(observed, xp.basis, result.residuals, codes, m)
    collector = _Collector(result, m, theta)
    with engine.locked() as pls:
        solution = pls.solve(result.par)
        data = full_data(pls, solution, criterion) if theta else None
        pls.factor(solution.templates)
        absorbed = absorbed_fixed(pls, solution)
        touched = [g.touched for g in groups]
        pending: list[_Pending] = []
        for columns in touched_columns(pls.system, solution.templates, touched, theta):
            rows = groups[columns.group]
            kernel = group_kernel(rows, columns.B, absorbed[rows.touched], solution.RX)
            if kernel is None:
                continue
            fixed = without_group(rows, kernel, solution.RX, solution.pwrss)
            collector.fixed(columns.group, rows, fixed)
            if data is not None:
                pending.append(_pending(data, rows, kernel, columns, fixed))
                if sum(x.found.F.size + x.V.size for x in pending) > BATCH_CELLS:
                    collector.steps(data, pending)
                    pending = []
        if data is not None and pending:
            collector.steps(data, pending)
    return collector.influence(np.array([g.n_rows for g in groups]))


def touched_levels(observed: Rows, codes: IntArray) -> int:
    """Return how many columns of Z the rows of some group touch; less than all solutions that are needed."""
    rows, total = np.flatnonzero(codes >= 0), 0
    for term in observed.terms:
        if isinstance(term, GroupedTerm):
            total += term.k * int(np.count_nonzero(np.bincount(term.codes[rows], minlength=term.m)))
        else:
            total += len(np.unique(term.matrix[rows].indices))
    return total


@dataclass(frozen=True)
class _Pending:
    """A group whose Newton step waits for the solve that it shares with others."""

    group: int
    rows: GroupRows
    kernel: Kernel
    fixed: FixedTheta
    found: WithoutGroup
    V: FloatArray


def coefficients_lost(X: FloatArray, codes: IntArray, group: int) -> IntArray:
    """Return the positions of the columns of X, (n, p), whose coefficients cannot be estimated without a group.

    They are those that some combination of columns equal to zero in all other rows involves.
    """
    R = triangular_factor(X[codes != group])
    size = np.sqrt((R**2).sum(axis=0))
    _, d, V = np.linalg.svd(R / np.where(size > 0, size, 1.0))
    missing = V[d <= NULL * max(float(d.max(initial=0.0)), 1e-300)]
    return np.flatnonzero((np.abs(missing) > NULL).any(axis=0))


def _pending(data: FullData, rows: GroupRows, kernel: Kernel, columns: Columns, fixed: FixedTheta) -> _Pending:
    found = without(data, rows, kernel, columns, fixed)
    return _Pending(columns.group, rows, kernel, fixed, found, directions(data, found.s))


class _Collector:
    """Gathers the results of the groups into arrays on the user's scale."""

    def __init__(self, result: FitResult, m: int, theta: bool) -> None:
        p, self._result = result.layout.p, result
        self._change = np.full((m, p), np.nan)
        self._se = np.full((m, p), np.nan)
        self._sigma = np.full(m, np.nan)
        self._theta = np.full((m, len(result.theta)), np.nan) if theta else None
        self._step_beta = np.full((m, p), np.nan)
        self._step_sigma = np.full(m, np.nan)

    def _df(self, rows: GroupRows) -> int:
        return self._result.criterion_type.df(self._result.n - rows.n_rows, self._result.p)

    def fixed(self, g: int, rows: GroupRows, found: FixedTheta) -> None:
        """Take the fit without a group at fixed θ."""
        C = self._result.engine.crossproducts.basis.matrix
        df = self._df(rows)
        if df <= 0:
            return
        self._change[g] = C @ found.gamma
        self._sigma[g] = np.sqrt(max(found.pwrss, 0.0) / df)
        self._se[g] = self._sigma[g] * np.sqrt(np.einsum("ij,jk,ik->i", C, found.cov, C))

    def steps(self, data: FullData, pending: list[_Pending]) -> None:
        """Take the Newton steps of several groups."""
        r, n_par = self._result, self._result.n_par
        assert self._theta is not None
        C, parameters = r.engine.crossproducts.basis.matrix, r.engine.parameters
        forms = quadratic_forms(data, np.concatenate([x.V for x in pending], axis=1), n_par)
        for x, K in _zipped(pending, forms):
            if self._df(x.rows) <= 0:
                continue
            step = newton_step(data, x.rows, x.kernel, x.found, x.fixed, x.V, K)
            self._theta[x.group] = parameters.theta(step.par) - r.theta
            self._step_beta[x.group] = C @ (x.fixed.gamma + step.gamma)
            self._step_sigma[x.group] = np.sqrt(max(step.pwrss, 0.0) / self._df(x.rows)) - r.sigma

    def influence(self, n_rows: IntArray) -> GroupInfluence:
        """Return everything."""
        r = self._result
        cook = ((r.RX @ self._change.T) ** 2).sum(axis=0) / (r.sigma**2 * max(r.layout.p, 1))
        theta = self._theta is not None
        return GroupInfluence(
            n_rows,
            frozen(self._change),
            frozen(self._change / self._se),
            frozen(self._sigma - r.sigma),
            frozen(cook),
            np.isfinite(self._sigma),
            self._theta,
            self._step_beta if theta else None,
            self._step_sigma if theta else None,
        )


def _zipped(pending: list[_Pending], forms: FloatArray) -> Iterator[tuple[_Pending, FloatArray]]:
    return zip(pending, forms, strict=True)
