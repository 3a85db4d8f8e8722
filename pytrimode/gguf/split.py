"""Files in parts, as llama.cpp's gguf-split makes them: `model-00001-of-00003.gguf` and so on.

The first part has the model's metadata, each has three `split.` keys; a reader is given the first.
Source: llama.cpp `tools/gguf-split/gguf-split.cpp`, `src/llama-model-loader.cpp`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pytrimode.gguf import keys
from pytrimode.gguf.errors import ConversionError
from pytrimode.gguf.file_names import part_path
from pytrimode.gguf.metadata import Metadata
from pytrimode.gguf.writer import OutputTensor

MAX_PARTS = 99_999


def split_by_size(tensors: Sequence[OutputTensor], max_bytes: int | None) -> list[list[OutputTensor]]:
    """Tensors in order, in parts of at most `max_bytes` of data; a bigger tensor has a part of its own."""
    parts: list[list[OutputTensor]] = [[]]
    size = 0
    for tensor in tensors:
        if max_bytes is not None and parts[-1] and size + tensor.n_bytes > max_bytes:
            parts.append([])
            size = 0
        parts[-1].append(tensor)
        size += tensor.n_bytes
    return parts


def split_files(
    out: Path, metadata: Metadata, parts: Sequence[list[OutputTensor]]
) -> list[tuple[Path, Metadata, list[OutputTensor]]]:
    """Return the files to write: one, or with more than one part the parts. Raises ConversionError for too many."""
    if len(parts) == 1:
        return [(out, metadata, parts[0])]
    if len(parts) > MAX_PARTS:
        raise ConversionError(f"{out}: {len(parts)} parts, at most {MAX_PARTS} are possible: allow bigger ones")
    files = []
    for i, part in enumerate(parts):
        described = metadata if i == 0 else Metadata()
        described.u16(keys.SPLIT_NO, i)
        described.u16(keys.SPLIT_COUNT, len(parts))
        described.i32(keys.SPLIT_TENSORS_COUNT, sum(map(len, parts)))
        files.append((part_path(out, i + 1, len(parts)), described, part))
    return files
