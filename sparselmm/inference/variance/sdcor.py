"""Standard deviations and correlations of the random effects: names, order and values.

The order is that of `VarCorr.to_frame`: per term the standard deviations, then the correlations by
columns; σ and the fixed effects follow. Names are those of `vartable`: ``sd(Days|Subject)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparselmm._typing import BoolArray, FloatArray
from sparselmm.covariance import CovarianceStructure
from sparselmm.data.layout import TermLayout
from sparselmm.exceptions import ParameterError
from sparselmm.likelihood.identification import confounding
from sparselmm.likelihood.result import FitResult
from sparselmm.linalg.blocks import Templates

SIGMA = "sigma"
SIGMA2 = "sigma^2"
SCALES = ("sdcor", "varcov")


@dataclass(frozen=True)
class Entry:
    """One standard deviation (``row == col``) or correlation of a random term.

    Attributes
    ----------
    name, variance_name : str
        ``sd(a|g)`` or ``cor(a,b|g)``; ``var(a|g)`` or ``cov(a,b|g)``.
    term, row, col : int
        Position of the term and of the entry in its covariance.
    """

    name: str
    variance_name: str
    term: int
    row: int
    col: int

    @property
    def is_sd(self) -> bool:
        """Whether it is a standard deviation."""
        return self.row == self.col


def variance_entries(terms: Sequence[TermLayout], structures: Sequence[CovarianceStructure]) -> tuple[Entry, ...]:
    """Return the free standard deviations and correlations of all terms.

    Coefficients that share one parameter (a homogeneous diagonal) make one entry, named after the first.
    """
    out: list[Entry] = []
    for t, (term, structure) in enumerate(zip(terms, structures)):
        for i, j, _ in structure.entries():
            if i == j:
                what = f"({term.columns[i]}|{term.name})"
                out.append(Entry(f"sd{what}", f"var{what}", t, i, i))
            else:
                what = f"({term.columns[j]},{term.columns[i]}|{term.name})"
                out.append(Entry(f"cor{what}", f"cov{what}", t, i, j))
    return tuple(out)


def entry_values(entries: Sequence[Entry], reported: Templates, sigma: FloatArray | float) -> FloatArray:
    """Return the entries, (..., n), of templates (..., k, k) in the user's coordinates and σ (...).

    A correlation with a coefficient that does not vary is NaN.
    """
    sigma = np.asarray(sigma, dtype=float)
    out = np.empty((*sigma.shape, len(entries)))
    for x, e in enumerate(entries):
        T = reported[e.term]
        a, b = T[..., e.row, :], T[..., e.col, :]
        size = np.sqrt((a**2).sum(axis=-1))
        if e.is_sd:
            out[..., x] = sigma * size
            continue
        product = size * np.sqrt((b**2).sum(axis=-1))
        with np.errstate(divide="ignore", invalid="ignore"):
            out[..., x] = np.clip((a * b).sum(axis=-1) / product, -1.0, 1.0)
    return out


def variance_values(entries: Sequence[Entry], sdcor: FloatArray) -> FloatArray:
    """Return variances and covariances, (..., n), of standard deviations and correlations, (..., n)."""
    sds = [x for x, e in enumerate(entries) if e.is_sd]

    def sd(term: int, row: int) -> FloatArray:
        shared = [x for x in sds if entries[x].term == term and entries[x].row <= row]
        return np.asarray(sdcor[..., shared[-1]])

    out = np.empty_like(sdcor)
    for x, e in enumerate(entries):
        if e.is_sd:
            out[..., x] = sdcor[..., x] ** 2
        else:  # zero variance, zero covariance
            out[..., x] = np.nan_to_num(sdcor[..., x]) * sd(e.term, e.row) * sd(e.term, e.col)
    return out


def check_scale(scale: str) -> str:
    """Return the scale, or say which there are."""
    if scale not in SCALES:
        raise ParameterError(f"scale must be one of {', '.join(SCALES)}, not {scale!r}")
    return scale


def undetermined(result: FitResult, places: Sequence[tuple[int, int, int]]) -> BoolArray:
    """Return whether the design leaves entries (term, row, column) open; only fits that said so are looked at."""
    if any(message.code == "not_identified" for message in result.messages):
        parameters = result.engine.parameters
        confounded = confounding(result.engine.crossproducts.gram, parameters)
        if confounded is not None:
            moved = confounded.moved(parameters)
            return np.array([moved[t][np.ix_([i, j], [i, j])].any() for t, i, j in places], dtype=bool)
    return np.zeros(len(places), dtype=bool)
