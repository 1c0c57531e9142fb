"""How large a model matrix would become, before any of it is made."""

from __future__ import annotations

from collections.abc import Callable, Collection
from math import prod

from sparselmm.data.encoding.values import Columns, Value
from sparselmm.data.tables.columns import Factor, list_some
from sparselmm.exceptions import DesignError
from sparselmm.formula.algebra import TermList
from sparselmm.linalg.machine import GIGA, MEMORY_SHARE, available_memory

FIXED = "the fixed part"
LITTLE = 1e8  # bytes that are there without asking


def check_size(
    terms: TermList, values: Callable[[str], Value], n: int, where: str, coded: Collection[str] = ()
) -> None:
    """Refuse a matrix that does not fit in memory, or has more columns of numbers than rows.

    Parameters
    ----------
    terms : TermList
        Its terms.
    values : callable
        The value of each variable on the rows of the model; factors without unused levels.
    n : int
        Rows.
    where : str
        What the matrix is, for messages.
    coded : collection of str
        Factors that have contrasts of the user's, which may be few columns.

    Raises
    ------
    DesignError
        Naming the widest factor and its number of levels, where one is to blame.
    """
    variables = {variable: values(variable) for term in terms.terms for variable in term}
    for variable, value in variables.items():
        if where == FIXED and variable not in coded:
            _check_own_levels(variable, value, n)
    width = {variable: _width(value) for variable, value in variables.items()}
    columns = [prod(width[variable] for variable in term) for term in terms.terms]
    factors = {v: len(value.levels) for v, value in variables.items() if isinstance(value, Factor)}
    plain = sum(p for term, p in zip(terms.terms, columns) if not any(v in factors for v in term))
    if plain >= n and where == FIXED:
        raise DesignError(
            f"{where} has {plain + terms.intercept:,} columns of numbers for {n:,} rows; the model needs more rows "
            "than fixed effects"
        )
    p = sum(columns) + terms.intercept
    needed = 8.0 * (float(n) * p + float(p) ** 2 + sum(float(m) ** 2 for m in factors.values()))
    if needed < LITTLE:
        return
    room = available_memory()
    if room is None or needed < MEMORY_SHARE * room:
        return
    size = (
        f"{where} would have {p:,} columns for {n:,} rows and take {needed / GIGA:,.3g} GB; {room / GIGA:.3g} GB are "
        "available"
    )
    widest = max(factors, key=factors.__getitem__, default=None)
    if widest is None:
        raise DesignError(f"{size}; leave out interactions")
    raise DesignError(
        f"the factor {widest} in {where} has {factors[widest]:,} levels, each with a coefficient: {size}. A factor "
        f"with so many levels can be a random effect, (1 | {widest}); numbers and dates should not be text"
    )


def _width(value: Value) -> int:
    """Return how many columns a variable has in a product, at least."""
    if isinstance(value, Factor):
        return max(len(value.levels) - 1, 1)
    return value.block.shape[1] if isinstance(value, Columns) else 1


def _check_own_levels(variable: str, value: Value, n: int) -> None:
    """Refuse a factor with a level of its own in each row, unless it has contrasts of its own."""
    if not isinstance(value, Factor) or len(value.levels) < max(n, 2) or value.contrast is not None:
        return
    what = "text" if value.text else "a factor"
    raise DesignError(
        f"{variable} in {FIXED} is {what} with {len(value.levels):,} levels in {n:,} rows "
        f"({list_some(value.levels, 3)}), and each level would have a coefficient. Are these dates or numbers? "
        "Then turn them into numbers, for example days since the first date; labels of rows are no predictor"
    )
