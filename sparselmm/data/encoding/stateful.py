"""Transforms of several columns that remember their data, and the rows that have a value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sparselmm._typing import FloatArray
from sparselmm.data.encoding.values import Columns, State, numbers
from sparselmm.data.tables.columns import Factor
from sparselmm.exceptions import DataError, DesignError, FormulaError

NAMES = "names of the columns"
_WIDE = ("poly", "bs", "ns", "cs", "cr", "cc")


def formulaic(name: str) -> Callable[..., Any]:
    """Return one of formulaic's stateful transforms."""

    def call(state: State, x: FloatArray, *args: Any, **kwargs: Any) -> Any:
        from formulaic.transforms import TRANSFORMS

        # formulaic's state is filled on the first call and read on later ones
        return TRANSFORMS[name](x, *args, **kwargs, _state=state)

    return call


def natural_spline_columns(state: State, x: FloatArray, *args: Any, **kwargs: Any) -> Any:
    """Return ``ns()``; what it needs is imported on use."""
    from sparselmm.data.encoding.splines import natural_spline

    return natural_spline(state, x, *args, **kwargs)


def stateful(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a transform that is run on the rows that have a value."""

    def transform(state: State, x: Any, *args: Any, **kwargs: Any) -> Any:
        values = np.asarray(numbers(x, f"{name}()"), dtype=np.float64)
        present = ~np.isnan(values)
        if values.ndim == 1 and not present.any() and NAMES in state:
            return _without_values(state[NAMES], len(values))
        if values.ndim != 1 or not present.any():
            raise DataError(f"{name}() needs one column with values")
        if any(isinstance(a, np.ndarray | Factor) for a in args):
            raise FormulaError(f"{name}() takes one column here; write a term for each, and their product with ':'")
        args = tuple(np.asarray(a, dtype=np.float64) if isinstance(a, list) else _whole(a) for a in args)
        kwargs = {k: np.asarray(v, dtype=np.float64) if isinstance(v, list) else _whole(v) for k, v in kwargs.items()}
        if NAMES not in state and name in _WIDE:
            for asked in (*args[:1], *(kwargs[key] for key in ("df", "degree") if key in kwargs)):
                _check_columns(name, asked, values[present])
        if name == "bs":
            _check_range(state, values[present], kwargs)
        try:
            with np.errstate(all="ignore"):
                result = function(state, values[present], *args, **kwargs)
        except (TypeError, ValueError, IndexError, KeyError, np.linalg.LinAlgError) as error:
            raise DataError(f"{name}(): {error}") from error
        spread = _spread(result, present)
        state.setdefault(NAMES, spread.names if isinstance(spread, Columns) else None)
        return spread

    return transform


def _check_columns(name: str, asked: object, values: FloatArray) -> None:
    """Refuse a transform with more columns than rows with a value, or a polynomial than distinct ones.

    Parameters
    ----------
    name : str
        The function.
    asked : object
        Its degree or degrees of freedom, as given.
    values : (n,) array
        Of the rows that have one.
    """
    if not isinstance(asked, int | float) or isinstance(asked, bool):
        return
    if asked > len(values):
        raise DesignError(f"{name}() is asked for {asked:,.10g} columns, but {len(values):,} rows have a value")
    if name == "poly" and asked >= (distinct := len(np.unique(values))):
        raise DesignError(f"poly() of degree {asked:g} needs more than {asked:g} distinct values; there are {distinct}")


def _check_range(state: State, values: FloatArray, options: dict[str, Any]) -> None:
    """Refuse values of new rows beyond the knots of a B-spline, unless the formula says what it is there."""
    if "extrapolation" in options or not {"lower_bound", "upper_bound"} <= set(state):
        return
    low, high = float(state["lower_bound"]), float(state["upper_bound"])
    beyond = values[(values < low) | (values > high)]
    if len(beyond):
        raise DataError(
            f"bs() is made for values from {low:.6g} to {high:.6g}, the range in the fit; {len(beyond)} of the new "
            f"ones lie beyond it, such as {beyond[0]:.6g}. Within bs(...) of the formula, extrapolation='extend' "
            "continues the polynomials, as R does, 'clip' the values at the ends; ns(...) is a straight line there"
        )


def _without_values(names: tuple[str, ...] | None, n: int) -> Any:
    """Return what a transform gives for n rows that all lack a value."""
    return np.full(n, np.nan) if names is None else Columns(np.full((n, len(names)), np.nan), names)


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _spread(result: Any, present: Any) -> Any:
    """Put a transform's rows back among those without a value."""
    plain = getattr(result, "__wrapped__", result)
    if isinstance(plain, dict):
        columns = {str(k): np.asarray(v, dtype=np.float64) for k, v in plain.items() if not str(k).startswith("__")}
        names, block = tuple(columns), np.column_stack(list(columns.values()))
    else:
        block = np.asarray(plain, dtype=np.float64)
        if block.ndim == 1:
            column = np.full(len(present), np.nan)
            column[present] = block
            return column
        names = tuple(str(j + 1) for j in range(block.shape[1]))
    values = np.full((len(present), block.shape[1]), np.nan)
    values[present] = block
    return Columns(values, names)
