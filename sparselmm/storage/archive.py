"""The archive of a saved model: sizes are checked before anything is read, digests while it is read.

A zip entry claims its size, and so does the header of an array. Neither is believed: deflate expands
by at most 1032, so a claim beyond that, or one that the other contradicts, is refused unread.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import secrets
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from sparselmm._typing import AnyArray
from sparselmm.exceptions import DataError

FORMAT = "sparselmm model"
FORMAT_VERSION = 1
HEADER, TEXT = "header.json", "model.json"
MAX_EXPANSION = 1032  # of deflate: 258 bytes for two bits
TEXT_EXPANSION = 100  # names and levels; a text of more is stored as it is
SMALL_TEXT = 1 << 20  # bytes of text that may expand as they like
HEADER_BYTES = 200  # per member: its name and a digest of 64 characters
CHUNK = 1 << 20
LARGE = 1 << 30  # bytes from which a member is written with 64-bit sizes
FAILURES = (
    zipfile.BadZipFile, zlib.error, struct.error, KeyError, ValueError, EOFError, OSError, RuntimeError, IndexError,
    MemoryError, OverflowError, TypeError, AttributeError,
)  # fmt: skip
"""What Python's own readers raise on damaged files (RuntimeError: encrypted members, too deep nesting)."""

_ARRAY_NAME = re.compile(r"[0-9]{1,6}\.npy")
_MAGIC = b"\x93NUMPY\x01\x00"
_ARRAY_HEADER = re.compile(
    rb"\{'descr': '([<|][biuf][1248])', 'fortran_order': False, 'shape': \(((?:\d{1,15}, ?)*\d{0,15})\), \} *\n"
)


@dataclass(frozen=True)
class ArrayOutline:
    """What the header of a stored array says.

    Attributes
    ----------
    shape : tuple of int
        Its shape.
    dtype : dtype
        Its type, of booleans or numbers.
    member : str
        Where it is stored.
    start : int
        Bytes before the values.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    member: str
    start: int

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * self.dtype.itemsize


class Archive:
    """A zip archive of one text and arrays, open for reading; every error is one of `FAILURES` or a `DataError`."""

    def __init__(self, archive: zipfile.ZipFile, size: int, name: str) -> None:
        self._zip = archive
        self._sizes = _checked_sizes(archive.infolist(), size)
        if self._sizes[HEADER] > HEADER_BYTES * (10 + len(self._sizes)):
            raise ValueError(f"{HEADER} is too long")
        header = _checked_header(json.loads(archive.read(HEADER)), name)
        self._digests: dict[str, str] = header["sha256"]
        arrays = set(self._sizes) - {HEADER, TEXT}
        if set(self._digests) != arrays | {TEXT} or not all(_ARRAY_NAME.fullmatch(name) for name in arrays):
            raise ValueError("its members are not those that its header lists, one text and arrays")

    def text(self) -> str:
        """Return the text."""
        content = self._zip.read(TEXT)
        self._compare(TEXT, hashlib.sha256(content))
        return content.decode()

    def outline(self, number: int) -> ArrayOutline:
        """Return what the header of an array says, once it agrees with the size of its member."""
        member = f"{number}.npy"
        with self._zip.open(member) as stream:
            start = stream.read(len(_MAGIC) + 2)
            length = int.from_bytes(start[len(_MAGIC) :], "little")
            found = _ARRAY_HEADER.fullmatch(stream.read(length))
        if not start.startswith(_MAGIC) or found is None:
            raise ValueError(f"{member} is not an array of numbers")
        shape = tuple(int(text) for text in found[2].split(b",") if text.strip())
        outline = ArrayOutline(shape, np.dtype(found[1].decode()), member, len(_MAGIC) + 2 + length)
        if outline.start + outline.nbytes != self._sizes[member]:
            raise ValueError(f"{member} has not the size that its header says")
        return outline

    def array(self, outline: ArrayOutline) -> AnyArray:
        """Return an array, read into its place piece by piece."""
        out = np.empty(outline.shape, dtype=outline.dtype)
        values, at = out.reshape(-1).view(np.uint8), 0
        with self._zip.open(outline.member) as stream:
            digest = hashlib.sha256(stream.read(outline.start))
            while at < outline.nbytes:
                piece = stream.read(min(CHUNK, outline.nbytes - at))
                if not piece:
                    raise ValueError(f"{outline.member} ends too early")
                digest.update(piece)
                values[at : at + len(piece)] = np.frombuffer(piece, dtype=np.uint8)
                at += len(piece)
        self._compare(outline.member, digest)
        return out

    def _compare(self, member: str, digest: Any) -> None:
        if digest.hexdigest() != self._digests[member]:
            raise ValueError(f"{member} is not what was written")


@contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[Archive]:
    """Open an archive; what is wrong with it becomes a `DataError` that names the file."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield Archive(archive, os.path.getsize(path), str(path))
    except FileNotFoundError:
        raise DataError(f"there is no file {str(path)!r}") from None
    except DataError:
        raise
    except FAILURES as error:
        raise DataError(
            f"{str(path)!r} is not a saved model, or is damaged: {error or type(error).__name__}"
        ) from error


