"""Sending answers: one JSON object, or server-sent events."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from starlette.requests import ClientDisconnect

from pytrimode.completion import Step
from pytrimode.results import Ending, Measured
from pytrimode.server.errors import from_exception
from pytrimode.server.event_stream import EventStream
from pytrimode.server.generation import Generation, Piece
from pytrimode.server.host import Host
from pytrimode.server.middleware import log_fields
from pytrimode.server.prompts import Prepared
from pytrimode.server.shapes import UNFINISHED, Object, Shape
from pytrimode.server.timings import server_timings, sum_timings, sum_usage

T = TypeVar("T")
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_log = logging.getLogger(__name__)


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
    _log_answers(log, parts, prepared)
    choices = [_numbered(whole, index)["choices"][0] for index, whole in enumerate(wholes)]
    return wholes[0] | {"choices": choices} | _summed(parts, prepared)


async def _events(
    generation: Generation, pieces: list[Piece], prepared: Prepared, shape: Shape, include_usage: bool, log: Object
) -> AsyncIterator[bytes]:
    """The events, all that wait in one go. An error ends the stream with an event of its own and without [DONE]."""
    measured: dict[int, Measured] = {}
    waiting_for = dict(enumerate(prepared.echo))
    usage: Object = {"usage": None} if include_usage else {}
    try:
        while pieces:
            chunks: list[Object] = []
            for index, step in ((piece.index, piece.step) for piece in pieces):
                echo = waiting_for.pop(index, None)
                opening = [] if echo is None else shape.opening(echo)
                chunks += [_numbered(chunk, index) | usage for chunk in opening + _chunks(step, shape)]
                if step.ending:
                    measured[index] = step.ending.measured
            if chunks:
                yield b"".join(map(_event, chunks))
            pieces = await generation.pieces()
    except Exception as error:
        failure = from_exception(error)
        if failure is not error:
            _log.error("a stream failed", exc_info=error)
        log["outcome"] = failure.body["error"]["type"]
        yield _event(failure.body)
        return
    parts = [measured[index] for index in range(len(prepared.runs))]
    _log_answers(log, parts, prepared)
    if include_usage:
        yield _event(shape.ending(UNFINISHED) | {"choices": []} | _summed(parts, prepared))
    yield b"data: [DONE]\n\n"


def _chunks(step: Step, shape: Shape) -> list[Object]:
    chunks = [shape.text(step.text)] if step.text else []
    if step.ending:
        # Usage comes in a chunk of its own, for those who ask for it.
        ended = shape.ending(Ending(step.ending.details, {}))
        chunks.append(ended | {"timings": server_timings(step.ending.measured)})
    return chunks


def _numbered(result: Object, index: int) -> Object:
    """A result with one choice, as that of answer number `index`."""
    result["choices"][0]["index"] = index
    return result


def _summed(parts: Sequence[Measured], prepared: Prepared) -> Object:
    return {"usage": sum_usage(parts, prepared.choices_per_prompt), "timings": sum_timings(parts)}


def _event(data: Object) -> bytes:
    return b"data: " + _encode(data).encode() + b"\n\n"


def _log_answers(log: Object, parts: Sequence[Measured], prepared: Prepared) -> None:
    usage = sum_usage(parts, prepared.choices_per_prompt)
    log.update({name: usage[name] for name in ("prompt_tokens", "completion_tokens", "forward_passes")})
