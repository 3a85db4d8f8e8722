"""Sending answers: one JSON object, or server-sent events."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Sequence

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from starlette.requests import ClientDisconnect

from pytrimode.server.errors import from_exception
from pytrimode.server.event_stream import EventStream
from pytrimode.server.generation import Generation, Piece
from pytrimode.server.host import Host
from pytrimode.server.middleware import log_fields
from pytrimode.server.prompts import Prepared
from pytrimode.server.shapes import Answer, Object
from pytrimode.server.timings import sum_timings, sum_usage

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_log = logging.getLogger(__name__)


async def answer(
    request: Request, host: Host, prepared: Prepared, answers: Sequence[Answer], *, stream: bool, include_usage: bool
) -> Response:
    """Run the answers and send them. Errors before the first token are a response of their own, also with `stream`."""
    log = log_fields(request.scope)
    log["mode"] = prepared.runs[0].options.mode
    log["stream"] = stream
    generation = host.runner.submit(prepared.runs, host.settings.timeout)
    watch = asyncio.create_task(_abort_when_gone(request, generation))
    streaming = False
    try:
        if not stream:
            return JSONResponse(await _collect(generation, answers, prepared.choices_per_prompt, log))
        first = await generation.pieces()
        events = _events(generation, first, answers, prepared.choices_per_prompt, include_usage, log)
        streaming = True
        return EventStream(events, host, generation, watch, log)
    finally:
        if not streaming:
            watch.cancel()
            host.runner.release(generation)


async def _abort_when_gone(request: Request, generation: Generation) -> None:
    """End the answers as soon as the client leaves; whoever waits for them gets ClientDisconnect."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    generation.abort(ClientDisconnect())


async def _collect(generation: Generation, answers: Sequence[Answer], per_prompt: int, log: Object) -> Object:
    while pieces := await generation.pieces():
        for piece in pieces:
            answers[piece.index].keep(piece.step)
    wholes = [answer.whole() for answer in answers]
    _log_answers(log, answers, per_prompt)
    return wholes[0] | {"choices": [whole["choices"][0] for whole in wholes]} | _summed(answers, per_prompt)


async def _events(
    generation: Generation,
    pieces: list[Piece],
    answers: Sequence[Answer],
    per_prompt: int,
    include_usage: bool,
    log: Object,
) -> AsyncIterator[bytes]:
    """Yield the events, all that wait in one go. An error ends the stream with its own event and without [DONE]."""
    begun: set[int] = set()
    usage: Object = {"usage": None} if include_usage else {}
    try:
        while pieces:
            chunks: list[Object] = []
            for index, step in ((piece.index, piece.step) for piece in pieces):
                if index not in begun:
                    begun.add(index)
                    chunks += answers[index].opening()
                chunks += answers[index].chunks(step)
            if chunks:
                yield b"".join([_event(chunk | usage) for chunk in chunks])
            pieces = await generation.pieces()
    except ClientDisconnect:
        raise
    except Exception as error:
        failure = from_exception(error)
        if failure is not error:
            _log.error("a stream failed", exc_info=error)
        log["outcome"] = failure.body["error"]["type"]
        yield _event(failure.body)
        return
    _log_answers(log, answers, per_prompt)
    if include_usage:
        yield _event(answers[0].envelope() | _summed(answers, per_prompt))
    yield b"data: [DONE]\n\n"


def _summed(answers: Sequence[Answer], per_prompt: int) -> Object:
    parts = [answer.measured for answer in answers]
    return {"usage": sum_usage(parts, per_prompt), "timings": sum_timings(parts)}


def _event(data: Object) -> bytes:
    return b"data: " + _encode(data).encode() + b"\n\n"


def _log_answers(log: Object, answers: Sequence[Answer], per_prompt: int) -> None:
    usage = sum_usage([answer.measured for answer in answers], per_prompt)
    log.update({name: usage[name] for name in ("prompt_tokens", "completion_tokens", "forward_passes")})
