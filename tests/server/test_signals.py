"""SIGTERM in whatever state the server is: it ends in time, without a traceback and without objects that leak."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.hostile import File, text
from support.serving import LONG, PATIENCE

pytestmark = pytest.mark.slow
SHUTDOWN_SECONDS = 0.5
LIMIT_SECONDS = 20
"""Of a machine that other tests use, too."""
AMBIGUOUS = 'root ::= ("a" | "a" | [a-c] | root root)* ("b" | root)+'
TEMPLATE = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
"""It takes as long as it may: a second of a processor."""


def request(path: str, body: str) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def completion(**fields: object) -> bytes:
    return request("/v1/completions", json.dumps(LONG | fields))


CHAT = request("/v1/chat/completions", '{"messages": [{"role": "user", "content": "Hi"}]}')
STATES: dict[str, tuple[list[bytes], float]] = {
    "idle": ([], 0.0),
    "half a head": ([b"POST /v1/completions HTTP/1.1\r\nHost: loc"], 0.0),
    "half a body": ([completion()[:-20]], 0.0),
    "an answer": ([completion()], 0.5),
    "a stream that is not read": ([completion(stream=True)], 1.0),
    "a long prompt": ([completion(prompt="word " * 12_000)], 0.5),
    "a queue": ([completion(stream=True)] * 6, 0.5),
    "a grammar": ([completion(grammar=AMBIGUOUS)], 0.3),
    "a template": ([CHAT], 0.3),
    "clients that went away": ([completion(stream=True)] * 3, 0.0),
}


@pytest.fixture(scope="module")
def slow_template(q8_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "slow.gguf"
    path.write_bytes(File.read(q8_gguf).set("tokenizer.chat_template", text(TEMPLATE)).encode())
    return path


@pytest.mark.parametrize("state", ["loading", *STATES])
def test_a_signal_ends_the_server_in_time(state: str, q8_gguf: Path, slow_template: Path) -> None:
    model = slow_template if state == "a template" else q8_gguf
    options = ["--port", "0", "-t", "1", "-c", "16384", "--shutdown-timeout", str(SHUTDOWN_SECONDS)]
    command = [sys.executable, "-m", "pytrimode", "serve", str(model), *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr
            listening = re.match(r"listening on http://([\d.]+):(\d+) ", process.stderr.readline())
            assert listening
            clients: list[socket.socket] = []
            if state != "loading":
                while "model loaded" not in process.stderr.readline():
                    assert process.poll() is None
                sent, seconds = STATES[state]
                for data in sent:
                    clients.append(socket.create_connection((listening[1], int(listening[2])), PATIENCE))
                    clients[-1].sendall(data)
                time.sleep(seconds)
            if state == "clients that went away":
                for client in clients:
                    client.close()
            begin = time.monotonic()
            process.send_signal(signal.SIGTERM)
            said = process.communicate(timeout=PATIENCE)[1]
            seconds = time.monotonic() - begin
        finally:
            process.kill()
    for client in clients:
        client.close()
    before_uvicorn = state == "loading" and process.returncode == -signal.SIGTERM
    assert process.returncode == 0 or before_uvicorn, said
    assert seconds < SHUTDOWN_SECONDS + LIMIT_SECONDS
    assert "Traceback" not in said and "leaked" not in said and "terminate called" not in said
