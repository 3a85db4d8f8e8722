"""Many requests of all kinds side by side on one engine, pass by pass."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytrimode import TriMode
from pytrimode._native import Event
from pytrimode.options.generation_options import GenerationOptions
from pytrimode.options.sampling import Sampling

GRAMMAR = 'root ::= ("yes" | "no" | [0-9]+) " " [a-z ]+'


@dataclass
class Asked:
    """A request, and what came of it."""

    tokens: Sequence[int]
    options: GenerationOptions
    cancel_after: int = 10**9
    """Tokens after which it is cancelled."""
    got: list[int] = field(default_factory=list)
    finish: str = ""
    passes: list[int] = field(default_factory=list)
    """Numbers of the passes that it took part in."""


def requests(prompts: Sequence[Sequence[int]], seed: int, *, max_tokens: int = 40) -> list[Asked]:
    """One for each prompt, of all modes and samplers in turn, with lengths and blocks by chance."""
    chance = random.Random(seed)
    kinds: list[dict[str, Any]] = [
        {"mode": "ar"},
        {"mode": "self-spec", "block_length": chance.choice((3, 4, 8, 16))},
        {"mode": "diffusion", "block_length": chance.choice((8, 16, 32))},
        {"mode": "self-spec", "block_length": 6, "use_lora": False},
        {"mode": "self-spec", "block_length": chance.choice((2, 4, 8)), "fused": True},
        {"mode": "self-spec", "block_length": 4, "fused": True, "sampling": Sampling(temperature=0.9, seed=6)},
        {"mode": "auto"},
        {"mode": "self-spec", "block_length": 8, "sampling": Sampling(temperature=0.9, seed=1, sampler="coupled")},
        {"mode": "self-spec", "block_length": 5, "sampling": Sampling(temperature=0.9, seed=2)},
        {"mode": "ar", "sampling": Sampling(temperature=0.7, seed=3, repeat_penalty=1.2)},
        {"mode": "diffusion", "suffix": prompts[0][-5:], "max_tokens": 9},
        {"mode": "self-spec", "stop": ["e"], "ignore_eos": True},
        {"mode": "self-spec", "sampling": Sampling(temperature=0.0, grammar=GRAMMAR)},
        {"mode": "diffusion", "block_length": 16, "sampling": Sampling(temperature=0.6, seed=4)},
        {"mode": "ar", "logprobs": 2, "ignore_eos": True, "loop_window": 12, "loop_min_repeats": 2},
    ]
    asked = []
    for i, prompt in enumerate(prompts):
        chosen = {"sampling": Sampling(temperature=0.0), "max_tokens": chance.randint(5, max_tokens)}
        asked.append(Asked(prompt, GenerationOptions(**chosen | kinds[i % len(kinds)])))
    return asked


def submit(model: TriMode, asked: Asked) -> int:
    return model.engine.submit(asked.tokens, model.resolve(asked.options, len(asked.tokens)).engine)


def alone(model: TriMode, asked: Asked) -> list[int]:
    """What the request gives on an engine with nothing in its cache."""
    model.clear_cache()
    job = (asked.tokens, model.resolve(asked.options, len(asked.tokens)))
    return [token for _, event in model.run_many([job], 1) for token in event.tokens]


def passes(model: TriMode, asked: Sequence[Asked], joins: Sequence[int]) -> Iterator[tuple[int, list[Event]]]:
    """Run them all; number i is submitted before pass joins[i]. Yields after each pass."""
    engine, ids, waiting, number = model.engine, {}, dict(enumerate(joins)), 0
    while waiting or ids:
        for i in [i for i, join in waiting.items() if join <= number]:
            del waiting[i]
            ids[submit(model, asked[i])] = asked[i]
        events = engine.step()
        for event in events:
            one = ids[event.request_id]
            one.got += event.tokens
            one.passes.append(number)
            if event.finish_reason:
                one.finish = event.finish_reason
                engine.release(event.request_id)
                del ids[event.request_id]
            elif len(one.got) >= one.cancel_after:
                engine.cancel(event.request_id)
        yield number, events
        number += 1
        assert number < 20_000, "it does not end"
