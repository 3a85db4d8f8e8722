"""Running requests in tests: tokens and counters without text in between, and prompts to run them on."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from pytrimode import TriMode
from pytrimode._native import Stats
from pytrimode.options.generation_options import GenerationOptions
from pytrimode.options.sampling import Sampling


def decode(model: TriMode, tokens: Sequence[int], **options: Any) -> tuple[list[int], Stats]:
    """Emitted tokens, the end-of-generation token included, and the counters of one request. Greedy by default."""
    return decode_all(model, [(tokens, options)])[0]


def decode_all(
    model: TriMode, requests: Sequence[tuple[Sequence[int], dict[str, Any]]]
) -> list[tuple[list[int], Stats]]:
    """What `decode` gives for each prompt and its options, side by side as far as the model has slots."""
    jobs = [
        (tokens, model.resolve(GenerationOptions(**{"sampling": Sampling(temperature=0.0)} | options), len(tokens)))
        for tokens, options in requests
    ]
    emitted: list[list[int]] = [[] for _ in jobs]
    last: list[Stats | None] = [None for _ in jobs]
    for number, event in model.run_many(jobs, len(jobs)):
        emitted[number] += event.tokens
        last[number] = event.stats
    return [(tokens, stats) for tokens, stats in zip(emitted, last, strict=True) if stats is not None]


def targets(
    model: TriMode, tokens: Sequence[int], sampling: Sampling, max_tokens: int, **options: Any
) -> tuple[list[int], list[dict[int, float]]]:
    """Emitted tokens, and at each position the probabilities that they were drawn from, those of 0 left out."""
    wanted = GenerationOptions(
        sampling=sampling, max_tokens=max_tokens, logprobs=model.n_vocab, post_sampling_probs=True, **options
    )
    events = model.run_many([(tokens, model.resolve(wanted, len(tokens)))], 1)
    positions = [position for _, event in events for position in event.logprobs]
    return (
        [position.chosen.token for position in positions],
        [{top.token: math.exp(top.logprob) for top in position.top} for position in positions],
    )


def heldout(checkpoint: Path) -> list[dict[str, Any]]:
    """The prompts that training never saw: task, messages, answer."""
    return json.loads((checkpoint / "heldout.json").read_text())


def chat_prompts(
    model: TriMode, checkpoint: Path, n: int, long_tokens: int = 0, same_history: int = 1
) -> list[list[int]]:
    """The first n held-out prompts as tokens. Every second one stands behind a conversation so long that the prompt
    has at least `long_tokens` tokens, of which the lengths vary a little.

    `same_history`: so many prompts in a row stand behind one conversation, which an engine then computes once.
    """
    prompts = []
    for i in range(n):
        key = (checkpoint, i, long_tokens + (i * 7) % 40 if i % 2 else 0, (i // same_history + 1) * same_history)
        if key not in _prompts:
            _prompts[key] = _chat_prompt(model, *key)
        prompts.append(_prompts[key])
    return prompts


_prompts: dict[tuple[Path, int, int, int], list[int]] = {}
"""Made once: all files of one checkpoint have the same tokenizer."""


def _chat_prompt(model: TriMode, checkpoint: Path, i: int, wanted: int, following: int) -> list[int]:
    items = heldout(checkpoint)
    item, others = items[i], cycle(items[following:] + items[:following])
    history: list[dict[str, str]] = []
    while True:
        tokens = model.chat_tokens([*history, item["messages"][-1]] if history else item["messages"])
        if len(tokens) >= wanted:
            return tokens
        other = next(others)
        history += [other["messages"][-1], {"role": "assistant", "content": other["answer"]}]
