"""Streams of all APIs that wait for a slot: each has a sign of life that its real client passes over."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anthropic
import ollama
import openai
import pytest
from support.serving import LONG, LONG_CONTEXT, PATIENCE, Served, loader, served, until

from pytrimode.server import answers

HELLO: Any = [{"role": "user", "content": "Hello"}]


def by_anthropic(url: str) -> str:
    options: Any = {"model": "any", "messages": HELLO, "max_tokens": 500}
    with (
        anthropic.Anthropic(base_url=url, api_key="none", max_retries=0, timeout=PATIENCE) as client,
        client.messages.stream(**options) as stream,
    ):
        return "".join(stream.text_stream)


def by_responses(url: str) -> str:
    with (
        openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0, timeout=PATIENCE) as client,
        client.responses.stream(model="any", input="Hello") as stream,
    ):
        return stream.get_final_response().output_text


def by_ollama(url: str) -> str:
    client = ollama.Client(host=url, timeout=PATIENCE, trust_env=False)
    return "".join(part.message.content or "" for part in client.chat(model="any", messages=HELLO, stream=True))


CASES: dict[str, tuple[str, dict[str, Any], list[str], Callable[[str], str]]] = {
    "anthropic": (
        "/v1/messages", {"messages": HELLO, "max_tokens": 4}, ["event: message_start", "event: ping", "event: ping"],
        by_anthropic,
    ),
    "responses": (
        "/v1/responses", {"input": "Hello"},
        ["event: response.created", "event: response.in_progress", ": waiting"], by_responses,
    ),
    "ollama": ("/api/chat", {"messages": HELLO}, ['"content":""', '"done":false', '"content":""'], by_ollama),
}  # fmt: skip


def lines_of(server: Served, path: str, body: dict[str, Any], n: int) -> list[str]:
    """The first lines that are no data of an event."""
    with server.client.stream("POST", path, json=body | {"stream": True}) as response:
        told = (line for line in response.iter_lines() if line and not line.startswith("data: "))
        return [next(told) for _ in range(n)]


@pytest.mark.parametrize("api", CASES)
def test_a_stream_that_waits_says_so(q8_gguf: Path, monkeypatch: pytest.MonkeyPatch, api: str) -> None:
    path, body, expected, read = CASES[api]
    with served(loader(q8_gguf, LONG_CONTEXT)) as server, ThreadPoolExecutor(1) as pool:
        text = read(server.url)
        monkeypatch.setattr(answers, "PATIENCE", 0.1)
        monkeypatch.setattr(answers, "SILENCE", 0.1)
        with server.client.stream("POST", "/v1/completions", json=LONG | {"stream": True}) as busy:
            lines = busy.iter_lines()
            next(lines)
            found = lines_of(server, path, body, len(expected))
            assert all(part in line for part, line in zip(expected, found, strict=True)), found
            until(lambda: server.host.desk.waiting == 0)
            answer = pool.submit(read, server.url)
            until(lambda: server.host.desk.waiting == 1)
            lines_of(server, path, body, len(expected))  # by now the other has had as many
            busy.close()
        assert answer.result(PATIENCE) == text and text
