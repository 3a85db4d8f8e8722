"""A server process: sockets, signals and an orderly end."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

from pytrimode.server import logs
from pytrimode.server.app import create_app
from pytrimode.server.connection import Connection
from pytrimode.server.settings import ServerSettings
from pytrimode.trimode import TriMode

_LAST_WORDS = 5
"""Seconds for streams that were ended to be sent, before connections are cut."""


class Server(uvicorn.Server):
    """uvicorn with an end in two steps: no new answers, then after a while none at all.

    `host` is the model's; the server stops when it could not be loaded.
    """

    def __init__(self, settings: ServerSettings, load: Callable[[], TriMode]) -> None:
        app = create_app(settings, load)
        self.host = app.state.host
        self._settings = settings
        super().__init__(
            uvicorn.Config(
                app,
                http=Connection,
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                ws="none",
                timeout_graceful_shutdown=int(settings.shutdown_timeout) + _LAST_WORDS,
            )
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal. SIGTERM is an order that was carried out: exit code 0, where uvicorn would die of it."""
        if sig == signal.SIGTERM:
            self.should_exit = True
        else:
            super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Look for a reason to end, ten times a second; True ends the server."""
        return await super().on_tick(counter) or self.host.failure is not None

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Shut down, after a signal."""
        self.host.refuse_new()
        timer = asyncio.get_running_loop().call_later(self._settings.shutdown_timeout, self.host.end_all)
        await super().shutdown(sockets)
        timer.cancel()


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises OSError that names the address."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=128)
    except OSError as error:
        # Names that cannot be resolved have negative numbers and a text of their own.
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise OSError(f"cannot listen on {host}:{port}: {reason}") from error


def url_of(listening: socket.socket) -> str:
    """http://ADDRESS:PORT."""
    address, port = listening.getsockname()[:2]
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def serve(settings: ServerSettings, load: Callable[[], TriMode], listening: socket.socket) -> None:
    """Serve until a signal. Raises what `load` raises."""
    logs.configure(settings.log_format, settings.log_level, settings.log_file)
    # What was imported stays. A full collection would go through all of it: tens of milliseconds in which answers wait.
    gc.collect()
    gc.freeze()
    server = Server(settings, load)
    server.host.url = url_of(listening).replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
    server.run(sockets=[listening])
    if server.host.failure:
        raise server.host.failure
