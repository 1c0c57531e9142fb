"""Predictions with exact variances, for rows of the fit or new ones, in chunks.

Two targets (docs/predict.md names all four combinations):

* ``"mean"``: the mean x'β + z'b over the random effects that count. Its error has the variance
  of Henderson's equations; a new level's effect is predicted as zero, and adds its variance z'ΨΨ'z.
* ``"new_observation"``: one new value there. Random effects that do not count are those of new levels
  and add their variances, and the residual adds σ²/w.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd

from sparselmm._typing import BoolArray, FloatArray
from sparselmm.exceptions import ParameterError
from sparselmm.inference.predict.conditional_variance import quantile
from sparselmm.inference.predict.error_variance import (
    InverseEntries,
    MatrixPart,
    Part,
    PredictionErrors,
    TermPart,
    error_variance,
)
from sparselmm.inference.predict.new_rows import EncodedRows, Selection
from sparselmm.likelihood.result import FitResult

Kind = Literal["mean", "new_observation"]
KINDS = ("mean", "new_observation")
INTERVALS = (None, "confidence", "prediction")


@dataclass(frozen=True)
class Effects:
    """The numbers that predictions need.

    Attributes
    ----------
    beta : (p,) array
        Fixed effects.
    sigma : float
        Residual standard deviation.
    modes : tuple of (m, k) arrays
        Conditional modes per term.
    factors : tuple of (k, k) arrays
        Relative factors per term: the coefficients of a level have covariance σ² T T'.
    joint : callable
        Returns the joint covariance of the coefficients, for variances.
    """

    beta: FloatArray
    sigma: float
    modes: tuple[FloatArray, ...]
    factors: tuple[FloatArray, ...]
    joint: Callable[[], PredictionErrors] = field(repr=False)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Numbers of coefficients per level."""
        return tuple(len(T) for T in self.factors)


def result_effects(result: FitResult, joint: Callable[[], PredictionErrors]) -> Effects:
    """Return what predictions need of a result."""
    factors = result.engine.parameters.reported_templates(result.par)
    return Effects(result.beta, result.sigma, result.term_modes, factors, joint)


@dataclass(frozen=True)
class Target:
    """What is predicted.

    Attributes
    ----------
    selection : tuple of (k,) bool arrays
        Which random coefficients count.
    kind : {"mean", "new_observation"}
        A mean, or one new value.
    """

    selection: Selection
    kind: Kind

    @property
    def needs_all_terms(self) -> bool:
        """Whether rows of terms that do not count are needed."""
        return self.kind == "new_observation"


def make_target(kind: str, interval: str | None, selection: Selection) -> Target:
    """Return the target of a request, or say what is wrong with it."""
    if kind not in KINDS:
        raise ParameterError(f"kind must be one of {', '.join(map(repr, KINDS))}, not {kind!r}")
    if interval not in INTERVALS:
        raise ParameterError(f"interval must be None, 'confidence' or 'prediction', not {interval!r}")
    if interval == "confidence" and kind == "new_observation":
        raise ParameterError("interval='confidence' is for a mean; use 'prediction' for new observations")
    chosen: Kind = "new_observation" if interval == "prediction" or kind == "new_observation" else "mean"
    if chosen == "new_observation" and any(s.any() and not s.all() for s in selection):
        raise ParameterError(
            "re_form takes only some of the correlated coefficients of a term: a mean can be predicted from them, "
            "but a new observation needs the whole term or none of it"
        )
    return Target(selection, chosen)


@dataclass(frozen=True)
class Predicted:
    """Predictions for n rows; NaN where a row lacks a variable.

    Attributes
    ----------
    mean : (n,) array
        On the scale of the linear predictor.
    variance : (n,) array or None
        Of the error.
    index : pandas.Index
        Labels of the rows.
    """

    mean: FloatArray
    variance: FloatArray | None
    index: pd.Index


def predict_chunks(
    effects: Effects, target: Target, chunks: Iterable[tuple[EncodedRows, FloatArray | None]], variances: bool
) -> Predicted:
    """Predict chunk by chunk; each comes with its weights, or None for a residual variance of σ²."""
    joint = effects.joint() if variances else None
    entries = None if joint is None else InverseEntries(joint)
    means, each, labels = [], [], []
    for rows, weights in chunks:
        valid = _complete(rows, target)
        mean = point(effects, target.selection, rows)
        mean[~valid] = np.nan
        means.append(mean)
        labels.append(rows.index)
        if joint is not None and entries is not None:
            each.append(_variance(effects, target, joint, entries, rows, weights, valid))
    index = labels[0] if len(labels) == 1 else labels[0].append(labels[1:])
    return Predicted(_joined(means), _joined(each) if variances else None, index)


