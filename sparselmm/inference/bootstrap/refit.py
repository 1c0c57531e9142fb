"""Refitting a model to many responses of which only sufficient statistics are known.

All responses share the factor of their first step (`firststep`). On a design with one grouping factor
the rest is array arithmetic over responses (`blockfits`); elsewhere each response goes on by steps of
its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import solve_triangular

from sparselmm._typing import BoolArray, FloatArray, IntArray
from sparselmm.covariance import chain
from sparselmm.covariance.parameters import ParameterMap
from sparselmm.exceptions import NumericalError
from sparselmm.inference.bootstrap.draw_statistics import ResponseSums
from sparselmm.inference.bootstrap.minque import FirstSteps, Shared, first_steps
from sparselmm.likelihood.criterion import Criterion
from sparselmm.likelihood.one_factor import BlockProducts, admits_no_more, is_one_block, minimize_blocks
from sparselmm.likelihood.pls import PenalizedLeastSquares
from sparselmm.likelihood.search import EXPENSIVE_FLOPS, CriterionAt
from sparselmm.likelihood.starting import column_scales
from sparselmm.optimize.newton import trust_region_step
from sparselmm.statistics.crossproducts import CrossProducts

# decrease of the criterion that may be left: a thousandth of a standard error, and 0.005 where a factorisation is dear
FINE, COARSE = 1e-6, 3e-5
AI_RATE = 0.02  # what a step by the average information leaves of the decrease it predicts, at best
#: Least factor by which a step along Ω may change a variance; beyond it the step is taken in the parameters.
SHRINK = 0.1
MAX_STEPS = 50  # of one refit; those that need more count as not converged


@dataclass(frozen=True)
class Refits:
    """Estimates for r responses.

    Attributes
    ----------
    par : (r, n_par) array
        Free parameters, canonical.
    gamma : (r, p) array
        Coefficients of the transformed X, relative to those the responses were drawn with.
    sigma, criterion : (r,) arrays
        Residual standard deviations; the criterion, NaN after one step.
    singular, converged : (r,) bool arrays
        Whether a template is singular; whether the steps settled.
    evaluations : (r,) array
        Factorisations of its own that each response took.
    """

    par: FloatArray
    gamma: FloatArray
    sigma: FloatArray
    criterion: FloatArray
    singular: BoolArray
    converged: BoolArray
    evaluations: IntArray


def with_statistics(xp: CrossProducts, y: ResponseSums, column: int) -> CrossProducts:
    """Return the cross-products with the response part of one drawn response; the rest is shared."""
    ZtWXy, XytWXy = xp.ZtWXy.copy(), xp.XytWXy.copy()
    ZtWXy[:, -1] = y.ZtWy[:, column]
    XytWXy[:-1, -1] = XytWXy[-1, :-1] = y.XtWy[:, column]
    XytWXy[-1, -1] = y.yWy[column]
    return replace(xp, ZtWXy=ZtWXy, XytWXy=XytWXy)


def refit(
    pls: PenalizedLeastSquares, criterion: Criterion, shared: Shared, y: ResponseSums, one_step: bool = False
) -> Refits:
    """Return the estimates for all responses.

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
    first = first_steps(pls, criterion, shared, y, interior=not one_step)
    if one_step:
        return _after_one_step(pls, first)
    if is_one_block(pls.crossproducts):
        return _by_blocks(pls, criterion, y, first)
    return _stacked([_settle(pls, criterion, y, j, first.par[j]) for j in range(len(y.yWy))])


def _after_one_step(pls: PenalizedLeastSquares, first: FirstSteps) -> Refits:
    r = len(first.par)
    par = np.array([pls.parameters.canonical(x) for x in first.par])
    return Refits(
        par,
        first.gamma.T,
        np.sqrt(np.maximum(first.sigma2, 0.0)),
        np.full(r, np.nan),
        _singular(pls, par),
        np.ones(r, dtype=bool),
        np.zeros(r, dtype=np.int64),
    )


def _singular(pls: PenalizedLeastSquares, par: FloatArray) -> BoolArray:
    scales = column_scales(pls.crossproducts.gram)
    return np.array([pls.parameters.is_singular(x, scales) for x in par])


