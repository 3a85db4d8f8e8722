"""Log-probabilities in the shapes of OpenAI's API."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from pytrimode._native import Model, PositionLogprobs, TokenLogprob
    from pytrimode.answers.prompt_logprobs import Position, Scored

IMPOSSIBLE = -9999.0
"""OpenAI's number for a probability of zero: JSON has no infinity."""


class CompletionLogprobs(TypedDict):
    """`logprobs` of a completion. Natural logarithms; `text_offset` in characters of the text. The first token of an
    echoed prompt has no log-probability: None."""

    text_offset: list[int]
    token_logprobs: list[float | None]
    tokens: list[str]
    top_logprobs: list[dict[str, float] | None]


class TopLogprob(TypedDict):
    """A token and its log-probability; `bytes`: its UTF-8 bytes, or a part of a character's."""

    token: str
    bytes: list[int]
    logprob: float


class ChatTokenLogprob(TopLogprob):
    """An emitted token, and the most likely ones in its place."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(TypedDict):
    """`logprobs` of a chat completion."""

    content: list[ChatTokenLogprob]
    refusal: None


class PromptToken(TypedDict):
    """A token in a place of the prompt. `rank`: 1 for the likeliest of all."""

    logprob: float
    rank: int
    decoded_token: str


PromptLogprobs = dict[str, PromptToken]
"""The prompt's own token in a place and the likeliest ones, by their ids, as vLLM writes them."""


class PromptWriter:
    """Writes `prompt_logprobs` as vLLM does."""

    def __init__(self, model: Model, n_top: int) -> None:
        self._model = model
        self._n_top = n_top

    def write(self, positions: Sequence[Position]) -> list[PromptLogprobs | None]:
        """Return an entry for each token of a prompt: None for the first one, which follows nothing."""
        return [None, *map(self._entry, positions[1:])]

    def _entry(self, position: Position) -> PromptLogprobs:
        own = {str(position.chosen.token): self._token(position.chosen, position.rank)}
        top = enumerate(position.top[: self._n_top], 1)
        return own | {str(other.token): self._token(other, rank) for rank, other in top if str(other.token) not in own}

    def _token(self, scored: Scored, rank: int) -> PromptToken:
        text = self._model.token_to_piece(scored.token, True).decode("utf-8", "replace")
        return {"logprob": _finite(scored.logprob), "rank": rank, "decoded_token": text}


class LogprobWriter:
    """Writes the log-probabilities of one request's tokens, piece by piece as they come."""

    def __init__(self, model: Model, visible: Collection[int], offset: int = 0) -> None:
        """`visible`: special tokens that are part of the text; `offset`: characters of text before the first token."""
        self._model = model
        self._visible = visible
        self._offset = offset
        self._bytes = b""

    def prompt(self, positions: Sequence[Position]) -> CompletionLogprobs:
        """Return a prompt that is echoed: tokens in front of the first one."""
        self._offset = 0
        result = self.completion(positions)
        result["token_logprobs"][0] = result["top_logprobs"][0] = None
        return result

    def completion(self, positions: Sequence[PositionLogprobs | Position]) -> CompletionLogprobs:
        """Return the next tokens."""
        result: CompletionLogprobs = {"text_offset": [], "token_logprobs": [], "tokens": [], "top_logprobs": []}
        for position in positions:
            result["text_offset"].append(self._offset + len(self._bytes.decode("utf-8", "ignore")))
            result["token_logprobs"].append(_finite(position.chosen.logprob))
            result["tokens"].append(self._text(position.chosen.token))
            others: Sequence[TokenLogprob | Scored] = position.top
            top = {self._text(t.token): _finite(t.logprob) for t in reversed(others)}
            result["top_logprobs"].append(dict(reversed(top.items())))
            self._bytes += self._piece(position.chosen.token)
        return result

    def chat(self, positions: Sequence[PositionLogprobs]) -> ChatLogprobs:
        """Return the next tokens."""
        content: list[ChatTokenLogprob] = [
            {**self._top(position.chosen), "top_logprobs": [self._top(t) for t in position.top]}
            for position in positions
        ]
        return {"content": content, "refusal": None}

    def _top(self, token: TokenLogprob) -> TopLogprob:
        piece = self._piece(token.token)
        return {"token": self._text(token.token), "bytes": list(piece), "logprob": _finite(token.logprob)}

    def _piece(self, token: int) -> bytes:
        return self._model.token_to_piece(token, token in self._visible)

    def _text(self, token: int) -> str:
        """Return a special token's name where it is no part of the text."""
        return (self._piece(token) or self._model.token_to_piece(token, True)).decode("utf-8", "replace")


def _finite(logprob: float) -> float:
    return logprob if math.isfinite(logprob) else IMPOSSIBLE
