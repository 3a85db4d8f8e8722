"""What a forward pass did, in words that can be shown: the live views of the terminal, the server and its page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pytrimode.answers.results import BlockToken, LivePass
from pytrimode.answers.step import Step


class Vocabulary(Protocol):
    """What is asked of a model."""

    @property
    def mask_token_id(self) -> int:
        """-1 when there is none."""

    def is_eog(self, token: int) -> bool:
        """Whether the token ends a generation."""

    def detokenize(self, tokens: Sequence[int], special: bool = False) -> bytes:
        """Return the bytes of tokens."""


class LivePasses:
    """Describes one answer, step after step."""

    def __init__(self, model: Vocabulary) -> None:
        self._model = model
        self._draft: list[int] = []

    def of(self, step: Step) -> LivePass | None:
        """None for a pass that shows nothing, as those over the prompt."""
        shown: LivePass = {}
        if step.tokens:
            shown["tokens"] = self._texts(step.tokens)
        if step.block:
            shown["block"] = [self._decided(t, p) for t, p in zip(step.block, step.confidence, strict=True)]
        if step.draft:
            shown["draft"] = self._texts(step.draft)
        if self._draft:
            shown["accepted"] = self._n_accepted(step)
        self._draft = step.draft
        if not shown and step.ending:  # the end of generation, which is no token of the answer
            return {"tokens": []}
        return shown or None

    def _decided(self, token: int, p: float) -> BlockToken | None:
        if token == self._model.mask_token_id:
            return None
        return {"text": self._text(token), "p": round(p, 4), "end": self._model.is_eog(token)}

    def _n_accepted(self, step: Step) -> int:
        """Return how many drafts were accepted: a rejected one is followed by another token than its own."""
        n = 0
        while n < min(len(self._draft), len(step.tokens)) and self._draft[n] == step.tokens[n]:
            n += 1
        # An end of generation is no part of the tokens.
        ended = step.ending is not None and step.ending.details == {"type": "stop", "stop": None}
        return n + (ended and n == len(step.tokens) < len(self._draft) and self._model.is_eog(self._draft[n]))

    def _texts(self, tokens: list[int]) -> list[str]:
        return [self._text(token) for token in tokens]

    def _text(self, token: int) -> str:
        return self._model.detokenize([token], special=True).decode("utf-8", "replace")
