"""What a fit holds, and its estimates and criteria by their names: the class that all parts of a fit build on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from sparselmm._typing import FloatArray
from sparselmm.data.source import ModelSource
from sparselmm.exceptions import Message
from sparselmm.hints.refusal import Hinted
from sparselmm.inference.diagnose.audit import logdet_error
from sparselmm.inference.frames import by_row, coefficients_by_label
from sparselmm.inference.row_facts import FactsOfRows, KeptFacts, RowFacts
from sparselmm.likelihood.certificate import Convergence
from sparselmm.likelihood.criterion import ML
from sparselmm.likelihood.problem import Problem
from sparselmm.likelihood.result import RESIDUALS, FitResult, VarCorr
from sparselmm.optimize import OptimizerReport
from sparselmm.statistics.crossproducts import CrossProducts


@dataclass(frozen=True, repr=False)
class Estimates(Hinted, hints="fit"):
    """Estimates and criteria of a fit, by name.

    Attributes
    ----------
    problem : Problem
        The model that was fitted, with the engine of the result (`Problem.solved`).
    result : FitResult
        The numbers.
    source : ModelSource
        Formula and encoding.
    kept : KeptFacts or None
        What is known of the rows after `MixedModelFit.without_rows`.
    """

    problem: Problem
    result: FitResult
    source: ModelSource
    kept: KeptFacts | None = None

    # --- fixed effects -----------------------------------------------------------------------

    def _series(self, values: FloatArray, name: str) -> pd.Series[float]:
        return pd.Series(values, index=pd.Index(self.result.layout.columns, dtype=object), name=name)

    @cached_property
    def params(self) -> pd.Series[float]:
        """Fixed effects β, (p,)."""
        return self._series(self.result.beta.copy(), "estimate")

    @cached_property
    def bse(self) -> pd.Series[float]:
        """Standard errors of the fixed effects, (p,)."""
        return self._series(self.sigma * np.sqrt(np.diag(self.result.unscaled_cov)), "std_error")

    @property
    def tvalues(self) -> pd.Series[float]:
        """Estimates over standard errors, (p,)."""
        return (self.params / self.bse).rename("t")

    def cov_params(self) -> pd.DataFrame:
        """Return the covariance matrix of the fixed effects, σ²(X'V⁻¹X)⁻¹, (p, p)."""
        names = list(self.result.layout.columns)
        return pd.DataFrame(self.scale * self.result.unscaled_cov, index=names, columns=names)

    @property
    def dropped_columns(self) -> tuple[str, ...]:
        """Fixed-effects columns left out because they depend on earlier ones."""
        return self.result.layout.dropped_columns

    @property
    def r_names(self) -> dict[str, str]:
        """R's name of each fixed and random coefficient, by the name used here."""
        return {} if self.source.encoding is None else self.source.encoding.r_names()

    # --- variance parameters -------------------------------------------------------------------

    @property
    def theta(self) -> FloatArray:
        """Relative covariance parameters in lme4's order, (n_theta,)."""
        return self.result.theta

    @property
    def theta_names(self) -> tuple[str, ...]:
        """Names of the entries of θ."""
        return self.problem.theta_names

    @property
    def sigma(self) -> float:
        """Residual standard deviation."""
        return self.result.sigma

    @property
    def scale(self) -> float:
        """Residual variance σ²."""
        return self.result.sigma**2

    @property
    def varcorr(self) -> VarCorr:
        """Variances, standard deviations and correlations of the random effects."""
        return self.result.varcorr

    @property
    def is_singular(self) -> bool:
        """Whether the covariance of a random term is (numerically) singular."""
        return self.result.is_singular

    # --- random effects --------------------------------------------------------------------------

    def coef(self) -> dict[str, pd.DataFrame]:
        """Return fixed plus random effects per level, as R's ``coef``."""
        return coefficients_by_label(self.result)

    @property
    def ngroups(self) -> dict[str, int]:
        """Number of levels per grouping label."""
        return {t.label: t.m for t in self.result.layout.terms}

    # --- rows ------------------------------------------------------------------------------------

    @property
    def fittedvalues(self) -> pd.Series[float]:
        """Conditional fitted values offset + Xβ + Zb, by row."""
        return by_row(self.result, self.result.linear_predictor, "fitted")

    @property
    def resid(self) -> pd.Series[float]:
        """Response minus fitted values, by row."""
        return by_row(self.result, self.result.residuals, "resid")

    @property
    def resid_pearson(self) -> pd.Series[float]:
        """Residuals times the square root of the prior weights, by row."""
        values = self.result.observed(RESIDUALS).scaled(self.result.residuals)
        return by_row(self.result, values, "resid_pearson")

    @cached_property
    def row_facts(self) -> FactsOfRows:
        """What tests and comparisons know of the rows, also after `without_rows`."""
        return self.kept or RowFacts(self.result, self.source)

    # --- criteria ----------------------------------------------------------------------------------

    @property
    def reml(self) -> bool:
        """Whether the fit is by REML."""
        return self.result.criterion_type.reml

    @property
    def criterion(self) -> float:
        """The REML criterion or the ML deviance at θ."""
        return self.result.criterion

    @property
    def criterion_name(self) -> str:
        """``"REML criterion"`` or ``"deviance"``."""
        return self.result.criterion_type.name

    @property
    def deviance(self) -> float:
        """The ML deviance at θ, for REML fits too."""
        return self.result.criterion if not self.reml else self.result.evaluate(self.theta, ML)

    @property
    def llf(self) -> float:
        """Log-likelihood (restricted for REML), minus half the criterion."""
        return -0.5 * self.criterion

    @property
    def npar(self) -> int:
        """Number of parameters: p, the covariance parameters and σ."""
        return self.result.p + self.result.n_par + 1

    @property
    def nobs(self) -> int:
        """Number of rows with positive weight."""
        return self.result.n

    @property
    def aic(self) -> float:
        """Akaike's criterion, -2 llf + 2 npar."""
        return self.criterion + 2.0 * self.npar

    @property
    def bic(self) -> float:
        """Schwarz's criterion, -2 llf + npar log(nobs)."""
        return self.criterion + self.npar * float(np.log(self.nobs))

    @property
    def df_resid(self) -> int:
        """nobs - npar, as lme4 counts."""
        return self.nobs - self.npar

    def evaluate(self, theta: npt.ArrayLike, exact: bool = False) -> float:
        """Return the criterion at any θ, (n_theta,); the fit is not changed.

        ``exact=True`` takes the Monte Carlo error of the iterative solver away, at the cost of `audit`.
        """
        values = np.atleast_1d(np.asarray(theta, dtype=float))
        error = logdet_error(self.problem.engine, self.problem.engine.parameters.par(values), True)[0] if exact else 0.0
        return self.result.evaluate(values) - error

    # --- how the fit came about ----------------------------------------------------------------------

    @property
    def convergence(self) -> Convergence | None:
        """The certificate from exact derivatives; None at a θ that was given."""
        return self.result.convergence

    @property
    def converged(self) -> bool:
        """Whether the certificate holds."""
        return self.result.convergence is not None and self.result.convergence.certified

    @property
    def messages(self) -> tuple[Message, ...]:
        """What the user should know: code, severity, what happened, what to do."""
        return self.result.messages

    @property
    def optimizer_report(self) -> OptimizerReport:
        """Name, status, message, evaluations and trace of the optimizer."""
        return self.result.report

    @property
    def formula(self) -> str:
        """The formula as given."""
        return self.source.formula

    @property
    def weights_name(self) -> str | None:
        """Column of the prior weights, ``"(array)"`` for an array, None without weights."""
        return self.source.weights_name

    @property
    def offset_name(self) -> str | None:
        """Column given by ``offset=``, ``"(array)"`` for an array, None without one."""
        return self.source.offset_name

    @property
    def data_name(self) -> str | None:
        """Name of the data, where the table carries one in ``attrs["name"]``."""
        name = getattr(self.source.data, "attrs", {}).get("name")
        return None if name is None else str(name)

    @property
    def crossproducts(self) -> CrossProducts:
        """The sufficient statistics that the criterion is computed from."""
        return self.problem.engine.crossproducts
