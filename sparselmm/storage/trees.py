"""Trees of numbers, texts, lists, tables, arrays and records, as JSON values and arrays, and back.

Reading has two steps. `outlined` turns JSON values into an outline: arrays and indexes as their types and
shapes, records as names and fields. Once the outline is checked, `built` reads the arrays and makes the objects.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, cast

import numpy as np
import pandas as pd

from sparselmm._typing import AnyArray, frozen
from sparselmm.exceptions import UnsupportedError
from sparselmm.storage.archive import ArrayOutline

ARRAY_KINDS = "biuf"
SMALL = 8  # numbers up to which an array is written into the text
SCALARS = (bool, int, float, str)


class TreeWriter:
    """Turns a tree into JSON values and a list of arrays.

    Parameters
    ----------
    names : mapping
        The name of each record type.
    as_text : type
        What is written as its text.
    """

    def __init__(self, names: Mapping[type[Any], str], as_text: type[Any]) -> None:
        self.arrays: list[AnyArray] = []
        self._names, self._as_text = names, as_text

    def encode(self, value: Any, where: str) -> Any:
        """Return a JSON value; ``where`` names the value in messages."""
        if value is None or isinstance(value, bool | str):
            return value
        if isinstance(value, np.generic):
            return self.encode(value.item(), where)
        if isinstance(value, int | float):
            return value
        if isinstance(value, np.ndarray):
            return self._array(value, where)
        if isinstance(value, pd.Index):
            return self._index(value, where)
        if isinstance(value, list):
            return [self.encode(v, where) for v in value]
        if isinstance(value, tuple):
            return {"tuple": [self.encode(v, where) for v in value]}
        if isinstance(value, Mapping):
            return {"dict": [[self.encode(k, where), self.encode(v, f"{where}[{k!r}]")] for k, v in value.items()]}
        if isinstance(value, self._as_text):
            return str(value)
        if type(value) in self._names:
            name = self._names[type(value)]
            return {"record": name, "fields": {f.name: self.encode(getattr(value, f.name), f"{name}.{f.name}")
                                               for f in fields(value)}}  # fmt: skip
        raise UnsupportedError(f"the model cannot be saved: {where} holds a {type(value).__name__}")

    def _array(self, value: AnyArray, where: str) -> Any:
        if value.dtype.kind not in ARRAY_KINDS:
            raise UnsupportedError(f"the model cannot be saved: {where} holds an array of type {value.dtype}")
        if value.ndim == 1 and len(value) <= SMALL:
            return {"array": value.tolist(), "dtype": value.dtype.newbyteorder("<").str}
        self.arrays.append(np.asarray(value))
        return {"member": len(self.arrays) - 1}

    def _index(self, value: pd.Index, where: str) -> Any:
        name = None if value.name is None else str(value.name)
        if value.dtype.kind in ARRAY_KINDS and isinstance(value.dtype, np.dtype):
            return {"index": self._array(value.to_numpy(), where), "name": name}
        if isinstance(value, pd.DatetimeIndex):
            zone = None if value.tz is None else str(value.tz)
            return {"times": self._array(value.asi8, where), "unit": value.unit, "zone": zone, "name": name}
        levels = value.tolist()
        if all(isinstance(v, str) for v in levels):
            return {"texts": levels, "string": isinstance(value.dtype, pd.StringDtype), "name": name}
        if all(isinstance(v, SCALARS) for v in levels):
            return {"mixed": [self.encode(v, where) for v in levels], "name": name}
        raise UnsupportedError(
            f"the model cannot be saved: {where} has levels of type {value.dtype}; turn them into texts before fitting"
        )


# --- outlines -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class SmallArray:
    """An array that stood in the text."""

    values: AnyArray

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self.values.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Its type."""
        return self.values.dtype


AnyOutline = ArrayOutline | SmallArray


@dataclass(frozen=True)
class IndexOutline:
    """An index that is not made yet.

    Attributes
    ----------
    values : outline of an array, or list
        Numbers, times as whole numbers, texts, or texts and numbers mixed.
    form : str
        ``"index"``, ``"times"``, ``"texts"`` or ``"mixed"``.
    options : mapping
        Name, and what the form needs.
    """

    values: AnyOutline | list[Any]
    form: str
    options: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.values) if isinstance(self.values, list) else self.values.shape[0]


@dataclass(frozen=True)
class RecordOutline:
    """A record that is not made yet: the name of its type, and its fields."""

    name: str
    fields: Mapping[str, Any]

    def __getattr__(self, name: str) -> Any:
        try:
            return self.fields[name]
        except KeyError:
            raise AttributeError(name) from None


