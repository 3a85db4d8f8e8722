"""The header of a GGUF file: metadata and tensor table, read without loading anything.

Format: ggml `docs/gguf.md`; types and block sizes: `ggml/include/ggml.h` (enum ggml_type), `ggml/src/ggml-common.h`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from pytrimode.model_file import GGUF_MAGIC

VERSIONS = (2, 3)
MAX_DIMENSIONS = 4
DEFAULT_ALIGNMENT = 32

# GGUF value types.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9

# ggml type: name, elements per block, bytes per block.
_GGML_TYPES = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 36), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
}  # fmt: skip


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
        if number not in _GGML_TYPES:
            return TensorInfo(name, shape, f"type {number}", offset, None)
        kind, block, block_bytes = _GGML_TYPES[number]
        return TensorInfo(name, shape, kind, offset, prod(shape) // block * block_bytes)


def read_gguf_header(path: Path) -> GgufHeader:
    """Read the header and check that the file holds every tensor it names.

    Raises ValueError that names file and tensor, OSError when the file cannot be read.
    """
    with path.open("rb") as stream:
        reader = _Reader(stream, path)
        if reader.size < len(GGUF_MAGIC) or reader.bytes(len(GGUF_MAGIC)) != GGUF_MAGIC:
            raise ValueError(f'{path}: not a GGUF file (it does not start with "GGUF")')
        version = reader.scalar("I")
        if version not in VERSIONS:
            raise ValueError(f"{path}: GGUF version {version} is not supported, only {VERSIONS[0]} and {VERSIONS[1]}")
        n_tensors, n_values = reader.scalar("Q"), reader.scalar("Q")
        metadata = {}
        for _ in range(n_values):
            key = reader.text()
            metadata[key] = reader.value()
        tensors = [reader.tensor() for _ in range(n_tensors)]
        alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or alignment <= 0:
            raise reader.error(f"general.alignment is {alignment!r}")
        data_start = -(-reader.position // alignment) * alignment
        for tensor in tensors:
            end = data_start + tensor.offset + (tensor.n_bytes or 0)
            if end > reader.size:
                raise reader.error(
                    f"tensor {tensor.name} ends at byte {end}, the file at byte {reader.size}: it is truncated"
                )
        return GgufHeader(path, version, metadata, tensors, data_start, reader.size)
