"""A real server for tests: uvicorn on a free port of the loopback address, in a thread, with a real model."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from pytrimode import TriMode
from pytrimode.server.host import Host
from pytrimode.server.run import Server, listen, url_of
from pytrimode.server.settings import DEFAULT_MAX_QUEUE, ServerSettings

LONG_CONTEXT = 16384
LONG: dict[str, Any] = {"prompt": "Hello", "mode": "ar", "max_tokens": -1, "ignore_eos": True}
"""A request that keeps the slot busy until it is cancelled: thousands of passes."""
PATIENCE = 60
"""Seconds after which a test gives up."""


@dataclass
class Served:
    """A running server."""

    url: str
    client: httpx.Client
    server: Server

    @property
    def host(self) -> Host:
        host: Host = self.server.host
        return host

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.client.get(path, **options)

    def post(self, path: str, body: Any, **options: Any) -> httpx.Response:
        return self.client.post(path, json=body, **options)

    def stop(self) -> None:
        """What a signal does; returns at once."""
        self.server.should_exit = True


@contextmanager
def served(
    load: Callable[[], TriMode], *, wait: bool = True, send_buffer: int = 0, **settings: Any
) -> Iterator[Served]:
    """A server until the end of the block. `wait`: for the model; `send_buffer`: bytes of a socket, 0: the system's."""
    with listen("127.0.0.1", 0) as listening:
        if send_buffer:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        url = url_of(listening)
        server = Server(ServerSettings(**{"shutdown_timeout": 0.5, **settings}), load)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            with httpx.Client(base_url=url, timeout=PATIENCE, trust_env=False) as client:
                if wait:
                    until(lambda: client.get("/health").status_code == 200)
                yield Served(url, client, server)
        finally:
            server.should_exit = True
            thread.join(PATIENCE)
            assert not thread.is_alive(), "the server did not end"


def loader(gguf: Path, n_ctx: int, n_parallel: int = 1, max_queue: int = DEFAULT_MAX_QUEUE) -> Callable[[], TriMode]:
    """How to load a model for `served`."""
    return lambda: TriMode(gguf, n_ctx=n_ctx, n_threads=1, n_parallel=n_parallel, max_queue=max_queue)


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def events(response: httpx.Response) -> list[Any]:
    """The events of a stream: JSON objects, and "[DONE]"."""
    assert response.headers["content-type"].startswith("text/event-stream"), response.read()
    return [parse(line) for line in response.iter_lines() if line and line != ": waiting"]


def parse(line: str) -> Any:
    name, _, data = line.partition(": ")
    assert name == "data"
    return data if data == "[DONE]" else json.loads(data)


def error_of(response: httpx.Response) -> dict[str, Any]:
    """The error object; its code is the response's."""
    body = response.json()
    assert list(body) == ["error"] and body["error"]["code"] == response.status_code
    assert "Traceback" not in response.text
    error: dict[str, Any] = body["error"]
    return error
