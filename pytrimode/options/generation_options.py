"""What one request asks for, and how it is completed from the model's own defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict

from pytrimode._native import LOOP_MIN_REPEATS, LOOP_WINDOW
from pytrimode.formats.reasoning import THINK_BEGIN, THINK_END
from pytrimode.options import modes
from pytrimode.options.sampling import Sampling, SamplingArguments

if TYPE_CHECKING:
    from pytrimode.vision.prompt import Pictures

DEFAULT_MAX_TOKENS = 16
"""`create_completion`'s, as in llama-cpp-python; a chat answers to the end of the context."""


class DecodingArguments(TypedDict, total=False):
    """Keyword arguments of a request that say how to decode and when to end; see `GenerationOptions`."""

    mode: str
    block_length: int | None
    fused: bool | str | None
    threshold: float | None
    steps: int | None
    reveal: str
    use_lora: bool
    stop: str | Sequence[str] | None
    ignore_eos: bool
    loop_window: int
    loop_min_repeats: int
    trim_loop: bool
    max_thinking_tokens: int | None
    post_sampling_probs: bool


class RequestArguments(DecodingArguments, SamplingArguments, total=False):
    """Everything that the methods which run a request take by keyword, beside what they name themselves."""


@dataclass(frozen=True)
class ResolvedOptions:
    """What the engine is told, nothing left open, and what is done with its tokens."""

    engine: Mapping[str, Any]
    """Keyword arguments of the engine's `submit`."""
    stop: tuple[str, ...]
    ignore_eos: bool
    pictures: Pictures | None = None
    """Of the prompt; encoded when the request begins."""


@dataclass(frozen=True)
class Limits:
    """What the loaded model and its engine allow."""

    n_ctx: int
    n_batch: int
    n_vocab: int
    mask_token: int
    think_begin: int
    """-1 without reasoning tags."""
    think_end: int
    metadata: Mapping[str, str]

    @property
    def has_mask(self) -> bool:
        """Whether block modes work."""
        return self.mask_token >= 0


