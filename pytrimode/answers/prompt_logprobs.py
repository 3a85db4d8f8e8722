"""Log-probabilities of the tokens of a prompt: what scoring tools ask for with `echo`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pytrimode._native import RequestOptions
    from pytrimode.engine_loop import Cancellation, EngineLoop

_ROWS = 32
"""Positions of which the logits are held at a time."""


@dataclass(frozen=True)
class Scored:
    """A token and its natural log-probability, as the engine's own of emitted tokens."""

    token: int
    logprob: float


@dataclass(frozen=True)
class Position:
    """A token of a prompt, and the likeliest in its place; the first token has neither probability nor others."""

    chosen: Scored
    top: Sequence[Scored]
    rank: int = 0
    """Of the token among all: 1 for the likeliest."""


def prompt_positions(
    loop: EngineLoop,
    tokens: Sequence[int],
    n_top: int,
    asked: RequestOptions,
    cancellation: Cancellation | None = None,
) -> list[Position]:
    """Each token of a prompt given those before it, with the `n_top` likeliest, by the rows of mode ar.

    `asked`: the request's `cache_scope` and `lora_scales` hold for it, too.

    Raises CacheFullError where running requests leave no room in the cache, RequestCancelledError once
    `cancellation` is called.
    """
    positions = [Position(Scored(tokens[0], 0.0), ())]
    for begin in range(0, len(tokens) - 1, _ROWS):
        end = min(begin + _ROWS, len(tokens) - 1)
        if cancellation:
            cancellation.check()
        logits = loop.logits(
            list(tokens[:end]), -1, False, begin, cache_scope=asked.cache_scope, lora_scales=asked.lora_scales
        )
        positions += _scored(logits, tokens[begin + 1 : end + 1], n_top)
    return positions


def _scored(logits: NDArray[np.float32], emitted: Sequence[int], n_top: int) -> Iterator[Position]:
    import numpy as np

    highest = logits.max(axis=1, keepdims=True)
    logits = logits - highest
    sums = np.log(np.exp(logits).sum(axis=1, dtype=np.float64))
    for row, total, token in zip(logits, sums, emitted, strict=True):
        likeliest: Any = []
        if n_top:
            n = min(n_top, len(row))
            likeliest = np.argpartition(-row, n - 1)[:n]
            likeliest = likeliest[np.argsort(-row[likeliest], kind="stable")]
        top = [Scored(int(other), float(row[other] - total)) for other in likeliest]
        rank = 1 + int((row > row[token]).sum())
        yield Position(Scored(token, float(row[token] - total)), top, rank)
