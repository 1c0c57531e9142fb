"""Shared looks of the plots: axes, colours that colour-blind readers can tell apart, sensible sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sparselmm._typing import FloatArray, IntArray
from sparselmm.exceptions import BackendError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette
BLUE, ORANGE, GREEN, RED, SKY, PINK, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#888888"
PALETTE = (BLUE, ORANGE, GREEN, RED, SKY, PINK)
MARKERS = ("o", "s", "^", "D", "v", "P")
MANY_POINTS = 3_000  # of a scatter, which are drawn small and pale
DENSE_POINTS = 30_000  # which are drawn as a picture of hexagons


def pyplot() -> Any:
    """Return matplotlib.pyplot, or say how to install it."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise BackendError(f"plots need matplotlib ({error}): pip install matplotlib") from error
    return plt


def new_axes(ax: Axes | None, size: tuple[float, float] = (6.0, 4.2)) -> Axes:
    """Return the axes given, or those of a new figure of a size in inches."""
    if ax is not None:
        return ax
    _, made = pyplot().subplots(figsize=size, layout="constrained")
    return made  # type: ignore[no-any-return]


def new_grid(rows: int, columns: int, size: tuple[float, float], **options: Any) -> Any:
    """Return the (rows, columns) axes of a new figure."""
    _, axes = pyplot().subplots(rows, columns, figsize=size, layout="constrained", squeeze=False, **options)
    return axes


def finish(ax: Axes, xlabel: str, ylabel: str, title: str = "") -> Axes:
    """Label the axes and take the frame's upper and right lines away."""
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    if title:
        ax.set_title(title, fontsize="medium")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def points(ax: Axes, x: FloatArray, y: FloatArray, color: str = BLUE, **options: Any) -> None:
    """Draw points: open circles for few, smaller and lighter for many, hexagonal bins for very many."""
    if len(x) > DENSE_POINTS:
        ax.hexbin(x, y, gridsize=70, bins="log", cmap="Blues", mincnt=1, linewidths=0.0)
        return
    few = len(x) <= MANY_POINTS
    style = {"s": 16 if len(x) <= 500 else 6, "alpha": 0.7 if few else 0.25, "linewidths": 0, "rasterized": not few}
    ax.scatter(x, y, color=color, **{**style, **options})


def label_points(ax: Axes, x: FloatArray, y: FloatArray, names: list[str], how_many: int, size: FloatArray) -> None:
    """Write the names of the points with the largest sizes beside them, on the left where one is close on the right."""
    near = np.array([[0.08], [0.05]]) * np.array([[np.nanmax(v) - np.nanmin(v)] for v in (x, y)])
    chosen = np.argsort(-np.nan_to_num(size))[:how_many]
    placed: list[tuple[int, bool]] = []
    for i in chosen:
        close = [j for j in chosen if j != i and abs(x[i] - x[j]) < near[0] and abs(y[i] - y[j]) < near[1]]
        left = any((x[j], j) > (x[i], i) for j in close)
        if left not in [side for j, side in placed if j in close]:
            offset, ha = ((-4, 2), "right") if left else ((4, 2), "left")
            ax.annotate(names[i], (x[i], y[i]), xytext=offset, ha=ha, textcoords="offset points", fontsize="small")
            placed.append((int(i), left))


def legend_outside(ax: Axes, title: str) -> None:
    """Put the legend to the right of the axes, where it hides no data."""
    ax.legend(frameon=False, fontsize="small", title=title, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def running_mean(x: FloatArray, y: FloatArray, bins: int = 30) -> tuple[FloatArray, FloatArray]:
    """Return the means of x and y in groups of equal size along x."""
    order = np.argsort(x, kind="stable")
    parts = np.array_split(order, max(3, min(bins, len(x) // 15)))
    return np.array([x[p].mean() for p in parts if len(p)]), np.array([y[p].mean() for p in parts if len(p)])


def normal_band(n: int, level: float = 0.95) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return normal quantiles of n order statistics and pointwise limits of each, all (n,)."""
    from scipy.special import betaincinv, ndtri

    i = np.arange(1, n + 1)
    tail = (1.0 - level) / 2.0
    expected = ndtri((i - 0.375) / (n + 0.25))
    low, high = betaincinv(i, n + 1 - i, tail), betaincinv(i, n + 1 - i, 1.0 - tail)
    return expected, np.asarray(ndtri(low), dtype=float), np.asarray(ndtri(high), dtype=float)


def qq_on(ax: Axes, values: FloatArray, names: list[str] | None = None) -> None:
    """Draw a normal quantile plot of values standardized to variance one, with a 95 % pointwise band."""
    finite = np.isfinite(values)
    names = None if names is None else [name for name, keep in zip(names, finite) if keep]
    values = np.asarray(values)[finite]
    order = np.argsort(values)
    expected, low, high = normal_band(len(values))
    ax.fill_between(expected, low, high, color=GREY, alpha=0.2, linewidth=0)
    ax.plot(expected, expected, color=GREY, linewidth=1)
    kept = _thinned(len(values))
    points(ax, expected[kept], values[order][kept])
    if names is not None:
        outside = (values[order] < low) | (values[order] > high)
        size = np.where(outside, np.abs(values[order]), 0.0)
        shown = min(3, int(outside.sum()))
        label_points(ax, expected, values[order], [names[i] for i in order], shown, size)


def _thinned(n: int, tail: int = 500, middle: int = 2000) -> IntArray:
    """Return positions of order statistics to draw: all in the tails, some in the middle."""
    if n <= 2 * tail + middle:
        return np.arange(n)
    inner = np.linspace(tail, n - tail - 1, middle).astype(np.int64)
    return np.concatenate([np.arange(tail), inner, np.arange(n - tail, n)])
