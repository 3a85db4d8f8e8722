"""The clients of `benchmarks.server_soak`: they stream or wait, leave, read slowly and ask badly."""

from __future__ import annotations

import http.client
import json
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from benchmarks.soak_questions import BAD_BODIES

LEAVES, STREAMS, SLOW, BAD = 0.1, 0.7, 0.05, 0.05
"""Shares of the requests."""
SLOW_SECONDS = 0.05
"""What a slow reader waits after each event."""
PATIENCE = 600.0
"""Seconds: the server's own limit for an answer."""
PATH = "/v1/chat/completions"
JSON = {"Content-Type": "application/json"}


class Soak:
    """The clients, and what came of their requests."""

    def __init__(self, address: str, asked: list[dict[str, Any]], expected: list[str] | None, end: float) -> None:
        self._address = address
        self._asked = asked
        self._expected = expected
        """None: answers are not compared, and nothing is asked badly."""
        self._end = end
        self._lock = threading.Lock()
        self.outcomes: Counter[str] = Counter()
        self.faults: list[str] = []
        self.first_text: list[float] = []
        """Seconds from a streamed request to its first text."""
        self.between: list[float] = []
        """Seconds between two texts of a stream, of readers that are not slow."""

    def client(self, number: int) -> None:
        """Ask until the time is over."""
        choice = random.Random(number)
        connection = http.client.HTTPConnection(self._address, timeout=PATIENCE)
        while time.monotonic() < self._end:
            i = choice.randrange(len(self._asked))
            streams, leaves = choice.random() < STREAMS, choice.random() < LEAVES
            try:
                if choice.random() < BAD and self._expected is not None:
                    self._ask_badly(connection, *choice.choice(BAD_BODIES))
                    self._count("refused")
                    continue
                pause = SLOW_SECONDS if choice.random() < SLOW else 0.0
                text = self._ask(connection, i, streams or leaves, choice.randrange(4) if leaves else None, pause)
            except Exception as error:  # whatever it is, it is what this script looks for
                connection.close()
                self._count("errors", f"client {number}: {type(error).__name__}: {error}")
                continue
            if text is None:
                connection.close()
                self._count("left")
            elif self._expected is None or text == self._expected[i]:
                self._count("right")
            else:
                self._count("wrong", f"client {number}, question {i}: {text!r} instead of {self._expected[i]!r}")
        connection.close()

    def _ask_badly(self, connection: http.client.HTTPConnection, body: bytes, expected: int) -> None:
        connection.request("POST", PATH, body, JSON)
        response = connection.getresponse()
        text = response.read()
        if response.status != expected or b'"error"' not in text:
            raise RuntimeError(f"{body[:60]!r}: {response.status} instead of {expected}: {text[:300]!r}")

    def _ask(
        self, connection: http.client.HTTPConnection, i: int, stream: bool, leave_after: int | None, pause: float
    ) -> str | None:
        """Return the answer; None where the client left it. `pause`: seconds after each event."""
        begin = time.monotonic()
        connection.request("POST", PATH, json.dumps(self._asked[i] | {"stream": stream}), JSON)
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"{response.status}: {response.read(300)!r}")
        if not stream:
            return str(json.load(response)["choices"][0]["message"]["content"])
        text, done, last = "", False, 0.0
        for n, line in enumerate(line for line in response if line.startswith(b"data: ")):
            if n == leave_after:
                return None
            data = line.removeprefix(b"data: ").strip()
            if done := data == b"[DONE]":
                continue
            chunk = json.loads(data)
            if "error" in chunk:
                raise RuntimeError(str(chunk))
            piece = chunk["choices"][0]["delta"].get("content") if chunk["choices"] else None
            if piece:
                now = time.monotonic()
                if not text:
                    self.first_text.append(now - begin)
                elif not pause:
                    self.between.append(now - last)
                last, text = now, text + piece
            time.sleep(pause)
        if not done:
            raise RuntimeError("the stream ended early")
        return text

    def _count(self, outcome: str, fault: str = "") -> None:
        with self._lock:
            self.outcomes[outcome] += 1
            if fault:
                self.faults.append(fault)
                print(fault, flush=True)


def kill_clients(address: str, body: dict[str, Any], n: int) -> None:
    """Let `n` clients, one after another, ask for a long stream and end without a goodbye (TCP's reset)."""
    host, port = address.split(":")
    data = json.dumps(body | {"stream": True, "max_tokens": -1}).encode()
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n"
    )
    for _ in range(n):
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as client:
            client.sendall(head.encode() + data)
            client.recv(1)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def shares(seconds: Sequence[float]) -> str:
    """Return the 50th and 99th percentile in words."""
    times = sorted(seconds)
    if not times:
        return "none"
    return ", ".join(f"p{p} {times[min(len(times) - 1, len(times) * p // 100)]:.3f} s" for p in (50, 99))
