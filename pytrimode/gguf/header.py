"""The header of a GGUF file: metadata and tensor table, read without loading anything.

ggml's own reader (gguf.h, with which the engine and libllama read) is not used here. For 131,072 tokens and merges it
takes 90 ms and 41 MiB, this 55 ms and none; for a hostile file of 300 MB 1.8 GiB, or 12 s. It does not tell how many
dimensions a tensor has, where a value lies, or what follows a zero byte in a text.

Format: ggml `docs/gguf.md`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from pytrimode.gguf import keys
from pytrimode.gguf.errors import printable
from pytrimode.gguf.layout import ALIGNMENT, ARRAY, MAGIC, MAX_DIMENSIONS, MAX_NAME, READABLE_VERSIONS, SCALARS, STRING
from pytrimode.gguf.types import BY_NUMBER

MAX_HEADER_BYTES = 1 << 26
"""What a header may take, a limit of this reader: a vocabulary of 262,144 tokens with its merges takes 15 MB."""
MAX_ENTRIES = 100_000
"""How many keys, and how many tensors, a file may have: models have hundreds."""
_WINDOW = 1 << 18
_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of the file."""

    name: str
    shape: tuple[int, ...]
    """As ggml orders it: the length of a row first."""
    type: str
    offset: int
    """From the beginning of the data."""
    n_bytes: int | None
    """None for a type that this version does not know."""

    @property
    def n_params(self) -> int:
        """Number of elements."""
        return prod(self.shape)


@dataclass(frozen=True)
class GgufHeader:
    """What a GGUF file says about itself."""

    path: Path
    version: int
    metadata: dict[str, Any]
    """Arrays are given as ("array", length), not as their values."""
    spans: dict[str, tuple[int, int]]
    """Of each metadata value: where in the file its type and value begin and end."""
    tensors: list[TensorInfo]
    data_start: int
    """Byte of the file at which the tensors' data begins."""
    file_bytes: int


class _Reader:
    """Reads forward, and holds a window of the file: no length in it decides how much memory is taken."""

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        self.size = path.stat().st_size
        self.place = "at its beginning"
        """What is being read, for errors."""
        self._stream = stream
        self._path = path
        self._end = min(self.size, MAX_HEADER_BYTES)
        self._window, self._start, self._at = b"", 0, 0

    def error(self, what: str) -> ValueError:
        return ValueError(printable(f"{self._path}: damaged GGUF: {what}"))

    @property
    def position(self) -> int:
        return self._start + self._at

    def bytes(self, n: int) -> bytes:
        self._hold(n)
        self._at += n
        return self._window[self._at - n : self._at]

    def scalar(self, code: str) -> Any:
        return struct.unpack("<" + code, self.bytes(struct.calcsize("<" + code)))[0]

    def text(self) -> str:
        return self.bytes(self.scalar("Q")).decode("utf-8", "replace")

    def count(self, of: str) -> int:
        n = int(self.scalar("Q"))
        if n > MAX_ENTRIES:
            raise self.error(f"it claims {n} {of}, at most {MAX_ENTRIES} are read")
        return n

    def value(self) -> Any:
        kind = self.scalar("I")
        if kind in SCALARS:
            return self.scalar(SCALARS[kind])
        if kind == STRING:
            return self.text()
        if kind == ARRAY:
            return self._skip_array()
        raise self.error(f"unknown value type {kind} at byte {self.position - 4}, {self.place}")

    def _skip_array(self) -> tuple[str, int]:
        kind, n = self.scalar("I"), self.scalar("Q")
        if kind in SCALARS:
            self._go_to(self.position + n * struct.calcsize("<" + SCALARS[kind]))
        elif kind == STRING:
            self._skip_texts(n)
        else:
            raise self.error(f"unknown array type {kind} at byte {self.position - 12}, {self.place}")
        return ("array", n)

    def _skip_texts(self, n: int) -> None:
        length, prefix = _LENGTH.unpack_from, _LENGTH.size  # local: a vocabulary makes this loop 400,000 times
        while n:
            self._hold(prefix)
            window, at = self._window, self._at
            last = len(window) - prefix
            while n and at <= last:
                at += prefix + length(window, at)[0]
                n -= 1
            self._go_to(self._start + at)

    def _go_to(self, position: int) -> None:
        if position > self._end:
            raise self._too_long()
        if position > self._start + len(self._window):
            self._window, self._start = b"", position
        self._at = position - self._start

    def _hold(self, n: int) -> None:
        """Have the next n bytes in the window."""
        if n > self._end - self.position:
            raise self._too_long()
        if self._at + n > len(self._window):
            self._start, self._at = self.position, 0
            self._stream.seek(self._start)
            self._window = self._stream.read(max(n, _WINDOW))
            if len(self._window) < n:
                raise self._too_long()

    def _too_long(self) -> ValueError:
        if self._end < self.size:
            return self.error(f"the header is longer than {MAX_HEADER_BYTES} bytes, {self.place}")
        return self.error(f"the header ends at byte {self.size}, {self.place}: the file is truncated")


