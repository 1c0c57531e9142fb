"""Labelled pandas views of a fit's numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sparselmm._typing import FloatArray
from sparselmm.data.rows import Rows
from sparselmm.likelihood.result import FitResult


def by_row(result: FitResult, values: FloatArray, name: str) -> pd.Series[float]:
    """Return an (n,) vector labelled by the rows; padded with NaN under ``na_action="exclude"``."""
    observed = result.observed(name)
    if result.layout.na_action != "exclude":
        return pd.Series(values, index=observed.index, name=name)
    return pd.Series(pad_rows(observed, values), index=observed.frame_index, name=name)


def pad_rows(observed: Rows, values: FloatArray) -> FloatArray:
    """Return values by row, (n, ...), with NaN for the rows of the data that were left out."""
    padded = np.full((len(observed.frame_index), *values.shape[1:]), np.nan)
    padded[observed.positions] = values
    return padded


def modes_by_label(result: FitResult) -> dict[str, pd.DataFrame]:
    """Return the conditional modes per grouping label: levels × coefficients of all its terms."""
    parts: dict[str, list[pd.DataFrame]] = {}
    for term, modes in zip(result.layout.terms, result.term_modes):
        levels = term.levels.rename(term.label)
        parts.setdefault(term.label, []).append(pd.DataFrame(modes, index=levels, columns=list(term.columns)))
    return {label: frames[0] if len(frames) == 1 else _side_by_side(frames) for label, frames in parts.items()}


def _side_by_side(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Join terms of one grouping factor; a coefficient named twice keeps both columns."""
    return pd.concat(frames, axis=1)


def coefficients_by_label(result: FitResult) -> dict[str, pd.DataFrame]:
    """Return fixed plus random effects per level, as R's ``coef``.

    Random coefficients without a fixed counterpart come first and start from zero.
    """
    fixed = dict(zip(result.layout.columns, result.beta))
    modes = modes_by_label(result)
    extra = dict.fromkeys(c for frame in modes.values() for c in frame.columns if c not in fixed)
    names = [*extra, *fixed]
    out = {}
    for label, frame in modes.items():
        values = np.tile([fixed.get(name, 0.0) for name in names], (len(frame), 1))
        for j, name in enumerate(frame.columns):
            values[:, names.index(name)] += frame.iloc[:, j].to_numpy()
        out[label] = pd.DataFrame(values, index=frame.index, columns=names)
    return out
