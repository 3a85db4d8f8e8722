"""Decisions: how likely each of some given answers is, from one reading of the prompt."""

from __future__ import annotations

import math
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

# Pydantic makes a schema of these, and takes no other TypedDict before Python 3.12.
from typing_extensions import NotRequired, TypedDict

from pytrimode.options.option import checked

if TYPE_CHECKING:
    from pytrimode.engine_loop import Cancellation, EngineLoop
    from pytrimode.vision.prompt import Prompt

MAX_CHOICES = 100
MAX_CHOICE_TOKENS = 128


class Estimate(TypedDict):
    """Natural logarithm of a choice's probability, and its share of all choices' probabilities."""

    logprob: float
    probability: float


class ScoredChoice(Estimate):
    """A choice by mode ar: `logprob` is the sum of `token_logprobs`. `block`: the estimate of one pass of masks."""

    index: int
    text: str
    tokens: list[int]
    token_logprobs: list[float]
    block: NotRequired[Estimate]


class DecisionUsage(TypedDict):
    """Tokens that were read. `masks`: of the block pass; 0: there was none."""

    prompt_tokens: int
    choice_tokens: int
    masks: int


class Decision(TypedDict):
    """`best`: the text of the likeliest choice by mode ar; `choices` in the order in which they were given."""

    id: str
    object: Literal["decision"]
    created: int
    model: str
    best: str
    choices: list[ScoredChoice]
    usage: DecisionUsage


def checked_choices(choices: Sequence[str]) -> list[str]:
    """Return the choices. Raises TypeError for what is no list of texts, ValueError for none, too many, an empty one
    and one that is there twice.
    """
    found = list(checked("choices", "Sequence[str]", choices))
    if not 1 <= len(found) <= MAX_CHOICES:
        raise ValueError(f"choices: there are {len(found)}, give between 1 and {MAX_CHOICES}")
    if "" in found:
        raise ValueError(f"choices[{found.index('')}] is empty")
    text, n = Counter(found).most_common(1)[0]
    if n > 1:
        raise ValueError(f"choices has {text[:40]!r} {n} times")
    return found


def continuations_of(
    tokenize: Callable[[str], Sequence[int]], text: str, choices: Sequence[str]
) -> tuple[list[int], list[list[int]]]:
    """Return the tokens that a text shares with itself continued by each choice, and those that follow in each.

    A text and a choice are tokenized together, as they would be in a document: where they meet a token may have
    characters of both, and it belongs to the continuation then, in all choices.
    """
    shared = list(tokenize(text))
    wholes = [list(tokenize(text + choice)) for choice in choices]
    for whole in wholes:
        most = min(len(shared), len(whole) - 1)
        n = next((i for i in range(most) if whole[i] != shared[i]), most)
        del shared[n:]
    if not shared:
        raise ValueError("prompt: there is no token in front of the choices")
    return shared, [whole[len(shared) :] for whole in wholes]


@dataclass(frozen=True)
class Question:
    """A prompt and what may follow it, checked."""

    model: str
    prompt: Prompt
    choices: Sequence[str]
    continuations: Sequence[Sequence[int]]
    mask_token: int
    masks: int

    def decide(
        self,
        loop: EngineLoop,
        *,
        lora_scales: Sequence[float],
        cache_scope: int = 0,
        cancellation: Cancellation | None = None,
    ) -> Decision:
        """Score the choices, beside other requests.

        Raises QueueFullError when too many run and wait, CacheFullError where running requests leave no room,
        RequestCancelledError once `cancellation` is called.
        """
        tokens, pictures = self.prompt
        loop.reserve(1)
        try:
            scores = loop.score(tokens, self.continuations, pictures, cache_scope, lora_scales, cancellation)
            blocks = self._block_scores(loop, cache_scope, lora_scales) if self.masks else []
        finally:
            loop.free(1)
        return self._decision(scores, blocks)

    def _block_scores(self, loop: EngineLoop, cache_scope: int, lora_scales: Sequence[float]) -> list[float]:
        """Return sums over the tokens of each choice that have a mask, each predicted without the others."""
        import numpy as np

        tokens, pictures = self.prompt
        n = len(tokens)
        block = [*tokens, *[self.mask_token] * self.masks]
        logits = loop.logits(block, n, False, n, pictures, cache_scope=cache_scope, lora_scales=lora_scales)
        rest = np.delete(logits, self.mask_token, axis=1)
        highest = rest.max(axis=1)
        sums = highest + np.log(np.exp(rest - highest[:, None]).sum(axis=1, dtype=np.float64))
        return [
            float(sum(logits[i, token] - sums[i] for i, token in enumerate(tokens[: self.masks])))
            for tokens in self.continuations
        ]

    def _decision(self, scores: Sequence[Sequence[float]], blocks: Sequence[float]) -> Decision:
        causal = estimates([math.fsum(of_tokens) for of_tokens in scores])
        choices: list[ScoredChoice] = []
        for index, text in enumerate(self.choices):
            choice: ScoredChoice = {
                "index": index,
                "text": text,
                "logprob": causal[index]["logprob"],
                "probability": causal[index]["probability"],
                "tokens": list(self.continuations[index]),
                "token_logprobs": list(scores[index]),
            }
            choices.append(choice)
        for choice, block in zip(choices, estimates(blocks), strict=False):
            choice["block"] = block
        return {
            "id": f"decision-{uuid.uuid4().hex}",
            "object": "decision",
            "created": int(time.time()),
            "model": self.model,
            "best": max(choices, key=lambda choice: choice["logprob"])["text"],
            "choices": choices,
            "usage": {
                "prompt_tokens": len(self.prompt.tokens),
                "choice_tokens": sum(map(len, self.continuations)),
                "masks": self.masks,
            },
        }


def estimates(logprobs: Sequence[float]) -> list[Estimate]:
    """Return logprobs with their shares. Raises RuntimeError for what is no number: damaged weights give that."""
    if not all(map(math.isfinite, logprobs)):
        raise RuntimeError("the model's logits are not finite: its weights are damaged, or beyond the range of a type")
    highest = max(logprobs, default=0.0)
    total = math.fsum(math.exp(logprob - highest) for logprob in logprobs)
    return [{"logprob": logprob, "probability": math.exp(logprob - highest) / total} for logprob in logprobs]