@dataclass(frozen=True)
class GenerationOptions:
    """One request's options; None means the model's default.

    Raises ValueError for values that no model can take.
    """

    max_tokens: int | None = None
    """None or -1: to the end of the context."""
    mode: str = modes.DEFAULT_MODE
    """See `pytrimode.options.modes`."""
    block_length: int | None = None
    """Tokens per block (default: 16 in self-spec; in diffusion the file's; in auto the engine chooses)."""
    fused: bool | str | None = None
    """Self-spec: draft in the pass that verifies. True, False, or "auto" for what is faster (default: "auto" in mode
    auto unless block_length is given, else False). The text stays that of ar."""
    threshold: float | None = None
    """Confidence from which diffusion keeps a token at once (default: the file's, or 0.9)."""
    steps: int | None = None
    """Denoising passes per block in diffusion, instead of the threshold."""
    reveal: str = modes.REVEAL_CONFIDENCE
    """Order in diffusion: "confidence" or "leftmost"."""
    use_lora: bool = True
    """Draft with the drafter LoRA, if one is loaded."""
    stop: str | Sequence[str] | None = None
    """Strings that end the output; neither they nor what follows is emitted or stays in the cache."""
    ignore_eos: bool = False
    """Go on after an end-of-generation token."""
    suffix: Sequence[int] | None = None
    """Token ids behind the middle that is wanted (infill, mode diffusion): exactly `max_tokens` masks stand between."""
    loop_window: int = LOOP_WINDOW
    """An output whose last max(loop_window, loop_min_repeats * period) tokens only repeat ends as a loop; 0: never."""
    loop_min_repeats: int = LOOP_MIN_REPEATS
    trim_loop: bool = False
    """Leave one copy of what a loop repeats; a stream has it out already."""
    max_thinking_tokens: int | None = None
    """Tokens of reasoning after which its end token is emitted."""
    logprobs: int | None = None
    """How many of the most likely tokens to report at each position; 0: only the emitted one."""
    post_sampling_probs: bool = False
    """Log-probabilities after the sampler chain instead of those of the raw logits."""
    sampling: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        if self.max_tokens is not None and (self.max_tokens < -1 or self.max_tokens == 0):
            raise ValueError(
                f"max_tokens {self.max_tokens}: must be positive, or None or -1 for the rest of the context"
            )
        _at_least("block_length", self.block_length, 1)
        modes.fusing(self.fused, modes.MEASURED_BLOCK_LENGTH)
        _at_least("steps", self.steps, 1)
        _at_least("logprobs", self.logprobs, 0)
        _at_least("max_thinking_tokens", self.max_thinking_tokens, 0)
        if self.loop_window:
            _at_least("loop_window", self.loop_window, 3)
            _at_least("loop_min_repeats", self.loop_min_repeats, 2)
        if self.threshold is not None and not 0.0 <= self.threshold <= 1.0:
            raise ValueError(f"threshold {self.threshold}: must be between 0 and 1")
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

        Raises ValueError for a prompt that leaves no room in the context, a mode that the file cannot do, a block that
        does not fit one batch, and a reasoning budget for a model without reasoning tags.
        """
        mode = modes.resolve_mode(self.mode, has_mask=limits.has_mask)
        if n_prompt == 0:
            raise ValueError("the prompt is empty")
        room = limits.n_ctx - n_prompt
        if room <= 0:
            raise ValueError(f"Requested tokens ({n_prompt}) exceed context window of {limits.n_ctx}")
        if self.suffix and self.max_tokens in (None, -1):
            raise ValueError("a suffix needs max_tokens: the number of tokens between prompt and suffix")
        if self.max_thinking_tokens is not None and limits.think_end < 0:
            raise ValueError(f"max_thinking_tokens: the vocabulary has no special tokens {THINK_BEGIN} and {THINK_END}")
        block_length = self._block_length(mode, limits)
        if block_length > limits.n_batch:
            raise ValueError(f"block_length {block_length}: must be at most n_batch ({limits.n_batch})")
        fusing = modes.fusing(self.fused, block_length)
        measured = block_length == modes.MEASURED_BLOCK_LENGTH or fusing == "measured"
        engine = {
            "mode": mode,
            "max_tokens": room if self.max_tokens in (None, -1) else min(self.max_tokens or 0, room),
            "block_length": block_length,
            "fusing": fusing,
            "threshold": modes.default_threshold(limits.metadata) if self.threshold is None else self.threshold,
            "steps": self.steps or 0,
            "reveal": self.reveal,
            "use_lora": self.use_lora,
            "stop": list(self.stop_strings),
            "ignore_eos": self.ignore_eos,
            "suffix": list(self.suffix or ()),
            # Longer than the context it would never fire, and would take room and time for every period it looks for.
            "loop_window": self.loop_window if self.loop_window <= limits.n_ctx else 0,
            "loop_min_repeats": self.loop_min_repeats,
            "think_begin": limits.think_begin,
            "think_end": limits.think_end,
            "max_thinking_tokens": -1 if self.max_thinking_tokens is None else self.max_thinking_tokens,
            "logprobs": -1 if self.logprobs is None else min(self.logprobs, limits.n_vocab),
            "post_sampling_probs": self.post_sampling_probs,
            **self.sampling.engine_arguments(limits.n_vocab, repeatable=not measured),
        }
        return ResolvedOptions(engine, self.stop_strings, self.ignore_eos)

    def _block_length(self, mode: str, limits: Limits) -> int:
        if self.block_length is not None:
            return self.block_length
        if self.mode == modes.AUTO and mode == modes.SELF_SPEC:
            return modes.MEASURED_BLOCK_LENGTH
        return min(modes.default_block_length(mode, limits.metadata), limits.n_batch)


def _at_least(name: str, value: int | None, low: int) -> None:
    if value is not None and value < low:
        raise ValueError(f"{name} {value}: must be at least {low}")
