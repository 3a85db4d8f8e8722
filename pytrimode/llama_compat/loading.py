"""The arguments of `llama_cpp.Llama` as those of `TriMode`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytrimode.gguf import keys
from pytrimode.gguf.header import read_gguf_header
from pytrimode.gguf.types import GgmlType
from pytrimode.llama_compat.refusals import LOADING, refuse

RANDOM_SEEDS = (None, -1, 2**32 - 1)
"""None of them is a seed: each request draws a new one."""
_SPLIT_MODES = {0: "none", 1: "layer"}


def seed_of(seed: int | None) -> int | None:
    """Return a seed, or None for a new one in each request."""
    return None if seed in RANDOM_SEEDS else seed


def load_arguments(model_path: str | Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """Translate keyword arguments of `llama_cpp.Llama` into those of `TriMode`.

    Raises ValueError that names a parameter whose value pytrimode cannot keep.
    """
    refuse(LOADING, given)
    if given["split_mode"] not in _SPLIT_MODES:
        raise ValueError(f"split_mode={given['split_mode']!r}: use 0 (one GPU) or 1 (layers)")
    n_ctx = given["n_ctx"] or _trained_context(model_path)
    return {
        "n_ctx": n_ctx,
        "n_batch": max(1, min(given["n_batch"], n_ctx)) if n_ctx else given["n_batch"],
        "n_threads": given["n_threads"],
        "n_threads_batch": given["n_threads_batch"],
        "n_gpu_layers": given["n_gpu_layers"],
        "split_mode": _SPLIT_MODES[given["split_mode"]],
        "main_gpu": given["main_gpu"],
        "tensor_split": given["tensor_split"],
        "use_mmap": given["use_mmap"],
        "type_k": _cache_type("type_k", given["type_k"]),
        "type_v": _cache_type("type_v", given["type_v"]),
        "flash_attn": given["flash_attn"],
        "verbose": given["verbose"],
        "loras": [(given["lora_path"], given["lora_scale"])] if given["lora_path"] is not None else None,
    }


def _cache_type(name: str, number: int | str | None) -> str | None:
    """Return the name of a type of ggml; `TriMode` says which of them a cache can have."""
    if number is None or isinstance(number, str):
        return number
    try:
        return GgmlType(number).name.lower()
    except ValueError:
        raise ValueError(f"{name}={number!r}: no type of ggml has this number; use 1 (F16) or 8 (Q8_0)") from None


def _trained_context(model_path: str | Path) -> int:
    """Return the context that the model was made for, `n_ctx=0`; 0 for a file that `TriMode` will refuse."""
    try:
        return int(read_gguf_header(Path(model_path)).metadata.get(keys.CONTEXT_LENGTH, 0))
    except (OSError, ValueError):
        return 0
