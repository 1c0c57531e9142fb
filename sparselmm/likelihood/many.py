"""Fitting one design to many responses: shared cross-products, analysis and, where possible, steps."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sparselmm._typing import BoolArray, FloatArray
from sparselmm.covariance.parameters import ParameterMap
from sparselmm.exceptions import DataError, SparseLMMWarning
from sparselmm.likelihood.criterion import Criterion
from sparselmm.likelihood.one_factor import BlockProducts, admits_no_more, is_one_block, minimize_blocks
from sparselmm.likelihood.problem import Problem, fit_problem
from sparselmm.likelihood.result import FitResult
from sparselmm.likelihood.starting import column_scales, moment_start
from sparselmm.linalg.threads import blas_threads
from sparselmm.statistics.crossproducts import with_centred_terms

BATCH_ENTRIES = 4_000_000


@dataclass(frozen=True)
class ManyResults:
    """Estimates for m responses.

    Attributes
    ----------
    criterion, sigma : (m,) arrays
    beta : (m, p) array
    theta : (m, n_theta) array
    singular, converged : (m,) bool arrays
    """

    criterion: FloatArray
    sigma: FloatArray
    beta: FloatArray
    theta: FloatArray
    singular: BoolArray
    converged: BoolArray


def fit_responses(problem: Problem, Y: FloatArray, criterion: Criterion, n_jobs: int = 1) -> ManyResults:
    """Fit every column of Y, (n, m).

    Designs with one grouping factor are fitted in one sweep of array operations; a response whose sweep
    ends at a boundary or does not converge is fitted again by itself, with a certificate. Other designs
    are fitted one by one from the optimum of the first, on the same analysed system.
    """
    bad = np.flatnonzero(~np.isfinite(Y).all(axis=0))
    if len(bad):
        raise DataError(f"responses {bad[:10].tolist()} have values that are missing or not finite")
    constant = np.flatnonzero(np.ptp(Y, axis=0) == 0)
    if len(constant):
        raise DataError(f"responses {constant[:10].tolist()} are constant")
    if is_one_block(problem.engine.crossproducts):
        return _in_one_sweep(problem, Y, criterion)
    return _one_by_one(problem, Y, criterion, n_jobs)


def _in_one_sweep(problem: Problem, Y: FloatArray, criterion: Criterion) -> ManyResults:
    parts = []
    step = max(1, BATCH_ENTRIES // max(problem.engine.crossproducts.gram.q * 20, problem.design.n, 1))
    for first in range(0, Y.shape[1], step):
        with blas_threads(0.0):
            parts.append(_sweep(problem, Y[:, first : first + step], criterion))
    return _stacked(parts)


def _sweep(problem: Problem, Y: FloatArray, criterion: Criterion) -> ManyResults:
    xp, parameters = problem.engine.crossproducts, problem.engine.parameters
    b0, ZtWY, XtWY, YY = response_sums(problem, Y)
    products = BlockProducts.from_sums(xp, ZtWY, XtWY, YY)
    typical = replace(
        xp,
        ZtWXy=np.concatenate([xp.ZtWXy[:, :-1], np.sqrt((ZtWY**2).mean(axis=1))[:, None]], axis=1),
        XytWXy=np.diag(np.append(np.ones(xp.p), YY.mean())),
    )
    start = moment_start(typical, parameters)
    par, state, converged = minimize_blocks(products, xp, parameters, criterion, start)
    scales = column_scales(xp.gram)
    singular = _singular(parameters, par, scales)
    if singular.any():  # singular optima can be local: try the other start that a single fit would
        unit = parameters.nearest([np.diag(1.0 / c**2) for c in scales])
        rows = np.flatnonzero(singular)
        other, found, good = minimize_blocks(products.take(singular), xp, parameters, criterion, unit)
        better = good & (found.value < state.value[rows])
        par[rows[better]] = other[better]
        state.update(rows, found, better)
        converged[rows[better]] = True
        singular = _singular(parameters, par, scales)
    proven = converged & (~singular | admits_no_more(state, par, parameters, scales))
    df = criterion.df(xp.n, xp.p)
    constant = df * (1.0 + np.log(2.0 * np.pi / df)) - xp.sum_log_weights
    if criterion.reml and xp.p:
        constant += xp.basis.logdet
    par = np.array([parameters.canonical(x) for x in par])
    out = ManyResults(
        state.value + constant,
        np.sqrt(state.pwrss / df),
        (b0 + state.gamma) @ xp.basis.matrix.T,
        np.array([parameters.theta(x) for x in par]),
        singular,
        proven,
    )
    for j in np.flatnonzero(~proven):
        _replace_row(out, int(j), _quietly(problem.with_response(np.ascontiguousarray(Y[:, j])), criterion, None))
    return out


def _singular(parameters: ParameterMap, par: FloatArray, scales: list[FloatArray]) -> BoolArray:
    """Return which responses have a (relatively) singular template, (R,)."""
    return np.array([parameters.is_singular(parameters.canonical(x), scales) for x in par])


def response_sums(problem: Problem, Y: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return b0 (m, p), Z'WY (q, m), X'WY (p, m) and Y'WY (m,) of responses less their pilot fits."""
    design, xp = problem.design, problem.engine.crossproducts
    X = xp.basis.apply(design.X)
    W = np.ones(design.n) if design.weights is None else design.weights
    Yc = Y if design.offset is None else Y - design.offset[:, None]
    b0 = np.linalg.lstsq(xp.XytWXy[:-1, :-1], X.T @ (W[:, None] * Yc))[0] if xp.p else np.zeros((0, Y.shape[1]))
    residual = Yc - X @ b0
    weighted = W[:, None] * residual
    Z = [t.to_sparse() for t in with_centred_terms(design, xp.centres).terms]
    ZtWY = np.concatenate([z.T @ weighted for z in Z])
    squares = np.einsum("nm,nm->m", residual, weighted)
    return np.asarray(b0.T), ZtWY, np.asarray(X.T @ weighted), np.asarray(squares)


