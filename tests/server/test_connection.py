"""What a client may send before a body: limits of size, number and time, and one answer that says which."""

from __future__ import annotations

import json
import socket
from contextlib import closing

import pytest
from support.serving import PATIENCE, Served, until

from pytrimode.server import connection

GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
POST = (
    b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
)


def connect(server: Served) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1])), timeout=PATIENCE)


def exchange(server: Served, *parts: bytes) -> bytes:
    """Send until the server ends the connection or all is sent; what it answered."""
    with closing(connect(server)) as client:
        try:
            for part in parts:
                client.sendall(part)
        except (BrokenPipeError, ConnectionResetError):
            pass
        answer = b""
        while True:
            try:
                more = client.recv(1 << 16)
            except ConnectionResetError:
                return answer
            if not more:
                return answer
            answer += more


def error_of(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    error = json.loads(body)["error"]
    assert head.startswith(b"HTTP/1.1 %d " % error["code"]) and b"connection: close" in head
    return error["code"], error["message"]


@pytest.mark.parametrize(
    "parts",
    [
        [GET, b"X: " + b"a" * (1 << 20)],
        [GET, *[b"X: " + b"a" * (1 << 10) + b"\r\n"] * 1000],
        [GET, *[b"a"] * 70_000],
        [b"GET /" + b"a" * (1 << 20) + b" HTTP/1.1\r\n\r\n"],
        [GET + b"X: " + b"a" * 65_550 + b"\r\n\r\n"],
        [b"\r\n" * (1 << 18)],
        [POST, b"1;" + b"a" * (1 << 20)],
        [POST, b"2\r\n{}\r\n0\r\n", *[b"X: " + b"a" * (1 << 10) + b"\r\n"] * 1000],
    ],
    ids=["a value", "many headers", "a byte at a time", "a path", "in one piece", "blank lines", "a chunk's extension",
         "behind a body"],
)  # fmt: skip
def test_heads_without_end_are_refused(server: Served, parts: list[bytes]) -> None:
    code, message = error_of(exchange(server, *parts))
    assert code == 431 and "65536 bytes" in message


def test_long_heads_below_the_limit_are_served(server: Served) -> None:
    close = b"Connection: close\r\n\r\n"
    for fields in (b"X: " + b"a" * 65_000 + b"\r\n", b"X: a\r\n" * 250):
        assert exchange(server, GET + fields + close).startswith(b"HTTP/1.1 200")
    code, message = error_of(exchange(server, GET + b"X: a\r\n" * 300 + close))
    assert code == 431 and "256 headers" in message


def test_headers_behind_a_body_are_no_headers(server: Served) -> None:
    body = b'e\r\n{"content":""}\r\n0\r\nX-Request-Id: behind\r\n\r\n'
    answer = exchange(server, POST, body, GET + b"Connection: close\r\n\r\n")
    assert answer.count(b"HTTP/1.1 200") == 2 and b"behind" not in answer


def test_what_is_no_http_is_told_so(server: Served) -> None:
    for wrong in (b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"):
        assert error_of(exchange(server, wrong)) == (400, "this is no HTTP request")


def test_requests_on_one_connection_are_answered_in_turn(server: Served) -> None:
    few = exchange(server, (GET + b"\r\n") * 10 + GET + b"Connection: close\r\n\r\n")
    assert few.count(b"HTTP/1.1 200") == 11
    many = exchange(server, (GET + b"\r\n") * 10_000)
    assert many.count(b"HTTP/1.1 200") < 100, "it ends before they take memory"


def test_connections_that_send_no_request_end(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.3)
    for begun in (b"", GET):
        assert error_of(exchange(server, begun))[0] == 408
    until(lambda: not server.server.server_state.connections)


def test_one_host_header_of_a_name_and_a_port(server: Served) -> None:
    def status(*hosts: bytes) -> bytes:
        lines = b"".join(b"Host: " + host + b"\r\n" for host in hosts)
        return exchange(server, b"GET /health HTTP/1.1\r\n" + lines + b"Connection: close\r\n\r\n")[9:12]

    for name in (b"localhost", b"127.0.0.1:80", b"[::1]", b"[::1]:8080", b"LocalHost:"):
        assert status(name) == b"200", name
    for wrong in (
        b"localhost:evil",
        b"localhost:80@evil.example",
        b"evil.example:80]localhost",
        b"[::1]evil.example",
        b"[::1].evil.example:80",
        b"localhost/../evil",
        b"localhost, evil.example",
        b"[localhost]",
        b"[::1",
        b"::1",
    ):
        assert status(wrong) == b"403", wrong
    assert status() == status(b"localhost", b"evil.example") == b"403"
