"""Decisions: how likely given answers are."""

from __future__ import annotations

import asyncio
from functools import partial

from fastapi import APIRouter, Request
from starlette.requests import ClientDisconnect

from pytrimode import QueueFullError
from pytrimode.answers.decision import Decision
from pytrimode.engine_loop import Cancellation, RequestCancelledError
from pytrimode.server.errors import ApiError, from_exception
from pytrimode.server.host import Host
from pytrimode.server.middleware import cache_scope_of
from pytrimode.server.schema import DecideRequest
from pytrimode.server.time_limit import within

router = APIRouter()


@router.post("/v1/decide")
@router.post("/decide", include_in_schema=False)
async def decide(request: Request, body: DecideRequest) -> Decision:
    """Tell how likely each of some answers is, from one reading of the prompt."""
    host: Host = request.app.state.host
    ready = host.ready
    host.desk.check_open()
    # As long as the prompt for each choice: where nobody else waits.
    question = await host.text_work(lambda: ready.prompts.decision(body), grammar=True)
    cancellation = Cancellation()
    work = partial(ready.model.run_decision, question, cache_scope_of(request.scope), cancellation)
    watch = asyncio.create_task(_cancel_when_gone(request, cancellation))
    try:
        return await within(host.settings.timeout, asyncio.to_thread(work))
    except RequestCancelledError:
        raise ClientDisconnect from None
    except TimeoutError:
        raise ApiError(504, f"the answer was not finished within {host.settings.timeout:g} s") from None
    except QueueFullError:
        raise host.desk.busy() from None
    except Exception as error:
        raise from_exception(error) from error
    finally:
        watch.cancel()
        cancellation()


async def _cancel_when_gone(request: Request, cancellation: Cancellation) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    cancellation()
