"""The header of a GGUF file: metadata and tensor table, read without loading anything.

Format: ggml `docs/gguf.md`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from pytrimode.gguf import keys
from pytrimode.gguf.layout import ALIGNMENT, MAGIC
from pytrimode.gguf.types import BY_NUMBER

VERSIONS = (2, 3)
MAX_DIMENSIONS = 4

# GGUF value types.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


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
    def __init__(self, stream: BinaryIO, path: Path) -> None:
        self._stream = stream
        self._path = path
        self.size = path.stat().st_size

    def error(self, what: str) -> ValueError:
        return ValueError(f"{self._path}: damaged GGUF: {what}")

    @property
    def position(self) -> int:
        return self._stream.tell()

    def bytes(self, n: int) -> bytes:
        data = self._stream.read(n) if n <= self.size else b""
        if len(data) != n:
            raise self.error(f"the header ends at byte {self.size}, the file is truncated")
        return data

    def scalar(self, code: str) -> Any:
        return struct.unpack("<" + code, self.bytes(struct.calcsize("<" + code)))[0]

    def text(self) -> str:
        return self.bytes(self.scalar("Q")).decode("utf-8", "replace")

    def value(self) -> Any:
        kind = self.scalar("I")
        if kind in _SCALARS:
            return self.scalar(_SCALARS[kind])
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            return self._skip_array()
        raise self.error(f"unknown value type {kind} at byte {self.position - 4}")

    def _skip_array(self) -> tuple[str, int]:
        kind, n = self.scalar("I"), self.scalar("Q")
        if kind in _SCALARS:
            self._skip(n * struct.calcsize("<" + _SCALARS[kind]))
        elif kind == _STRING:
            for _ in range(n):
                self._skip(self.scalar("Q"))
        else:
            raise self.error(f"unknown array type {kind} at byte {self.position - 12}")
        return ("array", n)

    def _skip(self, n: int) -> None:
        if n > self.size - self.position:
            raise self.error(f"the header ends at byte {self.size}, the file is truncated")
        self._stream.seek(n, 1)

    def tensor(self) -> TensorInfo:
        name = self.text()
        n_dims = self.scalar("I")
        if n_dims > MAX_DIMENSIONS:
            raise self.error(f"tensor {name} has {n_dims} dimensions, at most {MAX_DIMENSIONS} are possible")
        shape = tuple(self.scalar("Q") for _ in range(n_dims))
        number, offset = self.scalar("I"), self.scalar("Q")
        if number not in BY_NUMBER:
            return TensorInfo(name, shape, f"type {number}", offset, None)
        kind = BY_NUMBER[number]
        return TensorInfo(name, shape, kind.name, offset, kind.n_bytes(shape))


def read_gguf_header(path: Path) -> GgufHeader:
    """Read the header and check that the file holds every tensor it names.

    Raises ValueError that names file and tensor, OSError when the file cannot be read.
    """
    with path.open("rb") as stream:
        reader = _Reader(stream, path)
        if reader.size < len(MAGIC) or reader.bytes(len(MAGIC)) != MAGIC:
            raise ValueError(f'{path}: not a GGUF file (it does not start with "GGUF")')
        version = reader.scalar("I")
        if version not in VERSIONS:
            raise ValueError(f"{path}: GGUF version {version} is not supported, only {VERSIONS[0]} and {VERSIONS[1]}")
        n_tensors, n_values = reader.scalar("Q"), reader.scalar("Q")
        metadata, spans = {}, {}
        for _ in range(n_values):
            key = reader.text()
            begin = reader.position
            metadata[key] = reader.value()
            spans[key] = (begin, reader.position)
        tensors = [reader.tensor() for _ in range(n_tensors)]
        alignment = metadata.get(keys.GENERAL_ALIGNMENT, ALIGNMENT)
        if not isinstance(alignment, int) or alignment <= 0:
            raise reader.error(f"{keys.GENERAL_ALIGNMENT} is {alignment!r}")
        data_start = -(-reader.position // alignment) * alignment
        for tensor in tensors:
            end = data_start + tensor.offset + (tensor.n_bytes or 0)
            if end > reader.size:
                raise reader.error(
                    f"tensor {tensor.name} ends at byte {end}, the file at byte {reader.size}: it is truncated"
                )
        return GgufHeader(path, version, metadata, spans, tensors, data_start, reader.size)