def _by_blocks(pls: PenalizedLeastSquares, criterion: Criterion, y: ResponseSums, first: FirstSteps) -> Refits:
    xp, parameters = pls.crossproducts, pls.parameters
    products = BlockProducts.from_sums(xp, y.ZtWy, y.XtWy, y.yWy)
    par, state, converged = minimize_blocks(products, xp, parameters, criterion, first.par)
    par = np.array([parameters.canonical(x) for x in par])
    df = criterion.df(xp.n, xp.p)
    constant = df * (1.0 + np.log(2.0 * np.pi / df)) - xp.sum_log_weights
    if criterion.reml and xp.p:
        constant += xp.basis.logdet
    singular = _singular(pls, par)
    out = Refits(
        par,
        state.gamma,
        np.sqrt(state.pwrss / df),
        state.value + constant,
        singular,
        converged,
        np.zeros(len(par), dtype=np.int64),
    )
    proven = converged & (~singular | admits_no_more(state, par, parameters, column_scales(xp.gram)))
    for j in np.flatnonzero(~proven):
        again = _settle(pls, criterion, y, int(j), _inside(parameters, par[j], column_scales(xp.gram)))
        if not converged[j] or again.value < out.criterion[j]:
            _put(out, int(j), again)
    return out


def _inside(parameters: ParameterMap, par: FloatArray, scales: list[FloatArray]) -> FloatArray:
    """Return parameters a little inside the boundary."""
    return parameters.nearest(
        [T @ T.T + np.diag((0.1 / scale) ** 2) for T, scale in zip(parameters.templates(par), scales)]
    )


@dataclass(frozen=True)
class Settled:
    """The estimates for one response."""

    par: FloatArray
    gamma: FloatArray
    sigma: float
    value: float
    singular: bool
    converged: bool
    evaluations: int


def _settle(pls: PenalizedLeastSquares, criterion: Criterion, y: ResponseSums, column: int, x: FloatArray) -> Settled:
    """Go on from a start to the optimum of one response.

    Steps are taken in Ω by the average information, in which the criterion is nearly quadratic (AI-REML);
    where that leaves the parameter space, in T by Newton's method within a trust region.
    """
    own = PenalizedLeastSquares(with_statistics(pls.crossproducts, y, column), pls.parameters, pls.system)
    target = CriterionAt(own, criterion)
    tolerance = COARSE if pls.system.flops > EXPENSIVE_FLOPS else FINE
    value, g, H = target.derivatives(x)
    radius, evaluations = 1.0, 1
    for _ in range(MAX_STEPS):
        trial, predicted, rate = _step(target, x, g, H, radius)
        if predicted * rate < tolerance:
            return _after(own, target, trial, value - predicted, evaluations)
        try:
            trial_value = target.value(trial)
        except NumericalError:
            trial_value = np.inf
        evaluations += 1
        if trial_value < value:
            x, radius = trial, min(2.0 * radius, 1.0)
            value, g, H = target.derivatives(x)
        else:
            radius *= 0.25
            if radius < 1e-6:
                return _after(own, target, x, value, evaluations)
    return replace(_after(own, target, x, value, evaluations), converged=False)


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
    step, predicted = trust_region_step(scale * g, scale[:, None] * H * scale, radius)
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


def _after(own: PenalizedLeastSquares, target: CriterionAt, x: FloatArray, value: float, evaluations: int) -> Settled:
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
    return Settled(x, gamma, sigma, value, bool(_singular(own, x[None])[0]), True, evaluations)


def _stacked(some: list[Settled]) -> Refits:
    return Refits(
        np.array([one.par for one in some]),
        np.array([one.gamma for one in some]),
        np.array([one.sigma for one in some]),
        np.array([one.value for one in some]),
        np.array([one.singular for one in some]),
        np.array([one.converged for one in some]),
        np.array([one.evaluations for one in some]),
    )


def _put(out: Refits, j: int, one: Settled) -> None:
    """Replace the estimates of response j."""
    out.par[j], out.gamma[j], out.sigma[j], out.criterion[j] = one.par, one.gamma, one.sigma, one.value
    out.singular[j], out.converged[j], out.evaluations[j] = one.singular, one.converged, one.evaluations
