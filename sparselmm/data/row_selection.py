"""Which rows of the data enter the likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sparselmm._typing import AnyArray, BoolArray, FloatArray
from sparselmm.data.encoding.values import Columns, Value
from sparselmm.data.tables.codes import chunks
from sparselmm.data.tables.columns import Factor, describe_rows, is_missing
from sparselmm.exceptions import DataError, Message, ParameterError

NA_ACTIONS = ("omit", "exclude", "fail")


@dataclass(frozen=True)
class UsedRows:
    """Which rows of the data are used.

    Attributes
    ----------
    total : int
        Rows of the data.
    mask : (total,) bool array or None
        Which rows are used; None when all are.
    """

    total: int
    mask: BoolArray | None = None

    def __len__(self) -> int:
        return self.total if self.mask is None else int(np.count_nonzero(self.mask))

    def take(self, values: AnyArray) -> AnyArray:
        """Return the rows used of an array; the same array when they are all wanted."""
        return values if self.mask is None else values[self.mask]

    def take_value(self, value: Value) -> Value:
        """Return the rows used of a value; factors lose the levels no row has."""
        if isinstance(value, Factor):
            return self.take_factor(value).drop_unused()
        if isinstance(value, Columns):
            return value if self.mask is None else Columns(self.take(value.block), value.names)
        return self.take(value)

    def take_factor(self, factor: Factor) -> Factor:
        """Return the rows used of a factor, with all levels kept."""
        return factor if self.mask is None else factor.take(self.mask)


def check_na_action(na_action: str) -> None:
    """Refuse an unknown rule for missing values."""
    if na_action not in NA_ACTIONS:
        raise ParameterError(f"na_action must be one of {', '.join(NA_ACTIONS)}, not {na_action!r}")


def missing_rows(value: Value) -> BoolArray:
    """Return which rows lack a value, (n,)."""
    if isinstance(value, Columns):
        return np.asarray(np.isnan(value.block).any(axis=1))
    return is_missing(value)


def usable_rows(
    named: Sequence[tuple[str, Value]], weights: FloatArray | None, index: pd.Index, na_action: str
) -> tuple[UsedRows, list[Message]]:
    """Return the complete rows with positive weight, and messages about the others.

    Parameters
    ----------
    named : sequence of (str, value)
        Everything the model uses, the weights included, with names for messages.
    weights : (n,) array or None
        Prior weights.
    index : pandas.Index
        Labels of the rows.
    na_action : str
        ``"fail"`` raises when something is missing.
    """
    n = len(index)
    named = [(name, value) for name, value in named if not _is_complete(value)]
    if not named and (weights is None or (weights > 0).all()):
        return UsedRows(n), []
    missing_in = {name: mask for name, value in named if (mask := missing_rows(value)).any()}
    missing = np.zeros(n, dtype=np.bool_)
    for mask in missing_in.values():
        missing |= mask
    messages = [_report_missing(missing, missing_in, index, na_action)] if missing_in else []
    usable = ~missing
    if weights is not None and (weights == 0).any():
        zero = usable & (weights == 0)
        usable &= weights > 0
        messages.append(Message("zero_weights", "info", f"{zero.sum()} of {n} rows have weight zero and are left out."))
    if not usable.any():
        reason = "; ".join(f"{name} is missing in {mask.sum()}" for name, mask in missing_in.items())
        raise DataError(f"none of the {n} rows can be used: {reason or 'all weights are zero'}")
    for name, value in named:
        _check_finite(name, value, usable, index)
    return UsedRows(n, None if usable.all() else usable), messages


def _is_complete(value: Value) -> bool:
    """Whether every row has a finite value; in pieces, as nearly all data are complete."""
    if isinstance(value, Factor):
        return all(value.codes[rows].min() >= 0 for rows in chunks(len(value.codes)))
    block = value.block if isinstance(value, Columns) else value
    return all(bool(np.isfinite(block[rows]).all()) for rows in chunks(len(block)))


def _report_missing(missing: BoolArray, missing_in: dict[str, BoolArray], index: pd.Index, na_action: str) -> Message:
    rows = np.flatnonzero(missing)
    where = ", ".join(f"{name} ({mask.sum()})" for name, mask in missing_in.items())
    what = f"{len(rows)} of {len(missing)} rows have missing values, in {where}: "
    if na_action == "fail":
        raise DataError(what + describe_rows(rows, index))
    return Message("rows_dropped", "info", what + describe_rows(rows, index, 50) + ".", "They are left out of the fit.")


def _check_finite(name: str, value: Value, usable: BoolArray, index: pd.Index) -> None:
    if isinstance(value, Factor):
        return
    infinite = np.isinf(value.block).any(axis=1) if isinstance(value, Columns) else np.isinf(value)
    rows = np.flatnonzero(infinite & usable)
    if len(rows):
        raise DataError(f"{name} is infinite in {describe_rows(rows, index)}")


def own(values: AnyArray, source: AnyArray) -> AnyArray:
    """Return a contiguous, read-only array that shares no memory with the caller's ``source``."""
    result = np.ascontiguousarray(values)
    if result.base is source or result is source or np.may_share_memory(result, source):
        result = result.copy()
    result.flags.writeable = False
    return result
