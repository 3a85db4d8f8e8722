"""The model files: the shipped checkpoint, and random weights in the shapes of the real ones, each written once."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from gpu_suite.record import Context

TINY = "tiny"
"""The shipped checkpoint."""
LARGEST = 18 << 30
"""Bytes of the largest file and its LoRA, and some more."""


def model_file(context: Context, shape: str, outtype: str) -> Path:
    """Return the file of a shape and type, its drafter LoRA beside it; written at first use, which is recorded."""
    path = context.scratch / f"{shape}-{outtype}.gguf"
    if path.exists():
        return path
    if not context.small:
        _make_room(context.scratch)
    begin = time.perf_counter()
    part = context.scratch / f"part-{shape}-{outtype}.gguf"
    _write(part, shape, outtype)
    from pytrimode.convert import lora_path

    lora_path(part).rename(lora_path(path))
    part.rename(path)
    context.record(
        "model file", shape=shape, type=outtype, bytes=path.stat().st_size, seconds=time.perf_counter() - begin
    )
    return path


def _write(path: Path, shape: str, outtype: str) -> None:
    if shape == TINY:
        from pytrimode.convert import convert
        from pytrimode.files.shipped_model import shipped_checkpoint

        convert(shipped_checkpoint(), path, outtype)
        return
    from pytrimode.bench.random_model import write_random_model
    from pytrimode.plan.model_shape import model_shape

    write_random_model(path, model_shape(shape), outtype)


def _make_room(scratch: Path) -> None:
    """Remove files, the oldest first, until the largest there is fits."""
    files = sorted(scratch.glob("*.gguf"), key=lambda path: path.stat().st_mtime)
    while files and shutil.disk_usage(scratch).free < LARGEST:
        files.pop(0).unlink()
