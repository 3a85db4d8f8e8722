"""Answers to prompts in every mode: how well drafts are accepted, whether they are the base's, how fast."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TypedDict

from pytrimode.bench.plan import Setting
from pytrimode.bench.summary import Spread
from pytrimode.options import modes
from pytrimode.options.generation_options import GenerationOptions
from pytrimode.options.sampling import Sampling
from pytrimode.trimode import TriMode

SPEED_PROMPTS = 4
SPEED_TOKENS = 32
"""Of each prompt, in a round of the speed measurement."""
GREEDY = Sampling(temperature=0.0)


def settings_of(block_length: int, thresholds: Sequence[float], *, has_mask: bool) -> list[Setting]:
    """Return what every file is asked: ar, and with a mask token self-spec without LoRA and diffusion at each
    threshold.
    """
    if not has_mask:
        return [Setting(modes.AR)]
    diffusion = [Setting(modes.DIFFUSION, block_length, threshold=threshold) for threshold in thresholds]
    return [Setting(modes.AR), Setting(modes.SELF_SPEC, block_length, use_lora=False), *diffusion]


def key_of(setting: Setting) -> str:
    """Return the name of a setting in JSON: "diffusion 0.9"."""
    return setting.mode if setting.threshold is None else f"{setting.mode} {setting.threshold:g}"


class Answer(TypedDict):
    """One answer and its counters; see `pytrimode._native.Stats`."""

    tokens: list[int]
    forward_passes: int
    cycles: int
    drafted: int
    accepted: int
    seconds: float


def ask(model: TriMode, prompt: Sequence[int], options: GenerationOptions) -> Answer:
    """Answer one prompt. Raises ValueError for one that does not fit the context."""
    tokens: list[int] = []
    stats = None
    for _, event in model.run_many([(prompt, model.resolve(options, len(prompt)))], 1):
        tokens += event.tokens
        stats = event.stats
    assert stats is not None
    return {
        "tokens": tokens,
        "forward_passes": stats.forward_passes,
        "cycles": stats.cycles,
        "drafted": stats.drafted,
        "accepted": stats.accepted,
        "seconds": stats.generation_seconds,
    }


class AnswerFigures(TypedDict):
    """Over all prompts.

    `tokens_per_forward`: emitted tokens / forward passes, the prompt's not counted. `acceptance_length`: tokens per
    cycle of draft and verify, None outside self-spec. `as_ar`, `as_base`: share of answers that equal, token by token,
    those of the same file in mode ar, and those of the base in the same mode (None for the base itself).
    """

    answers: int
    tokens: int
    forward_passes: int
    cycles: int
    drafted: int
    accepted: int
    tokens_per_forward: float
    acceptance_length: float | None
    as_ar: float
    as_base: float | None


def answer_figures(
    mode: str, answers: Sequence[Answer], ar: Sequence[Answer], base: Sequence[Answer] | None
) -> AnswerFigures:
    """Compute sums and shares. Acceptance as `pytrimode.bench.samples.Sample` counts it."""
    passes = sum(answer["forward_passes"] for answer in answers)
    cycles = sum(answer["cycles"] for answer in answers)
    accepted = sum(answer["accepted"] for answer in answers)
    tokens = sum(len(answer["tokens"]) for answer in answers)
    return {
        "answers": len(answers),
        "tokens": tokens,
        "forward_passes": passes,
        "cycles": cycles,
        "drafted": sum(answer["drafted"] for answer in answers),
        "accepted": accepted,
        "tokens_per_forward": tokens / max(passes, 1),
        "acceptance_length": 1 + accepted / max(cycles, 1) if mode == modes.SELF_SPEC else None,
        "as_ar": _equal(answers, ar),
        "as_base": None if base is None else _equal(answers, base),
    }


def _equal(a: Sequence[Answer], b: Sequence[Answer]) -> float:
    return sum(x["tokens"] == y["tokens"] for x, y in zip(a, b, strict=True)) / max(len(a), 1)


def prompt_digest(prompt: Sequence[int]) -> str:
    """Return a name for a prompt in a file."""
    return hashlib.sha256(repr(list(prompt)).encode()).hexdigest()[:16]


def speed_ratio(
    base: TriMode, other: TriMode, prompts: Sequence[Sequence[int]], rounds: int, step: Callable[[int], None]
) -> Spread:
    """Tokens per second of one model in mode ar as a ratio to another's, over rounds.

    They take turns prompt by prompt, so that a busy machine slows both; the first round warms up and does not count.
    `step` is called with the rounds done.
    """
    options = Setting(modes.AR).options(SPEED_TOKENS, GREEDY, ignore_eos=True)
    ratios = []
    for number in range(rounds + 1):
        seconds = {0: 0.0, 1: 0.0}
        for i, prompt in enumerate(prompts[:SPEED_PROMPTS]):
            for which in ((0, 1), (1, 0))[(i + number) % 2]:
                seconds[which] += ask((base, other)[which], prompt, options)["seconds"]
        if number:
            ratios.append(seconds[0] / seconds[1])
        step(number + 1)
    return Spread.of(ratios)
