"""The criterion over two entries of θ."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from sparselmm._typing import FloatArray
from sparselmm.report.plots.canvas import RED, finish, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COVERAGE = (0.5, 0.8, 0.95, 0.99)
SHADES = ("#ffffff", "#eaf2fa", "#d6e5f4", "#bdd7ee", "#94bfe0")


def contour_levels() -> FloatArray:
    """Return increases of the criterion that a χ² variable with 2 df exceeds with the complements of COVERAGE."""
    levels: FloatArray = -2.0 * np.log1p(-np.array(COVERAGE))
    return levels


def ranges(
    value: Callable[[FloatArray], float], centre: FloatArray, lower: FloatArray, reach: float
) -> list[tuple[float, float]]:
    """Return for each of two parameters how far the criterion stays within ``reach``, by bisection along its axis.

    The extent is doubled over the axis value to leave room for correlation.
    """
    best, out = value(centre), []
    for i in range(2):
        ends = []
        for sign in (-1.0, 1.0):
            step = np.zeros(2)
            step[i] = sign * 0.05 * max(abs(centre[i]), 0.2)
            for _ in range(12):
                at = np.maximum(centre + step, lower)
                if value(at) - best > reach or at[i] == lower[i]:
                    break
                step *= 1.6
            ends.append(float(np.maximum(centre + 1.15 * step, lower)[i]))
        out.append((ends[0], ends[1]))
    return out


def draw_contour(
    value: Callable[[FloatArray], float],
    centre: FloatArray,
    lower: FloatArray,
    names: tuple[str, str, str],
    points: int,
    ax: Axes | None,
) -> Axes:
    """Draw the increase of the criterion over its value at ``centre``; the other parameters stay put."""
    ax = new_axes(ax, (5.6, 4.6))
    levels = contour_levels()
    (x0, x1), (y0, y1) = ranges(value, centre, lower, float(levels[-1]))
    x, y = np.linspace(x0, x1, points), np.linspace(y0, y1, points)
    best = value(centre)
    surface = np.array([[value(np.array([a, b])) - best for a in x] for b in y])
    surface = np.maximum(surface, 0.0)
    filled = np.concatenate([[0.0], levels, [1.01 * max(float(surface.max()), 2.0 * levels[-1])]])
    ax.contourf(x, y, surface, levels=filled, colors=SHADES)
    lines = ax.contour(x, y, surface, levels=levels, colors="black", linewidths=0.8)
    ax.clabel(
        lines, fmt={v: f"{100 * c:.0f} %" for v, c in zip(lines.levels, COVERAGE)}, fontsize="small", inline_spacing=2
    )
    ax.plot(*centre, marker="+", color=RED, markersize=12, markeredgewidth=2)
    return finish(ax, names[0], names[1], names[2])
