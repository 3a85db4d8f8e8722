"""The result dictionaries: llama-cpp-python's, plus `timings` and what a tri-mode model adds to `usage`."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypedDict

from pytrimode.answers.logprobs import ChatLogprobs, CompletionLogprobs, PromptLogprobs
from pytrimode.formats.tools import ToolCall, ToolCallDelta

if TYPE_CHECKING:
    from typing_extensions import NotRequired, Required

    from pytrimode._native import Stats
    from pytrimode.vision.prompt import Pictures

FinishReason = Literal["stop", "length", "tool_calls"]
"""OpenAI's. A loop counts as "stop" there: `finish_details` tells."""


class FinishDetails(TypedDict, total=False):
    """Why a request ended. `stop`: the stop string, None for an end-of-generation token. Of a loop: the shortest
    period, and how many tokens at the end only repeat what came before."""

    type: Required[Literal["stop", "length", "loop"]]
    stop: str | None
    period: int
    repeated_tokens: int


class PromptTokensDetails(TypedDict):
    """Part of `usage`. `image_tokens`: of the prompt, those of images; only where it has any."""

    cached_tokens: int
    image_tokens: NotRequired[int]


class CompletionTokensDetails(TypedDict):
    """Part of `usage`, of a chat."""

    reasoning_tokens: int


class Usage(TypedDict):
    """Token counts of one request. `completion_tokens` leaves out the end-of-generation token (as llama-cpp-python)."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    forward_passes: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: NotRequired[CompletionTokensDetails]


class Timings(TypedDict):
    """Speed of one request; names as llama-server's where they mean the same.

    `cache_n`: prompt tokens found in the cache; `prompt_n`: those computed. `predicted_n`: tokens emitted, an
    end-of-generation token included. `forward_passes`: passes after the prefill; `fused_passes`: of these, those that
    verified a draft and made the next one. `draft_n`, `draft_n_accepted`: tokens drafted and accepted (self-spec).
    `ngram_n`, `ngram_n_accepted`: of these, those that were read off the text.
    `tree_n`, `tree_n_accepted`: of these, those beside the chain of best tokens.
    `acceptance_length`: tokens per cycle of draft and verify (self-spec), or per block (diffusion); 0 in ar.
    `image_n`, `image_ms`: images in the prompt, and what encoding those took that were not held; only where it has any.
    """

    cache_n: int
    prompt_n: int
    prompt_ms: float
    prompt_per_token_ms: float
    prompt_per_second: float
    predicted_n: int
    predicted_ms: float
    predicted_per_token_ms: float
    predicted_per_second: float
    tokens_per_forward: float
    forward_passes: int
    fused_passes: int
    draft_n: int
    draft_n_accepted: int
    ngram_n: int
    ngram_n_accepted: int
    tree_n: int
    tree_n_accepted: int
    acceptance_length: float
    image_n: NotRequired[int]
    image_ms: NotRequired[float]


class BlockToken(TypedDict):
    """A decided token of a block; `p`: its probability; `end`: it ends the generation."""

    text: str
    p: float
    end: bool


class LivePass(TypedDict, total=False):
    """One pass, with the fields that say something.

    `tokens`: what it made final. `block` (diffusion): the whole block as it stands, None where masked; its first token
    is the last one of what came before. `draft` (self-spec): what it proposed. `accepted`: how many of the draft of the
    pass before it kept; the rest was rejected. A fused pass has both.
    """

    tokens: list[str]
    block: list[BlockToken | None]
    draft: list[str]
    accepted: int


class CompletionChoice(TypedDict):
    """One text of a completion."""

    text: str
    index: int
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason | None
    finish_details: NotRequired[FinishDetails]
    prompt_logprobs: NotRequired[list[PromptLogprobs | None]]


class _Head(TypedDict):
    id: str
    created: int
    model: str


class Measured(TypedDict, total=False):
    """What a finished request adds to its result, or to the last chunk of its stream."""

    usage: Usage
    timings: Timings


class Completion(_Head, Measured):
    """What `create_completion` returns, and each chunk of its stream; the last chunk has `usage` and `timings`."""

    object: Literal["text_completion"]
    choices: list[CompletionChoice]
    live: NotRequired[LivePass]


class ChatMessage(TypedDict):
    """The assistant's answer; `reasoning_content` where it reasoned and `reasoning_format` keeps that apart.

    `content` is None where there are nothing but `tool_calls`.
    """

    role: Literal["assistant"]
    content: str | None
    reasoning_content: NotRequired[str]
    tool_calls: NotRequired[list[ToolCall]]


class ChatChoice(TypedDict):
    """One answer of a chat completion."""

    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None
    finish_details: NotRequired[FinishDetails]


class ChatCompletion(_Head, Measured):
    """What `create_chat_completion` returns."""

    object: Literal["chat.completion"]
    choices: list[ChatChoice]
    prompt_logprobs: NotRequired[list[PromptLogprobs | None]]


class ChatDelta(TypedDict, total=False):
    """What a chunk adds to the answer."""

    role: Literal["assistant"]
    content: str
    reasoning_content: str
    tool_calls: list[ToolCallDelta]


class ChatChunkChoice(TypedDict):
    """Part of a chunk."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None
    finish_details: NotRequired[FinishDetails]


