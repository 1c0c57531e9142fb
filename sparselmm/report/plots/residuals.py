"""Plots of residuals, leverages and influence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sparselmm._typing import FloatArray, IntArray
from sparselmm.report.plots.canvas import (
    BLUE,
    DENSE_POINTS,
    GREY,
    MARKERS,
    ORANGE,
    PALETTE,
    RED,
    finish,
    label_points,
    legend_outside,
    new_axes,
    new_grid,
    points,
    qq_on,
    running_mean,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ONE_PANEL = 6  # levels whose lines can be told apart in one panel
GRID = 24  # panels that can be read on a page


def draw_qq(values: FloatArray, names: list[str], ylabel: str, ax: Axes | None) -> Axes:
    """Draw normal quantiles of standardized residuals; rows outside the band are named."""
    ax = new_axes(ax, (4.8, 4.2))
    qq_on(ax, values, names)
    return finish(ax, "Normal quantiles", ylabel)


def draw_scatter(x: FloatArray, y: FloatArray, labels: tuple[str, str], zero: bool, ax: Axes | None) -> Axes:
    """Draw points with their running mean."""
    ax = new_axes(ax)
    points(ax, x, y)
    if zero:
        ax.axhline(0.0, color="black", linewidth=0.8, linestyle=":")
    ax.plot(*running_mean(x, y), color=RED, linewidth=1.6, label="running mean")
    ax.legend(frameon=False, fontsize="small")
    return finish(ax, *labels)


def draw_by_level(
    fitted: FloatArray, values: FloatArray, codes: IntArray, levels: list[str], names: tuple[str, str], ax: Axes | None
) -> Any:
    """Draw residuals against fitted values by level: colours, panels, or one line per level for very many.

    ``names`` are the labels of the residuals and of the grouping factor.
    """
    if len(levels) <= ONE_PANEL:
        ax = new_axes(ax)
        for i, level in enumerate(levels):
            on = codes == i
            ax.scatter(fitted[on], values[on], s=18, color=PALETTE[i], marker=MARKERS[i], alpha=0.8, linewidths=0,
                       label=level)  # fmt: skip
        ax.axhline(0.0, color="black", linewidth=0.8, linestyle=":")
        legend_outside(ax, names[1])
        return finish(ax, "Fitted values", names[0])
    if ax is not None or len(levels) > GRID:
        return _draw_spread(values, codes, levels, names, new_axes(ax))
    columns = int(np.ceil(np.sqrt(len(levels))))
    rows = -(-len(levels) // columns)
    axes = new_grid(rows, columns, (1.7 * columns + 0.6, 1.5 * rows + 0.6), sharex=True, sharey=True)
    for i, here in enumerate(axes.ravel()):
        if i >= len(levels):
            here.set_visible(False)
            continue
        points(here, fitted[codes == i], values[codes == i])
        here.axhline(0.0, color="black", linewidth=0.8, linestyle=":")
        finish(here, "", "", levels[i]).title.set_fontsize("small")
    axes[0, 0].figure.supxlabel("Fitted values", fontsize="medium")
    axes[0, 0].figure.supylabel(names[0], fontsize="medium")
    return axes


def _draw_spread(values: FloatArray, codes: IntArray, levels: list[str], names: tuple[str, str], ax: Axes) -> Axes:
    """Draw median and quartiles of the residuals of each level, sorted by spread."""
    by_level = pd.Series(values).groupby(codes)
    quartiles = np.array([by_level.quantile(q).to_numpy() for q in (0.25, 0.5, 0.75)])
    order = np.argsort(quartiles[2] - quartiles[0], kind="stable")
    low, middle, high = quartiles[:, order]
    place = np.arange(len(order))
    many = len(order) > 300
    ax.vlines(
        place, low, high, color=BLUE, linewidth=0.4 if many else 1.0, alpha=0.6, label="quartiles", rasterized=many
    )
    ax.scatter(place, middle, s=1.5 if many else 8, color="black", linewidths=0, label="median", zorder=3)
    ax.axhline(0.0, color="black", linewidth=0.8, linestyle=":")
    legend_outside(ax, "")
    return finish(ax, f"{len(levels)} levels of {names[1]}, sorted by spread", names[0])


def draw_leverage(
    hat: FloatArray, standardized: FloatArray, p: int, names: list[str], cook: FloatArray, ax: Axes | None
) -> Axes:
    """Draw standardized residuals against leverages with lines of equal Cook's distance."""
    ax = new_axes(ax)
    points(ax, hat, standardized)
    h = np.linspace(max(hat.min() * 0.8, 1e-4), min(hat.max() * 1.05, 0.999), 200)
    top = 1.15 * float(np.nanmax(np.abs(standardized)))
    for i, distance in enumerate(_round_levels(cook)):
        curve = np.sqrt(distance * p * (1.0 - h) / h)
        for sign in (1.0, -1.0):
            ax.plot(h, sign * curve, color=ORANGE, linewidth=1, linestyle=("--", ":")[i])
        if curve[-1] < top:
            ax.annotate(f"Cook {distance:g}", (h[-1], curve[-1]), xytext=(4, 0), textcoords="offset points",
                        fontsize="small", color=RED, va="center")  # fmt: skip
    ax.set_ylim(-top, top)
    ax.axhline(0.0, color="black", linewidth=0.8, linestyle=":")
    label_points(ax, hat, standardized, names, 5 if len(hat) <= DENSE_POINTS else 3, cook)
    return finish(ax, "Leverage", "Standardized residual")


def _round_levels(cook: FloatArray) -> tuple[float, float]:
    """Return two round distances near the largest ones, the larger first."""
    largest = float(np.nanmax(cook))
    unit = 10.0 ** np.floor(np.log10(max(largest, 1e-300)))
    first = unit * max(c for c in (1.0, 2.0, 5.0) if c * unit <= largest)
    return first, first / 4.0


def draw_influence(cook: pd.Series[float], what: str, ax: Axes | None) -> Axes:
    """Draw Cook's distances, sorted; the largest are named."""
    m = len(cook)
    if m <= 40:
        ax = new_axes(ax, (5.4, float(np.clip(0.9 + 0.2 * m, 2.0, 7.5))))
        ordered = cook.sort_values()
        place = np.arange(m)
        ax.hlines(place, 0, ordered.to_numpy(), color=GREY, linewidth=1.2)
        ax.scatter(ordered.to_numpy(), place, color=BLUE, s=24, zorder=3)
        ax.set_yticks(place, [str(level) for level in ordered.index])
        ax.set_xlim(left=0)
        return finish(ax, "Cook's distance", what)
    ax = new_axes(ax)
    ordered = cook.sort_values(ascending=False)
    rank, values = np.arange(1, m + 1), ordered.to_numpy()
    ax.vlines(rank, 0, values, color=BLUE, linewidth=1.0 if m <= 300 else 0.5, rasterized=m > 1000)
    ax.plot(rank, values, color=BLUE, linewidth=1)
    shown = [f"{level} ({value:.2g})" for level, value in ordered.iloc[:8].items()]
    ax.text(0.97, 0.95, "largest:\n" + "\n".join(shown), transform=ax.transAxes, ha="right", va="top", fontsize="small")
    ax.set_ylim(bottom=0)
    ax.set_xlim(0, m + 1)
    return finish(ax, f"{m} levels of {what} by rank" if what != "row" else f"{m} rows by rank", "Cook's distance")
