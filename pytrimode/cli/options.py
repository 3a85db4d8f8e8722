"""The options that commands share: each is defined here once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from pytrimode._native import LOOP_WINDOW
from pytrimode.options import modes
from pytrimode.options.generation_options import GenerationOptions
from pytrimode.options.sampling import (
    COUPLED,
    DEFAULT_CHAT_TEMPERATURE,
    DEFAULT_TEMPERATURE,
    REJECTION,
    SAMPLERS,
    Sampling,
)
from pytrimode.plan.offload import ALL, AUTO, parse_gpu_layers
from pytrimode.trimode import DEFAULT_N_CTX, DEFAULT_N_UBATCH

API_KEY_VARIABLE = "PYTRIMODE_API_KEY"
FIELD_NAMES = frozenset((
    "mode", "block_length", "fused", "threshold", "steps", "reveal", "max_thinking_tokens", "loop_window", "max_tokens",
    "temperature", "top_k", "top_p", "min_p", "repeat_penalty", "frequency_penalty", "presence_penalty", "sampler",
    "seed",
))  # fmt: skip
"""Options that a request to a server has as fields, under the same names."""

F = TypeVar("F", bound=Callable[..., Any])

MODE_HELP = "; ".join(
    ["How to decode", *(f"{name}: {text}" for name, text in modes.MODE_HELP.items())]
    + [f"{alias} means {name}" for alias, name in modes.ALIASES.items()]
)


def _gpu_layers(text: int | str) -> int | str:
    try:
        return parse_gpu_layers(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _fused(_: click.Context, __: click.Parameter, name: str | None) -> bool | str | None:
    """What the name stands for."""
    return None if name is None else modes.FUSED[name]


def _tensor_split(text: str) -> list[float]:
    """The engine checks number and sum of the shares."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"{text!r}: expected shares between commas, such as 3,1") from None


model_argument = click.argument("model", required=False, type=click.Path())

_LOADING = [
    click.option("-c", "--ctx-size", type=click.IntRange(min=0), default=0, metavar="N",
                 help=f"Context in tokens; 0: the model's, at most {DEFAULT_N_CTX}."),
    click.option("-t", "--threads", type=click.IntRange(min=1), metavar="N", help="CPU threads."),
    click.option("-ngl", "--n-gpu-layers", type=_gpu_layers, default=AUTO, show_default=True, metavar="N",
                 help=f"Layers to run on the GPU: a number, {ALL}, or {AUTO} for what its memory holds."),
    click.option("-sm", "--split-mode", type=click.Choice(["layer", "none"]), default="layer", show_default=True,
                 help="Several GPUs: each holds some of the layers, or one holds all."),
    click.option("-mg", "--main-gpu", type=click.IntRange(min=0), default=0, show_default=True, metavar="N",
                 help="The GPU that holds all with --split-mode none."),
    click.option("-ts", "--tensor-split", type=_tensor_split, metavar="A,B,...",
                 help="Shares of several GPUs (default: by free memory)."),
    click.option("-b", "--batch-size", type=click.IntRange(min=1), default=512, show_default=True, metavar="N",
                 help="Most rows in one forward pass."),
    click.option("-ub", "--ubatch-size", type=click.IntRange(min=1), default=DEFAULT_N_UBATCH, show_default=True,
                 metavar="N", help="Of these, most rows of prompts while other requests decode."),
    click.option("-fa", "--flash-attn", type=click.Choice(["on", "off", "auto"]), default="auto", show_default=True,
                 help="Flash attention; off computes attention exactly, auto is on."),
    click.option("--cache-type", "-ct", default="f16", show_default=True, metavar="TYPE",
                 help="Type of the KV cache: f32, f16, bf16, q8_0, q5_1, q5_0, q4_1, q4_0."),
    click.option("-ctk", "--cache-type-k", metavar="TYPE", help="Type of the keys alone."),
    click.option("-ctv", "--cache-type-v", metavar="TYPE", help="Type of the values alone."),
    click.option("--lora", type=click.Path(), metavar="FILE",
                 help="Drafter LoRA (default: MODEL-drafter-lora.gguf beside the model, if it is there)."),
    click.option("--no-lora", is_flag=True, help="Draft without a LoRA."),
    click.option("--mmproj", type=click.Path(), metavar="FILE",
                 help="Vision tower (default: MODEL-mmproj.gguf beside the model, if it is there)."),
    click.option("--no-mmproj", is_flag=True, help="Load no vision tower: the model takes text only."),
    click.option("--image-max-side", type=click.IntRange(min=1), metavar="N",
                 help="Pixels that the longest side of an image keeps, a multiple of 28 (default: the model's, 1400)."),
    click.option("--exact-reuse", is_flag=True,
                 help="Compute earlier replies again: answers are then those of an empty cache, bit by bit (CPU)."),
    click.option("--verbose", is_flag=True, help="Show llama.cpp's log."),
]  # fmt: skip

