"""Sending answers: in one piece, or as a stream."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from starlette.requests import ClientDisconnect

from pytrimode.answers.results import Measured
from pytrimode.answers.sums import sum_timings, sum_usage
from pytrimode.async_run import Piece
from pytrimode.server.desk import Generation
from pytrimode.server.errors import from_exception
from pytrimode.server.event_stream import EventStream
from pytrimode.server.form import Form
from pytrimode.server.host import Host
from pytrimode.server.middleware import cache_scope_of, log_fields
from pytrimode.server.prompts import Object, Prepared
from pytrimode.server.time_limit import within

_log = logging.getLogger(__name__)

PATIENCE = 2.0
"""Seconds in which what goes wrong is a response of its own; then a stream begins, whose errors are events."""
SILENCE = 5.0
"""Seconds after which a stream has a sign of life: clients and proxies give up on one that says nothing."""


async def answer(request: Request, host: Host, prepared: Prepared, form: Form, *, stream: bool) -> Response:
    """Run the answers and send them. Errors of the first seconds, before the first token, are a response of
    their own, also with `stream`."""
    log = log_fields(request.scope)
    log["mode"] = prepared.asked[0].options.mode
    log["stream"] = stream
    generation = host.desk.open(prepared, cache_scope_of(request.scope))
    watch = asyncio.create_task(_abort_when_gone(request, generation))
    begun = asyncio.create_task(_begin(generation))
    streaming = False
    try:
        if not stream:
            return JSONResponse(await _collect(generation, await begun, prepared, form, log))
        await asyncio.wait({begun}, timeout=PATIENCE)
        if begun.done():
            begun.result()
        events = _events(generation, begun, prepared, form, log)
        streaming = True
        return EventStream(events, form.media_type, host.settings.write_timeout, generation, watch, log)
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


async def _collect(generation: Generation, pieces: list[Piece], prepared: Prepared, form: Form, log: Object) -> Any:
    answers = prepared.answers
    while pieces:
        for index, step in pieces:
            answers[index].keep(step)
        pieces = await generation.pieces()
    wholes = [answer.whole() for answer in answers]
    _log_answers(log, prepared)
    return form.whole(wholes, _summed(prepared))


async def _events(
    generation: Generation, begun: asyncio.Task[list[Piece]], prepared: Prepared, form: Form, log: Object
) -> AsyncIterator[bytes]:
    """Yield what the form makes of the steps, all that wait in one go, and a sign of life while there are none."""
    answers, opened = prepared.answers, set[int]()
    try:
        if opening := form.opening():
            yield opening
        while not begun.done():
            yield form.waiting()
            await asyncio.wait({begun}, timeout=SILENCE)
        pieces = begun.result()
        while pieces:
            chunks: list[Object] = []
            for index, step in pieces:
                if index not in opened:
                    opened.add(index)
                    chunks += answers[index].opening()
                chunks += answers[index].chunks(step)
            if data := b"".join(map(form.chunk, chunks)):
                yield data
            while (more := await _within(SILENCE, generation)) is None:
                yield form.waiting()
            pieces = more
    except ClientDisconnect:
        raise
    except Exception as error:
        failure = from_exception(error)
        if failure is not error:
            _log.error("a stream failed", exc_info=error)
        log["outcome"] = failure.body["error"]["type"]
        yield form.failed(failure)
        return
    _log_answers(log, prepared)
    yield form.closing(_summed(prepared))


async def _within(seconds: float, generation: Generation) -> list[Piece] | None:
    """Return the next steps; None when none has come in time."""
    try:
        return await within(seconds, generation.pieces())
    except TimeoutError:
        return None


def _summed(prepared: Prepared) -> Measured:
    parts = [answer.measured for answer in prepared.answers]
    return {"usage": sum_usage(parts, prepared.choices_per_prompt), "timings": sum_timings(parts)}


def _log_answers(log: Object, prepared: Prepared) -> None:
    usage = sum_usage([answer.measured for answer in prepared.answers], prepared.choices_per_prompt)
    log.update({name: usage[name] for name in ("prompt_tokens", "completion_tokens", "forward_passes")})
