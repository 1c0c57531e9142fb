"""A file for fitted models: a zip archive of one JSON text and plain arrays; nothing in it is code.

Members: ``header.json`` (format, versions, a digest of every other member), ``model.json`` (a tree of
numbers, texts, lists, tables and the few record types below) and ``<i>.npy`` (arrays the tree refers
to). Reading builds only these record types, so a file can hold wrong numbers but not run anything.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._typing import AnyArray, frozen
from sparselmm.data.encoding.contrasts import Coding
from sparselmm.data.encoding.encoding import EncodingSpec, TermEncoding
from sparselmm.data.encoding.grouping import GroupingEncoding
from sparselmm.data.encoding.matrices import Block, MatrixEncoding
from sparselmm.exceptions import DataError, Message, UnsupportedError
from sparselmm.formula.algebra import TermList, read_terms
from sparselmm.formula.spec import ModelSpec, RandomTerm
from sparselmm.likelihood.result import TermCovariance, VarCorr
from sparselmm.linalg.blocks import BlockGram, BlockPairs
from sparselmm.statistics.transform import FixedTransform

FORMAT = "sparselmm model"
FORMAT_VERSION = 1
RECORDS: dict[str, type[Any]] = {
    cls.__name__: cls
    for cls in (
        Block, BlockGram, BlockPairs, Coding, EncodingSpec, GroupingEncoding, MatrixEncoding, Message, ModelSpec,
        RandomTerm, TermCovariance, TermEncoding, VarCorr,
    )
}  # fmt: skip
RECORDS["Basis"] = FixedTransform  # its name in format 1
_TAGS = {cls: name for name, cls in RECORDS.items()}
_TERM_LISTS = ((ModelSpec, "fixed"), (RandomTerm, "lhs"))  # written as texts
_ARRAY_KINDS = "biuf"
_SMALL = 8


# --- trees of plain values ---------------------------------------------------------------------


class _Writer:
    """Turns a tree into JSON values and a list of arrays."""

    def __init__(self) -> None:
        self.arrays: list[AnyArray] = []

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
        if isinstance(value, TermList):
            return str(value)
        if type(value) in _TAGS:
            name = _TAGS[type(value)]
            return {"record": name, "fields": {f.name: self.encode(getattr(value, f.name), f"{name}.{f.name}")
                                               for f in fields(value)}}  # fmt: skip
        raise UnsupportedError(f"the model cannot be saved: {where} holds a {type(value).__name__}")

    def _array(self, value: AnyArray, where: str) -> Any:
        if value.dtype.kind not in _ARRAY_KINDS:
            raise UnsupportedError(f"the model cannot be saved: {where} holds an array of type {value.dtype}")
        if value.ndim == 1 and len(value) <= _SMALL:
            return {"array": value.tolist(), "dtype": value.dtype.str}
        self.arrays.append(np.asarray(value))
        return {"member": len(self.arrays) - 1}

    def _index(self, value: pd.Index, where: str) -> Any:
        name = None if value.name is None else str(value.name)
        if value.dtype.kind in _ARRAY_KINDS and isinstance(value.dtype, np.dtype):
            return {"index": self._array(value.to_numpy(), where), "name": name}
        if isinstance(value, pd.DatetimeIndex):
            zone = None if value.tz is None else str(value.tz)
            return {"times": self._array(value.asi8, where), "unit": value.unit, "zone": zone, "name": name}
        levels = value.tolist()
        if all(isinstance(v, str) for v in levels):
            return {"texts": levels, "string": isinstance(value.dtype, pd.StringDtype), "name": name}
        if all(isinstance(v, str | bool | int | float) for v in levels):
            return {"mixed": [self.encode(v, where) for v in levels], "name": name}
        raise UnsupportedError(
            f"the model cannot be saved: {where} has levels of type {value.dtype}; turn them into texts before fitting"
        )


class _Reader:
    """Turns JSON values and arrays back into the tree."""

    def __init__(self, arrays: Callable[[int], AnyArray]) -> None:
        self._arrays = arrays

    def decode(self, value: Any) -> Any:
        """Return the value that was encoded."""
        if isinstance(value, list):
            return [self.decode(v) for v in value]
        if not isinstance(value, dict):
            return value
        if "tuple" in value:
            return tuple(self.decode(v) for v in value["tuple"])
        if "dict" in value:
            return {self.decode(k): self.decode(v) for k, v in value["dict"]}
        if "member" in value:
            return frozen(self._arrays(int(value["member"])))
        if "array" in value:
            return frozen(np.array(value["array"], dtype=_plain_dtype(value["dtype"])))
        if "record" in value:
            cls = RECORDS[value["record"]]
            fields = {name: self.decode(v) for name, v in value["fields"].items()}
            return cls(**{k: read_terms(v) if (cls, k) in _TERM_LISTS else v for k, v in fields.items()})
        return self._index(value)

    def _index(self, value: dict[str, Any]) -> pd.Index:
        name = value["name"]
        if "index" in value:
            numbers: pd.Index = pd.Index(self.decode(value["index"]), name=name)
            return numbers
        if "times" in value:
            times = np.asarray(self.decode(value["times"])).view(np.dtype(f"M8[{value['unit']}]"))
            index = pd.DatetimeIndex(times, name=name)
            return index if value["zone"] is None else index.tz_localize("UTC").tz_convert(value["zone"])
        if "texts" in value:
            texts: pd.Index = pd.Index(value["texts"], dtype="str" if value["string"] else object, name=name)
            return texts
        levels: pd.Index = pd.Index([self.decode(v) for v in value["mixed"]], dtype=object, name=name)
        return levels


def _plain_dtype(text: str) -> np.dtype[Any]:
    dtype = np.dtype(text)
    if dtype.kind not in _ARRAY_KINDS:
        raise ValueError(f"array type {text}")
    return dtype


# --- the file ----------------------------------------------------------------------------------


def write_tree(path: str | os.PathLike[str], tree: Mapping[str, Any], version: str) -> None:
    """Write a tree to a file, whole or not at all.

    Raises
    ------
    UnsupportedError
        When it holds something that is not a number, a text or one of the record types.
    """
    writer = _Writer()
    members = {"model.json": json.dumps(writer.encode(tree, "the model")).encode()}
    for i, array in enumerate(writer.arrays):
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
        members[f"{i}.npy"] = buffer.getvalue()
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in members.items()}
    header = {"format": FORMAT, "format_version": FORMAT_VERSION, "written_by": version, "sha256": digests}
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {"header.json": json.dumps(header, indent=1).encode(), **members}.items():
            archive.writestr(name, content)
    target = Path(path)
    temporary = target.with_name(target.name + ".part")
    temporary.write_bytes(whole.getvalue())
    os.replace(temporary, target)


def read_tree(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the tree in a file.

    Raises
    ------
    DataError
        When the file is absent, is not such a file, was damaged, or was written in a newer format.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            header = _checked_header(json.loads(archive.read("header.json")), path)
            contents = {name: archive.read(name) for name in header["sha256"]}
    except FileNotFoundError:
        raise DataError(f"there is no file {str(path)!r}") from None
    except DataError:
        raise
    except (zipfile.BadZipFile, zlib.error, KeyError, ValueError, EOFError, OSError, RuntimeError) as error:
        raise DataError(f"{str(path)!r} is not a saved model, or is damaged: {error}") from error
    for name, digest in header["sha256"].items():
        if hashlib.sha256(contents[name]).hexdigest() != digest:
            raise DataError(f"{str(path)!r} is damaged: {name} is not what was written")
    try:
        return _decoded(contents)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as error:
        raise DataError(f"{str(path)!r} is not a valid model: {type(error).__name__} {error}") from error


def _checked_header(header: Any, path: Any) -> dict[str, Any]:
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise DataError(f"{str(path)!r} was not written by sparselmm's save()")
    version = header.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise DataError(
            f"{str(path)!r} has format version {version}, written by sparselmm {header.get('written_by')}; this one "
            f"reads up to {FORMAT_VERSION}: install a newer sparselmm"
        )
    if not isinstance(header.get("sha256"), dict) or "model.json" not in header["sha256"]:
        raise DataError(f"{str(path)!r} is damaged: its header is incomplete")
    return header


def _decoded(contents: Mapping[str, bytes]) -> dict[str, Any]:
    def array(i: int) -> AnyArray:
        return np.asarray(np.lib.format.read_array(io.BytesIO(contents[f"{i}.npy"]), allow_pickle=False))

    tree = _Reader(array).decode(json.loads(contents["model.json"]))
    if not isinstance(tree, dict):
        raise ValueError("the file holds no model")
    return tree