_DECODING = [
    click.option("-m", "--mode", default=modes.DEFAULT_MODE, show_default=True, metavar="MODE", help=MODE_HELP + "."),
    click.option("-B", "--block-length", type=click.IntRange(min=1), metavar="N",
                 help=f"Tokens per block (default: {modes.DEFAULT_BLOCK_LENGTH}; in diffusion the file's; in auto what "
                      "is fastest, measured on the way)."),
    click.option("--fused", type=click.Choice(list(modes.FUSED)), callback=_fused,
                 help="Self-spec: draft in the pass that verifies; "
                      + "; ".join(f"{k}: {v}" for k, v in modes.FUSED_HELP.items())
                      + f" (default: {modes.FUSED_AUTO} in mode auto, else off)."),
    click.option("--threshold", type=click.FloatRange(0.0, 1.0), metavar="P",
                 help="Confidence from which diffusion keeps a token at once "
                      f"(default: the file's, or {modes.DEFAULT_THRESHOLD})."),
    click.option("--steps", type=click.IntRange(min=1), metavar="N",
                 help="Passes for each block in diffusion, instead of the threshold."),
    click.option("--reveal", type=click.Choice(list(modes.REVEAL_ORDERS)), default=modes.REVEAL_CONFIDENCE,
                 show_default=True,
                 help="Order in diffusion; " + "; ".join(f"{k}: {v}" for k, v in modes.REVEAL_ORDERS.items()) + "."),
    click.option("--max-thinking-tokens", type=click.IntRange(min=0), metavar="N",
                 help="Tokens of reasoning after which it is ended."),
    click.option("--loop-window", type=click.IntRange(min=3), default=LOOP_WINDOW, show_default=True, metavar="N",
                 help="An output of which the last N tokens only repeat ends."),
    click.option("--no-loop-detection", is_flag=True, help="Let such an output go on."),
]  # fmt: skip

_SAMPLING = [
    click.option("--top-k", type=int, default=40, show_default=True, metavar="N", help="Keep the N likeliest; 0: all."),
    click.option("--top-p", type=click.FloatRange(0.0, 1.0), default=0.95, show_default=True, metavar="P",
                 help="Keep the likeliest that together have probability P; 1: all."),
    click.option("--min-p", type=click.FloatRange(0.0, 1.0), default=0.05, show_default=True, metavar="P",
                 help="Keep those with at least P times the probability of the likeliest; 0: all."),
    click.option("--repeat-penalty", type=float, default=1.0, show_default=True, metavar="X",
                 help="Divide the logits of recent tokens; 1: off."),
    click.option("--frequency-penalty", type=float, default=0.0, show_default=True, metavar="X",
                 help="Take X off a token's logit for each recent occurrence."),
    click.option("--presence-penalty", type=float, default=0.0, show_default=True, metavar="X",
                 help="Take X off the logits of recent tokens."),
    click.option("--sampler", type=click.Choice(list(SAMPLERS)), metavar="NAME",
                 help="; ".join(f"{name}: {text}" for name, text in SAMPLERS.items())
                      + f" (default: {REJECTION}; {COUPLED} in mode auto with a seed)."),
    click.option("-s", "--seed", type=int, metavar="N", help="Seed of the random numbers (default: a new one)."),
]  # fmt: skip

