"""The keyword arguments of a request, for type checkers; `tools/option_tables.py` writes this file.

None is the default everywhere. What they mean: docs/requests.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from pytrimode.formats.constraint import Constraint


class RequestArguments(TypedDict, total=False):
    """The options of the table (`pytrimode.options.option`) that completions and chats have alike."""

    mode: str | None
    block_length: int | None
    fused: bool | str | None
    ngram: int | None
    tree_nodes: int | None
    threshold: float | None
    steps: int | None
    reveal: str | None
    max_thinking_tokens: int | None
    loop_window: int | None
    loop_min_repeats: int | None
    trim_loop: bool | None
    lora: Sequence[Mapping[str, float]] | None
    use_lora: bool | None
    max_tokens: int | None
    stop: str | Sequence[str] | None
    stop_token_ids: Sequence[int] | None
    min_tokens: int | None
    ignore_eos: bool | None
    post_sampling_probs: bool | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    typical_p: float | None
    repeat_penalty: float | None
    frequency_penalty: float | None
    presence_penalty: float | None
    penalty_last_n: int | None
    dry_multiplier: float | None
    dry_base: float | None
    dry_allowed_length: int | None
    dry_penalty_last_n: int | None
    dry_sequence_breakers: Sequence[str] | None
    logit_bias: Mapping[int | str, float] | None
    grammar: str | Constraint | None
    sampler: str | None
    seed: int | None


class LoadArguments(TypedDict, total=False):
    """How a model is loaded (`pytrimode.options.load_options`)."""

    n_ctx: int | None
    n_threads: int | None
    n_threads_batch: int | None
    n_gpu_layers: int | str | None
    split_mode: str | None
    main_gpu: int | None
    tensor_split: Sequence[float] | None
    n_batch: int | None
    n_ubatch: int | None
    n_parallel: int | None
    max_queue: int | None
    type_k: str | None
    type_v: str | None
    flash_attn: bool | None
    exact: bool | None
    lora_path: str | Path | None
    loras: Sequence[Any] | None
    mmproj: str | Path | None
    image_max_side: int | None
    seed: int | None
    chat_template_file: str | Path | None
    parse_special: bool | None
    use_mmap: bool | None
    use_mlock: bool | None
    repack: bool | None
    rpc: Sequence[str] | None
    tuning_cache: bool | None
    verbose: bool | None
    log_file: str | Path | None