def outlined(value: Any, array: Callable[[int], ArrayOutline]) -> Any:
    """Return the outline of a tree in JSON values.

    Raises
    ------
    ValueError
        When the values are none that `TreeWriter` writes.
    """
    if isinstance(value, list):
        return [outlined(v, array) for v in value]
    if not isinstance(value, dict):
        return value
    match value:
        case {"tuple": list(items), **rest} if not rest:
            return tuple(outlined(v, array) for v in items)
        case {"dict": list(items), **rest} if not rest:
            return _table(items, array)
        case {"member": int(number), **rest} if not rest:
            return array(number)
        case {"array": list(items), "dtype": str(dtype), **rest} if not rest and len(items) <= SMALL:
            return SmallArray(_small(items, dtype))
        case {"record": str(name), "fields": dict(entries), **rest} if not rest:
            return RecordOutline(name, {key: outlined(v, array) for key, v in entries.items()})
    return _outlined_index(value, array)


def _table(items: list[Any], array: Callable[[int], ArrayOutline]) -> dict[Any, Any]:
    table = {}
    for item in items:
        if not isinstance(item, list) or len(item) != 2:
            raise ValueError("a table has entries that are not pairs")
        table[outlined(item[0], array)] = outlined(item[1], array)
    if len(table) < len(items):
        raise ValueError("a table has the same key twice")
    return table


def _small(items: list[Any], dtype: str) -> AnyArray:
    if not re.fullmatch("[<|][biuf][1248]", dtype):  # numpy reads more into a text than types
        raise ValueError(f"an array of type {dtype}")
    plain = np.dtype(dtype)
    if not all(isinstance(v, int | float) for v in items):
        raise ValueError("an array holds what is not a number")
    return frozen(np.array(items, dtype=plain))


def _outlined_index(value: dict[str, Any], array: Callable[[int], ArrayOutline]) -> IndexOutline:
    name = value.get("name")
    if not (name is None or isinstance(name, str)):
        raise ValueError("the name of an index is not a text")
    match value:
        case {"index": dict(numbers), "name": _, **rest} if not rest:
            return IndexOutline(_vector(outlined(numbers, array)), "index", {"name": name})
        case {"times": dict(numbers), "unit": ("s" | "ms" | "us" | "ns") as unit, "zone": zone, "name": _, **rest} if (
            not rest and (zone is None or isinstance(zone, str))
        ):
            times = _vector(outlined(numbers, array), "i8")
            return IndexOutline(times, "times", {"name": name, "unit": unit, "zone": zone})
        case {"texts": list(items), "string": bool(string), "name": _, **rest} if not rest:
            if not all(isinstance(v, str) for v in items):
                raise ValueError("levels that should be texts are not")
            return IndexOutline(items, "texts", {"name": name, "string": string})
        case {"mixed": list(items), "name": _, **rest} if not rest:
            if not all(isinstance(v, SCALARS) for v in items):
                raise ValueError("levels are neither texts nor numbers")
            return IndexOutline(items, "mixed", {"name": name})
    raise ValueError(f"an entry of unknown form with {', '.join(map(repr, list(value)[:5])) or 'nothing in it'}")


def _vector(outline: Any, dtype: str | None = None) -> AnyOutline:
    if not isinstance(outline, AnyOutline) or len(outline.shape) != 1:
        raise ValueError("the values of an index are not one column")
    if dtype is not None and outline.dtype != np.dtype(dtype):
        raise ValueError(f"the values of an index have the type {outline.dtype}")
    return outline


# --- building -----------------------------------------------------------------------------------


class TreeBuilder:
    """Makes the objects of an outline.

    Parameters
    ----------
    array : callable
        Reads an array.
    makers : mapping
        What makes a record of its fields, by the name of its type.
    """

    def __init__(self, array: Callable[[ArrayOutline], AnyArray], makers: Mapping[str, Callable[..., Any]]) -> None:
        self._array, self._makers = array, makers

    def built(self, value: Any) -> Any:
        """Return the value of an outline."""
        if isinstance(value, list):
            return [self.built(v) for v in value]
        if isinstance(value, tuple):
            return tuple(self.built(v) for v in value)
        if isinstance(value, dict):
            return {key: self.built(v) for key, v in value.items()}
        if isinstance(value, ArrayOutline):
            return frozen(self._array(value))
        if isinstance(value, SmallArray):
            return value.values
        if isinstance(value, IndexOutline):
            return self._index(value)
        if isinstance(value, RecordOutline):
            return self._makers[value.name](**{name: self.built(v) for name, v in value.fields.items()})
        return value

    def _index(self, outline: IndexOutline) -> pd.Index:
        name = outline.options["name"]
        if isinstance(outline.values, list):
            dtype: Any = "str" if outline.options.get("string") else object
            levels: Any = outline.values
            return cast(pd.Index, pd.Index(levels, dtype=dtype, name=name))
        numbers = np.asarray(self.built(outline.values))
        if outline.form == "index":
            return cast(pd.Index, pd.Index(numbers, name=name))
        times = pd.DatetimeIndex(numbers.view(np.dtype(f"M8[{outline.options['unit']}]")), name=name)
        zone = outline.options["zone"]
        return times if zone is None else times.tz_localize("UTC").tz_convert(zone)
