"""The covariance of the variance parameters, from the exact Hessian of the deviance.

The asymptotic covariance of (par, σ) is 2 H⁻¹, H the Hessian of the (restricted) deviance with σ not
profiled out. Parameters at a bound are held there: their rows and columns are zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import block_diag

from sparselmm._typing import BoolArray, FloatArray, frozen
from sparselmm.covariance import CovarianceStructure, chain
from sparselmm.covariance.parameters import ParameterMap
from sparselmm.exceptions import NumericalError
from sparselmm.likelihood.information import exact_hessian
from sparselmm.likelihood.result import FitResult

EIGENVALUE_TOL = 1e-8  # of the Hessian scaled to a unit diagonal; lmerTest has 1e-8 too


@dataclass(frozen=True)
class VarianceParameters:
    """What is known about (par, σ) at an estimate.

    Attributes
    ----------
    cov : (n_par + 1, n_par + 1) array
        Covariance of (par, σ); zero rows for what is held.
    held : (n_par,) bool array
        Parameters at a bound.
    dropped : int
        Further directions in which the deviance is flat or falls.
    U : (n_par, p, p) array
        RX⁻ᵀX'V⁻¹V_iV⁻¹X RX⁻¹ along the parameters, for the transformed X.
    RX : (p, p) array
        Factor for the transformed X.
    """

    cov: FloatArray
    held: BoolArray
    dropped: int
    U: FloatArray
    RX: FloatArray


def held_parameters(parameters: ParameterMap, par: FloatArray) -> BoolArray:
    """Return which parameters are at a bound, or do not change Ω, (n_par,)."""
    bound = (par <= parameters.lower()) | (par >= parameters.upper())
    # in a zero column of T a change of T does not change Ω to first order
    still = [~np.any(d, axis=(1, 2)) for d in chain.domegas(parameters, par)]
    return np.asarray(bound | np.concatenate(still))


def inverse_of_free(H: FloatArray, free: BoolArray) -> tuple[FloatArray, int]:
    """Return 2 H⁻¹ on the free parameters, zero elsewhere, and the number of directions left out.

    As lmerTest does, directions with an eigenvalue that is not positive are left out; the eigenvalues
    are those of H scaled to a unit diagonal, so that units do not matter.
    """
    part = H[np.ix_(free, free)]
    diagonal = np.abs(np.diag(part))
    scale = 1.0 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    d, Q = np.linalg.eigh(part * np.outer(scale, scale))
    good = d > EIGENVALUE_TOL
    out = np.zeros_like(H)
    half = scale[:, None] * Q[:, good]
    out[np.ix_(free, free)] = 2.0 * (half / d[good]) @ half.T
    return out, int((~good).sum())


def variance_parameters(result: FitResult) -> VarianceParameters:
    """Return the covariance of (par, σ) at the parameters of a fit.

    Raises
    ------
    NumericalError
        When the Hessian is not finite or has no direction in which the deviance rises.
    """
    with result.engine.locked() as pls:
        solution = pls.solve(result.par)
        exact = exact_hessian(pls, result.criterion_type, solution)
    if not np.all(np.isfinite(exact.hessian)):
        raise NumericalError("the Hessian of the deviance is not finite at the estimates")
    held = held_parameters(result.engine.parameters, result.par)
    cov, dropped = inverse_of_free(exact.hessian, np.append(~held, True))
    if not np.any(np.diag(cov) > 0):
        raise NumericalError("the deviance has no minimum in the variance parameters at these estimates")
    return VarianceParameters(frozen(cov), held, dropped, exact.information.U, solution.RX)


# --- other scales --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReportedTerm:
    """Ω of one term in the user's coordinates with its derivatives.

    Attributes
    ----------
    omega : (k, k) array
        Relative covariance T T'.
    domega : (n_par, k, k) array
        Derivatives.
    dtheta : (n_theta, n_par) array
        Derivatives of the reported entries of the factor.
    """

    omega: FloatArray
    domega: FloatArray
    dtheta: FloatArray


def reported_term(structure: CovarianceStructure, par: FloatArray) -> ReportedTerm:
    """Return the relative covariance of a term as the user knows it, differentiated."""
    R = structure.reported_modes(structure.template(par).T).T
    C = structure.reported_modes(np.eye(structure.k)).T
    return ReportedTerm(R @ R.T, C @ structure.domega(par) @ C.T, structure.dtheta(par))


def reported_terms(parameters: ParameterMap, par: FloatArray) -> list[ReportedTerm]:
    """Return all terms."""
    return [reported_term(s, x) for s, x in zip(parameters.structures, parameters.split(par))]


def theta_jacobian(terms: list[ReportedTerm]) -> FloatArray:
    """Return the derivatives of (θ, σ) in (par, σ)."""
    return np.asarray(block_diag(*(t.dtheta for t in terms), np.eye(1)))


def varcov_jacobian(terms: list[ReportedTerm], sigma: float) -> FloatArray:
    """Return the derivatives of variances and covariances, in `VarCorr.to_frame`'s order, in (par, σ)."""
    n_par = sum(len(t.domega) for t in terms)
    rows, start = [], 0
    for t in terms:
        for i, j in entry_pairs(len(t.omega)):
            row = np.zeros(n_par + 1)
            row[start : start + len(t.domega)] = sigma**2 * t.domega[:, i, j]
            row[-1] = 2.0 * sigma * t.omega[i, j]
            rows.append(row)
        start += len(t.domega)
    last = np.zeros(n_par + 1)
    last[-1] = 2.0 * sigma
    return np.array([*rows, last])


def sdcor_jacobian(terms: list[ReportedTerm], sigma: float) -> FloatArray:
    """Return the derivatives of standard deviations and correlations, in the same order; NaN where undefined."""
    n_par = sum(len(t.domega) for t in terms)
    rows, start = [], 0
    for t in terms:
        sd = np.sqrt(np.diag(t.omega))
        here = slice(start, start + len(t.domega))
        with np.errstate(divide="ignore", invalid="ignore"):
            dsd = np.einsum("ikk->ik", t.domega) / (2.0 * sd)
            for i, j in entry_pairs(len(t.omega)):
                row = np.zeros(n_par + 1)
                if i == j:
                    row[here], row[-1] = sigma * dsd[:, i], sd[i]
                else:
                    corr = t.omega[i, j] / (sd[i] * sd[j])
                    row[here] = t.domega[:, i, j] / (sd[i] * sd[j]) - corr * (dsd[:, i] / sd[i] + dsd[:, j] / sd[j])
                rows.append(row)
        start = here.stop
    last = np.zeros(n_par + 1)
    last[-1] = 1.0
    return np.array([*rows, last])


def entry_pairs(k: int) -> list[tuple[int, int]]:
    """Return the entries of a (k, k) covariance in `VarCorr.to_frame`'s order: diagonal, then below by columns."""
    return [(i, i) for i in range(k)] + [(i, j) for j in range(k) for i in range(j + 1, k)]
