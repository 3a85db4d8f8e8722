"""Which type of a model to take, where the user names none: what fits into this machine's memory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pytrimode import _native
from pytrimode.gguf.sizes import memory_text
from pytrimode.gguf.types import OUTPUT_TYPES
from pytrimode.options.defaults import DEFAULT_N_CTX
from pytrimode.options.gpu_layers import DEFAULT_MARGIN, GPU_TYPES
from pytrimode.plan import plan

FALLBACK = "q4_k_m"
"""Where nothing fits: layers that a GPU cannot hold stay on the CPU."""
CPU_SHARE = 0.75
"""Of a machine's memory, for a model on its CPU."""
NOT_PREFERRED = ("f32", "f16", "bf16")


@dataclass(frozen=True)
class Choice:
    """A type, and why."""

    type: str
    reason: str


@dataclass(frozen=True)
class Memory:
    """Bytes for a model, and whose they are."""

    n_bytes: int
    of: str

    def __str__(self) -> str:
        return f"{memory_text(self.n_bytes)} of {self.of}"


def memory_here() -> Memory:
    """Return the memory of the GPUs, without any three quarters of the machine's."""
    gpus = [device["memory_total"] for device in _native.devices() if device["type"] in GPU_TYPES]
    if sum(gpus):
        return Memory(sum(gpus), "GPU memory")
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Memory(int(whole * CPU_SHARE), f"this machine's {memory_text(whole)}")


def known_type(wanted: str) -> str:
    """Return the name of a type. Raises ValueError for one that it does not write."""
    if wanted not in OUTPUT_TYPES:
        raise ValueError(f"type {wanted!r}: expected one of {', '.join(OUTPUT_TYPES)}")
    return wanted


def fitting_type(checkpoint: Path) -> Choice:
    """Choose the type to convert to, by `plan`, for the context that a chat has by default.

    `checkpoint`: a directory, of which config.json is enough. Raises ValueError for what is no tri-mode model.
    """
    memory = memory_here()
    option = plan(checkpoint, vram=memory.n_bytes, n_ctx=DEFAULT_N_CTX).choice
    if option is None:
        return Choice(FALLBACK, f"no type fits into {memory}, with a context of {DEFAULT_N_CTX} tokens")
    return Choice(option.quantization, f"fits into {memory}, with a context of {DEFAULT_N_CTX} tokens")


def fitting_file(sizes: Mapping[str, int]) -> Choice:
    """Choose among GGUF files by their bytes: the largest that leaves room, none of floats unless there is no other."""
    memory = memory_here()
    names = [name for name in sizes if name not in NOT_PREFERRED] or list(sizes)
    room = memory.n_bytes - 2 * DEFAULT_MARGIN  # the second for cache and compute buffers
    fitting = [name for name in names if sizes[name] <= room]
    if fitting:
        return Choice(max(fitting, key=lambda name: sizes[name]), f"fits into {memory}")
    return Choice(min(names, key=lambda name: sizes[name]), f"the smallest, none fits into {memory}")