def _one_by_one(problem: Problem, Y: FloatArray, criterion: Criterion, n_jobs: int) -> ManyResults:
    first = _quietly(problem.with_response(np.ascontiguousarray(Y[:, 0])), criterion, None)
    start, problem = first.theta, replace(problem, engine=first.engine)
    columns = [np.ascontiguousarray(Y[:, j]) for j in range(1, Y.shape[1])]
    if n_jobs == 1 or len(columns) < 2:
        rest = [_quietly(problem.with_response(y), criterion, start) for y in columns]
        return _stacked([_row(f) for f in (first, *rest)])
    from joblib import Parallel, delayed

    chunks = [columns[i::n_jobs] for i in range(n_jobs)]
    found = Parallel(n_jobs=n_jobs)(delayed(_chunk)(problem, chunk, criterion, start) for chunk in chunks)
    rows: list[ManyResults] = [_row(first)]
    rows += [found[j % n_jobs][j // n_jobs] for j in range(len(columns))]
    return _stacked(rows)


def _chunk(problem: Problem, columns: list[FloatArray], criterion: Criterion, start: FloatArray) -> list[ManyResults]:
    return [_row(_quietly(problem.with_response(y), criterion, start)) for y in columns]


def _quietly(problem: Problem, criterion: Criterion, start: FloatArray | None) -> FitResult:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SparseLMMWarning)
        return fit_problem(problem, criterion, start=start)


def _row(fit: FitResult) -> ManyResults:
    converged = fit.convergence is not None and fit.convergence.certified
    return ManyResults(
        np.array([fit.criterion]),
        np.array([fit.sigma]),
        fit.beta[None],
        fit.theta[None],
        np.array([fit.is_singular]),
        np.array([converged]),
    )


def _replace_row(out: ManyResults, j: int, fit: FitResult) -> None:
    row = _row(fit)
    for name in ("criterion", "sigma", "beta", "theta", "singular", "converged"):
        getattr(out, name)[j] = getattr(row, name)[0]


def _stacked(parts: Sequence[ManyResults]) -> ManyResults:
    names = ("criterion", "sigma", "beta", "theta", "singular", "converged")
    return ManyResults(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))
