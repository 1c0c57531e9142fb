"""What later questions ask of the rows, in a form that does not grow with their number."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Protocol

import numpy as np
import pandas as pd

from sparselmm._typing import FloatArray
from sparselmm.data.encoding.encoding import EncodingSpec
from sparselmm.data.rows import Rows
from sparselmm.data.source import ModelSource
from sparselmm.exceptions import ParameterError
from sparselmm.inference.fixed.anova import type3_factors
from sparselmm.inference.fixed.terms import raw_rows, upper_factor
from sparselmm.inference.means.grid import Averages, averages
from sparselmm.inference.variance.shares import VarianceMoments, variance_moments
from sparselmm.likelihood.result import FitResult


@dataclass(frozen=True)
class RowDigest:
    """What tells one set of rows from another.

    Attributes
    ----------
    places, y, weights, offset : str
        Hashes of the positions of the rows in the data, the response, weights and offset.
    """

    places: str
    y: str
    weights: str
    offset: str


def digest(observed: Rows) -> RowDigest:
    """Return the hashes of rows."""
    parts = observed.positions, observed.y, observed.weights, observed.offset
    return RowDigest(*("" if x is None else sha256(np.ascontiguousarray(x).data).hexdigest() for x in parts))


class FactsOfRows(Protocol):
    """What tests, marginal means, shares of variance and comparisons know of the rows."""

    @property
    def digest(self) -> RowDigest:
        """Hashes of the rows."""

    @property
    def moments(self) -> VarianceMoments:
        """Second moments of X and Z over the rows."""

    @property
    def X(self) -> FloatArray:
        """X, or its triangular factor, (r, p)."""

    @property
    def type3(self) -> tuple[FloatArray, ...] | None:
        """Three codings of X up to one orthogonal factor (`type3_factors`); None without the data."""

    @property
    def averages(self) -> Averages | None:
        """Levels and means of the variables of the fixed part; None without the data."""


@dataclass(frozen=True)
class KeptFacts:
    """The facts of rows that were dropped; attributes are those of `FactsOfRows`."""

    digest: RowDigest
    moments: VarianceMoments
    X: FloatArray
    type3: tuple[FloatArray, ...] | None
    averages: Averages | None


class RowFacts:
    """The facts of the rows of a fit, each found when it is asked for."""

    def __init__(self, result: FitResult, source: ModelSource) -> None:
        self._result, self._source = result, source

    def __reduce__(self) -> tuple[type[RowFacts], tuple[FitResult, ModelSource]]:
        return RowFacts, (self._result, self._source)

    @cached_property
    def digest(self) -> RowDigest:
        """Hashes of the rows."""
        return digest(self._result.observed("comparisons of fits"))

    @cached_property
    def moments(self) -> VarianceMoments:
        """Second moments of X and Z over the rows."""
        return variance_moments(self._result.observed("shares of variance"))

    @property
    def X(self) -> FloatArray:
        """Fixed-effects matrix, (n, p)."""
        return self._result.observed("hypotheses about terms").X

    @cached_property
    def type3(self) -> tuple[FloatArray, ...]:
        """Three codings of X up to one orthogonal factor."""
        return type3_factors(self._encoding, self._raw())

    @cached_property
    def averages(self) -> Averages:
        """Levels and means of the variables of the fixed part."""
        observed = self._result.observed("marginal means")
        offset = 0.0 if observed.offset is None else float(np.mean(observed.offset))
        return averages(self._encoding, self._raw(offsets=True), offset)

    def kept(self) -> KeptFacts:
        """Return the facts apart from the rows."""
        known = self._source.encoding is not None and self._source.data is not None
        factors, means = (self.type3, self.averages) if known else (None, None)
        return KeptFacts(self.digest, self.moments, upper_factor(self.X), factors, means)

    @property
    def _encoding(self) -> EncodingSpec:
        if self._source.encoding is None:
            raise ParameterError("a model made from arrays has no variables; use t_test or f_test")
        return self._source.encoding

    def _raw(self, offsets: bool = False) -> pd.DataFrame:
        places = self._result.observed("the variables of the fixed part").positions
        return raw_rows(self._encoding, self._source.table(), places, offsets)
