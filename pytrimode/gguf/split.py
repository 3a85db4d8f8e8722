"""Files in parts, as llama.cpp's gguf-split makes them: `model-00001-of-00003.gguf` and so on.

The first part has the model's metadata, each has three `split.` keys; a reader is given the first.
Source: llama.cpp `tools/gguf-split/gguf-split.cpp`, `src/llama-model-loader.cpp`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pytrimode.gguf import keys
from pytrimode.gguf.errors import ConversionError
from pytrimode.gguf.metadata import Metadata
from pytrimode.gguf.writer import OutputTensor

MAX_PARTS = 99_999
_PART = re.compile(r"(.*)-(\d{5})-of-(\d{5})(\.gguf)?")


def part_path(out: Path, number: int, count: int) -> Path:
    """The name of a part, numbers from 1: `model.gguf` -> `model-00001-of-00003.gguf`."""
    return out.with_name(f"{out.name.removesuffix('.gguf')}-{number:05d}-of-{count:05d}.gguf")


def whole_name(name: str) -> str:
    """The name of a file without the numbers of a part."""
    match = _PART.fullmatch(name)
    return f"{match[1]}{match[4] or ''}" if match else name


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
    """The files to write: one, or with more than one part the parts. Raises ConversionError for too many."""
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
