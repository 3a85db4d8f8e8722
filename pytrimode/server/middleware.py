"""What every request passes before a route sees it: log and id, host, key, body."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import time
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pytrimode.server.errors import ApiError, from_exception
from pytrimode.server.settings import SHARED, is_loopback
from pytrimode.server.time_limit import within

REQUEST_ID = "X-Request-Id"
BODY_SECONDS = 30.0
"""In which a body must have arrived."""
_DISCARDED_BYTES = 64 << 20
"""Of a body that is too long: after more the connection is cut."""
_SHORT_BYTES = 1 << 20
_LONG_BODIES = 4
"""So many bodies of the largest size may be held at a time, and any number of short ones."""
_PUBLIC = {"/", "/health", "/v1/health"}
_PUBLIC_BELOW = "/page/"
_QUIET = {"/health", "/v1/health"}
_GIVEN_ID = re.compile(r"[\w.:-]{1,64}", re.ASCII)
# RFC 3986, section 3.2.2, without percent-encoding: a name, an IPv4 address or an IPv6 address in brackets, and a port.
_HOST = re.compile(r"(?:\[(?P<address>[0-9a-f:.]+)\]|(?P<name>[\w.-]+))(?::\d{0,5})?", re.ASCII | re.IGNORECASE)
_CLIENT_LEFT = 499
"""nginx's status for it; only for the log."""
_log = logging.getLogger(__name__)


def log_fields(scope: Scope) -> dict[str, Any]:
    """Where routes put what the log shall say about a request."""
    fields: dict[str, Any] = scope["state"]["log"]
    return fields


def cache_scope_of(scope: Scope) -> int:
    """Return a number for the clients that may share what the cache holds; 0 where all may."""
    number: int = scope["state"].get("cache_scope", 0)
    return number


class RequestLog:
    """Gives each request an id, turns what was not caught into a response, and logs one line (/health: for debugging).

    The id is the client's X-Request-Id if it looks like one.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        given = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = given if _GIVEN_ID.fullmatch(given) else uuid.uuid4().hex
        fields: dict[str, Any] = {}
        scope.setdefault("state", {})["log"] = fields
        status, complete = 0, False

        async def send_with_id(message: Message) -> None:
            nonlocal status, complete
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            elif message["type"] == "http.response.body":
                complete = not message.get("more_body", False)
            await send(message)

        started = time.monotonic()
        error: Exception | None = None
        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            pass
        except Exception as caught:
            error = caught
            if not status:
                await from_exception(caught).response(scope["path"])(scope, receive, send_with_id)
        finally:
            line = {
                "request_id": request_id,
                "method": scope["method"],
                # The route and not the path, which may be anything.
                "route": getattr(scope.get("route"), "path", None),
                "status": status if complete else _CLIENT_LEFT,
                "ms": round(1e3 * (time.monotonic() - started), 1),
                **fields,
            }
            level = logging.ERROR if error else logging.DEBUG if scope["path"] in _QUIET else logging.INFO
            _log.log(level, "request", extra={"fields": line}, exc_info=error)
        return None


class HeadAsGet:
    """Answers HEAD on a route that has GET: uvicorn leaves out the body, which this request has none of."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)


