"""Fitting one design to many responses: shared cross-products, analysis and, where possible, steps."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np

from sparselmm._typing import FloatArray
from sparselmm.exceptions import DataError, SparseLMMWarning
from sparselmm.likelihood.criterion import Criterion
from sparselmm.likelihood.estimates import Estimates
from sparselmm.likelihood.one_factor import BlockProducts, is_one_block, minimize_blocks
from sparselmm.likelihood.problem import Problem, fit_problem
from sparselmm.likelihood.result import FitResult
from sparselmm.likelihood.starting import column_scales, moment_start
from sparselmm.linalg.threads import blas_threads
from sparselmm.statistics.transform import with_centred_terms

BATCH_ENTRIES = 4_000_000


def fit_responses(problem: Problem, Y: FloatArray, criterion: Criterion, n_jobs: int = 1) -> Estimates:
    """Fit every column of Y, (n, m); the coefficients are those of X.

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


def _in_one_sweep(problem: Problem, Y: FloatArray, criterion: Criterion) -> Estimates:
    parts = []
    step = max(1, BATCH_ENTRIES // max(problem.engine.crossproducts.gram.q * 20, problem.engine.crossproducts.n, 1))
    for first in range(0, Y.shape[1], step):
        with blas_threads(0.0):
            parts.append(_sweep(problem, Y[:, first : first + step], criterion))
    return Estimates.joined(parts)


def _sweep(problem: Problem, Y: FloatArray, criterion: Criterion) -> Estimates:
    xp, parameters = problem.engine.crossproducts, problem.engine.parameters
    b0, ZtWY, XtWY, YY = response_sums(problem, Y)
    products = BlockProducts.from_sums(xp, ZtWY, XtWY, YY)
    typical = replace(
        xp,
        ZtWXy=np.concatenate([xp.ZtWXy[:, :-1], np.sqrt((ZtWY**2).mean(axis=1))[:, None]], axis=1),
        XytWXy=np.diag(np.append(np.ones(xp.p), YY.mean())),
    )
    start = moment_start(typical, parameters)
    sweep = minimize_blocks(products, xp, parameters, criterion, start)
    rows = np.flatnonzero(sweep.singular())
    if len(rows):  # singular optima can be local: try the other start that a single fit would
        unit = parameters.nearest([np.diag(1.0 / c**2) for c in column_scales(xp.gram)])
        sweep.take_better(rows, minimize_blocks(products.take(rows), xp, parameters, criterion, unit))
    found, proven = sweep.estimates()
    beta = (b0 + found.coefficients) @ xp.basis.matrix.T
    out = replace(found, coefficients=beta, converged=proven)
    again = np.flatnonzero(~proven)
    one_by_one = (problem.with_response(np.ascontiguousarray(Y[:, j])) for j in again)
    return out.replaced(again, [_row(_quietly(one, criterion, None)) for one in one_by_one])


def response_sums(problem: Problem, Y: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return b0 (m, p), Z'WY (q, m), X'WY (p, m) and Y'WY (m,) of responses less their pilot fits."""
    observed, xp = problem.observed("other responses"), problem.engine.crossproducts
    X = xp.basis.apply(observed.X)
    W = np.ones(observed.n) if observed.weights is None else observed.weights
    Yc = Y if observed.offset is None else Y - observed.offset[:, None]
    b0 = np.linalg.lstsq(xp.XytWXy[:-1, :-1], X.T @ (W[:, None] * Yc))[0] if xp.p else np.zeros((0, Y.shape[1]))
    residual = Yc - X @ b0
    weighted = W[:, None] * residual
    Z = [t.to_sparse() for t in with_centred_terms(observed, xp.centres).terms]
    ZtWY = np.concatenate([z.T @ weighted for z in Z])
    squares = np.einsum("nm,nm->m", residual, weighted)
    return np.asarray(b0.T), ZtWY, np.asarray(X.T @ weighted), np.asarray(squares)


def _one_by_one(problem: Problem, Y: FloatArray, criterion: Criterion, n_jobs: int) -> Estimates:
    first = _quietly(problem.with_response(np.ascontiguousarray(Y[:, 0])), criterion, None)
    start, problem = first.theta, replace(problem, engine=first.engine)
    columns = [np.ascontiguousarray(Y[:, j]) for j in range(1, Y.shape[1])]
    if n_jobs == 1 or len(columns) < 2:
        rest = [_quietly(problem.with_response(y), criterion, start) for y in columns]
        return Estimates.joined([_row(f) for f in (first, *rest)])
    from joblib import Parallel, delayed

    chunks = [columns[i::n_jobs] for i in range(n_jobs)]
    found = Parallel(n_jobs=n_jobs)(delayed(_chunk)(problem, chunk, criterion, start) for chunk in chunks)
    rows: list[Estimates] = [_row(first)]
    rows += [found[j % n_jobs][j // n_jobs] for j in range(len(columns))]
    return Estimates.joined(rows)


def _chunk(problem: Problem, columns: list[FloatArray], criterion: Criterion, start: FloatArray) -> list[Estimates]:
    return [_row(_quietly(problem.with_response(y), criterion, start)) for y in columns]


def _quietly(problem: Problem, criterion: Criterion, start: FloatArray | None) -> FitResult:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SparseLMMWarning)
        return fit_problem(problem, criterion, start=start)


def _row(fit: FitResult) -> Estimates:
    report, converged = fit.report, fit.convergence is not None and fit.convergence.certified
    return Estimates.of_one(
        fit.par, fit.beta, fit.sigma, fit.criterion, fit.is_singular, converged, report.n_evaluations
    )
