"""What the converter's tests share: running it as a user does, and reading what it wrote."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

COMMAND = [sys.executable, "-m", "pytrimode.convert.cli"]


def run_convert(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    """Run trimode-convert in a process of its own."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False, **options
    )  # type: ignore[call-overload, no-any-return]


def read_tensors(path: Path) -> dict[str, gguf.ReaderTensor]:
    """Tensors of a GGUF file by name, as gguf-py sees them."""
    return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}


def read_metadata(path: Path) -> dict[str, object]:
    """Metadata of a GGUF file, as gguf-py sees it."""
    fields = gguf.GGUFReader(path).fields
    return {name: field.contents() for name, field in fields.items() if not name.startswith("GGUF.")}


def dequantize(tensor: gguf.ReaderTensor) -> NDArray[np.float32]:
    """A tensor's values, row-major."""
    values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    return values.reshape(tuple(int(n) for n in reversed(tensor.shape)))


def permute_rope(rows: NDArray[np.float32], n_heads: int) -> NDArray[np.float32]:
    """llama.cpp's own permutation of q and k rows (conversion/llama.py, LlamaModel.permute)."""
    half = rows.shape[0] // n_heads // 2
    return rows.reshape(n_heads, 2, half, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)


def files_in(directory: Path) -> set[str]:
    """Names of all files in a directory, hidden ones too."""
    return set(os.listdir(directory))  # noqa: PTH208
