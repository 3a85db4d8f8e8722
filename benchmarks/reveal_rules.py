#!/usr/bin/env python3
"""Which tokens diffusion may keep after a pass: rules beside the fixed threshold, exact answers against passes.

python -m benchmarks.reveal_rules --prompts 80 --cache passes.pickle

Greedy block diffusion is replayed with the engine's rows on the held-out prompts, once with each rule. All rules keep
the most confident position, and then

  threshold  every position whose best token has at least this probability (the engine's; 0.9 is the published default)
  leftmost   the same, up to the first that has not; the first masked position instead of the most confident one
  distance   the same, but the threshold rises from the first to the last value with the distance from known tokens
  entropy    every position whose row has at most this entropy (nats)
  margin     every position whose best token is so much more probable than the second
  errors     the most confident positions as long as their expected errors, the sum of 1 - p, stay within this budget
  joint      the same, where the n-th position must have (n + 1)(1 - p) below this (Fast-dLLM's factor)
  calibrated errors, with 1 - p replaced by how often tokens so probable were not those of `ar` when the block was
             committed; learnt on the way

With "first", the first masked position is kept in any case, not the most confident one; `reveal="margin"` of the engine
is "first, margin". An answer is exact if it is the expected one.
"""

from __future__ import annotations

import argparse
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import common
from benchmarks.draft_nodes import EDGES
from benchmarks.recorded_passes import RecordedPasses, Rows
from tests.support.decoding import chat_prompts, heldout


def leading(allowed: Iterable[bool]) -> int:
    """Return how many come before the first that is not allowed."""
    n = 0
    for each in allowed:
        if not each:
            break
        n += 1
    return n


@dataclass(frozen=True)
class Rule:
    """A rule with its parameter."""

    name: str
    value: float
    chosen: Callable[[Rows, list[int], NDArray[np.int64]], list[int]]
    """(rows, masked rows by falling confidence, distances) -> those to keep."""
    leftmost: bool = False
    """The first masked position is kept in any case, not the most confident one."""


def threshold(value: float) -> Rule:
    """Keep by probability."""
    return Rule("threshold", value, lambda rows, order, _: [i for i in order if rows.chances[i, 0] >= value])


def distance(first: float, last: float, reach: int = 4) -> Rule:
    """Keep by probability that rises linearly up to `reach` tokens from the next known one on the left."""

    def chosen(rows: Rows, order: list[int], far: NDArray[np.int64]) -> list[int]:
        needed = first + (last - first) * np.minimum(far - 1, reach) / reach
        return [i for i in order if rows.chances[i, 0] >= needed[i]]

    return Rule(f"distance, to {last}", first, chosen)


def entropy(value: float) -> Rule:
    """Keep by entropy."""
    return Rule("entropy", value, lambda rows, order, _: [i for i in order if rows.entropies[i] <= value])


def margin(value: float) -> Rule:
    """Keep by the lead over the second token."""

    def chosen(rows: Rows, order: list[int], _: NDArray[np.int64]) -> list[int]:
        return [i for i in order if rows.chances[i, 0] - rows.chances[i, 1] >= value]

    return Rule("margin", value, chosen)


def errors(value: float) -> Rule:
    """Keep within a budget of expected errors."""

    def chosen(rows: Rows, order: list[int], _: NDArray[np.int64]) -> list[int]:
        return order[: leading(np.cumsum(1 - rows.chances[order, 0]) <= value)]

    return Rule("errors", value, chosen)


def joint(value: float) -> Rule:
    """Keep while n + 1 such errors stay small."""

    def chosen(rows: Rows, order: list[int], _: NDArray[np.int64]) -> list[int]:
        return order[: leading((np.arange(len(order)) + 2) * (1 - rows.chances[order, 0]) < value)]

    return Rule("joint", value, chosen)


def leftmost(value: float) -> Rule:
    """Keep by probability, without gaps from the left."""

    def chosen(rows: Rows, order: list[int], _: NDArray[np.int64]) -> list[int]:
        in_order = sorted(order)
        return in_order[: leading([True, *(rows.chances[in_order[1:], 0] >= value)])]

    return Rule("leftmost", value, chosen, leftmost=True)


def first(rule: Rule) -> Rule:
    """Keep the first masked position in any case, where the rule keeps the most confident one."""
    return replace(rule, name=f"first, {rule.name}", leftmost=True)


RULES = (
    *map(threshold, (0.5, 0.6, 0.7, 0.8, 0.85, 0.87, 0.89, 0.9, 0.91, 0.92, 0.93, 0.95)),
    *map(leftmost, (0.5, 0.7, 0.8, 0.85, 0.9)),
    *(first(threshold(value)) for value in (0.7, 0.8, 0.85, 0.87, 0.89, 0.9, 0.91, 0.92)),
    *(distance(a, b) for a, b in ((0.5, 0.9), (0.7, 0.9), (0.9, 0.7), (0.9, 0.8), (0.92, 0.85))),
    *map(entropy, (0.5, 0.6, 0.7, 0.8, 1.2)),
    *map(margin, (0.5, 0.7, 0.8, 0.85, 0.87, 0.89)),
    *(first(margin(value)) for value in (0.5, 0.7, 0.8, 0.83, 0.85, 0.86, 0.87, 0.88, 0.89, 0.9)),
    *map(errors, (0.1, 0.2, 0.4, 0.7)),
    *map(joint, (0.2, 0.3, 0.5, 0.8, 1.2)),
)


