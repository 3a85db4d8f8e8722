"""Weights of a checkpoint, encoded chunk by chunk with ggml's own quantizers (`pytrimode._native.encode`)."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from .. import _native
from .checkpoint import Weights
from .errors import ConversionError
from .ggml import GgmlType
from .names import Weight
from .safetensors_file import ELEMENT_BYTES

CHUNK_BYTES = 16 << 20
"""Source bytes encoded at a time. Bounds the memory of a conversion: some three chunks are alive at once."""


def encode_weight(weights: Weights, weight: Weight, kind: GgmlType, threads: int) -> Iterator[bytes]:
    """Yield the weight's data in `kind`, in order. Rows of q and k are permuted on the way.

    threads: 0 for all cores. Raises ConversionError that names the tensor and element for NaN and infinite weights.
    """
    stored = weights.tensors[weight.source]
    file = weights.file_of(weight.source)
    n_rows, n_cols = (weight.shape[0], weight.shape[1]) if len(weight.shape) == 2 else (1, weight.shape[0])
    row_bytes = n_cols * ELEMENT_BYTES[stored.dtype]
    # Heads stay whole: their rows change places.
    unit = n_rows // weight.rope_heads if weight.rope_heads else 1
    rows_per_chunk = max(1, CHUNK_BYTES // (row_bytes * unit)) * unit
    for first in range(0, n_rows, rows_per_chunk):
        last = min(first + rows_per_chunk, n_rows)
        file.prefetch(stored, last * row_bytes, (last + rows_per_chunk) * row_bytes)
        with file.read(stored, first * row_bytes, last * row_bytes) as source:
            rows = _interleave_rope(source, row_bytes, unit) if weight.rope_heads else source
            try:
                encoded = _native.encode(rows, stored.dtype, kind.name, n_cols, threads)
            except ValueError as error:
                at = _locate(str(error), first, n_cols, unit if weight.rope_heads else 0)
                advice = "use --bf16" if "too large" in at else "the checkpoint is damaged, download it again"
                raise ConversionError(f"{file.path}: tensor {weight.source}: {at}: {advice}") from None
        file.forget(stored, first * row_bytes, last * row_bytes)
        yield encoded


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


def _locate(message: str, first_row: int, n_cols: int, head_dim: int) -> str:
    """Turn "element N is nan", counted in an encoded chunk, into the row and column of the checkpoint's tensor."""
    match = re.match(r"element (\d+) (.*)", message)
    if not match:
        return message
    row, col = divmod(int(match.group(1)), n_cols)
    if head_dim:
        row = row // head_dim * head_dim + rope_row_order(head_dim)[row % head_dim]
    return f"element [{first_row + row}, {col}] {match.group(2)}"
