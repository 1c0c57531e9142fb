"""A file for fitted models: a zip archive of one JSON text and plain arrays; nothing in it is code.

Members: ``header.json`` (format, versions, a digest of every other member), ``model.json`` (a tree of
numbers, texts, lists, tables and the few record types below) and ``<i>.npy`` (arrays the tree refers
to). Reading builds only these record types, and only once types and shapes are what they should be.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from sparselmm.data.encoding.contrasts import Coding
from sparselmm.data.encoding.encoding import EncodingSpec, TermEncoding
from sparselmm.data.encoding.grouping import GroupingEncoding
from sparselmm.data.encoding.matrices import Block, MatrixEncoding
from sparselmm.exceptions import DataError, Message
from sparselmm.formula.algebra import TermList, read_terms
from sparselmm.formula.spec import ModelSpec, RandomTerm
from sparselmm.likelihood.result import TermCovariance, VarCorr
from sparselmm.linalg.blocks import BlockGram, BlockPairs
from sparselmm.statistics.transform import FixedTransform
from sparselmm.storage.archive import FAILURES, reading, write_archive
from sparselmm.storage.trees import TreeBuilder, TreeWriter, outlined

RECORDS: dict[str, type[Any]] = {
    cls.__name__: cls
    for cls in (
        Block, BlockGram, BlockPairs, Coding, EncodingSpec, GroupingEncoding, MatrixEncoding, Message, ModelSpec,
        RandomTerm, TermCovariance, TermEncoding, VarCorr,
    )
}  # fmt: skip
RECORDS["Basis"] = FixedTransform  # its name in format 1
_NAMES = {cls: name for name, cls in RECORDS.items()}


def _model_spec(fixed: str, **others: Any) -> ModelSpec:
    return ModelSpec(fixed=read_terms(fixed), **others)


def _random_term(lhs: str, **others: Any) -> RandomTerm:
    return RandomTerm(lhs=read_terms(lhs), **others)


MAKERS: dict[str, Callable[..., Any]] = {**RECORDS, "ModelSpec": _model_spec, "RandomTerm": _random_term}
"""How a record is made of its fields; lists of terms are written as texts."""


def write_tree(path: str | os.PathLike[str], tree: Mapping[str, Any], version: str) -> None:
    """Write a tree to a file, whole or not at all.

    Raises
    ------
    UnsupportedError
        When it holds something that is not a number, a text or one of the record types.
    """
    writer = TreeWriter(_NAMES, TermList)
    text = json.dumps(writer.encode(tree, "the model")).encode()
    write_archive(path, text, writer.arrays, version)


def read_tree(
    path: str | os.PathLike[str],
    check_outline: Callable[[Any], None] = lambda outline: None,
    check_tree: Callable[[Any], None] = lambda tree: None,
) -> dict[str, Any]:
    """Return the tree in a file.

    Parameters
    ----------
    path : str or path
        The file.
    check_outline : callable
        Raises `ValueError` for an outline (types and shapes; no array is read yet) that is not wanted.
    check_tree : callable
        Raises `ValueError` for a tree that is not wanted.

    Raises
    ------
    DataError
        When the file is absent, is not such a file, was damaged, or was written in a newer format.
    """
    with reading(path) as archive:
        try:
            outline = outlined(json.loads(archive.text()), archive.outline)
            if not isinstance(outline, dict):
                raise ValueError("the file holds no model")
            check_outline(outline)
        except FAILURES as error:
            raise _invalid(path, error) from error
        tree: dict[str, Any] = TreeBuilder(archive.array, MAKERS).built(outline)
    del outline
    try:
        check_tree(tree)
    except FAILURES as error:
        raise _invalid(path, error) from error
    return tree


def _invalid(path: str | os.PathLike[str], error: Exception) -> DataError:
    what = str(error) if isinstance(error, ValueError) else f"{type(error).__name__} {error}"
    return DataError(f"{str(path)!r} is not a valid model: {what}")
