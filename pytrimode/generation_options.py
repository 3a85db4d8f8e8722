"""What one request asks for, and how it is completed from the model's own defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytrimode import modes
from pytrimode.sampling import Sampling

DEFAULT_MAX_TOKENS = 16
"""`create_completion`'s, as in llama-cpp-python; a chat answers to the end of the context."""


@dataclass(frozen=True)
class ResolvedOptions:
    """What the engine is told: nothing is left open."""

    mode: str
    max_tokens: int
    block_length: int
    threshold: float
    stop: tuple[str, ...]
    ignore_eos: bool
    use_lora: bool
    steps: int
    reveal: str
    sampling: Mapping[str, Any]
    """Keyword arguments of the engine's `submit`."""


@dataclass(frozen=True)
class Limits:
    """What the loaded model and its engine allow."""

    n_ctx: int
    n_batch: int
    n_vocab: int
    has_mask: bool
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class GenerationOptions:
    """One request's options; None means the model's default.

    Raises ValueError for values that no model can take.
    """

    max_tokens: int | None = None
    """None or -1: to the end of the context."""
    mode: str = modes.DEFAULT_MODE
    block_length: int | None = None
    threshold: float | None = None
    stop: str | Sequence[str] | None = None
    ignore_eos: bool = False
    use_lora: bool = True
    steps: int | None = None
    """Denoising passes per block in diffusion, instead of the threshold."""
    reveal: str = modes.REVEAL_CONFIDENCE
    sampling: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        if self.max_tokens is not None and (self.max_tokens < -1 or self.max_tokens == 0):
            raise ValueError(
                f"max_tokens {self.max_tokens}: must be positive, or None or -1 for the rest of the context"
            )
        if self.block_length is not None and self.block_length < 1:
            raise ValueError(f"block_length {self.block_length}: must be at least 1")
        if self.threshold is not None and not 0.0 <= self.threshold <= 1.0:
            raise ValueError(f"threshold {self.threshold}: must be between 0 and 1")
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps {self.steps}: must be at least 1")
        if self.reveal not in modes.REVEAL_ORDERS:
            raise ValueError(f"unknown reveal order {self.reveal!r}: use one of {', '.join(modes.REVEAL_ORDERS)}")
        if any(not s for s in self.stop_strings):
            raise ValueError("a stop string must not be empty")

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """`stop` as a tuple."""
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    def resolve(self, n_prompt: int, limits: Limits) -> ResolvedOptions:
        """Complete the options for a prompt of `n_prompt` tokens.

        Raises ValueError for a prompt that leaves no room in the context, a mode that the file cannot do, or a block
        that does not fit one batch.
        """
        mode = modes.resolve_mode(self.mode, has_mask=limits.has_mask)
        if n_prompt == 0:
            raise ValueError("the prompt is empty")
        room = limits.n_ctx - n_prompt
        if room <= 0:
            raise ValueError(f"Requested tokens ({n_prompt}) exceed context window of {limits.n_ctx}")
        block_length = self.block_length or min(modes.default_block_length(mode, limits.metadata), limits.n_batch)
        if block_length > limits.n_batch:
            raise ValueError(f"block_length {block_length}: must be at most n_batch ({limits.n_batch})")
        return ResolvedOptions(
            mode=mode,
            max_tokens=room if self.max_tokens in (None, -1) else min(self.max_tokens or 0, room),
            block_length=block_length,
            threshold=modes.default_threshold(limits.metadata) if self.threshold is None else self.threshold,
            stop=self.stop_strings,
            ignore_eos=self.ignore_eos,
            use_lora=self.use_lora,
            steps=self.steps or 0,
            reveal=self.reveal,
            sampling=self.sampling.engine_arguments(limits.n_vocab),
        )
