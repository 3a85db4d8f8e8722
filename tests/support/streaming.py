"""Requests with random stop strings: streamed, at once, and what the text must be."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytrimode import MODES, TriMode

from .decoding import heldout

MAX_TOKENS = 40


@dataclass
class Case:
    """One prompt with its options and stop strings."""

    prompt: list[int]
    options: dict[str, Any]
    stop: list[str]


def stop_strings(rng: random.Random, text: str) -> list[str]:
    """None to three: pieces of a text, some with a last character changed so that they only nearly match."""
    stops = []
    for _ in range(rng.choice([0, 1, 1, 2, 3]) if text else 0):
        start = rng.randrange(len(text))
        piece = text[start : start + rng.choice([1, 2, 3, 5, 9, 20])]
        stops.append(piece if rng.random() < 0.7 else piece[:-1] + "\u2060")
    return stops


def cut(text: str, stop: Sequence[str]) -> str:
    """The text before the stop string that is complete first; of those that end together, before the longest."""
    ends = [(start + len(s), start) for s in stop if (start := text.find(s)) >= 0]
    return text[: min(ends)[1]] if ends else text


def cases(model: TriMode, checkpoint: Path, n: int, seed: int = 0) -> Iterator[tuple[Case, str]]:
    """n requests, modes and temperatures taking turns, each with its text without stop strings."""
    rng = random.Random(seed)
    questions = heldout(checkpoint)
    for i in range(n):
        prompt = model.chat_tokens([questions[i % len(questions)]["messages"][-1]])
        options = {
            "mode": MODES[i % len(MODES)], "temperature": rng.choice([0.0, 1.0]), "seed": i, "ignore_eos": True,
            "max_tokens": rng.randint(1, MAX_TOKENS), "block_length": rng.choice([2, 5, 16]),
        }  # fmt: skip
        text = model.create_completion(prompt, **options)["choices"][0]["text"]  # type: ignore[index]
        yield Case(prompt, options, stop_strings(rng, text)), text


def fault(model: TriMode, case: Case, text: str) -> str | None:
    """What is wrong with a request; None: streamed and at once it gives the text up to its first stop string."""
    arguments: dict[str, Any] = {"prompt": case.prompt, "stop": case.stop, **case.options}
    whole: Any = model.create_completion(**arguments)
    chunks: Any = list(model.create_completion(stream=True, **arguments))
    streamed = "".join(chunk["choices"][0]["text"] for chunk in chunks)
    expected = cut(text, case.stop)
    if whole["choices"][0]["text"] != expected:
        return f"{case}: {whole['choices'][0]['text']!r} instead of {expected!r}"
    if streamed != expected:
        return f"{case}: streamed {streamed!r} instead of {expected!r}"
    reasons = {result["choices"][0]["finish_reason"] for result in (whole, chunks[-1])}
    if reasons != {"stop" if expected != text else "length"}:
        return f"{case}: finish reasons {reasons}"
    if any("\ufffd" in chunk["choices"][0]["text"] for chunk in chunks) and "\ufffd" not in text:
        return f"{case}: a character came in pieces"
    return None