def _joined(parts: list[FloatArray]) -> FloatArray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _complete(rows: EncodedRows, target: Target) -> BoolArray:
    """Return which rows have all that the target needs, (n,)."""
    valid = ~rows.missing & ~np.isnan(rows.shift)
    if rows.X.shape[1]:
        valid &= ~np.isnan(rows.X).any(axis=1)
    for part, chosen in zip(rows.parts, target.selection):
        if isinstance(part, TermPart) and (chosen.any() or target.needs_all_terms):
            needed = part.Z if target.needs_all_terms else part.Z[:, chosen]
            valid &= ~np.isnan(needed).any(axis=1)
    return valid


def point(effects: Effects, selection: Selection, rows: EncodedRows) -> FloatArray:
    """Return offset + x'β + z'b over the coefficients that count, (n,)."""
    out = rows.shift + rows.X @ effects.beta if rows.X.shape[1] else np.array(rows.shift)
    for part, modes, chosen in zip(rows.parts, effects.modes, selection):
        if part is None or not chosen.any():
            continue
        if isinstance(part, MatrixPart):
            out += part.matrix @ (modes * chosen).ravel()
            continue
        known = part.codes >= 0
        for a in np.flatnonzero(chosen):
            # a level not seen has the position -1, whose mode is taken and put to zero
            out += np.where(known, modes[part.codes, a], 0.0) * part.Z[:, a]
    return out


def _variance(
    effects: Effects,
    target: Target,
    joint: PredictionErrors,
    entries: InverseEntries,
    rows: EncodedRows,
    weights: FloatArray | None,
    valid: BoolArray,
) -> FloatArray:
    """Return the error variance of each row, (n,)."""
    at = np.flatnonzero(valid)
    parts = [_included(part, chosen, at) for part, chosen in zip(rows.parts, target.selection)]
    relative = error_variance(joint, entries, rows.X[at], parts)
    for part, T, chosen in zip(rows.parts, effects.factors, target.selection):
        if isinstance(part, TermPart):
            # what is not known adds its variance: new levels that count, and for a new value all that does not
            if chosen.any():
                new = part.codes[at] < 0
                relative[new] += _squares(np.where(chosen, part.Z[at[new]], 0.0) @ T)
            elif target.needs_all_terms:
                relative += _squares(part.Z[at] @ T)
        elif isinstance(part, MatrixPart) and not chosen.any() and target.needs_all_terms:
            c = part.sparse(part.matrix.shape[1] // len(T), T)[at]
            relative += np.asarray(c.multiply(c).sum(axis=1)).ravel()
    if target.kind == "new_observation":
        relative += 1.0 if weights is None else 1.0 / weights[at]
    out = np.full(len(rows), np.nan)
    out[at] = effects.sigma**2 * relative
    return out


def _included(part: Part | None, chosen: BoolArray, at: np.ndarray) -> Part | None:
    """Return the part of complete rows with the coefficients that do not count put to zero."""
    if part is None or not chosen.any():
        return None
    if isinstance(part, MatrixPart):
        return MatrixPart(part.matrix[at])
    Z = part.Z[at]
    return TermPart(part.codes[at], Z if chosen.all() else np.where(chosen, Z, 0.0))


def _squares(C: FloatArray) -> FloatArray:
    return np.asarray(np.einsum("nk,nk->n", C, C))


def with_limits(predicted: Predicted, level: float) -> pd.DataFrame:
    """Return mean, se and the limits of normal intervals."""
    assert predicted.variance is not None
    se = np.sqrt(predicted.variance)
    width = quantile(level) * se
    columns = {
        "mean": predicted.mean,
        "se": se,
        "conf_low": predicted.mean - width,
        "conf_high": predicted.mean + width,
    }
    return pd.DataFrame(columns, index=predicted.index)


def check_level(level: float) -> float:
    """Refuse a confidence level outside (0, 1)."""
    if isinstance(level, bool) or not isinstance(level, int | float | np.number) or not 0.0 < float(level) < 1.0:
        raise ParameterError(f"level must be a number between 0 and 1, such as 0.95, not {level!r}")
    return float(level)
