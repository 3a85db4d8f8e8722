"""Arrays in a numpy .npz that came from anywhere: what is not as `numpy.savez` writes it is refused before it is read.

Nothing is larger in memory than in the file, and numpy's own reader, which evaluates headers, is not used.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import stat
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple

import numpy as np

_MAGIC = b"PK"
_NPY_MAGIC = b"\x93NUMPY\x01\x00"
_HEADER = re.compile(
    r"\{'descr': '([|<][a-z]\d)', 'fortran_order': False, 'shape': \((\d{1,15}(?:, \d{1,15})*),?\), \} *\n"
)
_LONGEST_HEADER = 256
_END = struct.Struct("<4s4H2LH")
"""End of the central directory: magic, disks (2), entries here and in all, bytes, offset, length of a comment."""
_END64_LOCATOR = b"PK\x06\x07"
_DIRECTORY_BYTES = 4096
_CHUNK = 1 << 20


class Entry(NamedTuple):
    """What an array must be."""

    dtype: str
    """As in numpy's headers: `|u1`, `<i4`."""
    n_dims: int


class Shape(NamedTuple):
    """What an array in a file is."""

    shape: tuple[int, ...]
    n_bytes: int


class StoredArrays:
    """An .npz file with arrays of known names and kinds, none of them compressed, each read when it is asked for.

    Use it as a context manager. Raises OSError where the file cannot be opened or is no regular file (a pipe, a
    device), NotArrays for a file that is no zip file, ValueError for one that is damaged or not of this kind.
    """

    def __init__(self, path: Path, entries: Mapping[str, Entry]) -> None:
        self._file = open_regular(path)
        try:
            if self._file.read(len(_MAGIC)) != _MAGIC:
                raise NotArrays("no zip file")
            _check_directory(self._file, len(entries))
            with _damage():
                self._archive = zipfile.ZipFile(self._file)
            self._entries = entries
        except BaseException:
            self._file.close()
            raise

    def read(self, name: str) -> np.ndarray[Any, Any]:
        """Return an array. Raises KeyError for one that is not there, ValueError where its checksum is another."""
        shape, n_bytes = self.shape(name)
        data = bytearray(n_bytes)
        view, done = memoryview(data), 0
        with _damage(), self._archive.open(f"{name}.npy") as stream:
            _read_header(stream)
            while done < n_bytes:
                part = stream.read(min(_CHUNK, n_bytes - done))
                if not part:
                    raise ValueError(f"{name} ends after {done} of {n_bytes} bytes")
                view[done : done + len(part)] = part
                done += len(part)
        return np.frombuffer(data, self._entries[name].dtype).reshape(shape)

    def __enter__(self) -> StoredArrays:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __contains__(self, name: str) -> bool:
        return f"{name}.npy" in self._archive.NameToInfo

    def shape(self, name: str) -> Shape:
        """Return what an array is. Raises KeyError for one that is not there, ValueError for one of another kind."""
        entry = self._entries[name]
        info = self._archive.getinfo(f"{name}.npy")
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise ValueError(f"{name} is compressed or encrypted")
        with _damage(), self._archive.open(info) as stream:
            dtype, shape, n_header = _read_header(stream)
        n_bytes = math.prod(shape) * np.dtype(entry.dtype).itemsize
        if dtype != entry.dtype or len(shape) != entry.n_dims:
            raise ValueError(f"{name} is {dtype} {list(shape)}")
        if info.compress_size != info.file_size or info.file_size != n_header + n_bytes:
            raise ValueError(f"{name} is {dtype} {list(shape)} in {info.file_size - n_header} bytes")
        if n_bytes > os.fstat(self._file.fileno()).st_size:
            raise ValueError(f"{name} has {n_bytes} bytes, more than the file")
        return Shape(shape, n_bytes)


@contextlib.contextmanager
def _damage() -> Iterator[None]:
    """Raise what `zipfile` raises about a file as ValueError."""
    try:
        yield
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, struct.error) as error:
        raise ValueError(str(error) or type(error).__name__) from error


class NotArrays(ValueError):  # noqa: N818 - like FileNotFoundError, a case of the usual
    """A file of another kind."""


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read. Raises OSError, for what is no regular file too: a pipe would wait for a writer."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path}: is no regular file")
    return os.fdopen(descriptor, "rb")


def _check_directory(file: BinaryIO, n_entries: int) -> None:
    """Raise ValueError where the table of contents is not that of a few files: `zipfile` reads all of it."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _END.size))
    data = file.read(_END.size)
    if len(data) < _END.size or not data.startswith(b"PK\x05\x06"):
        raise ValueError("it ends without a table of contents")
    _, _, _, _, n, n_bytes, begin, _ = _END.unpack(data)
    if size >= 20 + _END.size:
        file.seek(size - _END.size - 20)
        is_64 = file.read(4) == _END64_LOCATOR
    else:
        is_64 = False
    if is_64:  # beyond 4 GiB; what stands in it is what `zipfile` takes
        file.seek(max(0, size - _END.size - 20 - 56))
        record = file.read(56)
        if len(record) < 56 or not record.startswith(b"PK\x06\x06"):
            raise ValueError("its table of contents is damaged")
        n, n_bytes, begin = struct.unpack_from("<QQQ", record, 32)
    if n > n_entries or n_bytes > _DIRECTORY_BYTES or begin + n_bytes > size:
        raise ValueError(f"its table of contents has {n} entries in {n_bytes} bytes")
    file.seek(0)


def _read_header(stream: Any) -> tuple[str, tuple[int, ...], int]:
    """Return dtype, shape and the length of an array's header; the stream is behind it then."""
    start = stream.read(len(_NPY_MAGIC) + 2)
    if not start.startswith(_NPY_MAGIC) or len(start) < len(_NPY_MAGIC) + 2:
        raise ValueError("an entry is no array")
    n = int.from_bytes(start[-2:], "little")
    found = _HEADER.fullmatch(stream.read(n).decode("latin-1")) if n <= _LONGEST_HEADER else None
    if not found:
        raise ValueError("an entry is an array of another kind")
    return found[1], tuple(int(part) for part in found[2].split(", ")), len(start) + n
