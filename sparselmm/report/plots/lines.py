"""Observed values with the fitted lines of the levels of a grouping factor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sparselmm._typing import FloatArray, IntArray
from sparselmm.data import EncodingSpec
from sparselmm.data.rows import GroupedTerm
from sparselmm.data.tables.columns import Factor
from sparselmm.data.tables.frame import Frame, as_frame
from sparselmm.exceptions import ParameterError
from sparselmm.likelihood.result import FitResult
from sparselmm.report.plots.canvas import (
    BLUE,
    GREY,
    MARKERS,
    PALETTE,
    finish,
    legend_outside,
    new_axes,
    new_grid,
    points,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GRID_POINTS = 30
ONE_PANEL = 6
PANELS = 24


@dataclass(frozen=True)
class Lines:
    """Fitted lines along one variable.

    Attributes
    ----------
    x, y : (n,) arrays
        The variable and the response of the rows used.
    codes : (n,) int array
        Level of each row.
    levels : tuple of str
        The m levels.
    along : (m, r) array
        Values of x at which the lines of each level are drawn, within its own range.
    fitted : (m, r) array
        Fixed part plus the random effects of the level.
    span, population : (r,) arrays
        Values of x over all levels and the fixed part there.
    """

    x: FloatArray
    y: FloatArray
    codes: IntArray
    levels: tuple[str, ...]
    along: FloatArray
    fitted: FloatArray
    span: FloatArray
    population: FloatArray


def fitted_lines(result: FitResult, encoding: EncodingSpec, data: Any, x: str, group: str) -> Lines:
    """Return the lines of all levels of a grouping factor along a numeric column of the data.

    Other numeric columns are held at the median of the level (of all rows for the population), other
    factors at their most frequent level there; random effects of other grouping factors are zero.
    """
    frame, observed = as_frame(data), result.observed("fitted lines")
    own = [t for t, term in enumerate(encoding.terms) if term.label == group]
    if not own:
        raise ParameterError(
            f"unknown grouping factor {group!r}; there are {', '.join({t.label for t in encoding.terms})}"
        )
    values = frame.column(x)
    if isinstance(values, Factor):
        raise ParameterError(f"{x!r} is a factor; fitted lines need a numeric variable")
    values = values[observed.positions]
    term = observed.terms[own[0]]
    assert isinstance(term, GroupedTerm)
    codes, m = term.codes, term.m
    low, high = np.full(m, np.inf), np.full(m, -np.inf)
    np.minimum.at(low, codes, values)
    np.maximum.at(high, codes, values)
    share = np.linspace(0.0, 1.0, GRID_POINTS)
    along = low[:, None] + (high - low)[:, None] * share
    span = np.linspace(values.min(), values.max(), GRID_POINTS)
    names = [c for c in encoding.kinds if c in frame and c != x]
    typical = _typical(frame, names, observed.positions, codes, m)
    rows = pd.DataFrame({**{c: np.repeat(v, GRID_POINTS) for c, v in typical.items()}, x: along.ravel()})
    fitted = _fixed(encoding, result, rows)
    for t in own:
        Z = encoding.apply_term(t, rows).Z
        fitted += np.einsum("nk,nk->n", Z, np.repeat(result.term_modes[t], GRID_POINTS, axis=0))
    overall = _typical(frame, names, observed.positions, np.zeros(result.n, dtype=np.int64), 1)
    population = _fixed(
        encoding, result, pd.DataFrame({**{c: np.repeat(v, GRID_POINTS) for c, v in overall.items()}, x: span})
    )
    levels = tuple(str(v) for v in term.levels)
    return Lines(values, observed.y, codes, levels, along, fitted.reshape(m, -1), span, population)


def numeric_variable(encoding: EncodingSpec, data: Any, response: str) -> str:
    """Return the numeric variable of a model, where there is one only."""
    frame = as_frame(data)
    names = [c for c in encoding.kinds if c in frame and c != response]
    numeric = [c for c in names if not isinstance(frame.column(c), Factor)]
    if len(numeric) != 1:
        raise ParameterError(f"fitted lines need a numeric variable; there are {', '.join(numeric) or 'none'}")
    return numeric[0]


def _fixed(encoding: EncodingSpec, result: FitResult, rows: pd.DataFrame) -> FloatArray:
    out = encoding.apply_fixed(rows) @ result.beta
    shift = encoding.apply_offset(rows)
    return out if shift is None else out + shift


def _typical(frame: Frame, names: list[str], rows: IntArray, codes: IntArray, m: int) -> dict[str, Any]:
    """Return for each column its median or most frequent value per group, (m,)."""
    out: dict[str, Any] = {}
    for name in names:
        column = frame.column(name)
        if isinstance(column, Factor):
            cells = pd.DataFrame({"g": codes, "f": column.codes[rows]}).value_counts().reset_index()
            best = cells.drop_duplicates("g").set_index("g")["f"].reindex(range(m)).to_numpy()
            out[name] = pd.Categorical.from_codes(best, categories=column.levels)
        else:
            out[name] = pd.Series(column[rows]).groupby(codes).median().reindex(range(m)).to_numpy()
    return out


def draw_lines(lines: Lines, names: tuple[str, str, str], ax: Axes | None) -> Any:
    """Draw the lines: in colours for few levels, in panels for some, as one bundle for many.

    ``names`` are the labels of x, of the response and of the grouping factor.
    """
    if len(lines.levels) <= ONE_PANEL:
        return _draw_colours(lines, names, new_axes(ax))
    if ax is None and len(lines.levels) <= PANELS:
        return _draw_panels(lines, names)
    ax = new_axes(ax)
    many = len(lines.levels) > 200
    ax.plot(lines.along.T, lines.fitted.T, color=BLUE, linewidth=0.4 if many else 0.8, alpha=0.15 if many else 0.5,
            rasterized=many)  # fmt: skip
    ax.plot(lines.span, lines.population, color="black", linewidth=2, label="population")
    ax.legend(frameon=False, fontsize="small")
    ax.set_title(f"{len(lines.levels)} levels of {names[2]}", fontsize="medium")
    return finish(ax, *names[:2])


def _draw_colours(lines: Lines, names: tuple[str, str, str], ax: Axes) -> Axes:
    for i, level in enumerate(lines.levels):
        on = lines.codes == i
        ax.scatter(lines.x[on], lines.y[on], s=22, color=PALETTE[i], marker=MARKERS[i], alpha=0.75, linewidths=0)
        ax.plot(lines.along[i], lines.fitted[i], color=PALETTE[i], marker=MARKERS[i], markevery=[-1], linewidth=1.8,
                label=level)  # fmt: skip
    ax.plot(lines.span, lines.population, color="black", linewidth=1.8, linestyle="--", label="population")
    legend_outside(ax, names[2])
    return finish(ax, *names[:2])


def _draw_panels(lines: Lines, names: tuple[str, str, str]) -> Any:
    m = len(lines.levels)
    columns = min(6, int(np.ceil(np.sqrt(m))))
    rows = -(-m // columns)
    axes = new_grid(rows, columns, (1.6 * columns + 0.6, 1.6 * rows + 0.6), sharex=True, sharey=True)
    for i, here in enumerate(axes.ravel()):
        if i >= m:
            here.set_visible(False)
            continue
        on = lines.codes == i
        points(here, lines.x[on], lines.y[on], GREY)
        here.plot(lines.along[i], lines.fitted[i], color=BLUE, linewidth=1.8)
        here.plot(lines.span, lines.population, color="black", linewidth=1, linestyle="--")
        finish(here, "", "", lines.levels[i]).title.set_fontsize("small")
    axes[0, 0].figure.supxlabel(names[0], fontsize="medium")
    axes[0, 0].figure.supylabel(names[1], fontsize="medium")
    return axes
