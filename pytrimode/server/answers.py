"""Sending answers: one JSON object, or server-sent events."""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from pytrimode.results import Ending, Measured, ResultWriter
from pytrimode.server.errors import from_exception
from pytrimode.server.generation import Generation, Piece
from pytrimode.server.host import Host
from pytrimode.server.middleware import log_fields
from pytrimode.server.prompts import Prepared
from pytrimode.server.timings import server_timings, sum_timings, sum_usage

T = TypeVar("T")
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
Object = dict[str, Any]
"""A JSON object on its way out."""


class Shape(ABC):
    """How answers are written: as completions or as chat completions."""

    def __init__(self, model: str) -> None:
        self._writer = ResultWriter(model)

    @abstractmethod
    def opening(self, echo: str) -> list[Object]:
        """Chunks before the first text."""

    @abstractmethod
    def text(self, text: str) -> Object:
        """A chunk with text."""

    @abstractmethod
    def ending(self, ending: Ending) -> Object:
        """The chunk that ends an answer."""

    @abstractmethod
    def whole(self, text: str, ending: Ending) -> Object:
        """An answer in one piece."""


class CompletionShape(Shape):
    """Of `/v1/completions`."""

    def opening(self, echo: str) -> list[Object]:
        """The prompt, if it is to be echoed."""
        return [self.text(echo)] if echo else []

    def text(self, text: str) -> Object:
        """See Shape."""
        return dict(self._writer.completion(text))

    def ending(self, ending: Ending) -> Object:
        """See Shape."""
        return dict(self._writer.completion("", ending))

    def whole(self, text: str, ending: Ending) -> Object:
        """See Shape."""
        return dict(self._writer.completion(text, ending))


class ChatShape(Shape):
    """Of `/v1/chat/completions`."""

    def opening(self, echo: str) -> list[Object]:
        """The role."""
        return [dict(self._writer.chat_chunk({"role": "assistant", "content": ""}))]

    def text(self, text: str) -> Object:
        """See Shape."""
        return dict(self._writer.chat_chunk({"content": text}))

    def ending(self, ending: Ending) -> Object:
        """See Shape."""
        return dict(self._writer.chat_chunk({}, ending))

    def whole(self, text: str, ending: Ending) -> Object:
        """See Shape."""
        return dict(self._writer.chat({"role": "assistant", "content": text}, ending))


UNFINISHED = Ending({"type": "stop"}, {})
"""Of answers that have not ended, and of the envelope of the last chunk."""


@dataclass
class _Answer:
    """What has come of one answer."""

    text: list[str] = field(default_factory=list)
    ending: Ending = UNFINISHED

    def add(self, piece: Piece) -> None:
        self.text.append(piece.step.text)
        if piece.step.ending:
            self.ending = piece.step.ending


async def answer(
    request: Request, host: Host, prepared: Prepared, shape: Shape, *, stream: bool, include_usage: bool
) -> Response:
    """Run the answers and send them. Errors before the first token are a response of their own, also with `stream`."""
    log = log_fields(request.scope)
    log["mode"] = prepared.runs[0].options.mode
    log["stream"] = stream
    generation = host.runner.submit(prepared.runs, host.settings.timeout)
    streaming = False
    try:
        if not stream:
            return JSONResponse(await _unless_gone(request, _collect(generation, prepared, shape, log)))
        first = await _unless_gone(request, generation.pieces())
        events = _events(generation, first, prepared, shape, include_usage, log)
        streaming = True
        return EventStream(events, host, generation, log)
    finally:
        if not streaming:
            host.runner.release(generation)


class EventStream(StreamingResponse):
    """Server-sent events. The answers are cancelled when the client leaves, or takes nothing for too long."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes], host: Host, generation: Generation, log: Object) -> None:
        # nginx holds an answer back unless told not to.
        super().__init__(events, headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        self._host = host
        self._generation = generation
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._host.runner.release(self._generation)

    async def stream_response(self, send: Send) -> None:
        """Send with a limit on the time that the client may take. An end without the last chunk cuts the connection."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        late = False

        def give_up() -> None:
            nonlocal late
            late = True
            if task:
                task.cancel()

        async def send_in_time(message: Message) -> None:
            # A timer costs a tenth of a timeout scope, and there is one for every token.
            timer = loop.call_later(self._host.settings.write_timeout, give_up)
            try:
                await send(message)
            finally:
                timer.cancel()

        try:
            await super().stream_response(send_in_time)
        except asyncio.CancelledError:
            if not late:
                raise
            self._log["outcome"] = "the client stopped reading"


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`; raises ClientDisconnect as soon as the client leaves."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    tasks: tuple[asyncio.Task[T], asyncio.Task[None]] = asyncio.create_task(work), asyncio.create_task(gone())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[0].done():
            return tasks[0].result()
        raise ClientDisconnect
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _collect(generation: Generation, prepared: Prepared, shape: Shape, log: Object) -> Object:
    answers = [_Answer([echo]) for echo in prepared.echo]
    while pieces := await generation.pieces():
        for piece in pieces:
            answers[piece.index].add(piece)
    parts = [answer.ending.measured for answer in answers]
    wholes = [shape.whole("".join(a.text), a.ending) for a in answers]
    for index, whole in enumerate(wholes):
        whole["choices"][0]["index"] = index
    _log_answers(log, parts, prepared)
    return {
        **wholes[0],
        "choices": [whole["choices"][0] for whole in wholes],
        "usage": sum_usage(parts, prepared.choices_per_prompt),
        "timings": sum_timings(parts),
    }


async def _events(
    generation: Generation,
    pieces: list[Piece],
    prepared: Prepared,
    shape: Shape,
    include_usage: bool,
    log: Object,
) -> AsyncIterator[bytes]:
    """The events, all that wait in one go. An error ends the stream with an event of its own and without [DONE]."""
    measured: dict[int, Measured] = {}
    begun: set[int] = set()
    usage: Object = {"usage": None} if include_usage else {}
    try:
        while pieces:
            chunks: list[Object] = []
            for index, step in ((piece.index, piece.step) for piece in pieces):
                new: list[Object] = []
                if index not in begun:
                    begun.add(index)
                    new += shape.opening(prepared.echo[index])
                if step.text:
                    new.append(shape.text(step.text))
                if step.ending:
                    measured[index] = step.ending.measured
                    # Usage comes in a chunk of its own, for those who ask for it.
                    ended = shape.ending(Ending(step.ending.details, {}))
                    new.append(ended | {"timings": server_timings(measured[index])})
                for chunk in new:
                    chunk["choices"][0]["index"] = index
                    chunks.append(chunk | usage)
            if chunks:
                yield b"".join(map(_event, chunks))
            pieces = await generation.pieces()
    except Exception as error:
        failure = from_exception(error)
        log["outcome"] = failure.body["error"]["type"]
        yield _event(failure.body)
        return
    parts = [measured[index] for index in range(len(prepared.runs))]
    _log_answers(log, parts, prepared)
    if include_usage:
        summed: Object = {
            "choices": [],
            "usage": sum_usage(parts, prepared.choices_per_prompt),
            "timings": sum_timings(parts),
        }
        yield _event(shape.ending(UNFINISHED) | summed)
    yield b"data: [DONE]\n\n"


def _event(data: Object) -> bytes:
    return b"data: " + _encode(data).encode() + b"\n\n"


def _log_answers(log: Object, parts: Sequence[Measured], prepared: Prepared) -> None:
    usage = sum_usage(parts, prepared.choices_per_prompt)
    log.update({name: usage[name] for name in ("prompt_tokens", "completion_tokens", "forward_passes")})
