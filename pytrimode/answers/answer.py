"""How answers are written, whole and in chunks, for the Python API and for the server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pytrimode.answers.live_pass import LivePasses
from pytrimode.answers.logprobs import LogprobWriter, PromptWriter
from pytrimode.answers.results import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatDelta,
    ChatMessage,
    Completion,
    Ending,
    Measured,
    ResultWriter,
)
from pytrimode.answers.step import Step
from pytrimode.formats.reasoning import Parts, ReasoningCount, ReasoningSplit
from pytrimode.formats.tool_parser import Pieces, ToolCallParser
from pytrimode.formats.tools import joined

if TYPE_CHECKING:
    from pytrimode._native import PositionLogprobs
    from pytrimode.answers.logprobs import CompletionLogprobs, PromptLogprobs
    from pytrimode.answers.prompt_logprobs import Position

Result = TypeVar("Result", covariant=True)
Chunk = TypeVar("Chunk", Completion, ChatCompletionChunk, dict[str, Any])


@dataclass(frozen=True)
class Reading:
    """How the text of one answer is read, each None where the request does not want it."""

    echo: str = ""
    """What a completion begins with."""
    logprobs: LogprobWriter | None = None
    n_top: int = 0
    """How many of the likeliest tokens `logprobs` has at each position."""
    prompt: PromptWriter | None = None
    split: ReasoningSplit | None = None
    tools: ToolCallParser | None = None
    live: LivePasses | None = None
    count: ReasoningCount | None = None
    trim_loop: bool = False


@dataclass
class _Kept:
    texts: list[str] = field(default_factory=list)
    logprobs: list[PositionLogprobs] = field(default_factory=list)


class Answer(ABC, Generic[Result, Chunk]):
    """One answer on its way out: each step becomes chunks, or is kept for the whole. One object writes one of both."""

    def __init__(self, writer: ResultWriter, reading: Reading) -> None:
        self._writer = writer
        self._reading = reading
        self._kept = _Kept()
        self._prompt_logprobs: list[PromptLogprobs | None] | None = None
        self.ending: Ending | None = None
        """How it ended; None while it goes on."""

    def prompt(self, positions: Sequence[Position]) -> None:
        """Take the log-probabilities of the prompt, which the answer begins with."""
        if self._reading.prompt:
            self._prompt_logprobs = self._reading.prompt.write(positions)

    def hold_calls(self) -> None:
        """Give out calls of tools only when they are complete, as the whole answer has them."""
        if self._reading.tools:
            self._reading.tools.whole = True

    @abstractmethod
    def opening(self) -> list[Chunk]:
        """Chunks before the first step."""

    @abstractmethod
    def empty(self) -> Chunk:
        """Return a chunk that adds nothing."""

    @abstractmethod
    def _adding(self, step: Step) -> Chunk | None:
        """Return what a step adds; None for nothing."""

    @abstractmethod
    def _closing(self, ending: Ending) -> list[Chunk]:
        """Return the chunk that ends the answer, behind what was held back."""

    @abstractmethod
    def _whole(self, text: str, logprobs: list[PositionLogprobs], ending: Ending) -> Result:
        """Return the answer in one piece."""

    def chunks(self, step: Step) -> list[Chunk]:
        """Return what a step becomes in a stream; the last chunk has the finish reason, `usage` and `timings`."""
        made = self._adding(step)
        live = self._reading.live.of(step) if self._reading.live else None
        if live:
            made = made or self.empty()
            made["live"] = live
        chunks = [made] if made else []
        self._count(step)
        if step.ending:
            self.ending = step.ending
            chunks += self._closing(step.ending)
        return chunks

    def keep(self, step: Step) -> None:
        """Keep a step for `whole`."""
        kept = self._kept
        kept.texts.append(step.text)
        kept.logprobs += step.logprobs
        self._count(step)
        if step.ending:
            self.ending = step.ending
            if self._reading.trim_loop and step.trimmed is not None:
                kept.texts = ["".join(kept.texts)[: step.trimmed]]
                del kept.logprobs[max(0, len(kept.logprobs) - step.ending.details["repeated_tokens"]) :]

    def _count(self, step: Step) -> None:
        if count := self._reading.count:
            count.feed(step.tokens)
            if step.ending:
                step.ending.measured["usage"]["completion_tokens_details"] = {"reasoning_tokens": count.n}

    def whole(self) -> Result:
        """Return the answer made of the steps that were kept. Raises RuntimeError for one that has not ended."""
        if self.ending is None:
            raise RuntimeError("the engine ended a request without a finish reason")
        return self._whole("".join(self._kept.texts), self._kept.logprobs, self.ending)

    @property
    def measured(self) -> Measured:
        """What a finished answer cost."""
        return self.ending.measured if self.ending else {}


class CompletionAnswer(Answer[Completion, Completion]):
    """A completion."""

    _of_prompt: CompletionLogprobs | None = None

    def prompt(self, positions: Sequence[Position]) -> None:
        """Take the log-probabilities of the prompt."""
        super().prompt(positions)
        writer = self._reading.logprobs
        if writer and self._reading.echo:
            self._of_prompt = writer.prompt([replace(p, top=p.top[: self._reading.n_top]) for p in positions])

    def opening(self) -> list[Completion]:
        """Return the prompt, if it is to be echoed, and its log-probabilities."""
        if not self._reading.echo and self._prompt_logprobs is None:
            return []
        return [self._with_prompt(self._writer.completion(self._reading.echo, None, self._of_prompt))]

    def _with_prompt(self, completion: Completion) -> Completion:
        if self._prompt_logprobs is not None:
            completion["choices"][0]["prompt_logprobs"] = self._prompt_logprobs
        return completion

    def empty(self) -> Completion:
        """Return a chunk that adds nothing."""
        return self._writer.completion("")

    def _adding(self, step: Step) -> Completion | None:
        if not step.text and not step.logprobs:
            return None
        writer = self._reading.logprobs
        return self._writer.completion(step.text, None, writer.completion(step.logprobs) if writer else None)

    def _closing(self, ending: Ending) -> list[Completion]:
        return [self._writer.completion("", ending)]

    def _whole(self, text: str, logprobs: list[PositionLogprobs], ending: Ending) -> Completion:
        writer = self._reading.logprobs
        written = writer.completion(logprobs) if writer else None
        if written and (first := self._of_prompt):
            written = {
                "text_offset": first["text_offset"] + written["text_offset"],
                "token_logprobs": first["token_logprobs"] + written["token_logprobs"],
                "tokens": first["tokens"] + written["tokens"],
                "top_logprobs": first["top_logprobs"] + written["top_logprobs"],
            }
        return self._with_prompt(self._writer.completion(self._reading.echo + text, ending, written))


class ChatAnswer(Answer[ChatCompletion, ChatCompletionChunk]):
    """The assistant's turn."""

    def opening(self) -> list[ChatCompletionChunk]:
        """Return the role, and the log-probabilities of the prompt."""
        first = self._writer.chat_chunk({"role": "assistant"})
        if self._prompt_logprobs is not None:
            first["prompt_logprobs"] = self._prompt_logprobs
        return [first]

    def empty(self) -> ChatCompletionChunk:
        """Return a chunk that adds nothing."""
        return self._writer.chat_chunk({})

    def _adding(self, step: Step) -> ChatCompletionChunk | None:
        delta = self._delta(*self._feed(step.text))
        if not delta and not step.logprobs:
            return None
        writer = self._reading.logprobs
        return self._writer.chat_chunk(delta, None, writer.chat(step.logprobs) if writer else None)

    def _closing(self, ending: Ending) -> list[ChatCompletionChunk]:
        rest = self._delta(*self._finish())
        last = self._writer.chat_chunk({}, ending, called=bool(self._reading.tools and self._reading.tools.n_calls))
        return [self._writer.chat_chunk(rest), last] if rest else [last]

    def _whole(self, text: str, logprobs: list[PositionLogprobs], ending: Ending) -> ChatCompletion:
        writer = self._reading.logprobs
        self.hold_calls()
        (reasoning, begin), (more, end) = self._feed(text), self._finish()
        message: ChatMessage = {"role": "assistant", "content": begin.content + end.content}
        if reasoning + more:
            message["reasoning_content"] = reasoning + more
        if calls := joined(begin.calls + end.calls):
            message["tool_calls"] = calls
            message["content"] = message["content"] or None
        result = self._writer.chat(message, ending, writer.chat(logprobs) if writer else None)
        if self._prompt_logprobs is not None:
            result["prompt_logprobs"] = self._prompt_logprobs
        return result

    def _feed(self, text: str) -> tuple[str, Pieces]:
        split, tools = self._reading.split, self._reading.tools
        parts = split.feed(text) if split else Parts("", text)
        return parts.reasoning, tools.feed(parts.content) if tools else Pieces(parts.content, [])

    def _finish(self) -> tuple[str, Pieces]:
        split, tools = self._reading.split, self._reading.tools
        parts = split.finish() if split else Parts("", "")
        if not tools:
            return parts.reasoning, Pieces(parts.content, [])
        begin, end = tools.feed(parts.content), tools.finish()
        return parts.reasoning, Pieces(begin.content + end.content, begin.calls + end.calls)

    def _delta(self, reasoning: str, pieces: Pieces) -> ChatDelta:
        delta: ChatDelta = {}
        if reasoning:
            delta["reasoning_content"] = reasoning
        if pieces.content:
            delta["content"] = pieces.content
        if pieces.calls:
            delta["tool_calls"] = pieces.calls
        return delta


AnyAnswer = Answer[Any, Any]
