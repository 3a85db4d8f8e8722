"""A client that leaves while others go on: its slot is free within two forward passes, whatever it was doing."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
from support.serving import LONG, LONG_CONTEXT, PATIENCE, Served, loader, served, until
from support.synthetic import make_checkpoint

from pytrimode.convert import convert
from pytrimode.options.modes import AUTO, MODES
from pytrimode.server.desk import Task

pytestmark = pytest.mark.slow

COMPLETIONS = "/v1/completions"
ENDLESS = LONG | {"stream": True, "loop_window": 0}
MOST_PASSES = 2


@pytest.fixture(scope="module")
def slow_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights whose passes take many times as long as the news of a client that has left."""
    directory = tmp_path_factory.mktemp("slow")
    source = make_checkpoint(directory / "slow", hidden=1024, layers=4, ffn=4096)
    return convert(source, directory / "slow.gguf", "f16").path


@pytest.fixture(scope="module")
def slow(slow_gguf: Path) -> Iterator[Served]:
    with served(loader(slow_gguf, LONG_CONTEXT, n_parallel=3)) as running:
        yield running


@contextmanager
def neighbour(server: Served, mode: str) -> Iterator[Task]:
    """An answer that goes on until the end of the block, read by a client of its own."""
    ended = threading.Event()

    def read() -> None:
        with server.client.stream("POST", COMPLETIONS, json=ENDLESS | {"mode": mode}) as response:
            for _ in response.iter_lines():
                if ended.is_set():
                    return

    before = busy(server)
    thread = threading.Thread(target=read)
    thread.start()
    until(lambda: len(busy(server)) > len(before))
    (task,) = (task for task in busy(server) if task not in before)
    try:
        yield task
    finally:
        ended.set()
        thread.join(PATIENCE)
        until(lambda: task not in busy(server))


def busy(server: Served) -> list[Task]:
    return [task for task in server.host.desk.slots if task]


def on_a_busy_machine(test: Callable[..., int]) -> Callable[..., None]:
    """Up to three attempts: what else runs may keep the server's thread waiting for longer than a pass takes."""

    @wraps(test)
    def best_of_three(*args: Any, **kwargs: Any) -> None:
        passes = [test(*args, **kwargs)]
        while passes[-1] > MOST_PASSES and len(passes) < 3:
            passes.append(test(*args, **kwargs))
        assert min(passes) <= MOST_PASSES, passes

    return best_of_three


def passes_until_free(server: Served, witness: Task, left: Task) -> int:
    """Forward passes until the server and the engine have let go; the witness is in mode ar: a token is a pass."""
    engine = server.host.ready.model.engine

    def holds() -> int:
        state = engine.state
        return state["n_running"] + state["n_suspended"]

    before = witness.n_decoded
    end = time.monotonic() + PATIENCE
    while left in busy(server) or holds() > len(busy(server)):
        assert time.monotonic() < end
        time.sleep(0.001)
    return witness.n_decoded - before


@pytest.mark.parametrize("mode", (*MODES, AUTO))
@on_a_busy_machine
def test_a_client_that_leaves_a_stream(slow: Served, mode: str) -> int:
    with neighbour(slow, "ar") as witness, neighbour(slow, "self-spec") as other:
        until(lambda: witness.n_decoded > 0 and other.n_decoded > 0)
        with slow.client.stream("POST", COMPLETIONS, json=ENDLESS | {"mode": mode}) as response:
            lines = response.iter_lines()
            for _ in range(6):
                next(lines)
            (left,) = (task for task in busy(slow) if task not in (witness, other))
        passes = passes_until_free(slow, witness, left)
        assert all(task in (witness, other) for task in busy(slow)) and len(busy(slow)) == 2
        described = {slot["id"]: slot for slot in slow.get("/slots").json()}
        assert not described[left.slot]["is_processing"] and described[witness.slot]["is_processing"]
    return passes


@contextmanager
def sent(server: Served, path: str, body: dict[str, Any]) -> Iterator[None]:
    """A client that has sent a request, and waits for the first byte until the end of the block."""
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1]))) as connection:
        connection.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        yield


@contextmanager
def waiting_client(server: Served, body: dict[str, Any]) -> Iterator[Task]:
    """A `sent` completion that has a slot."""
    before = busy(server)
    with sent(server, COMPLETIONS, body):
        until(lambda: len(busy(server)) > len(before))
        (task,) = (task for task in busy(server) if task not in before)
        yield task


@pytest.mark.parametrize("mode", (*MODES, AUTO))
@on_a_busy_machine
def test_a_client_that_leaves_while_its_prompt_is_read(slow: Served, mode: str) -> int:
    body = {**ENDLESS, "mode": mode, "prompt": [20 + n % 90 for n in range(6000)]}
    with neighbour(slow, "ar") as witness:
        with waiting_client(slow, body) as left:
            begun = witness.n_decoded
            until(lambda: witness.n_decoded > begun + 1)
        passes = passes_until_free(slow, witness, left)
        assert left.n_decoded == 0
    return passes


@on_a_busy_machine
def test_a_client_that_leaves_while_its_answer_pauses_for_lack_of_cells(slow_gguf: Path) -> int:
    with served(loader(slow_gguf, 512, n_parallel=2)) as small:
        engine = small.host.ready.model.engine
        with neighbour(small, "ar") as witness:
            with waiting_client(small, {**ENDLESS, "stream": False, "prompt": [20] * 400}) as left:
                until(lambda: engine.state["n_suspended"] == 1)
            passes = passes_until_free(small, witness, left)
            assert witness in busy(small), "the other goes on"
    return passes


SCORED = [20 + n % 90 for n in range(6000)]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/decide", {"prompt": SCORED, "choices": [f"{n} apples" for n in range(100)]}),
        (COMPLETIONS, {"prompt": SCORED, "max_tokens": 1, "prompt_logprobs": 0}),
    ],
)
@on_a_busy_machine
def test_a_client_that_leaves_while_texts_are_scored(
    slow: Served, path: str, body: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> int:
    engine = slow.host.ready.model.engine

    def passes() -> int:
        return int(engine.times["passes"])

    engine.clear_cache()
    first = passes()
    with sent(slow, path, body):
        until(lambda: passes() > first)
    left, seen = passes(), -1
    while seen != passes():
        seen = passes()
        time.sleep(0.5)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
    return seen - left
