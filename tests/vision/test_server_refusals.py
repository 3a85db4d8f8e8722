"""What is refused whichever API an image comes by, and by a server that has no vision tower."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.serving import Served, loader, served
from support.vlm import picture

from pytrimode import TriMode
from pytrimode.vision.picture import open_picture

DATA = open_picture(picture(56, 56)).data_uri()
FETCHED = "nothing is fetched"


def openai(url: str) -> tuple[str, dict[str, Any]]:
    part = {"type": "image_url", "image_url": {"url": url}}
    return "/v1/chat/completions", {"messages": [{"role": "user", "content": [part]}]}


def responses(url: str) -> tuple[str, dict[str, Any]]:
    return "/v1/responses", {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": url}]}]}


def anthropic(url: str) -> tuple[str, dict[str, Any]]:
    """The media type, as a URI has it, and the data."""
    kind, _, data = url.removeprefix("data:").partition(";base64,")
    block = {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}}
    return "/v1/messages", {"max_tokens": 1, "messages": [{"role": "user", "content": [block]}]}


def anthropic_url(url: str) -> tuple[str, dict[str, Any]]:
    block = {"type": "image", "source": {"type": "url", "url": url}}
    return "/v1/messages", {"max_tokens": 1, "messages": [{"role": "user", "content": [block]}]}


def ollama(image: str) -> tuple[str, dict[str, Any]]:
    return "/api/chat", {"messages": [{"role": "user", "content": "", "images": [image]}]}


def ollama_generate(image: str) -> tuple[str, dict[str, Any]]:
    return "/api/generate", {"prompt": "a", "images": [image]}


@pytest.fixture(scope="module")
def server(vlm_gguf: Path) -> Iterator[Served]:
    with served(loader(vlm_gguf, 256)) as running:
        yield running


@pytest.fixture(scope="module")
def blind(vlm_gguf: Path) -> Iterator[Served]:
    with served(lambda: TriMode(vlm_gguf, n_ctx=256, n_threads=1, mmproj=None)) as running:
        yield running


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (openai("https://example.org/a.png"), FETCHED), (openai("ftp://example.org/a.png"), FETCHED),
        (openai(DATA.partition(",")[2]), FETCHED), (openai("data:image/tiff;base64,AAAA"), FETCHED),
        (responses("https://example.org/a.png"), FETCHED), (responses("file:///etc/passwd"), FETCHED),
        (responses("/etc/passwd"), FETCHED),
        (anthropic("data:image/svg+xml;base64,AAAA"), FETCHED), (anthropic("data:image/png;base64,!"), "base64"),
        (anthropic_url("https://example.org/a.png"), "source.type must be base64"),
        (ollama("https://example.org/a.png"), "base64"), (ollama("/etc/passwd"), "base64"),
        (ollama("/etc/hosts+/"), "cannot be decoded"),
        (ollama(DATA), "base64"), (ollama_generate("./a.png"), "base64"),
        (ollama_generate("file:///etc/passwd"), "base64"),
    ],
)  # fmt: skip
def test_nothing_is_fetched_by_any_api(request_: tuple[str, dict[str, Any]], said: str, server: Served) -> None:
    path, body = request_
    answer = server.post(path, body)
    assert answer.status_code == 400
    assert said in answer.text


@pytest.mark.parametrize(
    "request_",
    [openai(DATA), responses(DATA), anthropic(DATA), ollama(DATA.partition(",")[2])],
    ids=["openai", "responses", "anthropic", "ollama"],
)
def test_a_server_without_a_tower(request_: tuple[str, dict[str, Any]], blind: Served) -> None:
    path, body = request_
    answer = blind.post(path, body)
    assert answer.status_code == 400
    assert "vision tower" in answer.text
    assert blind.get("/props").json()["modalities"]["vision"] is False
