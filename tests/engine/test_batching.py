"""Requests side by side: none has an influence on another, none waits long, none leaves cells behind."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from support.crowd import Asked, alone, passes, requests, submit
from support.decoding import chat_prompts

from pytrimode import AsyncTriMode, QueueFullError, TriMode
from pytrimode.options.generation_options import GenerationOptions
from pytrimode.options.sampling import Sampling

N_PARALLEL = 8


def crowded(path: Path, **options: Any) -> TriMode:
    return TriMode(path, **{"n_ctx": 4096, "n_threads": 1, "n_parallel": N_PARALLEL, **options})


@pytest.fixture(scope="module")
def many(q8_gguf: Path) -> Iterator[TriMode]:
    with crowded(q8_gguf) as loaded:
        yield loaded


def endless(tokens: list[int], max_tokens: int, **options: Any) -> Asked:
    options = {"sampling": Sampling(temperature=0.0)} | options
    return Asked(tokens, GenerationOptions(max_tokens=max_tokens, ignore_eos=True, loop_window=0, **options))


@pytest.mark.parametrize("outtype", ["f32", "f16", "q8_0"])
def test_a_request_in_a_crowd_gives_what_it_gives_alone(
    tiny_gguf: Callable[[str], Path], checkpoint_dir: Path, outtype: str
) -> None:
    """16 of all modes and samplers, above and below 512 cells, that join, end and are cancelled at any pass."""
    chance = random.Random(outtype)
    with crowded(tiny_gguf(outtype), n_ctx=2048) as one, crowded(tiny_gguf(outtype)) as model:
        asked = requests(chat_prompts(one, checkpoint_dir, 16, long_tokens=100), seed=1, max_tokens=24)
        asked[1].tokens = chat_prompts(one, checkpoint_dir, 2, long_tokens=500)[1]
        expected = [alone(one, request) for request in asked]
        for request in chance.sample(asked, 3):
            request.cancel_after = chance.randint(1, 8)
        busiest = 0
        for _, events in passes(model, asked, sorted(chance.randint(0, 40) for _ in asked)):
            busiest = max(busiest, len(events))
        assert busiest >= 4
        for request, tokens in zip(asked, expected, strict=True):
            assert request.got == (tokens[: len(request.got)] if request.finish == "cancelled" else tokens)


def test_without_enough_cells_the_youngest_pause_and_no_token_changes(q8_gguf: Path, checkpoint_dir: Path) -> None:
    paused = 0
    with crowded(q8_gguf, n_ctx=512) as model, crowded(q8_gguf, n_ctx=1024) as one:
        prompts = chat_prompts(one, checkpoint_dir, 6, long_tokens=90)
        modes = ("ar", "self-spec", "diffusion")
        asked = [endless(p, 130, mode=modes[i % 3], block_length=8) for i, p in enumerate(prompts)]
        expected = [alone(one, request) for request in asked]
        for _ in passes(model, asked, [0] * len(asked)):
            paused += model.engine.state["n_suspended"]
        assert [request.got for request in asked] == expected
    assert paused


@pytest.mark.slow
def test_nobody_waits_longer_than_there_are_slots(q8_gguf: Path, checkpoint_dir: Path) -> None:
    """Blocks of 32 for 8 requests do not fit a pass of 64 rows, and long prompts come in between."""
    with crowded(q8_gguf, n_batch=64, n_ubatch=16) as model:
        prompts = chat_prompts(model, checkpoint_dir, 12, long_tokens=200)
        asked = [endless(p, 60, mode="self-spec", block_length=32) for p in prompts]
        for _ in passes(model, asked, [3 * i for i in range(12)]):
            pass
        waits = [b - a for request in asked for a, b in pairwise(request.passes)]
    assert 1 < max(waits) <= N_PARALLEL


def test_prompts_leave_room_for_requests_that_decode(many: TriMode) -> None:
    first, second = endless([1, 300], 12, mode="ar"), endless([1, *range(200, 600)], 2, mode="ar")
    many.clear_cache()
    for _ in passes(many, [first, second], [0, 2]):
        pass
    assert first.passes == list(range(12)), "a token in every pass"
    assert len(second.passes) >= 400 / 128


def test_a_beginning_is_shared_with_requests_that_run(many: TriMode) -> None:
    many.clear_cache()
    engine, system = many.engine, [1, *range(200, 400)]
    submit(many, endless([*system, 401], 40, mode="ar"))
    engine.step()
    held = engine.state["n_cells"] - engine.state["n_free_cells"]
    second = endless([*system, 402, 403], 5, mode="ar")
    number = submit(many, second)
    (event,) = [e for e in engine.step() if e.request_id == number]
    assert event.stats.cached_tokens == len(system)
    assert engine.state["n_cells"] - engine.state["n_free_cells"] - held == 64, "one page of its own"
    got = event.tokens
    while not event.finish_reason:
        (event,) = [e for e in engine.step() if e.request_id == number]
        got += event.tokens
    for i in (number - 1, number):
        engine.release(i)
    assert got == alone(many, second)


def test_a_kept_beginning_outlives_others(q8_gguf: Path) -> None:
    system = [1, *range(200, 330)]
    with crowded(q8_gguf, n_ctx=512) as model:
        assert model.keep(system) == len(system)
        for i in range(6):
            model.create_completion([1, *range(400 + i, 600 + i)], max_tokens=2, temperature=0.0)
        answer: Any = model.create_completion([*system, 7, 8], max_tokens=2, temperature=0.0)
        assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == len(system)
        full: Any = model.create_completion([1, 9], max_tokens=-1, ignore_eos=True, temperature=0.0, loop_window=0)
        assert full["usage"]["total_tokens"] == 512, "it goes when nothing else can"


def test_the_queue_has_a_limit(q8_gguf: Path) -> None:
    with crowded(q8_gguf, n_parallel=1, max_queue=1) as model:
        first, second = (model.generate([1, i], max_tokens=3, ignore_eos=True) for i in (300, 301))
        next(first)
        waiting = submit(model, endless([1, 302], 3))
        with pytest.raises(QueueFullError, match="queue is full"):
            next(second)
        model.engine.release(waiting)
        assert len(list(model.generate([1, 303], max_tokens=3, ignore_eos=True))) == 3


def test_requests_that_are_released_at_once_leave_nothing(q8_gguf: Path) -> None:
    """Each thread's requests come and go while another one looks for what has come and gone."""
    with crowded(q8_gguf) as model:
        options = model.resolve(GenerationOptions(max_tokens=4), 3).engine
        end = time.monotonic() + 1

        def come_and_go() -> None:
            while time.monotonic() < end:
                model.engine.release(model.engine.submit([1, 2, 3], options))

        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(come_and_go) for _ in range(4)]:
                done.result()
        state = model.engine.state
        assert (state["n_queued"], state["n_running"], state["n_suspended"]) == (0, 0, 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"mode": "ar"},
        {"mode": "self-spec"},
        {"mode": "self-spec", "fused": True},
        {"mode": "diffusion"},
        {"mode": "auto"},
    ],
    ids=["ar", "self-spec", "fused", "diffusion", "auto"],
)
def test_a_cancel_takes_effect_within_two_passes(many: TriMode, options: dict[str, Any]) -> None:
    """In the prefill and while it decodes, with others beside it that go on."""
    for start, cancelled_before in ((0, 1), (0, 9), (3, 4)):
        many.clear_cache()
        engine = many.engine
        free = engine.state["n_free_cells"]
        others = [endless([1, 300 + i], 400, mode="ar") for i in range(3)]
        asked = endless([1, *range(200, 500)], 400, **options)
        numbers = [submit(many, other) for other in others]
        for _ in range(start):
            engine.step()
        number = submit(many, asked)
        for _ in range(cancelled_before - start):
            engine.step()
        held = engine.state["n_cells"] - engine.state["n_free_cells"] - engine.state["n_idle_cells"]
        engine.cancel(number)
        finishes = [e.finish_reason for _ in range(2) for e in engine.step() if e.request_id == number]
        assert finishes[-1:] == ["cancelled"]
        state = engine.state
        assert state["n_running"] == 3
        assert state["n_cells"] - state["n_free_cells"] - state["n_idle_cells"] < held
        for i in (*numbers, number):
            engine.release(i)
        many.clear_cache()
        assert engine.state["n_free_cells"] == free


