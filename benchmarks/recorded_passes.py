"""Rows of block passes, computed once and kept in a file: what simulations of drafts and of denoising replay."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pytrimode import TriMode
from tests.support.decoding import decode

RANKS = 8
"""Candidates that are kept of a row."""


@dataclass(frozen=True)
class Rows:
    """What the rows of a block pass behind its first one predict, each for its own position; never the mask id."""

    tokens: NDArray[np.int32]
    """[n_rows, RANKS], the most probable first."""
    chances: NDArray[np.float32]
    """[n_rows, RANKS], their probabilities."""
    entropies: NDArray[np.float32]
    """[n_rows], of the whole row, in nats."""

    def first(self, n: int) -> Rows:
        """Return the first n rows."""
        return Rows(self.tokens[:n], self.chances[:n], self.entropies[:n])


def summary(logits: NDArray[np.float32], mask: int) -> Rows:
    """Return the best candidates of rows of logits [n_rows, n_vocab]."""
    x = logits.astype(np.float64)
    x[:, mask] = -np.inf
    p = np.exp(x - x.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    order = np.argsort(-x, axis=1, kind="stable")[:, :RANKS]
    entropies = -(p * np.log(np.maximum(p, 1e-300))).sum(axis=1)
    chances = np.take_along_axis(p, order, axis=1)
    return Rows(order.astype(np.int32), chances.astype(np.float32), entropies.astype(np.float32))


class RecordedPasses:
    """Passes of one model; equal ones are computed once. `path`: a pickle of earlier ones, which `save` writes."""

    def __init__(self, model: TriMode, path: Path | None = None) -> None:
        self.model, self.path = model, path
        self._texts: dict[tuple[int, ...], list[int]] = {}
        self._blocks: dict[tuple[int, int, bytes], Rows] = {}
        self._causal: dict[tuple[int, bytes], list[int]] = {}
        if path is not None and path.exists():
            self._texts, self._blocks, self._causal = pickle.loads(path.read_bytes())

    def save(self) -> None:
        """Write all passes to the file, if there is one."""
        if self.path is not None:
            self.path.write_bytes(pickle.dumps((self._texts, self._blocks, self._causal)))

    def text(self, prompt: Sequence[int], max_tokens: int) -> list[int]:
        """Return the tokens of the greedy answer of `ar`."""
        key = (*prompt, max_tokens)
        if key not in self._texts:
            self._texts[key] = decode(self.model, prompt, mode="ar", max_tokens=max_tokens)[0]
        return self._texts[key]

    def block(self, context: Sequence[int], block: Sequence[int], lora: bool) -> Rows:
        """Return what a block behind `context` predicts; its first token is known and predicts nothing."""
        key = (hash(tuple(context)), int(lora), np.asarray(block, np.int32).tobytes())
        if key not in self._blocks:
            n = len(context)
            logits = self.model.logits([*context, *block], block_start=n, lora=lora, first=n)
            self._blocks[key] = summary(logits[1:], self.model.mask_token_id)
        return self._blocks[key]

    def next_tokens(self, context: Sequence[int], tokens: Sequence[int]) -> list[int]:
        """Return what `ar` would emit behind `context`, and behind each of `tokens` but the last, if they follow it."""
        key = (hash(tuple(context)), np.asarray(tokens, np.int32).tobytes())
        if key not in self._causal:
            n = len(context)
            rows = self.model.logits([*context, *tokens[:-1]], first=n - 1)
            rows[:, self.model.mask_token_id] = -np.inf
            self._causal[key] = rows.argmax(axis=1).tolist()
        return list(self._causal[key])

    def draft(self, context: Sequence[int], length: int, filled: Sequence[int] = ()) -> Rows:
        """Return the draft of a cycle: a block behind the last token of `context`, with the drafter LoRA if there is
        one. `filled`: tokens that stand there already, -1 where there is a mask.
        """
        mask = self.model.mask_token_id
        known = [mask if token < 0 else token for token in filled] or [mask] * (length - 1)
        return self.block(context[:-1], [context[-1], *known], self.model.has_lora)
