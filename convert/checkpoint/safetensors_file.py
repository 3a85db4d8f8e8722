"""One safetensors file, memory-mapped; its header is checked before anything is allocated.

Format: 8 bytes header length (little-endian), the header as JSON, then the data. Every tensor is a range of the data;
ranges do not overlap and leave no holes. Source: https://github.com/huggingface/safetensors#format
The package `safetensors` hands out tensors of a framework, and BF16 to torch only; the converter reads ranges of bytes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from pytrimode.gguf.errors import ConversionError
from pytrimode.gguf.lfs import LFS_ADVICE, LFS_POINTER
from pytrimode.gguf.mapped_file import MappedFile

# The reference implementation's limit, 100 MB: a real header takes some 50 kB.
MAX_HEADER_BYTES = 100_000_000
# safetensors dtype -> bytes per element, of all the dtypes that a weight may have here.
ELEMENT_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}


@dataclass(frozen=True)
class StoredTensor:
    """Where one tensor lies: `offset` and `n_bytes` within its file; row-major, little-endian."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    n_bytes: int


class SafetensorsFile:
    """A memory-mapped safetensors file.

    Attributes:
        path: where it is.
        tensors: what it holds, by name.
        data: its bytes.
    """

    def __init__(self, path: Path) -> None:
        """Open and check `path`. Raises ConversionError when it is missing, truncated or corrupt."""
        self.path = path
        try:
            with path.open("rb") as file:
                self._size = path.stat().st_size
                header, data_start = self._read_header(file.read(8), file.read)
                self.tensors = self._parse(header, data_start)
            self.data = MappedFile(path)
        except FileNotFoundError:
            raise ConversionError(f"{path}: not found") from None
        except OSError as error:
            raise ConversionError(f"{path}: cannot be read: {error.strerror}") from None

    def close(self) -> None:
        """Unmap the file."""
        self.data.close()

    def _fail(self, what: str) -> ConversionError:
        return ConversionError(f"{self.path}: {what}: the file is truncated or corrupt, download it again")

    def _read_header(self, prefix: bytes, read: Any) -> tuple[dict[str, Any], int]:
        length = int.from_bytes(prefix, "little")
        if prefix == LFS_POINTER[:8]:
            raise ConversionError(f"{self.path}: {LFS_ADVICE}")
        if len(prefix) < 8:
            raise self._fail(f"{self._size} bytes, too short for a safetensors header")
        if length > MAX_HEADER_BYTES or 8 + length > self._size:
            raise self._fail(f"the header claims {length} bytes, the file has {self._size}")
        try:
            header = json.loads(read(length).decode("utf-8"), object_pairs_hook=self._unique)
        except (ValueError, RecursionError) as error:
            raise self._fail(f"the header is not valid JSON ({error})") from None
        if not isinstance(header, dict):
            raise self._fail("the header is not a JSON object")
        header.pop("__metadata__", None)
        return header, 8 + length

    def _unique(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise self._fail(f"the header lists {twice!r} twice")
        return found

    def _parse(self, header: dict[str, Any], data_start: int) -> dict[str, StoredTensor]:
        tensors = {name: self._parse_tensor(name, entry, data_start) for name, entry in header.items()}
        position, before = data_start, "the header"
        for tensor in sorted(tensors.values(), key=lambda tensor: (tensor.offset, tensor.n_bytes)):
            if tensor.offset < position:
                raise self._fail(f"tensor {tensor.name} overlaps {before}")
            if tensor.offset > position:
                raise self._fail(f"{tensor.offset - position} bytes before tensor {tensor.name} belong to no tensor")
            position, before = tensor.offset + tensor.n_bytes, tensor.name
        if position != self._size:
            raise self._fail(f"the tensors end at byte {position}, the file at byte {self._size}")
        return tensors

    def _parse_tensor(self, name: str, entry: Any, data_start: int) -> StoredTensor:
        if not isinstance(entry, dict):
            raise self._fail(f"tensor {name}: its header entry is not an object")
        dtype, shape, offsets = entry.get("dtype"), _sizes(entry.get("shape")), _sizes(entry.get("data_offsets"))
        if shape is None:
            raise self._fail(f"tensor {name}: shape {entry.get('shape')!r} is not a list of sizes")
        if offsets is None or len(offsets) != 2 or offsets[0] > offsets[1]:
            raise self._fail(f"tensor {name}: data_offsets {entry.get('data_offsets')!r} are not a range")
        begin, end = offsets
        if data_start + end > self._size:
            raise self._fail(f"tensor {name} ends at byte {data_start + end}, the file has {self._size}")
        if not isinstance(dtype, str) or dtype not in ELEMENT_BYTES:
            raise ConversionError(
                f"{self.path}: tensor {name}: dtype {dtype!r} is not supported, expected one of "
                f"{', '.join(ELEMENT_BYTES)}: start from the unquantized checkpoint"
            )
        if prod(shape) * ELEMENT_BYTES[dtype] != end - begin:
            raise self._fail(f"tensor {name}: {dtype} {shape} does not take {end - begin} bytes")
        return StoredTensor(name, dtype, tuple(shape), data_start + begin, end - begin)


def _sizes(value: Any) -> list[int] | None:
    """Return the value, if it is a list of integers >= 0."""
    return value if isinstance(value, list) and all(type(size) is int and size >= 0 for size in value) else None
