"""What an evaluation measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pytrimode.bench.prompts import PROMPTS

DEFAULT_CONTEXT = 512
DEFAULT_RATIOS = (0.25, 0.5, 0.75)
DEFAULT_THRESHOLDS = (0.7, 0.9)
DEFAULT_MAX_TOKENS = 64
DEFAULT_ROUNDS = 3


@dataclass(frozen=True)
class EvaluationOptions:
    """What is measured, and how models are loaded.

    Attributes:
        n_ctx: tokens per chunk of the text; each chunk begins anew, its second half counts.
        max_chunks: at most as many chunks.
        mask_ratios: of blocks as diffusion denoises them.
        block_length: tokens of a block, in rows and answers; None for the model's own.
        thresholds: of diffusion.
        prompts: by category.
        max_tokens: of an answer.
        speed_rounds: 0: no speed, and no two models in memory.
        parse_special: special tokens spelled out in the text become their ids.
        seed: of the masks.
        threads: None leaves it to the engine.
        n_gpu_layers: as TriMode's.

    Raises ValueError for what cannot be measured.
    """

    n_ctx: int = DEFAULT_CONTEXT
    max_chunks: int | None = None
    mask_ratios: tuple[float, ...] = DEFAULT_RATIOS
    block_length: int | None = None
    thresholds: tuple[float, ...] = DEFAULT_THRESHOLDS
    prompts: Mapping[str, Sequence[str]] = field(default_factory=lambda: PROMPTS)
    max_tokens: int = DEFAULT_MAX_TOKENS
    speed_rounds: int = DEFAULT_ROUNDS
    parse_special: bool = False
    seed: int = 0
    threads: int | None = None
    n_gpu_layers: int | str = "auto"

    def __post_init__(self) -> None:
        if self.n_ctx < 16:
            raise ValueError(f"n_ctx {self.n_ctx}: must be 16 or more")
        if self.block_length is not None and self.block_length < 2:
            raise ValueError(f"block_length {self.block_length}: must be 2 or more")
        for ratio in self.mask_ratios:
            if not 0 < ratio < 1:
                raise ValueError(f"mask ratio {ratio:g}: must be above 0 and below 1; drafts are all masked anyway")
        for threshold in self.thresholds:
            if not 0 <= threshold <= 1:
                raise ValueError(f"threshold {threshold:g}: must be between 0 and 1")
