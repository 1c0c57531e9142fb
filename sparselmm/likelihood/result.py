"""The frozen numbers of a fit: coefficients, covariances of the random effects, conditional modes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from scipy.linalg import solve_triangular

from sparselmm._typing import FloatArray, frozen
from sparselmm.data.layout import DesignLayout
from sparselmm.data.rows import GroupedTerm, Rows, needed
from sparselmm.data.tables.codes import chunks
from sparselmm.exceptions import Message
from sparselmm.likelihood.certificate import Convergence, singular_directions
from sparselmm.likelihood.criterion import Criterion
from sparselmm.likelihood.engine import Engine
from sparselmm.likelihood.pls import PenalizedLeastSquares, PLSSolution
from sparselmm.likelihood.starting import column_scales
from sparselmm.linalg.blocks import apply_factor
from sparselmm.optimize import OptimizerReport
from sparselmm.statistics.transform import FixedTransform

RESIDUALS = "residuals"  # what needs the rows, for `Rows.needed`
CANCELLING = 1e5  # y'Wy over pwrss beyond which the residuals of the rows are summed once for accuracy


@dataclass(frozen=True)
class TermCovariance:
    """Estimated covariance of the k coefficients of one random term.

    Attributes
    ----------
    name, label : str
        lme4's unique name (``Subject.1``) and the grouping label (``Subject``).
    columns : tuple of str
        Coefficient names.
    cov : (k, k) array
        Covariance, in squared units of the response per unit of each coefficient.
    """

    name: str
    label: str
    columns: tuple[str, ...]
    cov: FloatArray

    @property
    def sd(self) -> FloatArray:
        """Standard deviations, (k,)."""
        return np.sqrt(np.diag(self.cov))

    @property
    def corr(self) -> FloatArray:
        """Correlations, (k, k); NaN where a standard deviation is zero."""
        sd = self.sd
        with np.errstate(divide="ignore", invalid="ignore"):
            out = self.cov / np.outer(sd, sd)
        np.fill_diagonal(out, 1.0)
        return out


@dataclass(frozen=True, repr=False)
class VarCorr:
    """Estimated variances and correlations of all random terms, and the residual SD.

    Attributes
    ----------
    terms : tuple of TermCovariance
        In the order of theta.
    sigma : float
        Residual standard deviation.
    """

    terms: tuple[TermCovariance, ...]
    sigma: float

    def __getitem__(self, name: str) -> TermCovariance:
        for term in self.terms:
            if term.name == name:
                return term
        raise KeyError(f"no random term {name!r}; there are {', '.join(t.name for t in self.terms)}")

    def to_frame(self) -> pd.DataFrame:
        """Return one row per variance and covariance, as R's ``as.data.frame(VarCorr(m))``.

        Columns: ``grp``, ``var1``, ``var2``, ``vcov`` and ``sdcor``; per term the variances first,
        then the covariances (with correlations in ``sdcor``); the last row is ``Residual``. Where there is
        no name, ``var1`` and ``var2`` are NaN.
        """
        rows: list[tuple[str, str | float, str | float, float, float]] = []
        for t in self.terms:
            k, sd, corr = len(t.columns), t.sd, t.corr
            rows += [(t.name, t.columns[i], np.nan, float(t.cov[i, i]), float(sd[i])) for i in range(k)]
            rows += [
                (t.name, t.columns[j], t.columns[i], float(t.cov[i, j]), float(corr[i, j]))
                for j in range(k)
                for i in range(j + 1, k)
            ]
        rows.append(("Residual", np.nan, np.nan, self.sigma**2, self.sigma))
        frame = pd.DataFrame(rows, columns=["grp", "var1", "var2", "vcov", "sdcor"])
        return frame.astype({"var2": frame["var1"].dtype})  # where no term has a correlation, too

    def __repr__(self) -> str:
        return self._shown().to_string(index=False)

    def _repr_html_(self) -> str:
        return str(self._shown().to_html(index=False))

    def _shown(self) -> pd.DataFrame:
        """Return the table with empty cells where there is no second name."""
        return self.to_frame().fillna({"var1": "", "var2": ""})


@dataclass(frozen=True)
class FitResult:
    """Everything that a fit (or an evaluation at a fixed θ) found, as plain numbers.

    Attributes
    ----------
    layout : DesignLayout
        What the columns of X and the random terms are.
    rows : Rows or None
        What was observed; None once it was dropped.
    engine : Engine
        The solver of this problem.
    criterion_type : Criterion
        ML or REML.
    par, theta : (n_par,), (n_theta,) arrays
        Free parameters and lme4's θ.
    criterion, ldL2, ldRX2, pwrss : float
        The criterion and its parts.
    beta : (p,) array
        Fixed effects.
    RX : (p, p) array
        Upper triangular with RX'RX = X'(W⁻¹ + ZΛΛ'Z')⁻¹X on the original scale of X.
    sigma : float
        Residual standard deviation.
    u, b : (q,) arrays
        Spherical and original conditional modes, b = Λu.
    report : OptimizerReport
        How θ was found.
    convergence : Convergence or None
        The certificate; None at a θ that was given.
    messages : tuple of Message
        What the user should know.
    """

    layout: DesignLayout
    rows: Rows | None
    engine: Engine
    criterion_type: Criterion
    par: FloatArray
    theta: FloatArray
    criterion: float
    ldL2: float
    ldRX2: float
    pwrss: float
    beta: FloatArray
    RX: FloatArray
    sigma: float
    u: FloatArray
    b: FloatArray
    report: OptimizerReport
    convergence: Convergence | None = None
    messages: tuple[Message, ...] = ()

    def observed(self, what: str, instead: str = "") -> Rows:
        """Return the rows; where they were dropped, raise `RowsNeededError`: ``what`` need them."""
        return needed(self.rows, what, instead)

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.engine.crossproducts.n

    @property
    def p(self) -> int:
        """Number of fixed effects."""
        return self.layout.p

    @property
    def n_par(self) -> int:
        """Number of covariance parameters."""
        return len(self.par)

    @property
    def df(self) -> int:
        """Divisor of pwrss in σ²."""
        return self.criterion_type.df(self.n, self.p)

    @cached_property
    def unscaled_cov(self) -> FloatArray:
        """(RX'RX)⁻¹, (p, p); times σ² it is the covariance of β."""
        inverse = solve_triangular(self.RX, np.eye(len(self.RX))) if len(self.RX) else np.zeros((0, 0))
        return frozen(inverse @ inverse.T)

    @cached_property
    def varcorr(self) -> VarCorr:
        """Variances and correlations of the random terms."""
        templates = self.engine.parameters.reported_templates(self.par)
        terms = tuple(
            TermCovariance(t.name, t.label, t.columns, frozen(self.sigma**2 * (T @ T.T)))
            for t, T in zip(self.layout.terms, templates)
        )
        return VarCorr(terms, self.sigma)

    @cached_property
    def linear_predictor(self) -> FloatArray:
        """Conditional fitted values offset + Xβ + Zb, (n,)."""
        return frozen(linear_predictor(self.observed("fitted values"), self.beta, self.b))

    @property
    def residuals(self) -> FloatArray:
        """Response minus conditional fitted values, (n,)."""
        return self.observed(RESIDUALS).y - self.linear_predictor

    @property
    def term_modes(self) -> tuple[FloatArray, ...]:
        """Conditional modes per term, (m, k) each."""
        sizes = [t.m * t.k for t in self.layout.terms]
        parts = np.split(self.b, np.cumsum(sizes)[:-1])
        return tuple(x.reshape(t.m, t.k) for x, t in zip(parts, self.layout.terms))

    @cached_property
    def is_singular(self) -> bool:
        """Whether a random term has a direction of (relatively) zero variance."""
        names, columns = zip(*((t.name, t.columns) for t in self.layout.terms))
        parameters, scales = self.engine.parameters, column_scales(self.engine.crossproducts.gram)
        templates = parameters.templates(self.par)
        return len(singular_directions(names, columns, templates, scales, parameters.maps, parameters.deficits)) > 0

    def evaluate(self, theta: FloatArray | Sequence[float], criterion: Criterion | None = None) -> float:
        """Return the criterion at θ; the fit is not changed."""
        par = self.engine.parameters.par(theta)
        with self.engine.locked() as pls:
            return pls.value(pls.solve(par), criterion or self.criterion_type)


def linear_predictor(observed: Rows, beta: FloatArray, b: FloatArray) -> FloatArray:
    """Return offset + Xβ + Zb, (n,)."""
    mu: FloatArray = observed.X @ beta
    if observed.offset is not None:
        mu += observed.offset
    start = 0
    for t in observed.terms:
        block = b[start : start + t.m * t.k]
        start += t.m * t.k
        if isinstance(t, GroupedTerm):
            modes = block.reshape(t.m, t.k)
            for rows in chunks(observed.n):
                own, Z = modes[t.codes[rows]], t.Z[rows]
                mu[rows] += own[:, 0] * Z[:, 0] if t.k == 1 else np.einsum("nk,nk->n", own, Z)
        else:
            mu += t.matrix @ block
    return mu


def pwrss_from_rows(observed: Rows, beta: FloatArray, b: FloatArray, u: FloatArray) -> float:
    """Return Σ w (y - offset - Xβ - Zb)² + u'u."""
    squares = (observed.y - linear_predictor(observed, beta, b)) ** 2
    return float(squares.sum() if observed.weights is None else squares @ observed.weights) + float(u @ u)


def original_RX(RX: FloatArray, basis: FixedTransform) -> FloatArray:
    """Return the upper triangular factor, positive on the diagonal, of X'V⁻¹X for X as the user has it."""
    if not len(RX):
        return RX
    R = np.linalg.qr(np.linalg.solve(basis.matrix.T, RX.T).T, mode="r")
    return np.asarray(R * np.where(np.diag(R) < 0, -1.0, 1.0)[:, None])


def build_result(
    layout: DesignLayout,
    rows: Rows | None,
    engine: Engine,
    pls: PenalizedLeastSquares,
    solution: PLSSolution,
    criterion: Criterion,
    report: OptimizerReport,
    convergence: Convergence | None = None,
) -> FitResult:
    """Return the result of a penalized least-squares solution.

    Without rows pwrss is what the cross-products give, also where it is the small difference of large sums.
    """
    xp = engine.crossproducts
    u = pls.spherical(solution)
    centred = apply_factor(u[:, None], solution.templates, xp.gram)[:, 0]
    b = engine.parameters.reported_modes(centred, xp.gram.offsets)
    beta = xp.basis.coefficients(solution.gamma)
    if rows is not None and xp.XytWXy[-1, -1] > CANCELLING * solution.pwrss:
        solution = replace(solution, pwrss=pwrss_from_rows(rows, beta, b, u))
    return FitResult(
        layout=layout,
        rows=rows,
        engine=engine,
        criterion_type=criterion,
        par=frozen(solution.par),
        theta=frozen(engine.parameters.theta(solution.par)),
        criterion=pls.value(solution, criterion),
        ldL2=solution.ldL2,
        ldRX2=solution.ldRX2,
        pwrss=solution.pwrss,
        beta=frozen(beta),
        RX=frozen(original_RX(solution.RX, xp.basis)),
        sigma=float(np.sqrt(solution.pwrss / criterion.df(xp.n, xp.p))),
        u=frozen(u),
        b=frozen(b),
        report=report,
        convergence=convergence,
        messages=layout.messages,
    )
