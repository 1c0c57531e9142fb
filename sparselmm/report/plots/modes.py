"""Plots of conditional modes: caterpillar, normal quantiles, shrinkage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sparselmm._typing import FloatArray
from sparselmm.report.plots.canvas import BLUE, GREY, ORANGE, finish, new_axes, new_grid, qq_on

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LABELLED = 40  # levels whose names can be read


def caterpillar_on(ax: Axes, modes: pd.Series[float], sd: FloatArray, half_width: float, sort: bool) -> Axes:
    """Draw modes with intervals, one line per level for few levels, a band of lines for many."""
    values, sd = modes.to_numpy(), np.asarray(sd)
    order = np.argsort(values, kind="stable") if sort else np.arange(len(values))[::-1]
    values, sd, place = values[order], sd[order], np.arange(len(order))
    apart = np.abs(values) > half_width * sd
    few = len(values) <= LABELLED
    width, size = (1.4, 22) if few else (0.7, 5) if len(values) <= 300 else (0.35, 1.2)
    for chosen, color in ((~apart, GREY), (apart, BLUE)):
        ax.hlines(place[chosen], (values - half_width * sd)[chosen], (values + half_width * sd)[chosen],
                  color=color, linewidth=width, alpha=1.0 if few else 0.8, rasterized=len(values) > 1000)  # fmt: skip
    if few:
        ax.scatter(values, place, color=np.where(apart, BLUE, GREY), s=size, zorder=3)
    else:
        ax.plot(values, place, color="black", linewidth=1.2)
    ax.axvline(0.0, color="black", linewidth=0.8, linestyle=":")
    ax.set_ylim(-0.8, len(values) - 0.2)
    if few:
        ax.set_yticks(place, [str(modes.index[i]) for i in order])
    else:
        ax.set_yticks([0, len(values) - 1], ["lowest", "highest"] if sort else ["last", "first"])
        ax.set_title(f"{len(values)} levels, {int(apart.sum())} apart from 0", fontsize="small", loc="left")
    return ax


def caterpillar_height(levels: int) -> float:
    """Return the height of a caterpillar plot in inches."""
    return float(np.clip(1.0 + 0.2 * levels, 2.0, 7.0)) if levels <= LABELLED else 5.0


def draw_caterpillar(modes: pd.DataFrame, sd: pd.DataFrame, half_width: float, sort: bool, ax: Any) -> Any:
    """Draw one panel per coefficient; ``ax`` is one axes, or as many as there are coefficients."""
    k = modes.shape[1]
    if ax is None:
        axes = new_grid(1, k, (3.4 * k + 1.2, caterpillar_height(len(modes))), sharey=False)[0]
    else:
        axes = np.atleast_1d(np.asarray(ax, dtype=object)).ravel()
        if len(axes) != k:
            raise ValueError(f"ax must hold {k} axes, one per coefficient; choose one with column=")
    for j, here in enumerate(axes):
        caterpillar_on(here, modes.iloc[:, j], sd.iloc[:, j].to_numpy(), half_width, sort)
        finish(here, str(modes.columns[j]), str(modes.index.name or "") if j == 0 else "")
    return axes[0] if k == 1 else axes


def draw_ranef_qq(modes: pd.DataFrame, prior_sd: FloatArray, sd: pd.DataFrame, ax: Any) -> Any:
    """Draw normal quantiles of modes over their own standard deviations, one panel per coefficient.

    The mode of a level has variance (variance of the effect) - (conditional variance).
    """
    k = modes.shape[1]
    axes = (
        new_grid(1, k, (3.6 * k + 0.6, 3.6))[0] if ax is None else np.atleast_1d(np.asarray(ax, dtype=object)).ravel()
    )
    for j, here in enumerate(axes):
        spread = np.sqrt(np.maximum(prior_sd[j] ** 2 - sd.iloc[:, j].to_numpy() ** 2, 0.0))
        known = spread > 1e-6 * max(prior_sd[j], 1e-300)
        values = modes.iloc[:, j].to_numpy()
        if known.sum() > 2:
            qq_on(here, values[known] / spread[known], [str(level) for level in modes.index[known]])
        finish(here, "Normal quantiles", "Standardized modes" if j == 0 else "", str(modes.columns[j]))
    return axes[0] if k == 1 else axes


def draw_shrinkage(
    within: FloatArray, modes: FloatArray, centre: FloatArray, names: tuple[str, str], ax: Axes | None
) -> Axes:
    """Draw arrows from estimates within levels to conditional modes, both (m, 2), and the population's."""
    ax = new_axes(ax, (5.6, 4.8))
    both = np.isfinite(within).all(axis=1)
    within, modes = within[both], modes[both]
    few = len(within) <= 60
    move = modes - within
    ax.quiver(within[:, 0], within[:, 1], move[:, 0], move[:, 1], angles="xy", scale_units="xy", scale=1,
              color=GREY, width=0.004 if few else 0.0015, headwidth=4, alpha=0.9 if few else 0.35)  # fmt: skip
    size = 24 if few else 5
    ax.scatter(within[:, 0], within[:, 1], s=size, facecolors="none", edgecolors=ORANGE, linewidths=1.0 if few else 0.7,
               label="within level", zorder=3)  # fmt: skip
    ax.scatter(modes[:, 0], modes[:, 1], s=size, color=BLUE, linewidths=0, label="conditional mode", zorder=4)
    ax.scatter(
        centre[:1], centre[1:], marker="P", s=90, color="black", edgecolors="white", label="population", zorder=5
    )
    # a few wild levels must not set the scale
    for axis, j in ((ax.set_xlim, 0), (ax.set_ylim, 1)):
        low, high = (
            np.quantile(within[:, j], [0.01, 0.99]) if len(within) > 200 else (within[:, j].min(), within[:, j].max())
        )
        low, high = min(low, modes[:, j].min()), max(high, modes[:, j].max())
        axis(low - 0.06 * (high - low), high + 0.06 * (high - low))
    ax.legend(frameon=False, fontsize="small")
    return finish(ax, names[0], names[1])


def draw_shrinkage_line(within: FloatArray, modes: FloatArray, rows: FloatArray, centre: float, name: str,
                        ax: Axes | None) -> Axes:  # fmt: skip
    """Draw conditional modes against estimates within levels for a single coefficient; sizes are rows per level."""
    ax = new_axes(ax, (5.0, 4.4))
    both = np.isfinite(within)
    area = np.clip(60 * rows[both] / rows.max(), 4, 60)
    ax.scatter(within[both], modes[both], s=area, color=BLUE, alpha=0.7 if both.sum() < 500 else 0.35, linewidths=0)
    ax.axline((centre, centre), slope=1, color=GREY, linewidth=1, label="no shrinkage")
    ax.axhline(centre, color="black", linewidth=0.8, linestyle=":", label="population")
    ax.legend(frameon=False, fontsize="small", loc="upper left")
    return finish(ax, f"{name}: estimate within level", "Conditional mode + population")
