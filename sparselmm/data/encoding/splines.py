"""R's natural cubic spline basis, which formulaic does not have."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.interpolate import BSpline
from scipy.linalg import qr

from sparselmm._typing import FloatArray
from sparselmm.exceptions import DataError


def natural_spline(
    state: dict[str, Any],
    x: FloatArray,
    df: int | None = None,
    knots: Any = None,
    intercept: bool = False,
    Boundary_knots: Any = None,
) -> FloatArray:
    """Return R's ``splines::ns(x, df)``, (n, df): cubic between the boundary knots, linear beyond.

    Parameters
    ----------
    state : dict
        Keeps the knots for later rows.
    x : (n,) array
        Values, none missing.
    df : int, optional
        Number of columns; sets the number of knots, placed at quantiles.
    knots : sequence of float, optional
        Interior knots, in place of ``df``.
    intercept : bool
        Whether the basis may contain the constant.
    Boundary_knots : pair of float, optional
        Where the spline becomes linear; the range of ``x`` unless given.
    """
    if "knots" not in state:
        low, high = (x.min(), x.max()) if Boundary_knots is None else sorted(Boundary_knots)
        if low == high:
            raise DataError("ns(): the column has only one value")
        state["boundary"] = (float(low), float(high))
        state["knots"] = _interior_knots(x, df, knots, intercept, state["boundary"])
    boundary = state["boundary"]
    full = np.sort(np.concatenate([np.repeat(boundary, 4), state["knots"]]))
    first = 0 if intercept else 1
    basis = _extended_basis(full, x, boundary)[:, first:]
    curvature = np.vstack([_derivative(full, end, 2) for end in boundary])[:, first:]
    # the columns orthogonal to both conditions "no curvature at the ends"
    Q = qr(curvature.T, mode="full")[0]
    return np.asarray((basis @ Q)[:, 2:], dtype=np.float64)


def _interior_knots(
    x: FloatArray, df: int | None, knots: Any, intercept: bool, boundary: tuple[float, float]
) -> FloatArray:
    if knots is not None:
        return np.sort(np.atleast_1d(np.asarray(knots, dtype=np.float64)))
    count = 0 if df is None else int(df) - 1 - int(intercept)
    if count < 0:
        raise DataError(f"ns(): df must be at least {1 + int(intercept)}, not {df}")
    inside = x[(x >= boundary[0]) & (x <= boundary[1])]
    return np.quantile(inside, np.linspace(0, 1, count + 2)[1:-1])


def _derivative(full: FloatArray, at: float, order: int) -> FloatArray:
    m = len(full) - 4
    spline = BSpline(full, np.eye(m), 3)
    return np.asarray(spline.derivative(order)(at) if order else spline(at), dtype=np.float64)


def _extended_basis(full: FloatArray, x: FloatArray, boundary: tuple[float, float]) -> FloatArray:
    """Return the B-splines at x, continued along their tangents outside the boundary."""
    m = len(full) - 4
    basis = np.asarray(BSpline(full, np.eye(m), 3)(np.clip(x, *boundary)), dtype=np.float64)
    for end, outside in zip(boundary, (x < boundary[0], x > boundary[1])):
        if outside.any():
            basis[outside] += (x[outside] - end)[:, None] * _derivative(full, end, 1)
    return basis
