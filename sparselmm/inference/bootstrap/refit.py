"""Refitting a model to many responses of which only sufficient statistics are known.

All responses share the factor of their first step (`firststep`). On a design with one grouping factor
the rest is array arithmetic over responses (`blockfits`); elsewhere each response goes on by steps of
its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.linalg import solve_triangular

from sparselmm._typing import FloatArray
from sparselmm.covariance import chain
from sparselmm.covariance.parameters import ParameterMap
from sparselmm.exceptions import NumericalError
from sparselmm.inference.bootstrap.draw_statistics import ResponseSums
from sparselmm.inference.bootstrap.minque import Shared, first_steps
from sparselmm.likelihood.criterion import Criterion
from sparselmm.likelihood.estimates import Estimates
from sparselmm.likelihood.one_factor import BlockProducts, is_one_block, minimize_blocks
from sparselmm.likelihood.pls import PenalizedLeastSquares
from sparselmm.likelihood.search import EXPENSIVE_FLOPS, CriterionAt
from sparselmm.likelihood.starting import column_scales
from sparselmm.optimize.newton import End, Step, bounded_step, by_success, descend, trust_region_step
from sparselmm.statistics.crossproducts import CrossProducts

# decrease of the criterion that may be left: a thousandth of a standard error, and 0.005 where a factorisation is dear
FINE, COARSE = 1e-6, 3e-5
AI_RATE = 0.02  # what a step by the average information leaves of the decrease it predicts, at best
#: Least factor by which a step along Ω may change a variance; beyond it the step is taken in the parameters.
SHRINK = 0.1
MAX_STEPS = 50  # of one refit; those that need more count as not converged


def with_statistics(xp: CrossProducts, y: ResponseSums, column: int) -> CrossProducts:
    """Return the cross-products with the response part of one drawn response; the rest is shared."""
    ZtWXy, XytWXy = xp.ZtWXy.copy(), xp.XytWXy.copy()
    ZtWXy[:, -1] = y.ZtWy[:, column]
    XytWXy[:-1, -1] = XytWXy[-1, :-1] = y.XtWy[:, column]
    XytWXy[-1, -1] = y.yWy[column]
    return replace(xp, ZtWXy=ZtWXy, XytWXy=XytWXy)


def refit(
    pls: PenalizedLeastSquares, criterion: Criterion, shared: Shared, y: ResponseSums, one_step: bool = False
) -> Estimates:
    """Return the estimates for all responses.

    Coefficients are those of the transformed X, relative to those that the responses were drawn with.

    Parameters
    ----------
    pls : PenalizedLeastSquares
        Of the design; its own response plays no part.
    criterion : Criterion
        ML or REML.
    shared : Shared
        The first step's common part.
    y : ResponseSums
        The responses.
    one_step : bool
        Stop after the first step, an approximation.
    """
    first = first_steps(pls, shared, y, interior=not one_step)
    if one_step:
        return first
    if is_one_block(pls.crossproducts):
        return _by_blocks(pls, criterion, y, first.par, shared.par)
    return Estimates.joined([_settle(pls, criterion, y, j, [x, shared.par]) for j, x in enumerate(first.par)])


def _by_blocks(
    pls: PenalizedLeastSquares, criterion: Criterion, y: ResponseSums, start: FloatArray, common: FloatArray
) -> Estimates:
    xp, parameters = pls.crossproducts, pls.parameters
    products = BlockProducts.from_sums(xp, y.ZtWy, y.XtWy, y.yWy)
    out, proven = minimize_blocks(products, xp, parameters, criterion, start, common).estimates()
    rows, others = [], []
    for j in np.flatnonzero(~proven):
        inside = _inside(parameters, out.par[j], column_scales(xp.gram))
        again = _settle(pls, criterion, y, int(j), [inside, common])
        if not out.converged[j] or again.criterion[0] < out.criterion[j]:
            rows.append(j)
            others.append(again)
    return out.replaced(np.array(rows, dtype=np.int64), others)


def _inside(parameters: ParameterMap, par: FloatArray, scales: list[FloatArray]) -> FloatArray:
    """Return parameters a little inside the boundary."""
    return parameters.nearest(
        [T @ T.T + np.diag((0.1 / scale) ** 2) for T, scale in zip(parameters.templates(par), scales)]
    )


def _settle(
    pls: PenalizedLeastSquares, criterion: Criterion, y: ResponseSums, column: int, starts: Sequence[FloatArray]
) -> Estimates:
    """Go on from the first start that can be evaluated to the optimum of one response; NaN where none can.

    Steps are taken in Ω by the average information, in which the criterion is nearly quadratic (AI-REML);
    where that leaves the parameter space, in the parameters by Newton's method within a trust region.
    """
    own = replace(pls, crossproducts=with_statistics(pls.crossproducts, y, column))
    path = _Path(CriterionAt(own, criterion), COARSE if pls.system.flops > EXPENSIVE_FLOPS else FINE)
    start = next((x for x in starts if np.isfinite(path.value(x))), None)
    if start is None:
        return _refused(len(starts[0]), own.crossproducts.p)
    found = descend(path, start, radius=1.0, limit=MAX_STEPS, resize=by_success, least=1e-6)
    value = found.value - (0.0 if found.step is None else found.step.predicted)
    return _after(own, path.target, found.x, value, found.end is not End.LIMIT, found.tried + 1)


def _refused(n_par: int, p: int) -> Estimates:
    """Return the estimates for a response whose criterion cannot be evaluated."""
    return Estimates.of_one(np.full(n_par, np.nan), np.full(p, np.nan), np.nan, np.nan, False, False, 0)


class _Path:
    """The criterion of one response."""

    def __init__(self, target: CriterionAt, tolerance: float) -> None:
        self.target, self._tolerance = target, tolerance
        self.derivatives = target.derivatives

    def value(self, x: FloatArray) -> float:
        """Return the criterion, infinite where the system breaks down."""
        try:
            return self.target.value(x)
        except NumericalError:
            return np.inf

    def step(self, x: FloatArray, value: float, g: FloatArray, H: FloatArray, radius: float) -> Step:
        """Return a step, final where what is likely to be left of the decrease it promises is below tolerance."""
        trial, predicted, rate = _step(self.target, x, g, H, radius)
        return Step(trial, predicted, radius, predicted * rate < self._tolerance)


def _step(
    target: CriterionAt, x: FloatArray, g: FloatArray, H: FloatArray, radius: float
) -> tuple[FloatArray, float, float]:
    """Return where a step leads, the decrease it predicts and the share of it that is likely to be left."""
    assert target.latest is not None
    parameters, S = target.pls.parameters, target.latest.derivatives.S
    if radius == 1.0:
        information = H - chain.curvature(parameters, x, S)
        delta = np.asarray(-np.linalg.lstsq(information, g)[0], dtype=np.float64)
        trial = _along_omega(parameters, x, delta)
        if trial is not None:
            predicted = float(-(g @ delta) / 2.0)
            return trial, predicted, max(AI_RATE, 0.3 * np.sqrt(max(predicted, 0.0)))
    scale = np.maximum(np.abs(x), target.typical(x))
    box = parameters.box()
    if box is None:
        step, predicted = trust_region_step(scale * g, scale[:, None] * H * scale, radius)
    else:
        low, high = ((bound - x) / scale for bound in box)
        step, predicted, _ = bounded_step(scale * g, scale[:, None] * H * scale, radius, low, high)
    inside = np.linalg.norm(step) < 0.99 * radius
    return x + scale * step, predicted, min(1.0, np.sqrt(predicted)) if inside else 1.0


def _along_omega(parameters: ParameterMap, x: FloatArray, delta: FloatArray) -> FloatArray | None:
    """Return the parameters of Ω + dΩ, or None where that changes some variance out of proportion."""
    out = []
    for structure, part, d in zip(parameters.structures, parameters.split(x), parameters.split(delta)):
        T = structure.template(part)
        if np.any(np.diag(T) == 0):
            return None
        change = np.tensordot(d, structure.domega(part), 1)
        relative = np.eye(structure.k) + np.linalg.solve(T, np.linalg.solve(T, change).T)
        if np.linalg.eigvalsh(relative)[0] < SHRINK:
            return None
        out.append(structure.nearest(T @ relative @ T.T))
    return np.concatenate(out)


def _after(
    own: PenalizedLeastSquares, target: CriterionAt, x: FloatArray, value: float, converged: bool, evaluations: int
) -> Estimates:
    """Return the estimates after a last small step from the point where the derivatives were taken.

    Coefficients and pwrss follow the change of Ω to first order; the step is too small for more.
    """
    assert target.latest is not None
    at, found = target.latest.solution, target.latest.scores
    gram = own.crossproducts.gram
    x = own.parameters.canonical(x)
    moved, pwrss = np.zeros(gram.q), at.pwrss
    for t, (T, T0) in enumerate(zip(own.parameters.templates(x), at.templates)):
        a, b = gram.offsets[t], gram.offsets[t + 1]
        s = found.s[a:b].reshape(gram.m[t], gram.k[t])
        change = s @ (T @ T.T - T0 @ T0.T)
        pwrss -= float(np.sum(change * s))
        moved[a:b] = change.ravel()
    gamma = at.gamma
    if own.crossproducts.p:
        gamma = gamma - solve_triangular(at.RX, found.B.T @ moved)
    sigma = float(np.sqrt(pwrss / target.criterion.df(own.crossproducts.n, own.crossproducts.p)))
    singular = bool(own.parameters.is_singular(x, target.scales))
    return Estimates.of_one(x, gamma, sigma, value, singular, converged, evaluations)
