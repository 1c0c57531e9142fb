"""Tables of tests: coefficients, one-row hypotheses, and F tests by term."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from sparselmm._typing import FloatArray
from sparselmm.exceptions import ParameterError
from sparselmm.inference.distributions import t_quantile, t_tail
from sparselmm.inference.fixed.wald import TestMethod, variances

TITLES = {"normal": "z tests", "residual": "t-tests with n - p degrees of freedom"}
ANOVA_COLUMNS = ("Sum Sq", "Mean Sq", "NumDF", "DenDF", "F value", "Pr(>F)")


def check_level(level: float) -> float:
    """Return a confidence level between 0 and 1."""
    if not (isinstance(level, (int, float, np.floating)) and 0.0 < level < 1.0):
        raise ParameterError(f"level must be a number between 0 and 1, such as 0.95, not {level!r}")
    return float(level)


def t_table(method: TestMethod, L: FloatArray, rhs: FloatArray, names: Sequence[str], level: float) -> pd.DataFrame:
    """Return one row per hypothesis l'β = c: estimate, std_error, df, statistic, p_value, conf_low, conf_high.

    Parameters
    ----------
    method : TestMethod
        How degrees of freedom and covariance come about; its name is in ``attrs["method"]``.
    L, rhs : (r, p), (r,) arrays
        The hypotheses; the statistic is (Lβ - rhs) / std_error.
    names : sequence of str
        Labels of the rows.
    level : float
        Confidence level.
    """
    level = check_level(level)
    estimate = L @ method.fixed.beta
    se = np.sqrt(variances(L, method.cov()))
    df = method.row_df(L)
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = (estimate - rhs) / se
    half = t_quantile(level, df) * se
    table = pd.DataFrame(
        {
            "estimate": estimate,
            "std_error": se,
            "df": df,
            "statistic": statistic,
            "p_value": t_tail(statistic, df),
            "conf_low": estimate - half,
            "conf_high": estimate + half,
        },
        index=pd.Index(list(names), dtype=object),
    )
    table.attrs.update(method=method.name, title=describe(method), level=level, notes=list(method.notes))
    return table


def describe(method: TestMethod) -> str:
    """Return what the tests are, for titles."""
    return TITLES.get(method.name, f"t-tests use {method.name}'s method")


def f_table(method: TestMethod, hypotheses: Mapping[str, FloatArray], kind: str) -> pd.DataFrame:
    """Return an analysis of variance table with lmerTest's columns, one row per hypothesis Lβ = 0.

    A term without rows has NaN. Mean squares are F σ², sums of squares those times the numerator degrees of freedom.
    """
    rows: list[tuple[float, ...]] = []
    for L in hypotheses.values():
        if not len(L):  # all its columns were dropped
            rows.append((np.nan, np.nan, 0, np.nan, np.nan, np.nan))
            continue
        test = method.f_test(L, np.zeros(len(L)))
        mean = test.statistic * method.fixed.sigma**2
        # the mean square belongs to the F statistic before any scaling of it
        mean = mean / test.scale
        rows.append((mean * test.num_df, mean, test.num_df, test.den_df, test.statistic, test.p_value))
    table = pd.DataFrame(rows, columns=list(ANOVA_COLUMNS), index=pd.Index(list(hypotheses), dtype=object))
    table = table.astype({name: float for name in ANOVA_COLUMNS if name != "NumDF"} | {"NumDF": int})
    title = f"Type {kind} analysis of variance" if kind else "Tests of single terms"
    title += f"; denominator degrees of freedom: {method.name}"
    table.attrs.update(method=method.name, title=title, notes=list(method.notes))
    return table
