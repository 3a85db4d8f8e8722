"""How answers are written: the objects of completions and of chat completions, whole and in chunks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from pytrimode.answers.completion import Step
from pytrimode.answers.logprobs import LogprobWriter
from pytrimode.answers.results import Ending, Measured, ResultWriter
from pytrimode.conversation.live_pass import LivePasses
from pytrimode.formats.reasoning import Parts, ReasoningSplit
from pytrimode.formats.tool_calls import Pieces, ToolCallParser
from pytrimode.server.timings import server_timings

Object = dict[str, Any]
"""A JSON object on its way out."""

UNFINISHED = Ending({"type": "stop"}, {})
"""Of answers that have not ended, and of the envelope of the last chunk."""


@dataclass(frozen=True)
class Reading:
    """How the text of one answer is read, each None where the request does not want it."""

    echo: str = ""
    """What a completion begins with."""
    logprobs: LogprobWriter | None = None
    split: ReasoningSplit | None = None
    tools: ToolCallParser | None = None
    live: LivePasses | None = None
    trim_loop: bool = False


class Answer(ABC):
    """One answer on its way out: each step becomes chunks, or is kept for the whole. One object writes one of both."""

    def __init__(self, writer: ResultWriter, index: int, reading: Reading) -> None:
        self._writer = writer
        self._index = index
        self._reading = reading
        self._text: list[str] = []
        self._logprobs: list[Any] = []
        self.ending: Ending | None = None

    @abstractmethod
    def opening(self) -> list[Object]:
        """Chunks before the first step."""

    @abstractmethod
    def _chunk(self, step: Step) -> Object | None:
        """Return what the step adds; None for nothing."""

    @abstractmethod
    def _closing(self, ending: Ending) -> list[Object]:
        """Return the chunk that ends the answer, behind what was held back."""

    @abstractmethod
    def _empty(self) -> Object:
        """Return a chunk that adds nothing."""

    @abstractmethod
    def _whole(self, text: str, ending: Ending) -> Object:
        """Return the answer in one piece."""

    def chunks(self, step: Step) -> list[Object]:
        """Return what a step becomes in a stream."""
        made = self._chunk(step)
        live = self._reading.live.of(step) if self._reading.live else None
        if live:
            made = (made or self._empty()) | {"live": live}
        chunks = [made] if made else []
        if step.ending:
            self.ending = step.ending
            # Usage comes in a chunk of its own, for those who ask for it.
            chunks += self._closing(Ending(step.ending.details, {}))
            chunks[-1]["timings"] = server_timings(step.ending.measured)
        return [self._numbered(chunk) for chunk in chunks]

    def keep(self, step: Step) -> None:
        """Keep a step for `whole`."""
        self._text.append(step.text)
        self._logprobs += step.logprobs
        if step.ending:
            self.ending = step.ending
            if self._reading.trim_loop and step.trimmed is not None:
                self._text = ["".join(self._text)[: step.trimmed]]
                del self._logprobs[max(0, len(self._logprobs) - step.ending.details["repeated_tokens"]) :]

    def whole(self) -> Object:
        """Return the answer made of the steps that were kept."""
        return self._numbered(self._whole("".join(self._text), self.ending or UNFINISHED))

    def envelope(self) -> Object:
        """Return a chunk without choices, for what concerns all answers."""
        return self._empty() | {"choices": []}

    @property
    def measured(self) -> Measured:
        """What a finished answer cost."""
        return (self.ending or UNFINISHED).measured

    def _numbered(self, result: Object) -> Object:
        result["choices"][0]["index"] = self._index
        return result


class CompletionAnswer(Answer):
    """Of `/v1/completions`."""

    def opening(self) -> list[Object]:
        """Return the prompt, if it is to be echoed."""
        echo = self._reading.echo
        return [self._numbered(dict(self._writer.completion(echo)))] if echo else []

    def _chunk(self, step: Step) -> Object | None:
        if not step.text and not step.logprobs:
            return None
        writer = self._reading.logprobs
        return dict(self._writer.completion(step.text, None, writer.completion(step.logprobs) if writer else None))

    def _closing(self, ending: Ending) -> list[Object]:
        return [dict(self._writer.completion("", ending))]

    def _empty(self) -> Object:
        return dict(self._writer.completion(""))

    def _whole(self, text: str, ending: Ending) -> Object:
        writer = self._reading.logprobs
        logprobs = writer.completion(self._logprobs) if writer else None
        return dict(self._writer.completion(self._reading.echo + text, ending, logprobs))


class ChatAnswer(Answer):
    """Of `/v1/chat/completions`."""

    def __init__(self, writer: ResultWriter, index: int, reading: Reading) -> None:
        super().__init__(writer, index, reading)
        self._n_calls = 0

    def opening(self) -> list[Object]:
        """Return the role."""
        return [self._numbered(dict(self._writer.chat_chunk({"role": "assistant", "content": ""})))]

    def _chunk(self, step: Step) -> Object | None:
        delta = self._delta(*self._feed(step.text))
        if not delta and not step.logprobs:
            return None
        writer = self._reading.logprobs
        chunk: Object = dict(self._writer.chat_chunk({}, None, writer.chat(step.logprobs) if writer else None))
        chunk["choices"][0]["delta"] = delta
        return chunk

    def _closing(self, ending: Ending) -> list[Object]:
        chunks: list[Object] = []
        if rest := self._delta(*self._finish()):
            chunks.append(self._empty())
            chunks[0]["choices"][0]["delta"] = rest
        return [*chunks, self._with_reason(dict(self._writer.chat_chunk({}, ending)))]

    def _empty(self) -> Object:
        return dict(self._writer.chat_chunk({}))

    def _whole(self, text: str, ending: Ending) -> Object:
        writer = self._reading.logprobs
        logprobs = writer.chat(self._logprobs) if writer else None
        (reasoning, begin), (more, end) = self._feed(text), self._finish()
        message: Object = {"role": "assistant", "content": begin.content + end.content}
        if reasoning + more:
            message["reasoning_content"] = reasoning + more
        if calls := begin.calls + end.calls:
            message["tool_calls"] = calls
            message["content"] = message["content"] or None
        result: Object = dict(self._writer.chat({"role": "assistant", "content": ""}, ending, logprobs))
        result["choices"][0]["message"] = message
        return self._with_reason(result)

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

    def _delta(self, reasoning: str, pieces: Pieces) -> Object:
        delta: Object = {}
        if reasoning:
            delta["reasoning_content"] = reasoning
        if pieces.content:
            delta["content"] = pieces.content
        if pieces.calls:
            delta["tool_calls"] = [{"index": self._n_calls + i, **call} for i, call in enumerate(pieces.calls)]
            self._n_calls += len(pieces.calls)
        return delta

    def _with_reason(self, result: Object) -> Object:
        """OpenAI's reason for an answer that ends with calls."""
        choice = result["choices"][0]
        if self._reading.tools and self._reading.tools.n_calls and choice["finish_reason"] == "stop":
            choice["finish_reason"] = "tool_calls"
        return result