def _checked_sizes(members: Sequence[zipfile.ZipInfo], size: int) -> dict[str, int]:
    """Return the bytes of each member, as far as an archive of ``size`` bytes can hold them."""
    sizes = {member.filename: member.file_size for member in members}
    if len(sizes) < len(members):
        raise ValueError("two members have the same name")
    if sum(member.compress_size for member in members) > size:
        raise ValueError("its members claim more bytes than the file has")
    for member in members:
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{member.filename} is compressed in a way that is not used here")
        at_most = MAX_EXPANSION * member.compress_size
        if member.filename == TEXT:
            at_most = max(min(SMALL_TEXT, at_most), TEXT_EXPANSION * member.compress_size)
        if member.compress_type == zipfile.ZIP_STORED:
            at_most = member.compress_size
        if member.file_size > at_most:
            raise ValueError(f"{member.filename} claims {member.file_size:,} bytes, too many for what is stored")
    return sizes


def _checked_header(header: Any, path: str) -> dict[str, Any]:
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise DataError(f"{path!r} was not written by sparselmm's save()")
    version = header.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise DataError(
            f"{path!r} has format version {version}, written by sparselmm {header.get('written_by')}; this one "
            f"reads up to {FORMAT_VERSION}: install a newer sparselmm"
        )
    if not isinstance(header.get("sha256"), dict) or TEXT not in header["sha256"]:
        raise DataError(f"{path!r} is damaged: its header is incomplete")
    return header


# --- writing -----------------------------------------------------------------------------------


def write_archive(path: str | os.PathLike[str], text: bytes, arrays: Sequence[AnyArray], version: str) -> None:
    """Write an archive under a temporary name and give it its own when it is whole."""
    with _temporary(Path(path)) as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        digests = {TEXT: hashlib.sha256(text).hexdigest()}
        far = len(text) > SMALL_TEXT and len(zlib.compress(text)) * TEXT_EXPANSION < len(text)
        archive.writestr(TEXT, text, zipfile.ZIP_STORED if far else None)
        for i, array in enumerate(arrays):
            member = f"{i}.npy"
            with archive.open(member, "w", force_zip64=array.nbytes > LARGE) as entry:
                digests[member] = _write_array(entry, array)
        archive.writestr(HEADER, json.dumps(_header(digests, version), indent=1))


def _header(digests: Mapping[str, str], version: str) -> dict[str, Any]:
    return {"format": FORMAT, "format_version": FORMAT_VERSION, "written_by": version, "sha256": dict(digests)}


class _Digesting:
    """A stream that passes on what is written and keeps its digest."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self.digest = stream, hashlib.sha256()

    def write(self, content: bytes) -> int:
        self.digest.update(content)
        return self._stream.write(content)


def _write_array(stream: IO[bytes], array: AnyArray) -> str:
    """Write an array as little-endian numbers in rows, and return its digest."""
    plain = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).reshape(array.shape)
    out = _Digesting(stream)
    np.lib.format.write_array(out, plain, version=(1, 0), allow_pickle=False)
    return out.digest.hexdigest()


@contextmanager
def _temporary(target: Path) -> Iterator[IO[bytes]]:
    """Open a new file beside the target and put it in its place; leave nothing behind on failure.

    The name cannot be guessed, and ``x`` refuses one that exists, be it a link.
    """
    temporary = target.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with open(temporary, "xb") as stream:
            yield stream
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
