"""A response of server-sent events that frees its slot however it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from fastapi.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from pytrimode.server.generation import Generation
from pytrimode.server.host import Host
from pytrimode.server.shapes import Object
from pytrimode.server.time_limit import within


class EventStream(StreamingResponse):
    """Server-sent events. The answers are cancelled when the client takes nothing for too long; `watch` is the task
    that does so when the client leaves."""

    media_type = "text/event-stream"

    def __init__(
        self, events: AsyncIterator[bytes], host: Host, generation: Generation, watch: asyncio.Task[None], log: Object
    ) -> None:
        # nginx holds an answer back unless told not to.
        super().__init__(events, headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        self._host = host
        self._generation = generation
        self._watch = watch
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        try:
            await self.stream_response(send)
        finally:
            self._watch.cancel()
            self._host.runner.release(self._generation)

    async def stream_response(self, send: Send) -> None:
        """Send with a limit on the time that the client may take. An end without the last chunk cuts the connection."""

        async def send_in_time(message: Message) -> None:
            await within(self._host.settings.write_timeout, send(message))

        try:
            await super().stream_response(send_in_time)
        except TimeoutError:
            self._log["outcome"] = "the client stopped reading"
