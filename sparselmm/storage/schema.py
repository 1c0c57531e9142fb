"""What an outline must be like, said in pieces that check it: ``tuple_of(text)``, ``array("f8", 2)``, ...

A piece is a function of a value and of its place in the tree; it raises `ValueError` with the place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from sparselmm.storage.archive import ArrayOutline
from sparselmm.storage.trees import IndexOutline, RecordOutline, SmallArray

Check = Callable[[Any, str], None]


def refuse(where: str, wanted: str) -> None:
    """Raise the error of a value that is not what it should be."""
    raise ValueError(f"{where} is not {wanted}")


def _instance(wanted: str, *types: type) -> Check:
    def check(value: Any, where: str) -> None:
        # bool is a kind of int, and wanted only where it is named
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            refuse(where, wanted)

    return check


text = _instance("a text", str)
flag = _instance("true or false", bool)
whole = _instance("a whole number", int)
number = _instance("a number", int, float)
scalar = _instance("a text or number", bool, int, float, str)


def size(value: Any, where: str) -> None:
    """Check a positive whole number."""
    whole(value, where)
    if value < 1:
        refuse(where, "a positive number")


def one_of(*choices: str) -> Check:
    """Return the check of one of some texts."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, str) or value not in choices:
            refuse(where, f"one of {', '.join(choices)}")

    return check


def optional(piece: Check) -> Check:
    """Return the check that lets None through, too."""

    def check(value: Any, where: str) -> None:
        if value is not None:
            piece(value, where)

    return check


def either(*pieces: Check) -> Check:
    """Return the check of a value that one of the pieces lets through."""

    def check(value: Any, where: str) -> None:
        errors = []
        for piece in pieces:
            try:
                return piece(value, where)
            except ValueError as error:
                errors.append(str(error))
        raise ValueError("; ".join(errors))

    return check


def _sequence_of(kind: type, piece: Check, length: int | None, wanted: str) -> Check:
    def check(value: Any, where: str) -> None:
        if not isinstance(value, kind):
            refuse(where, wanted)
        if length is not None and len(value) != length:
            refuse(where, f"of length {length}")
        for i, item in enumerate(value):
            piece(item, f"{where}[{i}]")

    return check


def tuple_of(piece: Check, length: int | None = None) -> Check:
    """Return the check of a tuple whose items are alike."""
    return _sequence_of(tuple, piece, length, "a tuple")


def list_of(piece: Check) -> Check:
    """Return the check of a list whose items are alike."""
    return _sequence_of(list, piece, None, "a list")


def table_of(key: Check, piece: Check) -> Check:
    """Return the check of a dict whose keys and values are alike."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            refuse(where, "a table")
        for name, item in value.items():
            key(name, f"a key of {where}")
            piece(item, f"{where}[{name!r}]")

    return check


def _same_names(found: Mapping[str, Any], wanted: Mapping[str, Check], where: str) -> None:
    absent = [name for name in wanted if name not in found]
    unknown = [name for name in found if name not in wanted]
    if absent or unknown:
        names = ", ".join(map(repr, (absent or unknown)[:5]))
        raise ValueError(f"{where} {'lacks' if absent else 'has the unknown'} {names}")


def table(pieces: Mapping[str, Check]) -> Check:
    """Return the check of a dict with just these keys."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            refuse(where, "a table")
        _same_names(value, pieces, where)
        for name, piece in pieces.items():
            piece(value[name], f"{where}[{name!r}]")

    return check


def record(kind: str, pieces: Mapping[str, Check]) -> Check:
    """Return the check of a record of one type with just these fields."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, RecordOutline) or value.name != kind:
            refuse(where, f"a {kind}")
        _same_names(value.fields, pieces, where)
        for name, piece in pieces.items():
            piece(value.fields[name], f"{where}.{name}")

    return check


def array(types: str, ndim: int) -> Check:
    """Return the check of an array with one of some types (``"i4 i8"``)."""
    dtypes = [np.dtype(name) for name in types.split()]

    def check(value: Any, where: str) -> None:
        if not isinstance(value, ArrayOutline | SmallArray) or value.dtype not in dtypes or len(value.shape) != ndim:
            refuse(where, f"an array of {ndim} dimension(s) and type {types}")

    return check


index = _instance("an index", IndexOutline)


def shaped(value: Any, shape: tuple[int, ...], where: str) -> None:
    """Check the shape of an array that is known to be one."""
    if tuple(value.shape) != shape:
        raise ValueError(f"{where} has shape {tuple(value.shape)}, not {shape}")


def equal(left: Any, right: Any, what: str) -> None:
    """Check that two things agree."""
    if left != right:
        raise ValueError(f"{what} do not agree")
