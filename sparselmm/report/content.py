"""The content of a summary: plain values taken from a fit, without any layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._typing import FloatArray, frozen
from sparselmm.exceptions import ParameterError, RowsNeededError
from sparselmm.report.protocol import SummarizableFit

__all__ = ["Coefficients", "Note", "RandomRow", "SummaryContent", "collect"]

_COEF_TABLE_COLUMNS = ("estimate", "std_error", "df", "statistic", "p_value")


@dataclass(frozen=True)
class RandomRow:
    """One line of the random-effects table.

    Attributes
    ----------
    group : str
        Name of the term on its first line, else empty.
    name : str
        Random coefficient; empty for the residual.
    sd : float
        Standard deviation; its square is the variance.
    corr : tuple of float
        Correlations with the earlier coefficients of the same term.
    """

    group: str
    name: str
    sd: float
    corr: tuple[float, ...] = ()

    @property
    def variance(self) -> float:
        """The variance."""
        return self.sd**2


@dataclass(frozen=True)
class Coefficients:
    """The fixed-effects table.

    Attributes
    ----------
    names : tuple of str
        The p coefficient names.
    estimate, std_error, statistic : tuple of float
        Estimates, standard errors and t values.
    df, p_value : tuple of float or None
        Degrees of freedom and p-values, when a table with tests was given.
    """

    names: tuple[str, ...]
    estimate: tuple[float, ...]
    std_error: tuple[float, ...]
    statistic: tuple[float, ...]
    df: tuple[float, ...] | None = None
    p_value: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Note:
    """A remark printed below the tables: how serious it is, and its text."""

    severity: str
    text: str


@dataclass(frozen=True)
class SummaryContent:
    """Everything a summary shows, as values.

    Attributes
    ----------
    title : str
        What was fitted and how.
    formula : str
        Model formula.
    data_name, weights_name, offset_name : str or None
        Names of the data, of the prior weights and of the offset given beside the formula.
    criterion : float or None
        The REML criterion; None for maximum likelihood.
    fit_statistics : tuple of (str, float)
        AIC, BIC, logLik, deviance, df.resid; for REML without the deviance.
    quantiles : tuple of float or None
        Minimum, quartiles and maximum of Pearson residuals / sigma; None when sigma is 0.
    random : tuple of RandomRow
        Lines of the random-effects table, the residual last.
    nobs : int
        Rows in the likelihood.
    groups : tuple of (str, int)
        Grouping labels and their numbers of levels.
    coefficients : Coefficients
        Fixed-effects table, possibly empty.
    correlation : (p, p) array or None
        Correlation of the fixed-effects estimates, when asked for.
    convergence : str
        One line on how the optimizer ended.
    dropped_columns : tuple of str
        Fixed-effects columns left out for rank deficiency.
    notes : tuple of Note
        The fit's messages.
    """

    title: str
    formula: str
    data_name: str | None
    weights_name: str | None
    offset_name: str | None
    criterion: float | None
    fit_statistics: tuple[tuple[str, float], ...]
    quantiles: tuple[float, ...] | None
    random: tuple[RandomRow, ...]
    nobs: int
    groups: tuple[tuple[str, int], ...]
    coefficients: Coefficients
    correlation: FloatArray | None
    convergence: str
    dropped_columns: tuple[str, ...]
    notes: tuple[Note, ...]


def collect(
    fit: SummarizableFit, correlation: bool, coef_table: pd.DataFrame | None, notes: Sequence[str] = ()
) -> SummaryContent:
    """Return the content of the summary of `fit`; see `sparselmm.report.summarize`."""
    return SummaryContent(
        title=_title(fit, coef_table),
        formula=str(fit.formula),
        data_name=fit.data_name,
        weights_name=fit.weights_name,
        offset_name=fit.offset_name,
        criterion=float(fit.criterion) if fit.reml else None,
        fit_statistics=_fit_statistics(fit),
        quantiles=_quantiles(fit),
        random=_random_rows(fit),
        nobs=int(fit.nobs),
        groups=tuple((str(label), int(m)) for label, m in fit.ngroups.items()),
        coefficients=_coefficients(fit, coef_table),
        correlation=_correlation(fit) if correlation and len(fit.params) else None,
        convergence=_convergence(fit),
        dropped_columns=tuple(map(str, fit.dropped_columns)),
        notes=(
            *(Note(str(m.severity), str(m)) for m in fit.messages),
            *(Note("note", str(text)) for text in (*_test_notes(coef_table), *notes)),
        ),
    )


def _title(fit: SummarizableFit, coef_table: pd.DataFrame | None) -> str:
    title = "Linear mixed model fit by " + ("REML" if fit.reml else "maximum likelihood")
    attrs = coef_table.attrs if coef_table is not None else {}
    method = attrs.get("method")
    tests = attrs.get("title", f"t-tests use {method}'s method" if method else "")
    return f"{title}. {tests}" if tests else title


def _test_notes(coef_table: pd.DataFrame | None) -> Sequence[str]:
    return [] if coef_table is None else coef_table.attrs.get("notes", [])


def _fit_statistics(fit: SummarizableFit) -> tuple[tuple[str, float], ...]:
    values: list[tuple[str, float]] = [("AIC", fit.aic), ("BIC", fit.bic), ("logLik", fit.llf)]
    if not fit.reml:
        values.append(("deviance", fit.criterion))
    values.append(("df.resid", fit.df_resid))
    return tuple((name, float(value)) for name, value in values)


def _quantiles(fit: SummarizableFit) -> tuple[float, ...] | None:
    try:
        r = np.asarray(fit.resid_pearson, dtype=np.float64)
    except RowsNeededError:
        return None
    r = r[~np.isnan(r)]
    if not len(r) or not fit.sigma > 0:
        return None
    return _floats(np.quantile(r / fit.sigma, (0.0, 0.25, 0.5, 0.75, 1.0)))


def _random_rows(fit: SummarizableFit) -> tuple[RandomRow, ...]:
    rows = [
        RandomRow(str(term.name) if j == 0 else "", str(column), float(term.sd[j]), _floats(term.corr[j][:j]))
        for term in fit.varcorr.terms
        for j, column in enumerate(term.columns)
    ]
    return (*rows, RandomRow("Residual", "", float(fit.sigma)))


def _coefficients(fit: SummarizableFit, coef_table: pd.DataFrame | None) -> Coefficients:
    names = tuple(map(str, fit.params.index))
    if coef_table is None:
        return Coefficients(names, _floats(fit.params), _floats(fit.bse), _floats(fit.tvalues))
    missing = [c for c in _COEF_TABLE_COLUMNS if c not in coef_table.columns]
    if missing:
        raise ParameterError(f"coef_table lacks the column(s) {', '.join(missing)}")
    if tuple(map(str, coef_table.index)) != names:
        raise ParameterError("the rows of coef_table are not the fixed effects of this fit, in the same order")
    estimate, std_error, df, statistic, p_value = (_floats(coef_table[c]) for c in _COEF_TABLE_COLUMNS)
    return Coefficients(names, estimate, std_error, statistic, df, p_value)


def _correlation(fit: SummarizableFit) -> FloatArray:
    cov = np.asarray(fit.cov_params(), dtype=np.float64)
    sd = np.sqrt(np.diag(cov))
    with np.errstate(divide="ignore", invalid="ignore"):
        return frozen(cov / np.outer(sd, sd))


def _convergence(fit: SummarizableFit) -> str:
    verdict: Any = getattr(fit, "convergence", None)
    if verdict is not None:
        return (str(verdict).strip().splitlines() or [""])[0]
    report = fit.optimizer_report
    if report is None:
        return "not optimized (theta was given)"
    if report.n_evaluations <= 1 and report.message:
        return str(report.message)
    status = getattr(report.status, "value", report.status)
    evaluations = f"{report.n_evaluations} evaluation{'' if report.n_evaluations == 1 else 's'}"
    return f"{status} after {evaluations} ({report.message or report.name})"


def _floats(values: Sequence[float] | FloatArray | pd.Series[float]) -> tuple[float, ...]:
    return tuple(float(v) for v in values)
