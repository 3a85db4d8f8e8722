#!/usr/bin/env python3
"""Would the second-best draft, verified beside the best one where the drafter is least sure, pay?

python -m benchmarks.rank_two                       # about a minute of CPU

A pass that verifies B rows could verify k rows more: at the k least confident positions of the draft the token of
rank 2, which sees what the draft at that position sees. Where the draft is rejected and rank 2 is the target's token,
its row gives one token more. This replays greedy cycles on the engine's logits and counts how often that would be, and
asks the engine what k rows more cost. No decoder does it: see the last column.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field

import numpy as np

from benchmarks import common
from pytrimode import TriMode
from tests.support.decoding import chat_prompts, decode

BLOCK_LENGTHS = (4, 8, 16)
ALTERNATES = (1, 2, 4)
MAX_TOKENS = 48


@dataclass
class Count:
    """Of cycles with one block length."""

    cycles: int = 0
    tokens: int = 0
    rejected: int = 0
    second: int = 0
    """Rejections where rank 2 is the target's token ..."""
    found: dict[int, int] = field(default_factory=lambda: dict.fromkeys(ALTERNATES, 0))
    """... and the position is among the k least confident."""


def drafts(model: TriMode, context: list[int], length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ranks 1 and 2 and the probability of rank 1 at each masked position of a block."""
    block = [*context, *[model.mask_token_id] * (length - 1)]
    rows = model.engine.logits(block, len(context) - 1, model.has_lora)[len(context) :]
    rows[:, model.mask_token_id] = -np.inf
    order = np.argsort(-rows, axis=1)[:, :2]
    top = rows.max(axis=1, keepdims=True)
    return order[:, 0], order[:, 1], 1 / np.exp(rows - top).sum(axis=1)


def replay(model: TriMode, prompt: list[int], text: list[int], length: int, count: Count) -> None:
    """Count the cycles of one greedy answer."""
    at = 1  # the first token comes from the prompt
    while at < len(text):
        first, second, sure = drafts(model, prompt + text[:at], length)
        rest = text[at : at + length]
        n = next((i for i in range(min(length - 1, len(rest))) if first[i] != rest[i]), min(length - 1, len(rest)))
        count.cycles += 1
        count.tokens += min(n + 1, len(rest))
        if n < min(length - 1, len(rest) - 1):
            count.rejected += 1
            if second[n] == rest[n]:
                count.second += 1
                for k in ALTERNATES:
                    count.found[k] += n in np.argsort(sure)[:k]
        at += n + 1


def main() -> None:
    """Print a row for each block length and number of alternates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=60, help="held-out prompts (default: 60)")
    arguments = parser.parse_args()
    model, checkpoint = common.tiny_model()
    counts = {length: Count() for length in BLOCK_LENGTHS}
    with model:
        for prompt in common.progress(chat_prompts(model, checkpoint, arguments.prompts), "prompts", arguments.prompts):
            text, _ = decode(model, prompt, mode="ar", max_tokens=MAX_TOKENS)
            for length in sorted({n + k for n in BLOCK_LENGTHS for k in (0, *ALTERNATES)}):
                decode(model, prompt, mode="self-spec", block_length=length, max_tokens=MAX_TOKENS)
            for length, count in counts.items():
                replay(model, prompt, text, length, count)
        seconds = {n: model.draft_length.cost.seconds(n) for n in range(1, 64)}
    print("| B | tokens/cycle | cycles with a rejection | rank 2 is right | k | tokens more | time more | speed |")
    print("|---|---|---|---|---|---|---|---|")
    for length, c in counts.items():
        for k in ALTERNATES:
            tokens = c.found[k] / c.tokens
            time = (seconds[length] + seconds[length + k]) / (2 * seconds[length]) - 1
            print(
                f"| {length} | {c.tokens / c.cycles:.2f} | {100 * c.rejected / c.cycles:.0f} % "
                f"| {100 * c.second / max(c.rejected, 1):.0f} % | {k} | +{100 * tokens:.1f} % | +{100 * time:.1f} % "
                f"| {(1 + tokens) / (1 + time):.3f} |"
            )


if __name__ == "__main__":
    main()
