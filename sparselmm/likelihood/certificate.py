"""The convergence certificate: proof from exact derivatives that no nearby point is better.

It says nothing of other optima further off; the search tries other starts where there are likely to be some.

An unstructured term is at its optimum when ``S T = 0`` and S is positive semidefinite, where S is the
derivative of the criterion with respect to Ω = T T'. A zero gradient along T alone is no proof: at a
singular T it does not see the directions in which Ω could gain rank. Both parts are expressed in
deviance units, the decrease of the criterion that a second-order model predicts, so multiplying the
response or a column changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from sparselmm._typing import FloatArray
from sparselmm.covariance import CovarianceStructure
from sparselmm.covariance.base import RANK_TOL
from sparselmm.covariance.parameters import ParameterMap
from sparselmm.likelihood.derivatives import Curvature
from sparselmm.linalg.audit.report import MonteCarlo
from sparselmm.linalg.blocks import Templates
from sparselmm.optimize.newton import trust_region_step

TOLERANCE = 1e-6  # deviance units: the accuracy promised for the criterion


@dataclass(frozen=True)
class TermCheck:
    """First-order conditions of one random term.

    Attributes
    ----------
    name : str
        The term.
    stationarity : float
        Largest entry of S T T'-scaled, |T'S T|, in deviance units per relative change of Ω.
    smallest_eigenvalue : float
        Smallest eigenvalue of S with columns scaled to unit mean square; negative values mean that
        the term would gain from more variance in some direction.
    decrease : float
        Predicted decrease of the criterion from variance in that direction, 0 if there is none.
    direction : (k, k) array
        The change of Ω that would bring it.
    """

    name: str
    stationarity: float
    smallest_eigenvalue: float
    decrease: float
    direction: FloatArray = field(repr=False)


@dataclass(frozen=True)
class SingularDirection:
    """A linear combination of one term's coefficients with zero estimated variance.

    Attributes
    ----------
    term : str
        The term.
    columns : tuple of str
        Its coefficients.
    weights : (k,) array
        The combination, largest weight 1.
    simpler : str
        What simpler model the fit equals.
    """

    term: str
    columns: tuple[str, ...]
    weights: FloatArray
    simpler: str

    @property
    def combination(self) -> str:
        """The combination in words, for example ``Days - 0.3·Intercept``."""
        parts = [
            ("-" if w < 0 else "+") + " " + (c if abs(abs(w) - 1) < 1e-6 else f"{abs(w):.3g}·{c}")
            for w, c in zip(self.weights, self.columns)
            if w != 0
        ]
        return " ".join(parts).removeprefix("+ ")


@dataclass(frozen=True)
class Convergence:
    """What the exact derivatives at the estimate prove.

    Attributes
    ----------
    certified : bool
        Whether both decreases are below the tolerance: no better point near by. It does not prove that there is
        no other optimum further off.
    predicted_decrease : float
        What a Newton step along the parameters would gain, g'H⁻¹g/2.
    boundary_decrease : float
        What leaving the boundary would gain.
    tolerance : float
        Largest decrease accepted, in deviance units.
    gradient : (n_par,) array
        Exact gradient along the free parameters.
    terms : tuple of TermCheck
        First-order conditions by term.
    singular : tuple of SingularDirection
        Directions of zero variance.
    monte_carlo : MonteCarlo or None
        The error of the criterion, where a solver was used that draws random vectors.
    starts : int
        How many starts were tried; this is the best of their ends.
    """

    certified: bool
    predicted_decrease: float
    boundary_decrease: float
    tolerance: float
    gradient: FloatArray = field(repr=False)
    terms: tuple[TermCheck, ...] = ()
    singular: tuple[SingularDirection, ...] = ()
    monte_carlo: MonteCarlo | None = None
    starts: int = 1

    @property
    def remaining(self) -> float:
        """Predicted decrease of the criterion that is still possible, in deviance units."""
        return self.predicted_decrease + self.boundary_decrease

    def __str__(self) -> str:
        count = len(self.singular)
        notes = [f"{count} direction{'s' * (count > 1)} of zero variance"] if count else []
        if self.starts > 1:
            notes.append(f"best of {self.starts} starts")
        source = "exact derivatives"
        if self.monte_carlo is not None:
            source = "derivatives with the same probes"
            notes.append(str(self.monte_carlo))
        if self.certified:
            state = f"certified: no better point near by ({source} predict {self.remaining:.1e} less)"
        else:
            state = f"NOT certified: {source} predict a further decrease of {self.remaining:.1e} (deviance units)"
        return "; ".join([state, *notes])


def certify(
    curvature: Curvature,
    structures: tuple[CovarianceStructure, ...],
    names: tuple[str, ...],
    scales: list[FloatArray],
    typical: FloatArray,
) -> Convergence:
    """Return the certificate of the point where the curvature was taken."""
    found, templates = curvature.derivatives, curvature.solution.templates
    _, interior = trust_region_step(
        typical * found.gradient, typical[:, None] * found.hessian * typical, radius=float(np.sqrt(len(typical)))
    )
    checks = []
    for t, (structure, par) in enumerate(zip(structures, ParameterMap(structures).split(curvature.solution.par))):
        T, S, scale = templates[t], found.S[t], scales[t]
        scaled = S / np.outer(scale, scale)
        direction = structure.descent(par, scaled) / np.outer(scale, scale)
        slope = float(np.sum(S * direction))
        decrease = 0.0
        if slope < 0 and structure.is_singular(T, scale):
            bend = curvature.along(t, direction)
            decrease = slope**2 / (2.0 * bend) if bend > 0 else -slope
        checks.append(
            TermCheck(
                names[t],
                float(np.abs(T.T @ S @ T).max()),
                float(np.linalg.eigvalsh(scaled)[0]),
                decrease,
                direction,
            )
        )
    boundary = sum(c.decrease for c in checks)
    tolerance = max(TOLERANCE, 1e-11 * abs(found.value))
    return Convergence(interior + boundary < tolerance, interior, boundary, tolerance, found.gradient, tuple(checks))


def leave_boundary(
    structures: tuple[CovarianceStructure, ...], templates: Templates, checks: tuple[TermCheck, ...]
) -> FloatArray:
    """Return parameters in which each term with a predicted gain gets a little variance in its direction."""
    out = []
    for structure, T, check in zip(structures, templates, checks):
        omega = T @ T.T
        if check.decrease > 0:
            omega = omega + 0.1 * check.direction / max(float(np.abs(check.direction).max()), 1e-300) * max(
                float(np.abs(omega).max()), float(np.abs(check.direction).max())
            )
        out.append(structure.nearest(omega))
    return np.concatenate(out)


def singular_directions(
    names: tuple[str, ...],
    columns: tuple[tuple[str, ...], ...],
    templates: tuple[FloatArray, ...],
    scales: list[FloatArray],
    maps: Sequence[FloatArray],
    deficits: Sequence[int] | None = None,
) -> tuple[SingularDirection, ...]:
    """Return the linear combinations of coefficients that have no variance, with columns scaled alike.

    Templates and scales are those of the columns as they were optimized, perhaps centred. Each map, (k, k), makes the
    coefficients that are reported from theirs. Deficits say how many such combinations each structure has by design;
    a term with no more than these has none to report.
    """
    out = []
    for name, cols, T, scale, C, designed in zip(names, columns, templates, scales, maps, deficits or [0] * len(maps)):
        U, d, _ = np.linalg.svd(scale[:, None] * T)
        null = d < RANK_TOL
        rank = int((~null).sum())
        if len(d) - rank <= designed:
            continue
        for z in U[:, null].T:
            weights = np.linalg.solve(C.T, np.where(np.abs(z) < 1e-3 * np.abs(z).max(), 0.0, z) * scale)
            weights = weights / weights[np.argmax(np.abs(weights))]
            out.append(SingularDirection(name, cols, weights, _simpler(name, cols, weights, rank)))
    return tuple(out)


def _simpler(name: str, columns: tuple[str, ...], weights: FloatArray, rank: int) -> str:
    if rank == 0:
        return f"the model without the term {name}"
    involved = [c for c, w in zip(columns, weights) if w != 0]
    if len(involved) == 1:
        return f"the model without {involved[0]} in the term {name}"
    dimensions = f"{rank} dimension{'s' * (rank > 1)}"
    return f"a term {name} whose {len(columns)} coefficients vary in {dimensions} only (correlations of ±1)"