def read_gguf_header(path: Path) -> GgufHeader:
    """Read the header and check that the file holds every tensor it names.

    Raises ValueError that names file and key or tensor, OSError when the file cannot be read.
    """
    with path.open("rb") as stream:
        reader = _Reader(stream, path)
        if reader.size < len(MAGIC) or reader.bytes(len(MAGIC)) != MAGIC:
            raise ValueError(f'{path}: not a GGUF file (it does not start with "GGUF")')
        version = reader.scalar("I")
        if version not in READABLE_VERSIONS:
            supported = " and ".join(map(str, READABLE_VERSIONS))
            raise ValueError(f"{path}: GGUF version {version} is not supported, only {supported}")
        n_tensors, n_values = reader.count("tensors"), reader.count("metadata keys")
        metadata, spans = _read_metadata(reader, n_values)
        alignment = _alignment(reader, metadata)
        tensors = _read_tensors(reader, n_tensors, alignment)
        data_start = -(-reader.position // alignment) * alignment
        for tensor in tensors:
            end = data_start + tensor.offset + (tensor.n_bytes or 0)
            if end > reader.size:
                raise reader.error(
                    f"tensor {tensor.name} ends at byte {end}, the file at byte {reader.size}: it is truncated"
                )
        return GgufHeader(path, version, metadata, spans, tensors, data_start, reader.size)


def _read_metadata(reader: _Reader, n_values: int) -> tuple[dict[str, Any], dict[str, tuple[int, int]]]:
    metadata: dict[str, Any] = {}
    spans: dict[str, tuple[int, int]] = {}
    for i in range(n_values):
        reader.place = f"in the name of key {i + 1} of {n_values}"
        key = reader.text()
        if not key or "\0" in key:
            raise reader.error(f"key {i + 1} of {n_values} is {key!r}, which is no name")
        if key in metadata:
            raise reader.error(f"key {key} is there twice")
        reader.place = f"in the value of {key}"
        begin = reader.position
        metadata[key] = reader.value()
        spans[key] = (begin, reader.position)
    return metadata, spans


def _alignment(reader: _Reader, metadata: dict[str, Any]) -> int:
    alignment = metadata.get(keys.GENERAL_ALIGNMENT, ALIGNMENT)
    if type(alignment) is not int or alignment <= 0 or alignment & (alignment - 1):
        raise reader.error(f"{keys.GENERAL_ALIGNMENT} is {alignment!r}, which is no power of 2")
    return alignment


def _read_tensors(reader: _Reader, n_tensors: int, alignment: int) -> list[TensorInfo]:
    tensors: dict[str, TensorInfo] = {}
    for i in range(n_tensors):
        reader.place = f"in the description of tensor {i + 1} of {n_tensors}"
        tensor = _read_tensor(reader)
        if tensor.name in tensors:
            raise reader.error(f"tensor {tensor.name} is there twice")
        if tensor.offset % alignment:
            raise reader.error(f"tensor {tensor.name} begins at byte {tensor.offset}, no multiple of {alignment}")
        tensors[tensor.name] = tensor
    return list(tensors.values())


def _read_tensor(reader: _Reader) -> TensorInfo:
    length = reader.scalar("Q")
    if length >= MAX_NAME:
        raise reader.error(f"a name of {length} bytes {reader.place}, at most {MAX_NAME - 1} are possible")
    name = reader.bytes(length).decode("utf-8", "replace")
    if not name or "\0" in name:
        raise reader.error(f"the name {name!r} {reader.place}")
    n_dims = reader.scalar("I")
    if n_dims > MAX_DIMENSIONS:
        raise reader.error(f"tensor {name} has {n_dims} dimensions, at most {MAX_DIMENSIONS} are possible")
    shape = tuple(reader.scalar("Q") for _ in range(n_dims))
    number, offset = reader.scalar("I"), reader.scalar("Q")
    if 0 in shape:
        raise reader.error(f"tensor {name} has no elements: its shape is {list(shape)}")
    if number not in BY_NUMBER:
        return TensorInfo(name, shape, f"type {number}", offset, None)
    kind = BY_NUMBER[number]
    row = shape[0] if shape else 1
    if row % kind.block:
        raise reader.error(f"tensor {name} has rows of {row} elements, {kind.name} has blocks of {kind.block}")
    return TensorInfo(name, shape, kind.name, offset, kind.n_bytes(shape))
