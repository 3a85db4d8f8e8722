"""The model files: the shipped checkpoint, and random weights in the shapes of the real ones, each written once."""

from __future__ import annotations

import fcntl
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gpu_suite.record import Context

TINY = "tiny"
"""The shipped checkpoint."""
LARGEST = 18 << 30
"""Bytes of the largest file and its LoRA, and some more."""


def model_file(context: Context, shape: str, outtype: str) -> Path:
    """Return the file of a shape and type, its drafter LoRA beside it; written at first use, which is recorded."""
    path = context.scratch / f"{shape}-{outtype}.gguf"
    with _locked(path.with_suffix(".lock")):
        if not path.exists():
            if not context.small:
                _make_room(context.scratch)
            _make(context, path, shape, outtype)
    return path


def prepare(context: Context, models: list[tuple[str, str]]) -> None:
    """Write models ahead of the jobs that want them, as far as there is room without taking another's away."""
    for shape, outtype in models:
        if shutil.disk_usage(context.scratch).free < 2 * LARGEST:
            return
        model_file(context, shape, outtype)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time; the lock goes with its process."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(context: Context, path: Path, shape: str, outtype: str) -> None:
    begin = time.perf_counter()
    part = context.scratch / f"part-{shape}-{outtype}.gguf"
    _write(part, shape, outtype)
    from pytrimode.convert import lora_path

    lora_path(part).rename(lora_path(path))
    part.rename(path)
    context.record(
        "model file", shape=shape, type=outtype, bytes=path.stat().st_size, seconds=time.perf_counter() - begin
    )


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
