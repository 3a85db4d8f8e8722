"""The server when there is much to do, when clients leave, and at its beginning and end."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.serving import LONG, LONG_CONTEXT, PATIENCE, Served, error_of, events, loader, parse, served, until

from pytrimode import QueueFullError, TriMode, _native
from pytrimode.answers.job import AnyJob
from pytrimode.answers.results import ResultWriter
from pytrimode.async_run import CAPACITY, AsyncRun
from pytrimode.engine_loop import EngineLoop
from pytrimode.jobs import Wanted
from pytrimode.options.generation_options import GenerationOptions
from pytrimode.options.modes import AUTO, MODES
from pytrimode.server import answers
from pytrimode.vision.prompt import Prompt

pytestmark = pytest.mark.slow

COMPLETIONS = "/v1/completions"
SHORT = {"prompt": "Hello", "max_tokens": 2}
ALL_MODES = (*MODES, AUTO)


@pytest.fixture(scope="module")
def busy(q8_gguf: Path) -> Iterator[Served]:
    """A server whose slot a LONG request can hold, with one place in the queue."""
    with served(loader(q8_gguf, LONG_CONTEXT, max_queue=1)) as running:
        yield running


def processing(server: Served) -> bool:
    return bool(server.get("/slots").json()[0]["is_processing"])


def ended(server: Served, outcome: str) -> float:
    (line,) = [line for line in server.get("/metrics").text.splitlines() if f'outcome="{outcome}"' in line]
    return float(line.rsplit(" ", 1)[1])


# --- The bounded queue between engine and reader ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def long_model(q8_gguf: Path) -> Iterator[TriMode]:
    with TriMode(q8_gguf, n_ctx=LONG_CONTEXT, n_threads=1, max_queue=4) as loaded:
        yield loaded


def long_job(model: TriMode, max_tokens: int = -1) -> AnyJob:
    options = GenerationOptions(mode="ar", ignore_eos=True, max_tokens=max_tokens, loop_window=0)
    return model.jobs.completion(Prompt(model.prompt_tokens("Hello"), None), options, Wanted(ResultWriter("any")))


def test_the_engine_waits_for_a_slow_reader(long_model: TriMode) -> None:
    """A request pauses when CAPACITY of its events wait, and goes on when they are read."""

    def passes() -> float:
        return long_model.engine.times["passes"]

    async def go() -> None:
        first, taken = passes(), 0
        async with long_model.run_async([long_job(long_model)]) as run:
            for _ in range(2):
                end = time.monotonic() + PATIENCE
                while passes() - first < taken + CAPACITY:  # a pass of it makes an event
                    assert time.monotonic() < end
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.3)  # time enough for far more, if it did not wait
                pieces = await run.pieces()
                assert CAPACITY <= len(pieces) <= CAPACITY + 2, "what was under way when it was told to wait"
                taken += len(pieces)

    asyncio.run(go())


def test_places_in_the_queue(long_model: TriMode) -> None:
    async def go() -> None:
        async with long_model.run_async([long_job(long_model)]) as first:
            await first.pieces()
            waiting = [long_model.run_async([long_job(long_model, 4)]) for _ in range(4)]
            with pytest.raises(QueueFullError, match="queue is full"):
                long_model.run_async([long_job(long_model, 4)])
            for run in waiting:
                await run.begin()
            for run in waiting[:3]:
                run.close()
            with pytest.raises(QueueFullError):
                long_model.run_async([long_job(long_model, 4)] * 4)
            long_model.run_async([long_job(long_model, 4)] * 3).close()
        steps = []
        while pieces := await waiting[3].pieces():
            steps += pieces
        assert sum(len(piece.step.tokens) for piece in steps) == 4
        long_model.run_async([long_job(long_model)] * 5).close()

    asyncio.run(go())


class SlowToReturn:
    """An engine whose `submit` comes back when a pass with the request is over."""

    def __init__(self, engine: _native.Engine) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def submit(self, *args: Any, **options: Any) -> int:
        request = self._engine.submit(*args, **options)
        time.sleep(0.3)
        return request


def test_no_token_is_lost_of_a_request_that_is_faster_than_its_caller(q8_gguf: Path, long_model: TriMode) -> None:
    """A request whose reader is behind leaves a thread that waits for the next one, and has its first event at once."""
    engine: Any = _native.Engine(_native.Model(str(q8_gguf)), n_ctx=LONG_CONTEXT, n_threads=1, n_parallel=2)

    async def tokens_of(run: AsyncRun) -> list[int]:
        tokens: list[int] = []
        async with run:
            while pieces := await run.pieces():
                tokens += [token for piece in pieces for token in piece.step.tokens]
        return tokens

    async def go() -> None:
        loop = EngineLoop(SlowToReturn(engine))  # type: ignore[arg-type]
        alone = await tokens_of(AsyncRun(loop, [long_job(long_model, 4)]))
        assert len(alone) == 4
        async with AsyncRun(loop, [long_job(long_model)]):
            passes = -1
            while passes != (passes := engine.times["passes"]):
                await asyncio.sleep(0.3)
            assert await tokens_of(AsyncRun(loop, [long_job(long_model, 4)])) == alone

    asyncio.run(go())


# --- Queue and cancellation over HTTP --------------------------------------------------------------------------------


def test_a_full_queue_is_429_and_a_client_that_leaves_frees_the_slot(busy: Served) -> None:
    cancelled = ended(busy, "cancelled")
    with ThreadPoolExecutor(1) as pool:
        with busy.client.stream("POST", COMPLETIONS, json=LONG | {"stream": True}) as running:
            lines = running.iter_lines()
            parse(next(lines))
            assert processing(busy)
            (slot,) = busy.get("/slots").json()
            assert slot["next_token"]["n_decoded"] > 0 and slot["params"]["mode"] == "ar"
            assert error_of(busy.get("/slots", params={"fail_on_no_slot": 1}))["code"] == 503
            waiting = pool.submit(busy.post, COMPLETIONS, SHORT)
            until(lambda: "llamacpp:requests_deferred 1.0" in busy.get("/metrics").text)
            for stream in (False, True):
                refused = busy.post(COMPLETIONS, SHORT | {"stream": stream})
                error = error_of(refused)
                assert refused.status_code == 429 and error["type"] == "rate_limit_error"
                assert int(refused.headers["Retry-After"]) >= 1
            assert error_of(busy.post(COMPLETIONS, SHORT | {"n": 3}))["code"] == 400, "it would never fit"
            assert busy.get("/health").json() == {"status": "ok"}
        # The client has left: the next in the queue gets the slot.
        assert waiting.result().status_code == 200
    assert ended(busy, "cancelled") == cancelled + 1
    assert ended(busy, "refused") >= 2


def test_a_client_that_waits_without_a_stream_may_leave_too(busy: Served) -> None:
    cancelled = ended(busy, "cancelled")
    with pytest.raises(httpx.ReadTimeout):
        busy.post(COMPLETIONS, LONG, timeout=0.5)
    until(lambda: not processing(busy))
    assert ended(busy, "cancelled") == cancelled + 1


@pytest.fixture(scope="module")
def four_slots(q8_gguf: Path) -> Iterator[Served]:
    with served(loader(q8_gguf, LONG_CONTEXT, n_parallel=4)) as running:
        yield running


@pytest.mark.parametrize("slots", [1, 4])
def test_requests_side_by_side_get_their_own_answers(
    server: Served, four_slots: Served, model: TriMode, slots: int
) -> None:
    server = server if slots == 1 else four_slots
    prompts = [f"Sort these numbers: {n}, 3, 9, 1" for n in range(8)]

    def ask(i: int) -> str:
        body = {
            "prompt": prompts[i],
            "max_tokens": 16,
            "mode": ALL_MODES[i % 4],
            "stream": i < 4,
        }
        with server.client.stream("POST", COMPLETIONS, json=body) as response:
            if i >= 4:
                return str(parse("data: " + response.read().decode())["choices"][0]["text"])
            return "".join(event["choices"][0]["text"] for event in events(response)[:-1])

    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(ask, range(8)))
    for i, text in enumerate(texts):
        expected: Any = model.create_completion(prompts[i], max_tokens=16, mode=ALL_MODES[i % 4], temperature=0.0)
        assert text == expected["choices"][0]["text"]


def test_slots_are_filled_and_freed_one_by_one(four_slots: Served) -> None:
    def busy_slots() -> list[Any]:
        return [slot for slot in four_slots.get("/slots").json() if slot["is_processing"]]

    assert four_slots.get("/props").json()["total_slots"] == len(four_slots.get("/slots").json()) == 4
    modes = list(ALL_MODES)
    streams = []
    with ExitStack() as stack:
        for n, mode in enumerate(modes, 1):
            # Hot: an endless answer must not become a loop, which would end it.
            body = LONG | {"mode": mode, "stream": True, "temperature": 5.0, "top_k": 0, "min_p": 0}
            streams.append(stack.enter_context(four_slots.client.stream("POST", COMPLETIONS, json=body)).iter_lines())
            parse(next(streams[-1]))
            assert len(busy_slots()) == n
        assert sorted(slot["params"]["mode"] for slot in busy_slots()) == sorted(modes)
        assert len({slot["id_task"] for slot in busy_slots()}) == 4
        assert "llamacpp:requests_processing 4.0" in four_slots.get("/metrics").text
        assert error_of(four_slots.get("/slots", params={"fail_on_no_slot": 1}))["code"] == 503
        assert four_slots.get("/health").json() == {"status": "ok"}
    until(lambda: not busy_slots())
    assert four_slots.get("/slots", params={"fail_on_no_slot": 1}).status_code == 200


def test_an_answer_that_takes_too_long_is_ended(q8_gguf: Path) -> None:
    with served(loader(q8_gguf, LONG_CONTEXT), timeout=0.5) as running:
        error = error_of(running.post(COMPLETIONS, LONG))
        assert error["code"] == 504 and error["type"] == "timeout_error"
        with running.client.stream("POST", COMPLETIONS, json=LONG | {"stream": True}) as response:
            *chunks, last = events(response)
        assert len(chunks) > 1 and last["error"]["type"] == "timeout_error"
        assert running.post(COMPLETIONS, SHORT).status_code == 200, "the slot is free"


def test_a_client_that_stops_reading_is_given_up(q8_gguf: Path) -> None:
    with (
        served(loader(q8_gguf, LONG_CONTEXT), write_timeout=0.3, send_buffer=4096) as running,
        socket.socket() as reader,
    ):
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect(("127.0.0.1", int(running.url.rsplit(":", 1)[1])))
        body = json.dumps(LONG | {"stream": True}).encode()
        head = f"POST {COMPLETIONS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        reader.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert reader.recv(12) == b"HTTP/1.1 200"
        until(lambda: ended(running, "cancelled") == 1)
        assert running.post(COMPLETIONS, SHORT).status_code == 200, "the slot is free"


def test_a_stream_that_waits_says_so(q8_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "PATIENCE", 0.1)
    monkeypatch.setattr(answers, "SILENCE", 0.1)
    with (
        served(loader(q8_gguf, LONG_CONTEXT)) as running,
        running.client.stream("POST", COMPLETIONS, json=LONG | {"stream": True}) as first,
    ):
        lines_of_first = first.iter_lines()
        parse(next(lines_of_first))
        with running.client.stream("POST", COMPLETIONS, json=SHORT | {"stream": True}) as waiting:
            lines = waiting.iter_lines()
            assert [next(lines) for _ in range(3)] == [": waiting", "", ": waiting"]
            first.close()
            *_, last = (line for line in lines if line.startswith("data"))
        assert last == "data: [DONE]"


# --- Beginning and end -----------------------------------------------------------------------------------------------


def test_health_answers_while_the_model_is_loaded(q8_gguf: Path) -> None:
    may_load = threading.Event()

    def load() -> TriMode:
        may_load.wait()
        return loader(q8_gguf, 512)()

    with served(load, wait=False) as running:
        for path in ("/health", "/v1/health", "/props", "/slots", "/v1/models"):
            error = error_of(running.get(path))
            assert (error["code"], error["message"], error["type"]) == (503, "Loading model", "unavailable_error")
        assert error_of(running.post(COMPLETIONS, SHORT))["code"] == 503
        assert running.get("/metrics").status_code == 200
        may_load.set()
        until(lambda: running.get("/health").status_code == 200)
        assert running.post(COMPLETIONS, SHORT).status_code == 200


def test_a_server_that_is_stopped_lets_answers_finish(q8_gguf: Path) -> None:
    with served(loader(q8_gguf, LONG_CONTEXT), shutdown_timeout=100) as running:
        body = LONG | {"max_tokens": 100, "stream": True}
        with running.client.stream("POST", COMPLETIONS, json=body) as response:
            lines = (line for line in response.iter_lines() if line)
            parse(next(lines))
            running.stop()
            *_, last, done = map(parse, lines)
    assert last["timings"]["predicted_n"] == 100 and done == "[DONE]"


def test_answers_that_take_longer_are_ended_with_an_error(q8_gguf: Path) -> None:
    with served(loader(q8_gguf, LONG_CONTEXT), shutdown_timeout=0.3) as running, ThreadPoolExecutor(1) as pool:
        with running.client.stream("POST", COMPLETIONS, json=LONG | {"stream": True}) as response:
            lines = (line for line in response.iter_lines() if line)
            parse(next(lines))
            waiting = pool.submit(running.post, COMPLETIONS, SHORT)
            until(lambda: running.host.desk.waiting == 1)
            running.stop()
            *_, last = map(parse, lines)
        assert last["error"]["type"] == "unavailable_error" and "stopping" in last["error"]["message"]
        assert error_of(waiting.result())["code"] == 503