class ChatCompletionChunk(_Head, Measured):
    """A chunk of a streamed chat completion; the last one has `usage` and `timings`."""

    object: Literal["chat.completion.chunk"]
    choices: list[ChatChunkChoice]
    live: NotRequired[LivePass]
    prompt_logprobs: NotRequired[list[PromptLogprobs | None]]


def ratio(a: float, b: float) -> float:
    """Return a / b; 0 where nothing was counted."""
    return a / b if b else 0.0


def _acceptance_length(stats: Stats) -> float:
    """Tokens per cycle. The first token of all comes from the prefill, not from a cycle."""
    if stats.drafted:
        return 1.0 + stats.accepted / stats.cycles
    return ratio(max(0, stats.completion_tokens - 1), stats.cycles)


def timings_of(stats: Stats, pictures: Pictures | None = None) -> Timings:
    """Return the `timings` object of one request."""
    computed = stats.prompt_tokens - stats.cached_tokens
    timings: Timings = {
        "cache_n": stats.cached_tokens,
        "prompt_n": computed,
        "prompt_ms": stats.prompt_seconds * 1e3,
        "prompt_per_token_ms": ratio(stats.prompt_seconds * 1e3, computed),
        "prompt_per_second": ratio(computed, stats.prompt_seconds),
        "predicted_n": stats.completion_tokens,
        "predicted_ms": stats.generation_seconds * 1e3,
        "predicted_per_token_ms": ratio(stats.generation_seconds * 1e3, stats.completion_tokens),
        "predicted_per_second": ratio(stats.completion_tokens, stats.generation_seconds),
        "tokens_per_forward": ratio(stats.completion_tokens, stats.forward_passes),
        "forward_passes": stats.forward_passes,
        "fused_passes": stats.fused_passes,
        "draft_n": stats.drafted,
        "draft_n_accepted": stats.accepted,
        "ngram_n": stats.ngram_drafted,
        "ngram_n_accepted": stats.ngram_accepted,
        "tree_n": stats.tree_drafted,
        "tree_n_accepted": stats.tree_accepted,
        "acceptance_length": _acceptance_length(stats),
    }
    if pictures:
        timings["image_n"], timings["image_ms"] = len(pictures.tokens), pictures.seconds * 1e3
    return timings


def usage_of(stats: Stats, completion_tokens: int, pictures: Pictures | None = None) -> Usage:
    """Return the `usage` object of one request whose text is made of `completion_tokens` tokens."""
    details: PromptTokensDetails = {"cached_tokens": stats.cached_tokens}
    if pictures:
        details["image_tokens"] = sum(pictures.tokens)
    return {
        "prompt_tokens": stats.prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": stats.prompt_tokens + completion_tokens,
        "forward_passes": stats.forward_passes,
        "prompt_tokens_details": details,
    }


@dataclass(frozen=True)
class Ending:
    """How a request ended and what it cost."""

    details: FinishDetails
    measured: Measured

    @property
    def reason(self) -> FinishReason:
        """OpenAI's finish reason."""
        return "length" if self.details["type"] == "length" else "stop"


@dataclass(frozen=True)
class ResultWriter:
    """Writes the dictionaries of one answer: same id, time and model name in all of them.

    `index`: number of the answer among those to one request.
    """

    model: str
    index: int = 0
    request: str = field(default_factory=lambda: f"cmpl-{uuid.uuid4()}")
    created: int = field(default_factory=lambda: int(time.time()))

    def completion(
        self, text: str, ending: Ending | None = None, logprobs: CompletionLogprobs | None = None
    ) -> Completion:
        """Return a whole completion, or a chunk of one; the last chunk has the ending."""
        choice: CompletionChoice = {"text": text, "index": self.index, "logprobs": logprobs, "finish_reason": None}
        result: Completion = {
            "id": self.request,
            "object": "text_completion",
            "created": self.created,
            "model": self.model,
            "choices": [choice],
        }
        if ending:
            choice["finish_reason"], choice["finish_details"] = ending.reason, ending.details
            result.update(ending.measured)  # type: ignore[typeddict-item]
        return result

    def chat(self, message: ChatMessage, ending: Ending, logprobs: ChatLogprobs | None = None) -> ChatCompletion:
        """Return a whole chat completion."""
        result: ChatCompletion = {
            "id": "chat" + self.request,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "choices": [
                {
                    "index": self.index,
                    "message": message,
                    "logprobs": logprobs,
                    "finish_reason": _reason(ending, called="tool_calls" in message),
                    "finish_details": ending.details,
                }
            ],
        }
        result.update(ending.measured)  # type: ignore[typeddict-item]
        return result

    def chat_chunk(
        self,
        delta: ChatDelta,
        ending: Ending | None = None,
        logprobs: ChatLogprobs | None = None,
        *,
        called: bool = False,
    ) -> ChatCompletionChunk:
        """Return a chunk of a chat completion; the last one has the ending. `called`: the answer has tool calls."""
        choice: ChatChunkChoice = {"index": self.index, "delta": delta, "logprobs": logprobs, "finish_reason": None}
        result: ChatCompletionChunk = {
            "id": "chat" + self.request,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": [choice],
        }
        if ending:
            choice["finish_reason"], choice["finish_details"] = _reason(ending, called=called), ending.details
            result.update(ending.measured)  # type: ignore[typeddict-item]
        return result


def _reason(ending: Ending, *, called: bool) -> FinishReason:
    """OpenAI's, which tells of calls where an answer ends with them."""
    return "tool_calls" if called and ending.reason == "stop" else ending.reason
