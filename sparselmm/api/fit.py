"""The fitted model: thin labelled views of a frozen result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt
import pandas as pd

from sparselmm._typing import FloatArray
from sparselmm.api.after import AfterFit
from sparselmm.api.diagnostics import Diagnostics
from sparselmm.api.inference import Inference, summary_table
from sparselmm.api.matrices import Matrices
from sparselmm.api.resampling import Resampling
from sparselmm.data.source import ModelSource
from sparselmm.data.tables.labels import check_order
from sparselmm.exceptions import DataError, Message, ParameterError
from sparselmm.formula import update_formula
from sparselmm.hints.arguments import check_names, method_hints
from sparselmm.hints.foreign import EVERYWHERE, FIT_ARGUMENTS
from sparselmm.hints.names import LMER_ARGUMENTS, fit_hint
from sparselmm.inference.diagnose.audit import logdet_error
from sparselmm.inference.frames import by_row, coefficients_by_label
from sparselmm.likelihood.certificate import Convergence
from sparselmm.likelihood.criterion import ML, criterion_for
from sparselmm.likelihood.problem import Problem, evaluate_at, fit_problem
from sparselmm.likelihood.result import FitResult, VarCorr
from sparselmm.optimize import OptimizerReport
from sparselmm.report import Summary, summarize
from sparselmm.statistics.crossproducts import CrossProducts

if TYPE_CHECKING:
    pass


@method_hints(FIT_ARGUMENTS, EVERYWHERE)
@dataclass(frozen=True, repr=False)
class MixedModelFit(AfterFit, Diagnostics, Inference, Resampling, Matrices):
    """A fitted linear mixed model; nothing in it changes.

    Attributes
    ----------
    problem : Problem
        The model that was fitted.
    result : FitResult
        The numbers.
    source : ModelSource
        Formula and encoding.
    """

    problem: Problem
    result: FitResult
    source: ModelSource

    def __post_init__(self) -> None:
        if self.problem.engine is not self.result.engine:  # that of the result knows the effort of this fit
            object.__setattr__(self, "problem", replace(self.problem, engine=self.result.engine))

    # --- fixed effects -----------------------------------------------------------------------

    def _series(self, values: FloatArray, name: str) -> pd.Series[float]:
        return pd.Series(values, index=pd.Index(self.result.design.columns, dtype=object), name=name)

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
        names = list(self.result.design.columns)
        return pd.DataFrame(self.scale * self.result.unscaled_cov, index=names, columns=names)

    @property
    def dropped_columns(self) -> tuple[str, ...]:
        """Fixed-effects columns left out because they depend on earlier ones."""
        return self.result.design.dropped_columns

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
        return {t.label: t.m for t in self.result.design.terms}

    # --- rows ------------------------------------------------------------------------------------

    @property
    def fittedvalues(self) -> pd.Series[float]:
        """Conditional fitted values offset + Xβ + Zb, by row."""
        return by_row(self.result.design, self.result.linear_predictor, "fitted")

    @property
    def resid(self) -> pd.Series[float]:
        """Response minus fitted values, by row."""
        return by_row(self.result.design, self.result.design.y - self.result.linear_predictor, "resid")

    @property
    def resid_pearson(self) -> pd.Series[float]:
        """Residuals times the square root of the prior weights, by row."""
        design = self.result.design
        values = design.y - self.result.linear_predictor
        return by_row(design, values if design.weights is None else values * np.sqrt(design.weights), "resid_pearson")

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
        return self.result.design.p + self.result.n_par + 1

    @property
    def nobs(self) -> int:
        """Number of rows with positive weight."""
        return self.result.design.n

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

    # --- fitting again -----------------------------------------------------------------------------------

    def refit(self, y: npt.ArrayLike | None = None, *, reml: bool | None = None) -> MixedModelFit:
        """Fit the same design to another response, or by the other criterion.

        Parameters
        ----------
        y : (n,) array or table of one column, optional
            The new response, one value for each row that entered this fit or for each row of the
            data; on the scale of the left side of the formula. A Series must have these rows' order.
            What follows from the new fit (`update`, `augment`, `anova`, ...) uses this response.
        reml : bool, optional
            Criterion; by default that of this fit.
        """
        criterion = self.result.criterion_type if reml is None else criterion_for(bool(reml))
        problem, source = self.problem, self.source
        if y is not None:
            response = self._response(y)
            problem, source = problem.with_response(response), source.with_response(response, self.result.design)
        # close to this fit's θ, Newton steps alone are the shortest way; a boundary is no place to start from
        nearby: dict[str, Any] = {} if self.is_singular else {"start": self.theta, "optimizer": "newton"}
        return MixedModelFit(problem, fit_problem(problem, criterion, **nearby), source)

    def _response(self, y: npt.ArrayLike) -> FloatArray:
        design = self.result.design
        try:
            values = np.array(y, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise DataError(f"the new response is not numeric: {error}") from error
        if values.ndim == 2:
            if values.shape[1] != 1:
                one = f"one column, as in refit(y[{y.columns[0]!r}])" if isinstance(y, pd.DataFrame) else "one column"
                raise DataError(
                    f"the new response has {values.shape[1]} columns: pass {one}, or all to slm.fit_many(fit, y)"
                )
            values = values[:, 0]
        whole = values.shape == (len(design.frame_index),)
        check_order(y, design.frame_index if whole else design.index, "y")
        if whole and len(design.frame_index) != design.n:
            values = values[design.rows]
        if values.shape != (design.n,):
            raise DataError(
                f"the new response has shape {values.shape}; it needs one value for each of the {design.n} rows used"
            )
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise DataError(f"the new response is missing or not finite in rows {list(design.index[bad[:10]])}")
        if design.n > 1 and np.ptp(values) == 0:
            raise DataError("the new response is constant")
        return values

    def at(self, theta: npt.ArrayLike) -> MixedModelFit:
        """Return the full result at another θ, (n_theta,), without optimizing."""
        theta = np.atleast_1d(np.asarray(theta, dtype=float))
        return MixedModelFit(self.problem, evaluate_at(self.problem, theta, self.result.criterion_type), self.source)

    def update(
        self,
        formula: str | None = None,
        *,
        data: Any = None,
        subset: Any = None,
        reml: bool | None = None,
        **changes: Any,
    ) -> MixedModelFit:
        """Fit a changed model.

        Parameters
        ----------
        formula : str, optional
            Change of the formula in R's manner, for example ``". ~ . - x"``.
        data : table, optional
            Other data; by default the data of this fit, with the response of `refit` where one was given.
        subset : str or (n,) bool array, optional
            Rows to keep: a pandas query or a mask.
        reml : bool, optional
            Criterion; by default that of this fit.
        **changes
            Other arguments of `lmer` to replace.
        """
        from sparselmm.api.model import LinearMixedModel, lmer
        from sparselmm.data.tables.subset import take_subset

        check_names(lmer, changes, LMER_ARGUMENTS)
        if self.source.spec is None:
            raise ParameterError("a model made from arrays has no formula to update")
        text = self.formula if formula is None else update_formula(self.source.spec, formula)
        table, response = (self.source.table(), self.source.response) if data is None else (data, None)
        solving = self.problem.solving(changes.get("solver", self.problem.solver))
        arguments = {**self.source.arguments, **solving, **changes}
        fitting = {key: arguments.pop(key) for key in ("start", "optimizer", "verbose") if key in arguments}
        if subset is not None:
            table, cut = take_subset(table, subset, {**arguments, "response": response})
            response, arguments = cut.pop("response"), cut
        if response is None:
            model = LinearMixedModel.from_formula(text, table, **arguments)
        else:
            model = LinearMixedModel._of_response(text, table, self.source.spec.response, response, **arguments)
        return model.fit(self.reml if reml is None else reml, **fitting)

    # --- reports -------------------------------------------------------------------------------------------

    def summary(self, correlation: bool = False, digits: int = 4, ddf: str | None = "auto") -> Summary:
        """Return the summary, which prints as text and shows as HTML in notebooks.

        Parameters
        ----------
        correlation : bool
            Whether to show the correlation of the fixed-effects estimates.
        digits : int
            Significant digits of the tables.
        ddf : str or None
            Degrees of freedom of the tests of the coefficients, as in `coef_table`; None shows t values
            without tests, as lme4 does; ``"auto"`` (default) is Satterthwaite's method where it takes seconds
            at most.
        """
        if ddf is None:
            return summarize(self, correlation=correlation, digits=digits)
        table, reason = summary_table(self, ddf)
        return summarize(
            self, correlation=correlation, digits=digits, coef_table=table, notes=(reason,) if reason else ()
        )

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    def to_latex(self) -> str:
        """Return the summary as LaTeX (booktabs)."""
        return self.summary().to_latex()

    def to_markdown(self) -> str:
        """Return the summary as Markdown."""
        return self.summary().to_markdown()

    def __repr__(self) -> str:
        kind = "REML" if self.reml else "ML"
        groups = ", ".join(f"{label}: {m}" for label, m in self.ngroups.items())
        return f"<MixedModelFit by {kind}: {self.formula}; {self.nobs} rows, {groups}; criterion {self.criterion:.4f}>"

    if not TYPE_CHECKING:  # type checkers know the names

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(fit_hint(name))

    def __dir__(self) -> Sequence[str]:
        return sorted(name for name in super().__dir__() if not name.startswith("_"))