@pytest.mark.slow
def test_a_reasoning_budget_in_a_crowd_is_what_it_is_alone(many: TriMode) -> None:
    chance = random.Random(5)
    kinds: list[dict[str, Any]] = [
        {"mode": "ar"},
        {"mode": "self-spec", "block_length": 8},
        {"mode": "self-spec", "block_length": 4, "fused": True},
        {"mode": "diffusion", "block_length": 8},
    ]
    asked = []
    for i in range(12):
        question = [{"role": "user", "content": f"Sort these numbers: {97 - i}, 31, {40 + 3 * i}"}]
        tokens = many.chat_tokens(question, enable_thinking=True)
        options = {"sampling": Sampling(temperature=0.0), "max_tokens": 50, "max_thinking_tokens": (0, 3, 11)[i % 3]}
        asked.append(Asked(tokens, GenerationOptions(**options | kinds[i % 4])))
    expected = [alone(many, request) for request in asked]
    many.clear_cache()
    for _ in passes(many, asked, sorted(chance.randint(0, 10) for _ in asked)):
        pass
    assert [request.got for request in asked] == expected
    (end,) = many.tokenize("</think>", add_bos=False, special=True)
    assert all(request.got.index(end) <= (0, 3, 11)[i % 3] for i, request in enumerate(asked))


