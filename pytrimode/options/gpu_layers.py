"""How many layers go to the GPU: `-ngl N`, `all`, `auto`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytrimode import _native
from pytrimode.gguf import keys
from pytrimode.gguf.header import read_gguf_header

_log = logging.getLogger(__name__)

DEFAULT_MARGIN = 1 << 30
"""Bytes left free on a device: its driver's context, the desktop."""
ALL, AUTO = "all", "auto"
ALL_LAYERS = -1
GPU_TYPES = ("gpu", "igpu")


def parse_gpu_layers(wanted: int | str) -> int | str:
    """Return a number of layers, -1 for "all", or "auto". Raises ValueError for anything else."""
    if isinstance(wanted, int):
        return wanted
    if wanted == ALL:
        return ALL_LAYERS
    if wanted == AUTO:
        return AUTO
    try:
        return int(wanted)
    except ValueError:
        raise ValueError(f"n_gpu_layers {wanted!r}: expected a number of layers, {ALL} or {AUTO}") from None


def resolve_gpu_layers(
    wanted: int | str,
    model: Path,
    *,
    n_ctx: int,
    default_ctx: int,
    reserved: Mapping[str, int] | None = None,
    **options: Any,
) -> int:
    """libllama's `n_gpu_layers`. "auto": as many as fit into the devices' free memory less a margin, 0 without a GPU.

    n_ctx: 0 for the model's own, at most `default_ctx`. reserved: bytes of devices that are for others, by name.
    options: those of `_native.plan_memory`.
    """
    parsed = parse_gpu_layers(wanted)
    if isinstance(parsed, int):
        return parsed
    names = options.get("devices")
    free = {
        device["name"]: device["memory_free"]
        for device in _native.devices()
        if device["type"] in GPU_TYPES and (not names or device["name"] in names)
    }
    if not free:
        return 0
    metadata = read_gguf_header(model).metadata
    context = n_ctx or min(int(metadata[keys.CONTEXT_LENGTH]), default_ctx)

    def fits(n_layers: int) -> bool:
        try:
            needed = _native.plan_memory(str(model), n_gpu_layers=n_layers, n_ctx=context, **options)
        except _native.OutOfMemoryError:
            return False
        return all(
            entry["weights"] + entry["kv_cache"] + entry["compute"] + DEFAULT_MARGIN
            <= free[entry["device"]] - (reserved or {}).get(entry["device"], 0)
            for entry in needed
            if entry["device"] in free
        )

    return ALL_LAYERS if fits(ALL_LAYERS) else most_that_fit(int(metadata[keys.BLOCK_COUNT]), fits)


@contextmanager
def telling_what_fits(n_gpu_layers: int, model: Path, **options: Any) -> Iterator[None]:
    """Add to an error of memory that a GPU lacks how many layers it would hold. options: as `resolve_gpu_layers`."""
    try:
        yield
    except RuntimeError as error:
        # libllama says of weights only that it could not allocate them.
        if n_gpu_layers == 0 or not (isinstance(error, _native.OutOfMemoryError) or "alloc" in str(error)):
            raise
        fitting = resolve_gpu_layers(AUTO, model, **options)
        if fitting == ALL_LAYERS:
            raise  # it would, by what the backend says is free
        layers = f"-ngl {fitting}" if fitting else "no layer"
        raise _native.OutOfMemoryError(f"{error} ({layers} would fit, and pytrimode plan says what else)") from None


def warn_of_slow_operations(engine: _native.Engine) -> None:
    """Log what the CPU computes in every pass, from copies, because a device that holds it has no kernel."""
    if left := engine.left_to_cpu:
        _log.warning(
            "%s: no kernel for these types or sizes, so the CPU computes it in every pass, which is slow. "
            "Of attention: try a cache of type f16 (type_k, type_v; -ctk, -ctv) or a smaller context",
            ", ".join(sorted(left)),
        )


def most_that_fit(n_layers: int, fits: Callable[[int], bool]) -> int:
    """Return the largest number of layers up to `n_layers` that fits; 0 always does. More layers never need less."""
    low, high = 0, n_layers
    while low < high:
        middle = (low + high + 1) // 2
        if fits(middle):
            low = middle
        else:
            high = middle - 1
    return low
