"""The estimates of many fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from sparselmm._typing import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class Estimates:
    """Estimates for r responses.

    Attributes
    ----------
    par : (r, n_par) array
        Free parameters, canonical.
    coefficients : (r, p) array
        Fixed effects, in the coordinates and beside the values that who returns them says.
    sigma, criterion : (r,) arrays
        Residual standard deviations; the criterion, NaN where it was not evaluated.
    singular, converged : (r,) bool arrays
        Whether a template is singular; whether the steps settled.
    evaluations : (r,) array
        Factorisations of its own that each response took.
    """

    par: FloatArray
    coefficients: FloatArray
    sigma: FloatArray
    criterion: FloatArray
    singular: BoolArray
    converged: BoolArray
    evaluations: IntArray

    @classmethod
    def of_one(
        cls,
        par: FloatArray,
        coefficients: FloatArray,
        sigma: float,
        criterion: float,
        singular: bool,
        converged: bool,
        evaluations: int,
    ) -> Estimates:
        """Return the estimates for one response."""
        single = (sigma, criterion, singular, converged, evaluations)
        return cls(par[None], coefficients[None], *(np.array([x]) for x in single))

    @classmethod
    def joined(cls, parts: Sequence[Estimates]) -> Estimates:
        """Return several sets as one."""
        return cls(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)})

    def replaced(self, rows: IntArray, others: Sequence[Estimates]) -> Estimates:
        """Return the estimates with those of some rows, one each, in their place."""
        if not len(rows):
            return self
        new, out = Estimates.joined(others), {}
        for f in fields(self):
            out[f.name] = np.array(getattr(self, f.name))
            out[f.name][rows] = getattr(new, f.name)
        return Estimates(**out)
