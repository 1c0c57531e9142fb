"""The deviance with one parameter fixed: exact derivatives, and its minimum over all others.

With τ = 1/σ and df = n (ML) or n - p (REML) the deviance before σ is profiled out is

    d = log|M| [+ log|RX|²] - Σlog w + df (log 2π - 2 log τ) + τ² Q

where Q is pwrss, or for a fixed effect held at c, with v the entry of (X'V⁻¹X)⁻¹,
``Q = pwrss + (c - β̂_j)²/v``: no model is set up again. With S_t = ∂d/∂Ω_t, V_a the change of V along
coordinate a and y - Xβ_c the residuals,

    ∂d/∂a = <S_t, ∂_aΩ>,   ∂²d/∂a∂b = <S_t, ∂²_abΩ> - tr(PV_aPV_b) + 2τ² (y - Xβ_c)'PV_aPV_bP(y - Xβ_c)

(V⁻¹ for P in the trace for ML). All in q-space. For an approximate system, whose traces cost several
evaluations, they are found once, at the estimate; elsewhere tr(PV_aPV_b) is taken as its observed
counterpart τ²(y - Xβ_c)'PV_aPV_bP(y - Xβ_c) plus their difference at the estimate. Steps become a little
less sharp by that, values and slopes do not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sparselmm._typing import BoolArray, FloatArray
from sparselmm.covariance.base import triangular
from sparselmm.covariance.coordinates import Chart, Jet
from sparselmm.covariance.parameters import ParameterMap
from sparselmm.exceptions import NumericalError
from sparselmm.inference.profile.targets import Held, Target
from sparselmm.likelihood.criterion import Criterion
from sparselmm.likelihood.derivatives import Scores, scores
from sparselmm.likelihood.information import omega_information
from sparselmm.likelihood.pls import PenalizedLeastSquares, PLSSolution
from sparselmm.likelihood.starting import column_scales
from sparselmm.linalg.blocks import Templates, apply_transposed
from sparselmm.optimize.newton import End, Step, bounded_step, descend

CERTAIN = 1e-7  # the last step may promise this much without another evaluation
MAX_STEPS = 60  # of the minimization at one point, which starts from the neighbouring ones


@dataclass(frozen=True)
class ChartMap(ParameterMap):
    """Maps (coordinates of all terms, τ, c) to templates."""

    charts: tuple[Chart, ...]

    def jets(self, par: FloatArray) -> list[Jet]:
        """Return the factors of all terms with their derivatives."""
        tau, c = float(par[-2]), float(par[-1])
        parts = np.split(par[:-2], np.cumsum([chart.n for chart in self.charts])[:-1])
        return [chart.jet(x, tau, c) for chart, x in zip(self.charts, parts)]

    def templates(self, par: FloatArray) -> Templates:
        """Return the triangular templates of all terms."""
        return tuple(triangular(jet.T) for jet in self.jets(par))


@dataclass(frozen=True)
class Local:
    """The deviance at one point with derivatives in (free coordinates z, c)."""

    value: float
    gradient: FloatArray
    hessian: FloatArray
    gamma: FloatArray


@dataclass(frozen=True)
class Minimum:
    """The minimum over z at one c.

    Attributes
    ----------
    c : float
        The coordinate held.
    z : (n,) array
        The others.
    value, slope, bend : float
        The profiled deviance and its first two derivatives in c.
    tangent : (n,) array
        dz/dc.
    gamma : (p,) array
        Coefficients of the transformed X.
    evaluations : int
        Factorisations it took.
    """

    c: float
    z: FloatArray
    value: float
    slope: float
    bend: float
    tangent: FloatArray
    gamma: FloatArray
    evaluations: int


class HeldDeviance:
    """The deviance of a model as a function of the free coordinates z and the held one c."""

    def __init__(
        self, pls: PenalizedLeastSquares, criterion: Criterion, charts: tuple[Chart, ...], target: Target
    ) -> None:
        self.map = ChartMap(pls.parameters.structures, charts)
        self.pls = replace(pls, parameters=self.map)
        self.criterion = criterion
        self.target = target
        xp = pls.crossproducts
        self._df = criterion.df(xp.n, xp.p)
        self._gap: FloatArray | None = None
        self.units: FloatArray = np.ones(0)

    def calibrate(self, z: FloatArray, c: float) -> None:
        """Find the units of the coordinates, and the traces of an approximate system, at the estimate."""
        self.units = self._units(self.full(z, c))
        if self.pls.system.monte_carlo is None:
            return
        n = len(self.full(z, c))
        traces, observed = np.zeros((n, n)), np.zeros((n, n))
        solution = self._solve(z, c)
        self.pls.factor(solution.templates)
        found = scores(self.pls, solution)
        held = self.target.held(solution, found, c)
        variables, directions, V = self._directions(solution, held)
        here = np.ix_(variables, variables)
        observed[here] = solution.par[-2] ** 2 * self._quadratics(solution, found, held, V)
        traces[here] = self._traces(solution, directions)
        self._gap = traces - observed

    def _units(self, full: FloatArray) -> FloatArray:
        """Return changes of (coordinates of all terms, τ, c) that would show, whatever the units of the data.

        For a coordinate of a term it is the change that moves Ω, the columns of Z in units of their sizes, by one
        to second order: <S, ∂∂Ω>/2 with S the squared sizes, which for an entry of T is that of its column.
        """
        own, held = [], [0.0]
        for jet, scale in zip(self.map.jets(full), column_scales(self.pls.crossproducts.gram)):
            sizes = np.sqrt(np.abs(np.diag(jet.curvature(np.diag(scale**2)))) / 2.0)
            own.append(sizes[:-2])
            held.append(float(sizes[-1]))
        tau, last = float(full[-2]), max(held)
        sizes = np.concatenate([*own, [1.0 / tau, last]])
        return np.asarray(1.0 / np.where(sizes > 0, sizes, 1.0))

    def full(self, z: FloatArray, c: float) -> FloatArray:
        """Return (coordinates of all terms, τ, c)."""
        return np.concatenate([z, [np.exp(-c), c]]) if self.target.fixes_sigma else np.append(z, c)

    def box(self) -> tuple[FloatArray, FloatArray]:
        """Return the bounds of z."""
        low, high = zip(*(chart.box() for chart in self.map.charts))
        end = [] if self.target.fixes_sigma else [np.inf]
        return np.concatenate([*low, np.negative(end)]), np.concatenate([*high, end])

    def _value(self, solution: PLSSolution, Q: float) -> float:
        xp = self.pls.crossproducts
        return self.criterion.at_sigma(
            float(solution.par[-2]),
            ldL2=solution.ldL2,
            ldRX2=solution.ldRX2,
            pwrss=Q,
            n=xp.n,
            p=xp.p,
            sum_log_weights=xp.sum_log_weights,
        )

    def _solve(self, z: FloatArray, c: float) -> PLSSolution:
        par = self.full(z, c)
        if not par[-2] > 0 or not np.all(np.isfinite(par)):
            raise NumericalError(f"the residual standard deviation is not positive at {par}")
        return self.pls.solve(par)

    def value(self, z: FloatArray, c: float) -> float:
        """Return the deviance; infinite where it is not defined."""
        try:
            solution = self._solve(z, c)
        except NumericalError:
            return np.inf
        return self._value(solution, self.target.held(solution, None, c).Q)

    def derivatives(self, z: FloatArray, c: float) -> Local:
        """Return the deviance with exact first and second derivatives."""
        solution = self._solve(z, c)
        self.pls.factor(solution.templates)
        found = scores(self.pls, solution)
        held = self.target.held(solution, found, c)
        g, H = self._joint(solution, found, held)
        if self.target.fixes_sigma:  # τ = exp(-c)
            tau = solution.par[-2]
            J = np.eye(len(g))
            J[-2, -1] = -tau
            bend = g[-2] * tau
            g, H = J.T @ g, J.T @ H @ J
            H[-1, -1] += bend
            keep = np.delete(np.arange(len(g)), -2)
            g, H = g[keep], H[np.ix_(keep, keep)]
        return Local(self._value(solution, held.Q), g, H, held.gamma)

    def _joint(self, solution: PLSSolution, found: Scores, held: Held) -> tuple[FloatArray, FloatArray]:
        """Return gradient and Hessian in (coordinates of all terms, τ, c)."""
        gram, tau = self.pls.crossproducts.gram, float(solution.par[-2])
        jets = self.map.jets(solution.par)
        N = len(solution.par)
        g, H, cross = np.zeros(N), np.zeros((N, N)), np.zeros(N)
        start = 0
        for t, (jet, L) in enumerate(zip(jets, self._log_parts(found))):
            a, b = gram.offsets[t], gram.offsets[t + 1]
            s = held.s[a:b].reshape(gram.m[t], gram.k[t])
            E = s.T @ s
            S = L - tau**2 * E
            dOmega = jet.domega
            n = len(dOmega) - 2
            at = np.array([*range(start, start + n), N - 2, N - 1])
            g[at] += np.tensordot(dOmega, S, 2)
            cross[at] -= 2.0 * tau * np.tensordot(dOmega, E, 2)
            H[np.ix_(at, at)] += jet.curvature(S)
            start += n
        variables, directions, V = self._directions(solution, held)
        if variables:
            here = np.ix_(variables, variables)
            observed = tau**2 * self._quadratics(solution, found, held, V)
            traces = self._traces(solution, directions) if self._gap is None else observed + self._gap[here]
            H[here] += 2.0 * observed - traces
            if held.w.size:
                H[variables, -1] += 2.0 * tau**2 / held.v * (held.w @ V)
                H[-1, variables] += 2.0 * tau**2 / held.v * (held.w @ V)
        H[-2, :] += cross
        H[:, -2] += cross
        g[-2] += -2.0 * self._df / tau + 2.0 * tau * held.Q
        H[-2, -2] += 2.0 * self._df / tau**2 + 2.0 * held.Q
        g[-1] += 2.0 * tau**2 * held.gap / held.v
        H[-1, -1] += 2.0 * tau**2 / held.v
        H[-1, -2] += 4.0 * tau * held.gap / held.v
        H[-2, -1] += 4.0 * tau * held.gap / held.v
        return g, H

    def _directions(
        self, solution: PLSSolution, held: Held
    ) -> tuple[list[int], list[tuple[int, FloatArray]], FloatArray]:
        """Return the coordinates that change Ω, the changes (term, (k, k) array), and them times the scores, (q, n)."""
        gram, N = self.pls.crossproducts.gram, len(solution.par)
        variables, directions, moved = [], [], []
        start = 0
        for t, jet in enumerate(self.map.jets(solution.par)):
            a, b = gram.offsets[t], gram.offsets[t + 1]
            s = held.s[a:b].reshape(gram.m[t], gram.k[t])
            dOmega = jet.domega
            n = len(dOmega) - 2
            for x in np.flatnonzero(np.any(dOmega != 0, axis=(1, 2))):
                variables.append([*range(start, start + n), N - 2, N - 1][x])
                directions.append((t, dOmega[x]))
                v = np.zeros(gram.q)
                v[a:b] = (s @ dOmega[x]).ravel()
                moved.append(v)
            start += n
        return variables, directions, np.stack(moved, axis=1) if moved else np.zeros((gram.q, 0))

    def _log_parts(self, found: Scores) -> list[FloatArray]:
        """Return the derivative of the log-determinants with respect to Ω of each term."""
        gram, out = self.pls.crossproducts.gram, []
        for t, L in enumerate(self.pls.system.information_sums()):
            if self.criterion.reml and found.B.shape[1]:
                B = found.B[gram.offsets[t] : gram.offsets[t + 1]].reshape(gram.m[t], gram.k[t], -1)
                L = L - np.einsum("mip,mjp->ij", B, B)
            out.append((L + L.T) / 2.0)
        return out

    def _quadratics(self, solution: PLSSolution, found: Scores, held: Held, V: FloatArray) -> FloatArray:
        """Return V'(Z'PZ)V, P with the held coefficient taken out of X."""
        gram = self.pls.crossproducts.gram
        AV = gram.dot(V)
        K = V.T @ AV - self.pls.system.quadratic(apply_transposed(AV, solution.templates, gram))[0]
        if found.B.shape[1]:
            C = found.B.T @ V
            K -= C.T @ C
        if held.w.size:
            K += np.outer(held.w @ V, held.w @ V) / held.v
        return np.asarray(K)

    def _traces(self, solution: PLSSolution, directions: list[tuple[int, FloatArray]]) -> FloatArray:
        if self.criterion.reml and self.pls.crossproducts.p:
            return omega_information(self.pls, solution, directions).projected_traces
        return self.pls.system.trace_products(directions)


def minimize(deviance: HeldDeviance, z: FloatArray, c: float) -> Minimum:
    """Return the minimum over z at c, by Newton steps within a trust region from a start near it.

    Coordinates at a bound stay there while the deviance rises from it.

    Raises
    ------
    NumericalError
        When the start is unusable or the steps do not settle.
    """
    path = _Path(deviance, c)
    found = descend(path, np.clip(z, *path.box), radius=2.0, limit=MAX_STEPS)
    if found.end is End.LIMIT:
        raise NumericalError(f"no minimum of the deviance found in {MAX_STEPS} steps with the parameter held at {c}")
    step, predicted = (np.zeros(len(z)), 0.0) if found.step is None else (found.x - found.origin, found.step.predicted)
    return _finish(path, found.origin, c, step, predicted, found.tried + 1)


class _Path:
    """The deviance over z at one c, with steps in units of its curvature."""

    local: Local
    free: BoolArray

    def __init__(self, deviance: HeldDeviance, c: float) -> None:
        self._deviance, self._c = deviance, c
        self.units, self.box = deviance.units, deviance.box()

    def value(self, z: FloatArray) -> float:
        """Return the deviance."""
        return self._deviance.value(z, self._c)

    def derivatives(self, z: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        """Return it with derivatives in z; those in (z, c) are kept."""
        self.local, n = self._deviance.derivatives(z, self._c), len(z)
        return self.local.value, self.local.gradient[:n], self.local.hessian[:n, :n]

    def step(self, z: FloatArray, value: float, g: FloatArray, H: FloatArray, radius: float) -> Step:
        """Return the step within the bounds."""
        scale = _scales(H, self.units[: len(z)])
        low, high = ((bound - z) / scale for bound in self.box)
        s, predicted, self.free = bounded_step(scale * g, scale[:, None] * H * scale, radius, low, high)
        length = float(np.linalg.norm(s))
        final = length < radius and predicted < max(CERTAIN, 1e-12 * abs(value))
        return Step(np.clip(z + scale * s, *self.box), predicted, length, final)


def _scales(H: FloatArray, units: FloatArray) -> FloatArray:
    """Return changes of the coordinates that move the deviance by about one, (n,)."""
    d = np.abs(np.diag(H)) * units**2
    return np.asarray(units / np.sqrt(np.maximum(d, 1e-8 * max(float(d.max(initial=0.0)), 1e-300))))


def _finish(path: _Path, z: FloatArray, c: float, step: FloatArray, predicted: float, evaluations: int) -> Minimum:
    """Return the minimum that a last small step reaches, with the derivatives of the profile there."""
    local, free, n = path.local, path.free, len(z)
    mixed, tangent = local.hessian[:n, -1], np.zeros(n)
    tangent[free] = -_solve_regular(local.hessian[:n, :n][np.ix_(free, free)], mixed[free], path.units[:n][free])
    slope = float(local.gradient[-1] + mixed @ step)
    bend = float(local.hessian[-1, -1] + mixed @ tangent)
    return Minimum(c, z + step, local.value - predicted, slope, bend, tangent, local.gamma, evaluations)


def _solve_regular(H: FloatArray, b: FloatArray, units: FloatArray) -> FloatArray:
    """Return H⁻¹b, flat directions left out."""
    if not len(b):
        return b
    scale = _scales(H, units)
    w, Q = np.linalg.eigh(scale[:, None] * H * scale)
    good = w > 1e-7 * w[-1]
    return np.asarray(scale * (Q[:, good] @ ((Q[:, good].T @ (scale * b)) / w[good])))