class HostCheck:
    """Refuses names that are not this machine's: a web page whose name was made to point here (DNS rebinding)."""

    def __init__(self, app: ASGIApp, allowed: Collection[str] = ()) -> None:
        """Wrap an application. `allowed`: further names."""
        self._app = app
        self._allowed = frozenset(name.lower() for name in allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http":
            name = _host_name(Headers(scope=scope).getlist("host"))
            if not is_loopback(name) and name not in self._allowed:
                error = ApiError(403, "the Host header names another machine: a server that others shall reach by name "
                                 "needs an API key, or the name in --allowed-hosts")  # fmt: skip
                return await error.response(scope["path"])(scope, receive, send)
        return await self._app(scope, receive, send)


class KeyCheck:
    """Asks for an API key (`Authorization: Bearer KEY`, or X-Api-Key), except for /health and the files of the page."""

    def __init__(self, app: ASGIApp, keys: Collection[str], cache_scope: str) -> None:
        """Wrap an application. `cache_scope`: see `ServerSettings`."""
        self._app = app
        self._digests = [_digest(key) for key in dict.fromkeys(keys)]
        self._is_shared = cache_scope == SHARED

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http" and not _is_public(scope["path"]):
            number = self._number_of(Headers(scope=scope))
            if not number:
                error = ApiError(401, "Invalid API Key", headers={"WWW-Authenticate": "Bearer"})
                return await error.response(scope["path"])(scope, receive, send)
            scope["state"]["cache_scope"] = 0 if self._is_shared else number
        return await self._app(scope, receive, send)

    def _number_of(self, headers: Headers) -> int:
        """Return which key was given, from 1 on; 0: none of them."""
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            key = headers.get("x-api-key", "")
        given = _digest(key.strip())
        # All are compared, and digests of one length: the time tells nothing of a key.
        return sum(i * hmac.compare_digest(given, digest) for i, digest in enumerate(self._digests, 1))


@dataclass
class _Share:
    """Of what `BodyCheck` holds, the part of one request."""

    n_bytes: int = 0


class BodyCheck:
    """Reads the body before the route does: JSON, up to a size and within a time.

    A web page may send other types to any address without the browser asking that server first.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._held = 0  # bytes of long bodies whose requests are not over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        share = _Share()
        try:
            return await self._check(scope, receive, send, share)
        finally:
            self._held -= share.n_bytes

    async def _check(self, scope: Scope, receive: Receive, send: Send, share: _Share) -> None:
        try:
            headers = Headers(scope=scope)
            if int(headers.get("content-length", 0)) > self._max_bytes:
                # A client that asks first ("Expect") is told at once.
                if "expect" not in headers:
                    await within(BODY_SECONDS, self._discard(receive))
                raise self._too_long()
            body = await within(BODY_SECONDS, self._read(receive, share))
            if body and headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
                raise ApiError(415, "the body must be of Content-Type application/json")
        except TimeoutError:
            error = ApiError(408, f"the body did not arrive within {BODY_SECONDS:g} s", headers={"Connection": "close"})
            return await error.response(scope["path"])(scope, receive, send)
        except ApiError as error:
            return await error.response(scope["path"])(scope, receive, send)
        delivered = False

        async def receive_body() -> Message:
            nonlocal delivered
            if delivered:
                return await receive()
            delivered = True
            return {"type": "http.request", "body": body, "more_body": False}

        return await self._app(scope, receive_body, send)

    async def _read(self, receive: Receive, share: _Share) -> bytes:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            body += message.get("body", b"")
            self._hold(share, len(body))
            if len(body) > self._max_bytes:
                if message.get("more_body", False):
                    await self._discard(receive)
                raise self._too_long()
            if not message.get("more_body", False):
                return bytes(body)

    def _hold(self, share: _Share, n_bytes: int) -> None:
        """Count a body that is not short. Raises ApiError 503 where those of all requests together are too long."""
        more = max(0, n_bytes - _SHORT_BYTES) - share.n_bytes
        if more > 0 and self._held + more > _LONG_BODIES * self._max_bytes:
            raise ApiError(
                503, "too many long requests at a time: try again later",
                headers={"Retry-After": "1", "Connection": "close"},
            )  # fmt: skip
        if more > 0:
            share.n_bytes += more
            self._held += more

    async def _discard(self, receive: Receive) -> None:
        """Read what a client still sends, up to a size: most read no answer before they have sent all, and would only
        see the connection break."""
        left = _DISCARDED_BYTES
        while left > 0:
            message = await receive()
            left -= len(message.get("body", b""))
            if not message.get("more_body", False):
                return

    def _too_long(self) -> ApiError:
        return ApiError(
            413, f"the body is longer than {self._max_bytes} bytes (--max-body)", headers={"Connection": "close"}
        )


def _host_name(given: list[str]) -> str:
    """Return the name or address in the Host header, in lower case; "" where there is not one header of that form."""
    found = _HOST.fullmatch(given[0]) if len(given) == 1 else None
    return (found["address"] or found["name"]).lower() if found else ""


def _is_public(path: str) -> bool:
    return path in _PUBLIC or path.startswith(_PUBLIC_BELOW)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
