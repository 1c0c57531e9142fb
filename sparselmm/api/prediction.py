"""Prediction for fitted and for loaded models: one method, two sources of numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from sparselmm._typing import FloatArray
from sparselmm.data import EncodingSpec
from sparselmm.data.source import ARRAY
from sparselmm.data.tables.frame import Frame
from sparselmm.exceptions import ParameterError
from sparselmm.hints.refusal import Hinted
from sparselmm.inference.predict.new_rows import (
    EncodedRows,
    RowVector,
    check_positive,
    encode_rows,
    select_effects,
    table_chunks,
)
from sparselmm.inference.predict.prediction import (
    Effects,
    Predicted,
    Target,
    check_level,
    make_target,
    predict_chunks,
    with_limits,
)

CHUNK_ROWS = 200_000


class Predictor(Hinted, hints="fit"):
    """Mixin with `predict`; it asks for the numbers, the encoding and the rows of the fit."""

    def _effects(self) -> Effects:
        raise NotImplementedError

    def _encoding(self) -> EncodingSpec | None:
        raise NotImplementedError

    def _given_names(self) -> tuple[str | None, str | None]:
        """Return the names of the weights and of the offset given as arguments of the fit."""
        raise NotImplementedError

    def _own_rows(self) -> tuple[EncodedRows, FloatArray | None]:
        """Return the rows of the fit and their weights."""
        raise NotImplementedError

    def _labelled(self, found: Predicted, own: bool) -> Predicted:
        return found

    def predict(
        self,
        newdata: Any = None,
        *,
        re_form: str | float | None = None,
        allow_new_levels: bool = False,
        se: bool = False,
        interval: str | None = None,
        level: float = 0.95,
        kind: str = "mean",
        weights: str | npt.ArrayLike | None = None,
        offset: str | npt.ArrayLike | None = None,
        chunk_rows: int = CHUNK_ROWS,
    ) -> pd.Series[float] | pd.DataFrame:
        """Predict means or new observations, with exact standard errors on request.

        Parameters
        ----------
        newdata : table, optional
            Rows to predict for, with the columns that the formula uses (the response is not needed); by
            default the rows of the fit. Transforms, levels and contrasts are those of the fit.
        re_form : None, str or NaN
            Random effects that count: None for all, ``"~0"`` or ``"NA"`` for none, or random terms of
            the model such as ``"~(1 | g)"``. Grouping factors that do not count need not be in newdata.
        allow_new_levels : bool
            Whether levels that the fit has not seen, and missing ones, count as zero; otherwise new levels are an
            error and rows without a level have no prediction.
        se : bool
            Whether to return standard errors and limits too.
        interval : {None, "confidence", "prediction"}
            ``"confidence"``: as ``se=True``; ``"prediction"``: the same for ``kind="new_observation"``.
        level : float
            Coverage of the limits, which are normal quantiles.
        kind : {"mean", "new_observation"}
            What is predicted. The standard error of a mean holds the uncertainty of the fixed effects and
            of the random effects that count (jointly), and the whole variance of a new level's. That of
            a new observation adds the residual variance σ²/w, and the variances of random effects that
            do not count, as for new levels. The variance parameters are taken as known.
        weights : str, number or (n,) array, optional
            Prior weights of new observations; by default the column of newdata that the fit used, and 1
            for a fit without weights.
        offset : str, number or (n,) array, optional
            In place of the ``offset=`` given to the fit; offsets in the formula are always added.
        chunk_rows : int
            Rows handled at a time; memory grows with it.

        Returns
        -------
        pandas.Series or pandas.DataFrame
            The predictions by row; with ``se`` or ``interval`` the columns ``mean``, ``se``, ``conf_low`` and
            ``conf_high``. Rows that lack a variable have NaN.

        Raises
        ------
        DataError
            When newdata lack a column or have new levels.
        FormulaError, ParameterError
            When re_form is not part of the model, or another argument is invalid.
        UnsupportedError
            After a fit by the iterative solver, for standard errors of more than 5,000 rows that touch more
            than 5,000 random effects: each takes a solution of the system.

        Examples
        --------
        >>> import sparselmm as slm
        >>> fit = slm.lmer("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
        >>> fit.predict({"Days": [0, 10], "Subject": ["308", "308"]}).round(2).tolist()
        [253.66, 450.33]
        >>> fit.predict({"Days": [0, 10]}, re_form="~0", interval="prediction").round(1)
            mean    se  conf_low  conf_high
        0  251.4  36.2     180.4      322.4
        1  356.1  72.3     214.4      497.7
        """
        effects, encoding = self._effects(), self._encoding()
        selection = select_effects(re_form, encoding, effects.sizes)
        target = make_target(kind, interval, selection)
        level, variances = check_level(level), bool(se) or interval is not None
        if isinstance(chunk_rows, bool) or not isinstance(chunk_rows, int | np.integer) or chunk_rows < 1:
            raise ParameterError(f"chunk_rows must be a positive whole number, not {chunk_rows!r}")
        if newdata is None:
            if weights is not None or offset is not None:
                raise ParameterError("weights and offset are for new data; the rows of the fit have their own")
            chunks: Iterator[tuple[EncodedRows, FloatArray | None]] = iter([self._own_rows()])
        else:
            index, frames = table_chunks(newdata, int(chunk_rows))
            shift = self._offset(offset, index)
            prior = self._weights(weights, index) if variances and target.needs_all_terms else None
            chunks = self._encoded(frames, target, bool(allow_new_levels), prior, shift)
        found = self._labelled(predict_chunks(effects, target, chunks, variances), newdata is None)
        return with_limits(found, level) if variances else pd.Series(found.mean, index=found.index, name="prediction")

    def _encoded(
        self,
        frames: Iterator[Frame],
        target: Target,
        allow_new_levels: bool,
        weights: RowVector | None,
        offset: RowVector | None,
    ) -> Iterator[tuple[EncodedRows, FloatArray | None]]:
        """Yield the rows of new data with their weights."""
        encoding, start = self._read_with(), 0
        for frame in frames:
            rows = encode_rows(encoding, frame, target.selection, allow_new_levels, target.needs_all_terms)
            if offset is not None:
                rows = replace(rows, shift=rows.shift + offset.take(frame, start))
            w = None if weights is None else check_positive(weights.take(frame, start), frame.index)
            start += len(frame)
            yield rows, w

    def _read_with(self) -> EncodingSpec:
        """Return what reads new data."""
        encoding = self._encoding()
        if encoding is None:
            raise ParameterError("a model made from arrays has no formula to read new data with")
        return encoding

    def _offset(self, given: str | npt.ArrayLike | None, index: pd.Index) -> RowVector | None:
        name = self._given_names()[1]
        if given is not None:
            return RowVector(given, "offset", index)
        if name == ARRAY:
            raise ParameterError("the model was fitted with an array as offset=; give that of the new rows by offset=")
        return None if name is None else RowVector(name, "the offset of the fit", index)

    def _weights(self, given: str | npt.ArrayLike | None, index: pd.Index) -> RowVector | None:
        name = self._given_names()[0]
        if given is not None:
            return RowVector(given, "weights", index)
        if name == ARRAY:
            raise ParameterError(
                "the model was fitted with an array as weights=; give those of the new observations by weights= "
                "(weights=1 for the residual variance sigma**2)"
            )
        return None if name is None else RowVector(name, "the weights of the fit", index)