max_tokens_option = click.option(
    "-n", "--max-tokens", type=click.IntRange(min=-1), default=-1, metavar="N",
    help="Most tokens in an answer; -1: to the end of the context.",
)  # fmt: skip
system_option = click.option("--system", metavar="TEXT", help="System message.")
thinking_option = click.option("--enable-thinking", is_flag=True, help="Let the model reason before it answers.")


@dataclass(frozen=True)
class Loading:
    """How to load the model."""

    ctx_size: int
    threads: int | None
    n_gpu_layers: int | str
    split_mode: str
    main_gpu: int
    tensor_split: list[float] | None
    batch_size: int
    ubatch_size: int
    flash_attn: str
    cache_type: str
    cache_type_k: str | None
    cache_type_v: str | None
    lora: str | None
    no_lora: bool
    mmproj: str | None
    no_mmproj: bool
    image_max_side: int | None
    exact_reuse: bool
    verbose: bool

    @property
    def lora_path(self) -> str | None:
        """`TriMode`'s argument."""
        return None if self.no_lora else self.lora or "auto"

    @property
    def mmproj_path(self) -> str | None:
        """`TriMode`'s argument `mmproj`."""
        return None if self.no_mmproj else self.mmproj or "auto"


@dataclass(frozen=True)
class Decoding:
    """How to decode."""

    mode: str
    block_length: int | None
    fused: bool | str | None
    threshold: float | None
    steps: int | None
    reveal: str
    max_thinking_tokens: int | None
    loop_window: int
    no_loop_detection: bool

    def options(self, **others: Any) -> GenerationOptions:
        """With what else a command knows of the request."""
        return GenerationOptions(
            mode=self.mode,
            block_length=self.block_length,
            fused=self.fused,
            threshold=self.threshold,
            steps=self.steps,
            reveal=self.reveal,
            max_thinking_tokens=self.max_thinking_tokens,
            loop_window=0 if self.no_loop_detection else self.loop_window,
            **others,
        )


def _apply(options: list[Any], kind: type[Any], name: str) -> Callable[[F], F]:
    """Add the options to a command, and hand them to it as one object."""

    def decorate(function: F) -> F:
        def command(**arguments: Any) -> Any:
            fields = {key: arguments.pop(key) for key in names}
            return function(**arguments, **{name: kind(**fields)})

        inner = list(getattr(function, "__click_params__", []))
        command.__doc__ = function.__doc__
        command.__click_params__ = list(inner)  # type: ignore[attr-defined]
        for option in reversed(options):
            command = option(command)
        names = [parameter.name for parameter in command.__click_params__[len(inner) :]]  # type: ignore[attr-defined]
        return command  # type: ignore[return-value]

    return decorate


def loading_options(function: F) -> F:
    """Options of `Loading`, passed as `loading`."""
    return _apply(_LOADING, Loading, "loading")(function)


def decoding_options(function: F) -> F:
    """Options of `Decoding`, passed as `decoding`."""
    return _apply(_DECODING, Decoding, "decoding")(function)


def _temperature_option(default: float) -> Any:
    return click.option(
        "--temp", "--temperature", "temperature", type=click.FloatRange(min=0.0), default=default, show_default=True,
        metavar="T", help="Temperature; 0: greedy.",
    )  # fmt: skip


def sampling_options(function: F) -> F:
    """Options of `Sampling`, passed as `sampling`; the temperature of a completion."""
    return _apply([_temperature_option(DEFAULT_TEMPERATURE), *_SAMPLING], Sampling, "sampling")(function)


def chat_sampling_options(function: F) -> F:
    """Options of `Sampling`, passed as `sampling`; the temperature of a chat."""
    return _apply([_temperature_option(DEFAULT_CHAT_TEMPERATURE), *_SAMPLING], Sampling, "sampling")(function)
