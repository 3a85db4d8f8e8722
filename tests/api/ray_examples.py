"""The examples of Ray on a local Ray of two workers: `make test-ray`, since Ray is large and slow to start.

pytest does not collect this file by itself.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from pytrimode import TriMode

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PATIENCE = 600
URL = "http://127.0.0.1:8000/v1/chat/completions"


def expected(model: TriMode, messages: list[Any], max_tokens: int) -> str:
    answer: Any = model.create_chat_completion(messages, temperature=0.0, max_tokens=max_tokens)
    return answer["choices"][0]["message"]["content"]


def ask(url: str, messages: list[Any], max_tokens: int) -> dict[str, Any]:
    body = {"messages": messages, "max_tokens": max_tokens, "temperature": 0}
    return httpx.post(url, json=body, timeout=PATIENCE).json()


def test_ray_data_answers_a_file(q8_gguf: Path, model: TriMode, tmp_path: Path) -> None:
    questions = [f"What is {i} plus 30?" for i in range(12)]
    file = tmp_path / "questions.jsonl"
    file.write_text("".join(json.dumps({"id": str(i), "question": q}) + "\n" for i, q in enumerate(questions)))
    command = [sys.executable, EXAMPLES / "ray_data.py", file, tmp_path / "answers", q8_gguf]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env={**os.environ, "SLOTS": "2"})
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [line for part in (tmp_path / "answers").glob("*.json") for line in part.read_text().splitlines()]
    answers = {record["question"]: record["answer"] for record in map(json.loads, lines)}
    assert answers == {q: expected(model, [{"role": "user", "content": q}], 100) for q in questions}


@pytest.fixture(scope="module")
def replicas(q8_gguf: Path) -> Iterator[str]:
    """One replica behind Ray Serve, and another while requests wait."""
    environment = {**os.environ, "MIN_REPLICAS": "1", "MAX_REPLICAS": "2", "SLOTS": "2", "UPSCALE_DELAY": "1"}
    command = [sys.executable, str(EXAMPLES / "ray_serve.py"), str(q8_gguf)]
    with subprocess.Popen(command, env=environment, start_new_session=True) as process:
        give_up = time.monotonic() + PATIENCE
        while time.monotonic() < give_up:
            assert process.poll() is None
            try:
                if httpx.post(URL, json={"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}).is_success:
                    break
            except httpx.HTTPError:
                pass
            time.sleep(1)
        yield URL
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def test_ray_serve_starts_a_replica_while_requests_wait(replicas: str) -> None:
    def ask_long(i: int) -> str:
        messages = [{"role": "system", "content": f"{i}"}, {"role": "user", "content": "Write a story."}]
        body = {"messages": messages, "max_tokens": 200, "min_tokens": 200, "ignore_eos": True, "loop_window": 0}
        return httpx.post(replicas, json=body, timeout=PATIENCE).json()["replica"]

    assert ask_long(0) == ask_long(1), "one is enough for one request at a time"
    give_up = time.monotonic() + PATIENCE
    with ThreadPoolExecutor(8) as pool:
        seen: set[str] = set()
        while len(seen) < 2:
            assert time.monotonic() < give_up, "the second replica did not come"
            seen |= set(pool.map(ask_long, range(8)))


def test_ray_serve_answers_and_a_conversation_stays_where_its_cache_is(replicas: str, model: TriMode) -> None:
    seen = set()
    for i in range(8):
        question = f"What is {i} plus 4?"
        messages = [{"role": "system", "content": f"Be brief, {i}."}, {"role": "user", "content": question}]
        first = ask(replicas, messages, 12)
        answer = first["choices"][0]["message"]
        assert answer["content"] == expected(model, messages, 12)
        messages += [answer, {"role": "user", "content": "And now?"}]
        second = ask(replicas, messages, 4)
        assert second["replica"] == first["replica"]
        assert second["usage"]["prompt_tokens_details"]["cached_tokens"] > 0
        seen.add(first["replica"])
    assert len(seen) == 2, "both replicas work"


def test_ray_serve_streams_and_refuses(replicas: str, model: TriMode) -> None:
    messages = [{"role": "user", "content": "What is 3 plus 4?"}]
    body = {"messages": messages, "max_tokens": 12, "temperature": 0, "stream": True}
    lines = [line for line in httpx.post(replicas, json=body, timeout=PATIENCE).text.splitlines() if line]
    assert lines[-1] == "data: [DONE]"
    deltas = [json.loads(line[6:])["choices"][0]["delta"] for line in lines[:-1]]
    assert "".join(delta.get("content") or "" for delta in deltas) == expected(model, messages, 12)
    for wrong in ({}, {"messages": messages, "temperature": -1}, {"messages": messages, "nothing": 1}):
        assert httpx.post(replicas, json=wrong, timeout=PATIENCE).status_code == 400
