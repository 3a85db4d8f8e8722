"""Loading a model for a command."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from pytrimode.cli.options import Loading
from pytrimode.files.shipped_model import shipped_gguf
from pytrimode.trimode import TriMode


def load(model: str | None, loading: Loading, *, n_parallel: int = 1) -> TriMode:
    """The model that the user named, or the shipped one; raises as `TriMode` does."""
    console = Console(stderr=True)
    path = Path(model) if model else shipped_gguf(notice=lambda text: print(text, file=sys.stderr))
    with console.status(f"loading {path.name}"):
        return TriMode(
            path,
            n_ctx=loading.ctx_size,
            n_gpu_layers=loading.n_gpu_layers,
            split_mode=loading.split_mode,
            main_gpu=loading.main_gpu,
            tensor_split=loading.tensor_split,
            n_threads=loading.threads,
            n_batch=loading.batch_size,
            n_ubatch=loading.ubatch_size,
            type_k=loading.cache_type_k or loading.cache_type,
            type_v=loading.cache_type_v or loading.cache_type,
            flash_attn=loading.flash_attn != "off",
            lora_path=loading.lora_path,
            mmproj=loading.mmproj_path,
            image_max_side=loading.image_max_side,
            exact_reuse=loading.exact_reuse,
            n_parallel=n_parallel,
            verbose=loading.verbose,
        )
