"""The Monte Carlo error of a difference of criteria, and what it means for a test.

The j-th probe of every fit with one seed is made of the same random numbers, so the j-th values of
log|M| of two fits form a pair and pairs are independent of each other: the error of a difference is
that of the mean of the differences by pair. That is so whatever the two fits have in common; if it is
little, the values of a pair are hardly correlated and the variances add up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from sparselmm._typing import FloatArray
from sparselmm.exceptions import UndecidedError
from sparselmm.likelihood.result import FitResult

LEVELS = (0.05, 0.01, 0.001)
SPREAD = 4.0  # standard errors by which a statistic may be off
Tail = Callable[[float, int], float]


def probe_values(result: FitResult) -> FloatArray:
    """Return log|M| of a fit by each probe, (probes,); none for an exact solver."""
    certificate = result.convergence
    if certificate is not None and certificate.monte_carlo is not None:
        return certificate.monte_carlo.values
    with result.engine.locked() as pls:
        drawn = pls.system.monte_carlo
        if drawn is None:
            return np.zeros(0)
        pls.factor(pls.parameters.templates(result.par))
        return drawn.report().values


def difference_error(a: FitResult, b: FitResult) -> float | None:
    """Return the Monte Carlo standard error of the difference of two criteria; None where both are exact."""
    x, y = probe_values(a), probe_values(b)
    if not len(x) and not len(y):
        return None
    return paired_error(x, y)


def paired_error(x: FloatArray, y: FloatArray) -> float:
    """Return the standard error of mean(x) - mean(y) for values whose first ones are pairs, (n,) and (m,).

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([1.0, 2.0, 3.0, 6.0])
    >>> paired_error(x, x + 5.0)
    0.0
    >>> round(paired_error(x, np.zeros(0)), 3)
    1.08
    """
    pairs = min(len(x), len(y))
    longer = x if len(x) > len(y) else y
    variance = 0.0
    if pairs > 1:
        variance += pairs * float(np.var(x[:pairs] / len(x) - y[:pairs] / len(y), ddof=1))
    if len(longer) > pairs:
        variance += (len(longer) - pairs) * float(np.var(longer, ddof=1)) / len(longer) ** 2
    return float(np.sqrt(variance))


def undecided_level(statistic: float, error: float, df: int, tail: Tail) -> float | None:
    """Return the level on whose other side the p-value could lie, the statistic being off by `SPREAD` errors.

    Examples
    --------
    >>> from sparselmm.inference.distributions import chi2_tail
    >>> undecided_level(3.8, 0.02, 1, chi2_tail), undecided_level(3.8, 0.005, 1, chi2_tail)
    (0.05, None)
    """
    low = tail(statistic + SPREAD * error, df)
    high = tail(max(0.0, statistic - SPREAD * error), df)
    return next((level for level in LEVELS if low < level <= high), None)


def with_errors(
    table: pd.DataFrame, errors: Sequence[float | None], statistic: str, df: str, tails: Mapping[str, Tail]
) -> pd.DataFrame:
    """Return a table of tests with the errors of the statistics, where a fit is approximate; else as it is.

    Parameters
    ----------
    table : DataFrame
        One test per row; rows without a test have NaN as statistic.
    errors : sequence of float or None
        By row; None where the statistic is exact.
    statistic, df : str
        Columns of the statistics and of their degrees of freedom.
    tails : mapping
        The p-value as a function of statistic and degrees of freedom, by column.

    Raises
    ------
    UndecidedError
        When the error of a statistic leaves open on which side of 0.05, 0.01 or 0.001 a p-value lies. The
        exception holds the table without these p-values.
    """
    if all(error is None for error in errors):
        return table
    position = list(table.columns).index(statistic) + 1
    table.insert(position, f"{statistic} se", [np.nan if e is None else e for e in errors])
    refused = []
    for row, error in zip(table.index, errors):
        if error is None or not np.isfinite(table.loc[row, statistic]):
            continue
        value, degrees = float(table.loc[row, statistic]), int(table.loc[row, df])
        for column, tail in tails.items():
            level = undecided_level(value, error, degrees, tail)
            if level is not None:
                refused.append(f"{row}: {statistic} {value:.5g} with standard error {error:.2g}, {column} near {level}")
                table.loc[row, column] = np.nan
    if refused:
        raise undecided(refused, table)
    return table


def undecided(refused: Sequence[str], table: pd.DataFrame) -> UndecidedError:
    """Return the refusal of tests that a Monte Carlo error leaves open."""
    return UndecidedError(
        f"a test could turn out the other way by the Monte Carlo error of the criterion alone ({'; '.join(refused)}). "
        "Fit the models again with a smaller error, control=slm.IterativeControl(standard_error=..., max_probes=..., "
        "max_deflation=...); the other tests are in the attribute 'table' of this error",
        table,
    )
