"""Weights, encoded chunk by chunk with ggml's own quantizers (`pytrimode._native.encode`)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from pytrimode import _native
from pytrimode.convert.checkpoint.checkpoint import Weights
from pytrimode.convert.checkpoint.names import Weight
from pytrimode.gguf.errors import ConversionError
from pytrimode.gguf.mapped_file import MappedFile
from pytrimode.gguf.types import GgmlType
from pytrimode.gguf.writer import OutputTensor

CHUNK_BYTES = 16 << 20
"""Bytes encoded at a time, of the source or as F32 where that is more. Bounds the memory of a conversion: some three
chunks are alive at once."""


@dataclass(frozen=True)
class SourceTensor:
    """Where the data of a tensor comes from.

    Attributes:
        name: in the GGUF file to write.
        source: in the file to read.
        shape: row-major.
        kind: the type of its data.
        file: the file to read.
        offset: of the data, in bytes.
        rope_heads: for q and k of a checkpoint, the number of heads whose rows go from the rotate-half to the
            interleaved order.
    """

    name: str
    source: str
    shape: tuple[int, ...]
    kind: GgmlType
    file: MappedFile
    offset: int
    rope_heads: int = 0

    @property
    def n_bytes(self) -> int:
        """Bytes of the data."""
        return self.kind.n_bytes(self.shape)


def checkpoint_tensor(weights: Weights, weight: Weight) -> SourceTensor:
    """Return a weight of a checkpoint, of which `weights` are the files."""
    stored = weights.tensors[weight.source]
    file = weights.file_of(weight.source).data
    return SourceTensor(
        weight.target, weight.source, weight.shape, GgmlType[stored.dtype], file, stored.offset, weight.rope_heads
    )


def encoded_tensor(
    source: SourceTensor, kind: GgmlType, threads: int, imatrix: NDArray[np.float32] | None = None
) -> OutputTensor:
    """Return the tensor to write: `source` in another type, or as it is. Arguments: see `encode_tensor`."""
    return OutputTensor(
        source.name, source.shape, kind, lambda: encode_tensor(source, kind, threads, imatrix), source.kind
    )


def encode_tensor(
    tensor: SourceTensor, kind: GgmlType, threads: int, imatrix: NDArray[np.float32] | None = None
) -> Iterator[bytes]:
    """Yield the tensor's data in `kind`, in order. Rows of q and k of a checkpoint are permuted on the way.

    threads: 0 for all cores. imatrix: the importance of each column. Raises ConversionError that names the tensor and
    element for NaN and infinite weights.
    """
    n_cols = tensor.shape[-1]
    n_rows = prod(tensor.shape) // n_cols
    row_bytes = tensor.kind.n_bytes((n_cols,))
    # Heads stay whole: their rows change places.
    unit = n_rows // tensor.rope_heads if tensor.rope_heads else 1
    rows_per_chunk = max(1, CHUNK_BYTES // (max(row_bytes, 2 * n_cols) * unit)) * unit
    file, offset = tensor.file, tensor.offset
    for first in range(0, n_rows, rows_per_chunk):
        last = min(first + rows_per_chunk, n_rows)
        start, end = offset + first * row_bytes, offset + last * row_bytes
        file.prefetch(end, min(end + rows_per_chunk * row_bytes, offset + tensor.n_bytes))
        with file.read(start, end) as source:
            rows = _interleave_rope(source, row_bytes, unit) if tensor.rope_heads else source
            if kind is tensor.kind and kind.is_quantized:
                encoded = bytes(rows)
            else:
                try:
                    rows, name = _known(rows, tensor.kind)
                    encoded = _native.encode(rows, name, kind.name, n_cols, threads, imatrix)
                except ValueError as error:
                    raise _encode_error(tensor, str(error), first, unit) from None
        file.forget(start, end)
        yield encoded


def _known(rows: memoryview | bytes, kind: GgmlType) -> tuple[memoryview | bytes, str]:
    """Return rows in a type that ggml converts from, and its name: F64 becomes F32, of which no weight needs more."""
    if kind is not GgmlType.F64:
        return rows, kind.name
    with np.errstate(over="ignore"):  # infinite then, which is refused by name
        return np.frombuffer(rows, dtype=np.float64).astype(np.float32).tobytes(), GgmlType.F32.name


def rope_row_order(head_dim: int) -> list[int]:
    """Source row of each row of a head: rotate-half pairs (i, i + head_dim/2) become neighbours (2i, 2i + 1).

    Source: `LlamaModel.permute` in llama.cpp's conversion/llama.py; ggml's GGML_ROPE_TYPE_NORMAL.
    """
    half = head_dim // 2
    return [i // 2 + half * (i % 2) for i in range(head_dim)]


def _interleave_rope(source: memoryview, row_bytes: int, head_dim: int) -> bytes:
    """Rows of whole heads in the interleaved order."""
    heads = np.frombuffer(source, dtype=np.uint8).reshape(-1, head_dim, row_bytes)
    return heads[:, rope_row_order(head_dim)].tobytes()


def _encode_error(tensor: SourceTensor, message: str, first_row: int, head_rows: int) -> ConversionError:
    at = _locate(message, first_row, tensor.shape[-1], head_rows if tensor.rope_heads else 0)
    bf16 = "--mmproj-type bf16" if tensor.name.startswith(("v.", "mm.")) else "--bf16"
    advice = f"use {bf16}" if "too large" in at else "the file is damaged, get it again"
    if "importance" in at:
        advice = "choose another type for it"
    return ConversionError(f"{tensor.file.path}: tensor {tensor.source}: {at}: {advice}")


def _locate(message: str, first_row: int, n_cols: int, head_dim: int) -> str:
    """Turn "element N is nan", counted in an encoded chunk, into the row and column of the checkpoint's tensor."""
    match = re.match(r"element (\d+) (.*)", message)
    if not match:
        return message
    row, col = divmod(int(match.group(1)), n_cols)
    if head_dim:
        row = row // head_dim * head_dim + rope_row_order(head_dim)[row % head_dim]
    return f"element [{first_row + row}, {col}] {match.group(2)}"
