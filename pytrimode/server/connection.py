"""Connections with limits on what comes before a request's body, which uvicorn and httptools do not have."""

from __future__ import annotations

import asyncio
import json

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from pytrimode.server.errors import ApiError

HEAD_BYTES = 64 << 10
"""Of a request's line and headers together, and of what may come between two parts of a body; h11's limit."""
HEAD_FIELDS = 256
"""Headers of a request."""
HEAD_SECONDS = 30.0
"""In which they must have arrived."""
_LINGER_SECONDS = 2.0
"""After a refusal: most clients read nothing before they have sent all, and would only see the connection break."""
_PIPELINED = 16
"""Requests that a connection may send before the first of them is answered."""
_FIELD_BYTES = 4
"""Of a header beside its name and value: colon, space, end of line."""


class _Refused(Exception):  # noqa: N818 - ends the parser, whose error it becomes
    """What was received is beyond a limit."""


class Connection(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, which ends a connection with 431, 408 or 400 when its client goes beyond a limit."""

    _timer: asyncio.TimerHandle | None = None
    _error: ApiError | None = None
    _n_unparsed = 0  # bytes since the last headers or part of a body that were complete
    _n_head = 0  # bytes of the request's line and headers
    _in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, as long as it leads to something."""
        if self._error:
            return
        if self._in_head and self._timer is None:
            self._wait_for_head()
        self._n_unparsed += len(data)
        super().data_received(data)
        if self._n_unparsed > HEAD_BYTES and not self._error:
            self._end(_too_long())

    def on_message_begin(self) -> None:
        """Begin to count a request."""
        self._in_head, self._n_head = True, 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Count a part of the path."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header; those behind a body are left out."""
        self._count(len(name) + len(value) + _FIELD_BYTES)
        if not self._in_head:
            return
        if len(self.headers) >= HEAD_FIELDS:
            self._refuse(ApiError(431, f"the request has more than {HEAD_FIELDS} headers"))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the request, unless too many wait for their answers."""
        self._stop_waiting()
        self._in_head, self._n_unparsed, self._n_head = False, 0, 0
        if len(self.pipeline) >= _PIPELINED:
            self._refuse(ApiError(400, f"more than {_PIPELINED} requests before the first was answered"))
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Pass a part of a body on."""
        self._n_unparsed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Wait for the next request."""
        self._in_head, self._n_unparsed = True, 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """End the connection because of what the parser or this class refused."""
        self._end(self._error or ApiError(400, "this is no HTTP request"))

    def _end(self, error: ApiError) -> None:
        """Send why, as every other error, unless another answer comes first; then close."""
        self._error = error
        self._stop_waiting()
        if self.transport.is_closing():
            return
        is_answered = self.cycle is None or self.cycle.response_complete
        is_next = not self._in_head and not self.pipeline and not is_answered and not self.cycle.response_started
        if not is_answered and not is_next:
            self.transport.close()
            return
        body = json.dumps(error.body).encode()
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[error.status] + head + body)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._timer = self.loop.call_later(_LINGER_SECONDS, self.transport.close)

    def _count(self, n: int) -> None:
        self._n_head += n
        if self._n_head > HEAD_BYTES:
            self._refuse(_too_long())

    def _refuse(self, error: ApiError) -> None:
        self._error = error
        raise _Refused(str(error))

    def _wait_for_head(self) -> None:
        self._timer = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _stop_waiting(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._end(ApiError(408, f"no request arrived within {HEAD_SECONDS:g} s"))


def _too_long() -> ApiError:
    return ApiError(431, f"the request's line and headers are longer than {HEAD_BYTES} bytes")
