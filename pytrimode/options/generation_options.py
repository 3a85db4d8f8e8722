"""What one request asks for, and how it is completed from the model's own defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pytrimode._native import RequestOptions
from pytrimode.formats.gbnf import TokenOf
from pytrimode.formats.reasoning import THINK_BEGIN, THINK_END
from pytrimode.options import modes
from pytrimode.options.defaults import (
    DEFAULT_BLOCK_LENGTH,
    DEFAULT_LOOP_MIN_REPEATS,
    DEFAULT_LOOP_WINDOW,
    DEFAULT_MAX_TOKENS,
    DEFAULT_THRESHOLD,
)
from pytrimode.options.loras import scales_of
from pytrimode.options.option import Row, engine_values, option, rows, settle
from pytrimode.options.sampling import Sampling

if TYPE_CHECKING:
    from pytrimode.vision.prompt import Pictures

NGRAM_MEASURED = -1
"""Drafts are read off the text where that is faster."""
TREE_MEASURED = -1
"""The engine's name for a tree of as many drafts as are worth their rows."""
_MODE_HELP = "; ".join(
    ["How to decode", *(f"{name}: {text}" for name, text in modes.MODE_HELP.items())]
    + [f"{alias} means {name}" for alias, name in modes.ALIASES.items()]
)


@dataclass(frozen=True)
class ResolvedOptions:
    """What the engine is told, nothing left open, and what is done with its tokens."""

    engine: RequestOptions
    stop: tuple[str, ...]
    ignore_eos: bool
    stop_token_ids: frozenset[int] = frozenset()
    min_tokens: int = 0
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
    lora_scales: tuple[float, ...]
    """Of the adapters that are loaded, where a request names none."""
    token_of: TokenOf
    """The id of a special token by its name, or -1."""

    @property
    def has_mask(self) -> bool:
        """Whether block modes work."""
        return self.mask_token >= 0


