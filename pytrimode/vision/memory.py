"""Bytes of a vision tower."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pytrimode import _native
from pytrimode.gguf import vision_keys
from pytrimode.gguf.header import read_gguf_header


def tower_bytes(path: Path | None, *, device: str = "", max_side: int | None = None) -> int:
    """Of the weights, and of the compute buffer for an image of the largest size; 0 for no file.

    Raises ValueError for a file that is no vision tower.
    """
    if path is None:
        return 0
    recorded = read_gguf_header(path).metadata.get(vision_keys.MAX_SIDE)
    try:
        tower = _native.Tower(str(path), device=device, no_alloc=True)
    except RuntimeError as error:
        raise ValueError(str(error)) from None
    side = max_side or (recorded if isinstance(recorded, int) else vision_keys.DEFAULT_MAX_SIDE)
    return tower.weight_bytes + tower.planned_compute_bytes(min(side, tower.largest_side))


def reserved_for(path: Path | None, device: str, max_side: int | None) -> Mapping[str, int]:
    """Return what a vision tower takes of a device, by the device's name; nothing on the CPU."""
    return {device: tower_bytes(path, device=device, max_side=max_side)} if path and device else {}
