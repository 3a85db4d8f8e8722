"""How a model is loaded: the keyword arguments of `TriMode` and `AsyncTriMode.load`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytrimode.gguf.vision_keys import DEFAULT_MAX_SIDE
from pytrimode.options.defaults import DEFAULT_CACHE_TYPE, DEFAULT_N_BATCH, DEFAULT_N_CTX, DEFAULT_N_UBATCH
from pytrimode.options.loras import loras_of
from pytrimode.options.option import option, settle

SPLIT_MODES = {"layer": "each holds some of the layers", "none": "one holds all"}
AUTO_FILE = "auto"
"""The file beside the model, if it is there."""


@dataclass(frozen=True)
class LoadOptions:
    """The fields are rows of an option table (`pytrimode.options.option`).

    Raises TypeError and ValueError that name the option; what depends on the model is checked when it is loaded.
    """

    n_ctx: int = option(
        0,
        f"Context in tokens; 0: the model's, at most {DEFAULT_N_CTX}.",
        flags=("-c", "--ctx-size"),
        metavar="N",
        low=0,
    )
    n_threads: int | None = option(
        None, "CPU threads", flags=("-t", "--threads"), metavar="N", low=1, off=0,
        default_text="one for each core; `doctor` tells",
    )  # fmt: skip
    n_threads_batch: int | None = option(
        None, "CPU threads of passes with rows of prompts", flags=("-tb", "--threads-batch"), metavar="N", low=1,
        default_text="as --threads",
    )  # fmt: skip
    n_gpu_layers: int | str = option(0, "Layers to run on the GPU: a number, all, or auto for what its memory holds.")
    split_mode: str = option("layer", "Several GPUs", flags=("-sm", "--split-mode"), choices=SPLIT_MODES)
    main_gpu: int = option(
        0, "The GPU that holds all with --split-mode none.", flags=("-mg", "--main-gpu"), metavar="N", low=0
    )
    tensor_split: Sequence[float] | None = option(None, "Shares of several GPUs.")
    n_batch: int = option(
        DEFAULT_N_BATCH, "Most rows in one forward pass.", flags=("-b", "--batch-size"), metavar="N", low=1
    )
    n_ubatch: int = option(
        DEFAULT_N_UBATCH, "Of these, most rows of prompts while other requests decode.", flags=("-ub", "--ubatch-size"),
        metavar="N", low=1,
    )  # fmt: skip
    n_parallel: int = option(1, "Requests that run side by side.", low=1)
    max_queue: int | None = option(None, "Requests that may wait, any number unless given.", low=0)
    type_k: str = option(DEFAULT_CACHE_TYPE, "Type of the keys in the cache.")
    type_v: str = option(DEFAULT_CACHE_TYPE, "Type of the values in the cache.")
    flash_attn: bool = option(True, "Flash attention; without it attention is computed exactly.")
    exact: bool = option(
        False, "On a GPU: a greedy self-spec request alone gives the text of ar to the bit. ar itself gets slower.",
        flags=("--exact",),
    )  # fmt: skip
    lora_path: str | Path | None = option(AUTO_FILE, "Drafter LoRA; None: without one.")
    loras: Sequence[Any] | None = option(
        None, "LoRA adapters for all rows of all modes: paths, or pairs of a path and a scale."
    )
    mmproj: str | Path | None = option(AUTO_FILE, "Vision tower; None: without one.")
    image_max_side: int | None = option(
        None, "Pixels that the longest side of an image keeps, a multiple of 28", flags=("--image-max-side",),
        metavar="N", low=1, default_text=f"the model's, {DEFAULT_MAX_SIDE}",
    )  # fmt: skip
    seed: int | None = option(None, "Seed of requests that name none.", bits=64)
    chat_template_file: str | Path | None = option(
        None, "Jinja chat template in place of the model's own.", flags=("--chat-template-file",), metavar="FILE"
    )
    parse_special: bool = option(
        False, "Make tokens of special tokens that are spelled out in the text of chat messages, as transformers does.",
        flags=("--parse-special",),
    )  # fmt: skip
    use_mmap: bool = option(True, "Map the file into memory instead of reading it.")
    use_mlock: bool = option(
        False, "Keep the weights in main memory, out of swap; where the system does not allow it, that is said.",
        flags=("--mlock",),
    )  # fmt: skip
    repack: bool = option(True, "Repack the weights on the CPU for faster passes; without it processes share the file.")
    rpc: Sequence[str] | None = option(
        None,
        "Servers of ggml's RPC backend, HOST:PORT, whose devices hold layers too; only in a network that you trust.",
    )
    tuning_cache: bool = option(
        True, "Begin with what mode auto measured of this model on this machine before, and keep what it measures."
    )
    verbose: bool = option(False, "Show llama.cpp's log.", flags=("-v", "--verbose"))
    log_file: str | Path | None = option(
        None, "Append llama.cpp's log, and a server's, to a file instead of showing it.", flags=("--log-file",),
        metavar="FILE",
    )  # fmt: skip

    def __post_init__(self) -> None:
        settle(self)
        loras_of(self.loras)