@dataclass(frozen=True)
class GenerationOptions:
    """One request's options. The fields are the rows of the option table (`pytrimode.options.option`).

    Raises TypeError and ValueError that name the option, for values that no model can take.
    """

    mode: str = option(modes.DEFAULT_MODE, f"{_MODE_HELP}.", flags=("--mode",), metavar="MODE")
    block_length: int | None = option(
        None, "Tokens per block", flags=("-B", "--block-length"), metavar="N", low=1,
        default_text=f"{DEFAULT_BLOCK_LENGTH}; in diffusion the file's; in auto what is fastest, measured on the way",
    )  # fmt: skip
    fused: bool | str | None = option(
        None, "Self-spec: draft in the pass that verifies", flags=("--fused",), choices=modes.FUSED_HELP,
        values=modes.FUSED, default_text=f"{modes.FUSED_AUTO} in mode auto without a block length, else off",
    )  # fmt: skip
    ngram: int | None = option(
        None, "Self-spec: verify up to N tokens that followed the same words before, drafted without a pass; 0: never; "
        "-1: where that is faster, measured on the way.", flags=("--ngram",), metavar="N", low=-1,
        aliases=("prompt_lookup_num_tokens",), default_text="-1 in mode auto without a block length, else 0",
    )  # fmt: skip
    tree_nodes: int | None = option(
        None, "Self-spec, greedy: verify up to N drafts beside the chain of best ones, runs that begin with a "
        "second-best token; 0: none; -1: of chain and runs what is worth its rows, measured on the way; none on a GPU.",
        flags=("--tree-nodes",), metavar="N", low=-1, default_text="-1 in mode auto without a block length, else 0",
    )  # fmt: skip
    threshold: float | None = option(
        None, "Confidence from which diffusion keeps a token at once", flags=("--threshold",), metavar="P",
        low=0, high=1, default_text=f"the file's, or {DEFAULT_THRESHOLD}",
    )  # fmt: skip
    steps: int | None = option(
        None, "Passes for each block in diffusion, instead of the threshold.", flags=("--steps",), metavar="N", low=1
    )
    reveal: str = option(
        modes.REVEAL_CONFIDENCE, "Order in diffusion", flags=("--reveal",), choices=modes.REVEAL_ORDERS, engine=True
    )
    max_thinking_tokens: int | None = option(
        None, "Tokens of reasoning after which its end token is emitted.", flags=("--max-thinking-tokens",),
        metavar="N", low=0, json_none=-1,
    )  # fmt: skip
    loop_window: int = option(
        DEFAULT_LOOP_WINDOW, "An output of which the last N tokens only repeat ends.", flags=("--loop-window",),
        metavar="N", low=3, off=0, off_flag="--no-loop-detection", off_help="Let such an output go on.",
    )  # fmt: skip
    loop_min_repeats: int = option(
        DEFAULT_LOOP_MIN_REPEATS, "How often a period must have come before that counts.", low=2, engine=True
    )
    trim_loop: bool = option(False, "Leave one copy of what a loop repeats; a stream has it out already.")
    lora: Sequence[Mapping[str, float]] | None = option(
        None, "LoRA adapters of this request, each an `id` (from 0, as loaded) and a `scale`; others are off.",
        default_text="each at the scale that it was loaded with",
    )  # fmt: skip
    use_lora: bool = option(True, "Draft with the drafter LoRA, if one is loaded.", engine=True)
    max_tokens: int | None = option(
        None, "Most tokens in an answer; -1: to the end of the context.", flags=("-n", "--max-tokens"), metavar="N",
        commands=("chat", "generate"), low=-1,
        default_text=f"-1; in create_completion and /v1/completions {DEFAULT_MAX_TOKENS}",
    )  # fmt: skip
    stop: str | Sequence[str] | None = option(
        None, "End before this text; neither it nor what follows is emitted or stays in the cache.", flags=("--stop",),
        metavar="TEXT", commands=("generate",), private=True,
    )  # fmt: skip
    stop_token_ids: Sequence[int] | None = option(None, "End at one of these tokens; it is not emitted.", private=True)
    min_tokens: int = option(
        0, "Tokens before which neither an end of generation nor a stop nor a loop ends an answer.",
        flags=("--min-tokens",), metavar="N", commands=("generate",), low=0,
    )  # fmt: skip
    ignore_eos: bool = option(
        False, "Go on after an end-of-generation token.", flags=("--ignore-eos",), commands=("generate",), engine=True
    )
    suffix: Sequence[int] | None = option(
        None, "Write the middle between the prompt and this text (mode diffusion): exactly `max_tokens` masks.",
        flags=("--suffix",), metavar="TEXT", commands=("generate",), private=True, varies=True,
    )  # fmt: skip
    logprobs: int | None = option(
        None, "The N likeliest tokens at each position; 0: only the emitted one.", flags=("--logprobs",), metavar="N",
        commands=("generate",), low=0, varies=True,
    )  # fmt: skip
    post_sampling_probs: bool = option(
        False, "Log-probabilities after the sampler chain instead of those of the raw logits.", engine=True
    )
    sampling: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        settle(self)
        modes.fusing(self.fused, modes.MEASURED_BLOCK_LENGTH)
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
        if self.max_tokens not in (None, -1) and self.min_tokens > (self.max_tokens or 0):
            raise ValueError(f"min_tokens {self.min_tokens}: must be at most max_tokens ({self.max_tokens})")
        block_length = self._block_length(mode, limits)
        if block_length > limits.n_batch:
            raise ValueError(f"block_length {block_length}: must be at most n_batch ({limits.n_batch})")
        fusing = modes.fusing(self.fused, block_length)
        ngram = self.ngram
        if ngram is None:
            ngram = NGRAM_MEASURED if block_length == modes.MEASURED_BLOCK_LENGTH else 0
        tree_nodes = self.tree_nodes
        if tree_nodes is None:
            tree_nodes = TREE_MEASURED if block_length == modes.MEASURED_BLOCK_LENGTH else 0
        measured = block_length == modes.MEASURED_BLOCK_LENGTH or fusing == "measured" or ngram == NGRAM_MEASURED
        constraint = self.sampling.constraint(limits.token_of)
        engine = engine_values(self) | {
            "mode": mode,
            "max_tokens": room if self.max_tokens in (None, -1) else min(self.max_tokens or 0, room),
            "block_length": block_length,
            "fusing": fusing,
            "ngram": ngram,
            "tree_nodes": tree_nodes,
            "threshold": modes.default_threshold(limits.metadata) if self.threshold is None else self.threshold,
            "steps": self.steps or 0,
            "stop": list(self.stop_strings),
            "stop_token_ids": list(self.stop_token_ids or ()),
            "min_tokens": self.min_tokens,
            "suffix": list(self.suffix or ()),
            "lora_scales": scales_of(self.lora, limits.lora_scales),
            # Longer than the context it would never fire, and would take room and time for every period it looks for.
            "loop_window": self.loop_window if self.loop_window <= limits.n_ctx else 0,
            "think_begin": limits.think_begin,
            "think_end": limits.think_end,
            "max_thinking_tokens": -1 if self.max_thinking_tokens is None else self.max_thinking_tokens,
            "logprobs": -1 if self.logprobs is None else min(self.logprobs, limits.n_vocab),
            "grammar": constraint.lark if constraint else "",
            "grammar_after": limits.think_end if constraint and constraint.after_reasoning else -1,
            **self.sampling.engine_arguments(limits.n_vocab, repeatable=not measured),
        }
        return ResolvedOptions(
            RequestOptions(**engine),
            self.stop_strings,
            self.ignore_eos,
            frozenset(self.stop_token_ids or ()),
            self.min_tokens,
        )

    def _block_length(self, mode: str, limits: Limits) -> int:
        if self.block_length is not None:
            return self.block_length
        if self.mode == modes.AUTO and mode == modes.SELF_SPEC:
            return modes.MEASURED_BLOCK_LENGTH
        return min(modes.default_block_length(mode, limits.metadata), limits.n_batch)


def option_table() -> dict[str, Row]:
    """All options of a request, by name: how to decode and when to end, then how to sample."""
    return {**rows(GenerationOptions), **rows(Sampling)}


def with_options(options: GenerationOptions, changes: Mapping[str, Any]) -> GenerationOptions:
    """Return the options with others in place of some, each by its name in `option_table`.

    Raises TypeError for a name that is none, and as `GenerationOptions` and `Sampling` do.
    """
    sampling = {name: value for name, value in changes.items() if name in rows(Sampling)}
    others = {name: value for name, value in changes.items() if name not in sampling}
    return replace(options, **others, sampling=replace(options.sampling, **sampling))
