"""What the cache holds of one key's prompts is nobody else's: not in `cached_tokens`, and not in the time they take."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.serving import LONG_CONTEXT, Served, loader, served, until

COMPLETIONS = "/v1/completions"
PROMPT = "My secret is 4711. " * 20


def cached(server: Served, key: str, body: dict[str, Any] | None = None) -> int:
    answer = server.post(COMPLETIONS, {"prompt": PROMPT, "max_tokens": 2} | (body or {}), headers={"X-Api-Key": key})
    usage: dict[str, Any] = answer.json()["usage"]
    return int(usage["prompt_tokens_details"]["cached_tokens"])


@pytest.mark.parametrize("scope", [None, "key", "shared"])
def test_a_key_finds_its_own_prompts_only(q8_gguf: Path, scope: str | None) -> None:
    settings = {"cache_scope": scope} if scope else {}
    with served(loader(q8_gguf, 1024), api_keys=("a", "b"), **settings) as server:
        assert cached(server, "a") == 0
        assert (cached(server, "b") > 100) == (scope == "shared")
        assert cached(server, "a") > 100 and cached(server, "b") > 100


def test_prompts_that_were_scored_are_their_keys_too(q8_gguf: Path) -> None:
    with served(loader(q8_gguf, 1024), api_keys=("a", "b")) as server:
        cached(server, "a", {"echo": True, "logprobs": 1, "max_tokens": 0})
        assert cached(server, "b", {"echo": True, "logprobs": 1, "max_tokens": 0}) == 0
        assert cached(server, "b") > 100 and cached(server, "a") > 100


def test_the_answer_is_the_same_whoever_came_before(q8_gguf: Path) -> None:
    def text(server: Served, key: str) -> str:
        body = {"prompt": PROMPT, "max_tokens": 24, "temperature": 0, "mode": "self-spec"}
        answer: str = server.post(COMPLETIONS, body, headers={"X-Api-Key": key}).json()["choices"][0]["text"]
        return answer

    with served(loader(q8_gguf, 1024, n_parallel=2), api_keys=("a", "b")) as server:
        assert len({text(server, key) for key in ("a", "b", "a", "b")}) == 1


def test_slots_tell_no_text_of_a_running_request(tiny_gguf: Callable[[str], Path]) -> None:
    with served(loader(tiny_gguf("q8_0"), LONG_CONTEXT), api_keys=("a", "b")) as server:
        body = {"prompt": [201, 202, 203], "suffix": "the end of a secret", "max_tokens": 480, "stop": ["secret-stop"],
                "mode": "diffusion", "steps": 480, "logit_bias": {"777": 1}, "grammar": ""}  # fmt: skip
        answers: list[Any] = []
        thread = threading.Thread(
            target=lambda: answers.append(server.post(COMPLETIONS, body, headers={"X-Api-Key": "a"}).json())
        )
        thread.start()
        seen: list[Any] = []

        def runs() -> bool:
            seen.append(server.get("/slots", headers={"X-Api-Key": "b"}).json())
            return "params" in seen[-1][0] or bool(answers)

        until(runs)
        told = json.dumps(seen[-1])
        server.server.host.end_all()
        thread.join()
    assert '"is_processing": true' in told, answers
    assert not {"suffix", "stop", "logit_bias", "grammar"} & seen[-1][0]["params"].keys()
    assert "secret" not in told and "777" not in told