def test_asyncio(many: TriMode) -> None:
    prompts = [f"Sort these numbers: {n}, 3, 9, 1" for n in range(10)]
    options: Any = {"max_tokens": 12, "temperature": 0.0}
    expected = [many.create_completion(p, **options)["choices"] for p in prompts]  # type: ignore[index]

    async def go() -> None:
        model = AsyncTriMode(many)
        answers: Any = await asyncio.gather(*(model.create_completion(p, **options) for p in prompts))
        assert [answer["choices"] for answer in answers] == expected
        assert all(answer["timings"]["predicted_n"] for answer in answers)
        chunks: Any = [c async for c in await model.create_completion(prompts[0], stream=True, **options)]  # type: ignore[union-attr]
        assert "".join(c["choices"][0]["text"] for c in chunks) == expected[0][0]["text"]
        task = asyncio.create_task(model.create_completion("a", max_tokens=3000, ignore_eos=True, loop_window=0))  # type: ignore[arg-type]
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(ValueError, match="max_tokens -2"):
            await model.create_completion("a", max_tokens=-2)

    asyncio.run(go())
    assert many.engine.state["n_running"] == 0


@pytest.mark.slow
def test_what_stands_between_steps_does_not_wait_for_the_end_of_a_request(q8_gguf: Path) -> None:
    options: dict[str, Any] = {"mode": "ar", "ignore_eos": True, "loop_window": 0, "max_tokens": 3000}
    with TriMode(q8_gguf, n_ctx=4096, n_threads=1, n_parallel=2) as model:
        reader = threading.Thread(target=model.create_completion, args=("Hello",), kwargs=options)
        reader.start()
        passes = [model.engine.times["passes"] for _ in range(100)]
        assert passes == sorted(passes) and passes[-1] < 2000 and reader.is_alive()
        model.logits([300] * 40)
        assert reader.is_alive()
        reader.join()