class Calibrated:
    """Expected errors within a budget, as often as tokens so probable were not what `ar` says behind the same text."""

    def __init__(self, value: float) -> None:
        self.rule = Rule("calibrated", value, self._chosen)
        self._value = value
        self._kept = np.zeros((len(EDGES) + 1, 2))

    def _wrong(self, p: float) -> float:
        kept, wrong = self._kept[bisect_right(EDGES, p)]
        return float((4 * (1 - p) + wrong) / (4 + kept))

    def _chosen(self, rows: Rows, order: list[int], _: NDArray[np.int64]) -> list[int]:
        expected = np.cumsum([self._wrong(float(rows.chances[i, 0])) for i in order])
        return order[: leading(expected <= self._value)]

    def learn(self, confidence: Sequence[float], wrong: Sequence[bool]) -> None:
        """Take what the causal pass over a finished block says of its tokens."""
        for p, not_its in zip(confidence, wrong, strict=True):
            self._kept[bisect_right(EDGES, p)] += 1, not_its


def denoise(passes: RecordedPasses, context: list[int], length: int, rule: Rule) -> tuple[list[int], list[float], int]:
    """Return the tokens of a block behind the last token of `context`, their confidence, and the passes they took."""
    mask, n = passes.model.mask_token_id, length - 1
    block, sure, taken = [-1] * n, [0.0] * n, 0
    while -1 in block:
        rows = passes.block(context[:-1], [context[-1], *(mask if t < 0 else t for t in block)], lora=False)
        taken += 1
        masked = [i for i in range(n) if block[i] < 0]
        order = sorted(masked, key=lambda i: -rows.chances[i, 0])
        far = np.zeros(n, np.int64)
        for i in range(n):
            far[i] = 0 if block[i] >= 0 else (far[i - 1] if i else 0) + 1
        for i in {masked[0] if rule.leftmost else order[0], *rule.chosen(rows, order, far)}:
            block[i], sure[i] = int(rows.tokens[i, 0]), float(rows.chances[i, 0])
        known = block.index(-1) if -1 in block else n
        ends = [i for i in range(known) if passes.model.is_eog(block[i])]
        if ends:
            return block[: ends[0] + 1], sure[: ends[0] + 1], taken
    return block, sure, taken


def answer(
    passes: RecordedPasses, prompt: list[int], length: int, max_tokens: int, rule: Rule, learn: Calibrated | None
) -> tuple[list[int], int]:
    """Return the tokens of an answer, as `native/decoders/diffusion.cpp` makes it, and its passes after the prefill."""
    text, taken = [*passes.next_tokens(prompt, [-1])], 0
    while not passes.model.is_eog(text[-1]) and len(text) < max_tokens:
        context = [*prompt, *text]
        tokens, sure, n = denoise(passes, context, min(length, max_tokens - len(text) + 1), rule)
        taken += n
        if learn:
            causal = passes.next_tokens(context, tokens)
            learn.learn(sure, [a != b for a, b in zip(causal, tokens, strict=True)])
        text += tokens
        if not passes.model.is_eog(text[-1]) and len(text) < max_tokens:
            taken += 1  # the commit, whose last row gives the next seed
            text += passes.next_tokens([*prompt, *text], [-1])
    return text, taken


def main() -> None:
    """Print a row for each rule and parameter."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=200, help="held-out prompts (default: %(default)s)")
    parser.add_argument("-B", "--block-length", type=int, default=16, help="(default: %(default)s)")
    parser.add_argument("-n", "--max-tokens", type=int, default=250, help="(default: %(default)s)")
    parser.add_argument("--cache", type=Path, help="file of passes that were computed before")
    args = parser.parse_args()
    model, checkpoint = common.tiny_model()
    with model:
        step = 200 // args.prompts
        items = heldout(checkpoint)[::step][: args.prompts]
        prompts = chat_prompts(model, checkpoint, 200)[::step][: args.prompts]
        passes = RecordedPasses(model, args.cache)
        print(f"{len(prompts)} held-out prompts, block length {args.block_length}\n")
        print("| rule | parameter | exact answers | tokens per forward |\n|---|---|---|---|", flush=True)
        learning = [Calibrated(value) for value in (0.02, 0.05, 0.1, 0.2, 0.4)]
        for rule, learn in [*((rule, None) for rule in RULES), *((each.rule, each) for each in learning)]:
            exact = tokens = taken = 0
            for prompt, item in zip(prompts, items, strict=True):
                text, n = answer(passes, prompt, args.block_length, args.max_tokens, rule, learn)
                exact += model.detokenize(text).decode("utf-8", "replace").strip() == item["answer"].strip()
                tokens, taken = tokens + len(text), taken + n
            share = 100 * exact / len(prompts)
            print(f"| {rule.name} | {rule.value:g} | {share:.1f} % | {tokens / taken:.2f} |", flush=True)
            passes.save()


if __name__ == "__main__":
    main()
