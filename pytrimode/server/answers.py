"""Sending answers: one JSON object, or server-sent events."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Sequence

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from starlette.requests import ClientDisconnect

from pytrimode.answers.sums import sum_timings, sum_usage
from pytrimode.async_run import Piece
from pytrimode.server.desk import Generation
from pytrimode.server.errors import from_exception
from pytrimode.server.event_stream import EventStream
from pytrimode.server.host import Host
from pytrimode.server.middleware import log_fields
from pytrimode.server.prompts import Object, Prepared
from pytrimode.server.time_limit import within

_log = logging.getLogger(__name__)

PATIENCE = 2.0
"""Seconds in which what goes wrong is a response of its own; then a stream begins, whose errors are events."""
SILENCE = 5.0
"""Seconds after which a stream has a comment: clients and proxies give up on one that says nothing."""
COMMENT = b": waiting\n\n"
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


async def answer(request: Request, host: Host, prepared: Prepared, *, stream: bool, include_usage: bool) -> Response:
    """Run the answers and send them. Errors of the first seconds, before the first token, are a response of
    their own, also with `stream`."""
    log = log_fields(request.scope)
    log["mode"] = prepared.asked[0].options.mode
    log["stream"] = stream
    generation = host.desk.open(prepared)
    watch = asyncio.create_task(_abort_when_gone(request, generation))
    begun = asyncio.create_task(_begin(generation))
    streaming = False
    try:
        if not stream:
            return JSONResponse(await _collect(generation, await begun, prepared, log))
        await asyncio.wait({begun}, timeout=PATIENCE)
        if begun.done():
            begun.result()
        events = _events(generation, begun, prepared, include_usage, log)
        streaming = True
        return EventStream(events, host.settings.write_timeout, generation, watch, log)
    finally:
        if not streaming:
            watch.cancel()
            generation.close()
            begun.cancel()


async def _begin(generation: Generation) -> list[Piece]:
    """Queue the answers; their first steps."""
    await generation.begin()
    return await generation.pieces()


async def _abort_when_gone(request: Request, generation: Generation) -> None:
    """End the answers as soon as the client leaves; whoever waits for them gets ClientDisconnect."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    generation.abort(ClientDisconnect())


async def _collect(generation: Generation, pieces: list[Piece], prepared: Prepared, log: Object) -> Object:
    answers = prepared.answers
    while pieces:
        for index, step in pieces:
            answers[index].keep(step)
        pieces = await generation.pieces()
    wholes = [answer.whole() for answer in answers]
    _log_answers(log, prepared)
    whole: Object = wholes[0] | {"choices": [whole["choices"][0] for whole in wholes]} | _summed(prepared)
    return whole


async def _events(
    generation: Generation,
    begun: asyncio.Task[list[Piece]],
    prepared: Prepared,
    include_usage: bool,
    log: Object,
) -> AsyncIterator[bytes]:
    """Yield the events, all that wait in one go, and comments while there are none. An error ends the stream with an
    event of its own and without [DONE].
    """
    answers, opened = prepared.answers, set[int]()
    usage: Object = {"usage": None} if include_usage else {}
    try:
        while not begun.done():
            yield COMMENT
            await asyncio.wait({begun}, timeout=SILENCE)
        pieces = begun.result()
        while pieces:
            chunks: list[Object] = []
            for index, step in pieces:
                if index not in opened:
                    opened.add(index)
                    chunks += _openings(answers[index].opening())
                chunks += answers[index].chunks(step)
                if step.ending:  # usage comes in a chunk of its own, for those who ask for it
                    chunks[-1].pop("usage", None)
            if chunks:
                yield b"".join([_event(chunk | usage) for chunk in chunks])
            while (more := await _within(SILENCE, generation)) is None:
                yield COMMENT
            pieces = more
    except ClientDisconnect:
        raise
    except Exception as error:
        failure = from_exception(error)
        if failure is not error:
            _log.error("a stream failed", exc_info=error)
        log["outcome"] = failure.body["error"]["type"]
        yield _event(failure.body)
        return
    _log_answers(log, prepared)
    if include_usage:
        yield _event(answers[0].empty() | {"choices": []} | _summed(prepared))
    yield b"data: [DONE]\n\n"


async def _within(seconds: float, generation: Generation) -> list[Piece] | None:
    """Return the next steps; None when none has come in time."""
    try:
        return await within(seconds, generation.pieces())
    except TimeoutError:
        return None


def _openings(chunks: Sequence[Object]) -> Sequence[Object]:
    """With empty content beside the role, as OpenAI has it."""
    for chunk in chunks:
        if "delta" in chunk["choices"][0]:
            chunk["choices"][0]["delta"].setdefault("content", "")
    return chunks


def _summed(prepared: Prepared) -> Object:
    parts = [answer.measured for answer in prepared.answers]
    return {"usage": sum_usage(parts, prepared.choices_per_prompt), "timings": sum_timings(parts)}


def _event(data: Object) -> bytes:
    return b"data: " + _encode(data).encode() + b"\n\n"


def _log_answers(log: Object, prepared: Prepared) -> None:
    usage = sum_usage([answer.measured for answer in prepared.answers], prepared.choices_per_prompt)
    log.update({name: usage[name] for name in ("prompt_tokens", "completion_tokens", "forward_passes")})
