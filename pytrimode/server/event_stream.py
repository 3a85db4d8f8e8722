"""A response of server-sent events that frees its slot however it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from fastapi.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from pytrimode.server.generation import Generation
from pytrimode.server.host import Host
from pytrimode.server.shapes import Object


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
