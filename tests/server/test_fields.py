"""Fields of a request that change what comes back: logprobs, infill, reasoning, the live view."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from support.serving import Served, error_of, events

from pytrimode import TriMode

MESSAGES = [{"role": "user", "content": "Sort these numbers: 52, 31, 97"}]
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
THINKING = {"chat_template_kwargs": {"enable_thinking": True}, "max_thinking_tokens": 12}


def streamed(server: Served, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    with server.client.stream("POST", path, json=body | {"stream": True}) as response:
        *chunks, done = events(response)
    assert done == "[DONE]"
    return chunks


@pytest.mark.parametrize("mode", ["ar", "self-spec", "diffusion"])
def test_logprobs_are_those_of_trimode(server: Served, model: TriMode, mode: str) -> None:
    options: dict[str, Any] = {"mode": mode, "max_tokens": 12}
    expected: Any = model.create_chat_completion(MESSAGES, logprobs=True, top_logprobs=2, temperature=0.0, **options)
    body = {"messages": MESSAGES, "logprobs": True, "top_logprobs": 2, **options}
    assert server.post(CHAT, body).json()["choices"] == expected["choices"]
    parts = [chunk["choices"][0]["logprobs"] for chunk in streamed(server, CHAT, body)]
    joined = [token for part in parts if part for token in part["content"]]
    assert joined == expected["choices"][0]["logprobs"]["content"]

    expected = model.create_completion("Hello", logprobs=3, echo=True, temperature=0.0, **options)
    body = {"prompt": "Hello", "logprobs": 3, "echo": True, **options}
    assert server.post(COMPLETIONS, body).json()["choices"] == expected["choices"]


def test_infill(server: Served, model: TriMode) -> None:
    expected: Any = model.create_completion(
        "def add(a, b):\n", suffix="\n\nprint(add(1, 2))", max_tokens=8, temperature=0.0
    )
    body = {"prompt": "def add(a, b):\n", "suffix": "\n\nprint(add(1, 2))", "max_tokens": 8}
    assert server.post(COMPLETIONS, body).json()["choices"] == expected["choices"]
    assert "suffix" in error_of(server.post(COMPLETIONS, body | {"max_tokens": -1}))["message"]


def test_a_loop_is_trimmed_on_request(server: Served, model: TriMode) -> None:
    options: dict[str, Any] = {"grammar": 'root ::= "147x" root', "loop_window": 60, "logprobs": 0, "max_tokens": 200}
    whole = server.post(COMPLETIONS, {"prompt": "Hello", **options}).json()["choices"][0]
    assert whole["finish_reason"] == "stop" and whole["finish_details"]["type"] == "loop"
    for echo in (False, True):
        expected: Any = model.create_completion("Hello", temperature=0.0, trim_loop=True, echo=echo, **options)
        body = {"prompt": "Hello", "trim_loop": True, "echo": echo, **options}
        (choice,) = server.post(COMPLETIONS, body).json()["choices"]
        assert choice == expected["choices"][0]
        assert len(choice["text"]) < len(whole["text"]) and len(choice["logprobs"]["tokens"]) == 4 + 2 * echo
    chunks = streamed(server, COMPLETIONS, {"prompt": "Hello", "trim_loop": True, **options})
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == whole["text"]


def test_reasoning_comes_apart(server: Served, model: TriMode) -> None:
    body = {"messages": MESSAGES, "max_tokens": 60, **THINKING}
    expected: Any = model.create_chat_completion(
        MESSAGES, max_tokens=60, enable_thinking=True, max_thinking_tokens=12, temperature=0.0
    )
    (choice,) = server.post(CHAT, body).json()["choices"]
    assert choice == expected["choices"][0] and choice["message"]["reasoning_content"]
    deltas = [chunk["choices"][0]["delta"] for chunk in streamed(server, CHAT, body)]
    for name in ("reasoning_content", "content"):
        assert "".join(delta.get(name, "") for delta in deltas) == choice["message"][name]
    inline = server.post(CHAT, body | {"reasoning_format": "none"}).json()["choices"][0]["message"]
    assert "reasoning_content" not in inline and "</think>" in inline["content"]
    assert "unknown reasoning_format" in error_of(server.post(CHAT, body | {"reasoning_format": "x"}))["message"]


def test_the_live_view_of_diffusion_shows_each_pass(server: Served) -> None:
    body = {
        "messages": MESSAGES,
        "max_tokens": 40,
        "mode": "diffusion",
        "block_length": 8,
        "threshold": 1.0,
        "live": True,
    }
    chunks = streamed(server, CHAT, body)
    passes = [chunk["live"] for chunk in chunks if "live" in chunk]
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert "".join(token for one in passes for token in one.get("tokens", [])) == text
    blocks = [one["block"] for one in passes if "block" in one]
    assert any(None in block for block in blocks) and all(len(block) <= 8 for block in blocks)
    for before, after in itertools.pairwise(blocks):
        if None in before:  # the same block, one pass later: nothing decided is taken back
            assert before.count(None) > after.count(None)
            assert all(old is None or old == new for old, new in zip(before, after, strict=False))
    decided = [token for block in blocks for token in block if token]
    assert all(0 < token["p"] <= 1 for token in decided)
    assert [token["end"] for token in blocks[-1] if token] == [False] * (len(blocks[-1]) - 1) + [True]
    assert len(passes) <= chunks[-1]["timings"]["forward_passes"] + 1


def test_the_live_view_of_self_spec_shows_drafts_and_what_became_of_them(server: Served) -> None:
    body = {"messages": MESSAGES, "max_tokens": 60, "live": True, "mode": "self-spec"}
    chunks = streamed(server, CHAT, body)
    passes = [chunk["live"] for chunk in chunks if "live" in chunk]
    timings = chunks[-1]["timings"]
    assert sum(len(one.get("draft", [])) for one in passes) == timings["draft_n"] > 0
    assert sum(one.get("accepted", 0) for one in passes) == timings["draft_n_accepted"] > 0
    for draft, verified in itertools.pairwise(passes):
        if "draft" in draft:
            n = verified["accepted"]
            assert verified["tokens"][:n] == draft["draft"][: len(verified["tokens"][:n])]


def test_there_is_no_live_view_unless_asked(server: Served) -> None:
    assert not any("live" in chunk for chunk in streamed(server, CHAT, {"messages": MESSAGES, "max_tokens": 8}))
    assert "live" not in server.post(CHAT, {"messages": MESSAGES, "max_tokens": 8, "live": True}).text


@pytest.mark.parametrize("mode", ["ar", "self-spec", "diffusion"])
def test_each_counted_pass_is_shown_and_the_prompts_last_one(server: Served, mode: str) -> None:
    """The pass that finds the end of generation too, which is no token of the answer."""
    body = {"messages": MESSAGES, "max_tokens": 60, "temperature": 0, "live": True, "mode": mode, "stream": True}
    chunks = streamed(server, CHAT, body)
    passes = [chunk["live"] for chunk in chunks if "live" in chunk]
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert len(passes) == 1 + chunks[-1]["timings"]["forward_passes"]
