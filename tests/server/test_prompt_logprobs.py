"""`prompt_logprobs`, vLLM's, and what scoring a prompt does when the cache is full."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.serving import LONG, Served, error_of, events, loader, served

from pytrimode import CacheFullError, TriMode

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
MESSAGES = [{"role": "user", "content": "Sort these numbers: 52, 31, 97"}]
PROMPT = "Sort these numbers: 5, 3, 9"


def check(model: TriMode, ids: list[int], found: list[Any], n: int) -> None:
    logits = model.logits(ids).astype(np.float64)
    rows = logits - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True)) - logits.max(1)[:, None]
    assert len(found) == len(ids) and found[0] is None
    for i, entry in enumerate(found[1:]):
        best = np.argsort(-rows[i], kind="stable")
        assert next(iter(entry)) == str(ids[i + 1])
        assert {int(token) for token in entry} == {ids[i + 1], *map(int, best[:n])}
        for token, about in entry.items():
            assert about["logprob"] == pytest.approx(rows[i][int(token)], abs=1e-4)
            assert about["rank"] == 1 + int((rows[i] > rows[i][int(token)]).sum())
            assert about["decoded_token"] == model.detokenize([int(token)], special=True).decode("utf-8", "replace")


@pytest.mark.parametrize("n", [0, 3])
def test_completions_and_chats_begin_with_those_of_the_prompt(server: Served, model: TriMode, n: int) -> None:
    ids = model.prompt_tokens(PROMPT)
    body: dict[str, Any] = {"prompt": PROMPT, "max_tokens": 4, "prompt_logprobs": n}
    (choice,) = server.post(COMPLETIONS, body).json()["choices"]
    check(model, ids, choice["prompt_logprobs"], n)
    echoed = server.post(COMPLETIONS, body | {"echo": True, "logprobs": 1}).json()["choices"][0]
    assert echoed["prompt_logprobs"] == choice["prompt_logprobs"]
    assert echoed["logprobs"]["token_logprobs"][1] == choice["prompt_logprobs"][1][str(ids[1])]["logprob"]
    assert all(len(top or {}) <= 1 for top in echoed["logprobs"]["top_logprobs"])
    chat = server.post(CHAT, {"messages": MESSAGES, "max_tokens": 4, "prompt_logprobs": n}).json()
    check(model, model.chat_tokens(MESSAGES), chat["prompt_logprobs"], n)
    for path, sent, expected in (
        (COMPLETIONS, body, choice["prompt_logprobs"]),
        (CHAT, {"messages": MESSAGES, "max_tokens": 4, "prompt_logprobs": n}, chat["prompt_logprobs"]),
    ):
        with server.client.stream("POST", path, json=sent | {"stream": True}) as response:
            first, *_ = events(response)
        assert (first if path == CHAT else first["choices"][0])["prompt_logprobs"] == expected


def test_there_are_none_unless_asked_and_what_is_wrong_is_named(server: Served, model: TriMode) -> None:
    assert "prompt_logprobs" not in server.post(COMPLETIONS, {"prompt": PROMPT, "max_tokens": 1}).text
    assert "prompt_logprobs" not in server.post(CHAT, {"messages": MESSAGES, "max_tokens": 1}).text
    error = error_of(server.post(COMPLETIONS, {"prompt": PROMPT, "prompt_logprobs": -1}))
    assert error["param"] == "prompt_logprobs" and "must be 0 or more" in error["message"]
    with pytest.raises(ValueError, match="prompt_logprobs -1: must be 0 or more"):
        model.create_completion(PROMPT, prompt_logprobs=-1)
    with pytest.raises(TypeError, match="prompt_logprobs: expected a whole number, got 'x'"):
        model.create_chat_completion(MESSAGES, prompt_logprobs="x")  # type: ignore[call-overload]


def test_ends_come_from_requests(server: Served, model: TriMode) -> None:
    body = {"messages": MESSAGES, "max_tokens": 60}
    plain = server.post(CHAT, body).json()
    n = plain["usage"]["completion_tokens"]
    later = server.post(CHAT, body | {"min_tokens": n + 5}).json()
    assert later["usage"]["completion_tokens"] >= n + 5
    first = model.tokenize(plain["choices"][0]["message"]["content"], add_bos=False)[2]
    cut = server.post(CHAT, body | {"stop_token_ids": [first]}).json()
    assert cut["usage"]["completion_tokens"] < n and cut["choices"][0]["finish_reason"] == "stop"
    for fields, name in (
        ({"min_tokens": 61}, "min_tokens"),
        ({"min_tokens": -2}, "min_tokens"),
        ({"stop_token_ids": [10**6]}, "stop_token_ids"),
        ({"stop_token_ids": "x"}, "stop_token_ids"),
    ):
        assert error_of(server.post(CHAT, body | fields))["param"] == name


@pytest.mark.slow
def test_a_full_cache_is_busy_and_no_fault_of_the_server(q8_gguf: Path) -> None:
    scored = {"prompt": [400] * 1000, "echo": True, "logprobs": 1, "max_tokens": 0}
    with served(loader(q8_gguf, 4096, n_parallel=2)) as server:
        long = LONG | {"prompt": [300] * 3600, "loop_window": 0, "stream": True}
        with server.client.stream("POST", COMPLETIONS, json=long) as response:
            lines = (line for line in response.iter_lines() if line.startswith("data"))
            next(lines)
            busy = server.post(COMPLETIONS, scored)
            assert busy.status_code == 503 and busy.headers["Retry-After"] == "1"
            assert "the cache has no room" in error_of(busy)["message"]
        assert server.post(COMPLETIONS, scored).status_code == 200


def test_python_names_a_full_cache(q8_gguf: Path) -> None:
    with TriMode(q8_gguf, n_ctx=256, n_threads=1, n_parallel=2) as model:
        running = model.generate([300] * 150, ignore_eos=True, loop_window=0)
        next(running)
        with pytest.raises(CacheFullError):
            model.create_completion([400] * 150, prompt_logprobs=0, max_tokens=1)
        running.close()  # type: ignore[attr-defined]
