"""A streamed response that frees its slot however it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from fastapi.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from pytrimode.server.desk import Generation
from pytrimode.server.prompts import Object
from pytrimode.server.time_limit import within


class EventStream(StreamingResponse):
    """A stream in a form. The answers are cancelled when the client takes nothing for too long; `watch` is the task
    that does so when the client leaves."""

    def __init__(
        self,
        events: AsyncIterator[bytes],
        media_type: str,
        write_timeout: float,
        generation: Generation,
        watch: asyncio.Task[None],
        log: Object,
    ) -> None:
        # nginx holds an answer back unless told not to.
        super().__init__(
            events, headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}, media_type=media_type
        )
        self._write_timeout = write_timeout
        self._generation = generation
        self._watch = watch
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        try:
            await self.stream_response(send)
        finally:
            self._watch.cancel()
            self._generation.close()

    async def stream_response(self, send: Send) -> None:
        """Send with a limit on the time that the client may take. An end without the last chunk cuts the connection."""

        async def send_in_time(message: Message) -> None:
            await within(self._write_timeout, send(message))

        try:
            await super().stream_response(send_in_time)
        except TimeoutError:
            self._log["outcome"] = "the client stopped reading"
