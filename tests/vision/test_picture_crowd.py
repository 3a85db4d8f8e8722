"""Pictures that come and go: encoded again and again, left in the middle, their cells and ids taken by others."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.vlm import picture

from pytrimode import AsyncTriMode, TriMode
from pytrimode.options.modes import AUTO, MODES

pytestmark = pytest.mark.slow

N_TASKS, N_ROUNDS, N_QUESTIONS = 6, 25, 12
N_OTHERS = 300
"""Images that nobody keeps, added in each round of a task: from 1,024 on, those that nobody needs are forgotten."""


def question(i: int) -> dict[str, Any]:
    """One of few pictures, several of a size, in one of the modes."""
    image = picture(60 + 30 * (i % 3), 60 + 40 * (i % 2), seed=i)
    parts = [{"type": "image", "image": image}, {"type": "text", "text": f"What is this, in {2 + i % 4} words?"}]
    return {"messages": [{"role": "user", "content": parts}], "mode": (*MODES, AUTO)[i % 4], "max_tokens": 12,
            "temperature": 0.0, "ignore_eos": True, "loop_window": 0}  # fmt: skip


async def answer(model: AsyncTriMode, asked: dict[str, Any], *, stream: bool) -> str:
    result: Any = await model.create_chat_completion(**asked, stream=stream)
    if not stream:
        return str(result["choices"][0]["message"]["content"])
    return "".join([chunk["choices"][0]["delta"].get("content") or "" async for chunk in result])


def test_no_picture_is_taken_for_another(vlm_gguf: Path, vlm: TriMode) -> None:
    """The cache holds four of these prompts, and no encoded picture; a third of the requests are left."""
    questions = [question(i) for i in range(N_QUESTIONS)]
    alone: list[Any] = [vlm.create_chat_completion(**asked) for asked in questions]
    expected = [result["choices"][0]["message"]["content"] for result in alone]
    assert len(set(expected)) == N_QUESTIONS, "a test of the test: each picture has an answer of its own"
    outcomes: list[bool] = []

    async def task(model: AsyncTriMode, engine: Any, number: int) -> None:
        chance = random.Random(number)
        row = np.zeros((1, vlm.n_embd), np.float32)
        for n in range(N_ROUNDS):
            i = chance.randrange(N_QUESTIONS)
            asked = asyncio.create_task(answer(model, questions[i], stream=chance.random() < 0.5))
            for other in range(N_OTHERS):
                engine.add_image(f"{number}, {n}, {other}", row)
            if leaves := chance.random() < 1 / 3:
                await asyncio.sleep(chance.random() * 0.02)
                asked.cancel()
            try:
                outcomes.append(await asked == expected[i])
            except asyncio.CancelledError:
                assert leaves

    with TriMode(vlm_gguf, n_ctx=256, n_threads=1, n_parallel=4) as model:
        assert model.vision
        model.vision.max_cached_bytes = 0
        first = model.engine.add_image("0, 0, 0", np.zeros((1, vlm.n_embd), np.float32)).first

        async def go() -> None:
            await asyncio.gather(*(task(AsyncTriMode(model), model.engine, n) for n in range(N_TASKS)))

        asyncio.run(go())
        assert model.vision.cached_bytes == 0
        assert model.engine.state["n_running"] == model.engine.state["n_queued"] == 0
        again = model.engine.add_image("0, 0, 0", np.zeros((1, vlm.n_embd), np.float32)).first
        assert again != first, "a test of the test: images were forgotten"
    assert len(outcomes) > N_TASKS * N_ROUNDS / 2 and all(outcomes)
