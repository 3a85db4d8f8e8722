"""The form in which answers go out, one for each API: `answers` runs them, a form writes them."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from pytrimode.answers.results import Measured
from pytrimode.server.errors import ApiError
from pytrimode.server.prompts import Object

encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def event(data: Object, name: str = "") -> bytes:
    """Return a server-sent event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {encode(data)}\n\n".encode()


class Form(ABC):
    """Writes the answers to one request, either whole or as a stream."""

    media_type = "text/event-stream"
    """Of a stream."""

    @abstractmethod
    def whole(self, results: Sequence[Object], measured: Measured) -> Any:
        """Return the body of a response. `measured`: of all results together."""

    def opening(self) -> bytes:
        """Return what a stream begins with, before anything is computed."""
        return b""

    def waiting(self) -> bytes:
        """Return what says in a stream that it goes on."""
        return b": waiting\n\n"

    @abstractmethod
    def chunk(self, chunk: Object) -> bytes:
        """Return a chunk of an answer as it goes out."""

    @abstractmethod
    def closing(self, measured: Measured) -> bytes:
        """Return the end of a stream whose answers are all finished."""

    @abstractmethod
    def failed(self, error: ApiError) -> bytes:
        """Return the end of a stream that fails."""


class OpenAiForm(Form):
    """That of `/v1/chat/completions` and `/v1/completions`."""

    def __init__(self, *, include_usage: bool = False) -> None:
        """`include_usage`: the stream has a last chunk with `usage` and no choices."""
        self._include_usage = include_usage
        self._head: Object = {}

    def whole(self, results: Sequence[Object], measured: Measured) -> Object:
        """Return the first result with the choices of all."""
        return results[0] | {"choices": [result["choices"][0] for result in results]} | dict(measured)

    def chunk(self, chunk: Object) -> bytes:
        """Return the chunk; its usage comes in one of its own, for those who ask for it."""
        chunk.pop("usage", None)
        delta = chunk["choices"][0].get("delta", {})
        if "role" in delta:
            delta.setdefault("content", "")
        self._head = {name: chunk[name] for name in ("id", "object", "created", "model")}
        return event(chunk | {"usage": None} if self._include_usage else chunk)

    def closing(self, measured: Measured) -> bytes:
        """Return the usage, where it is wanted, and OpenAI's last word."""
        usage = event({**self._head, "choices": [], **measured}) if self._include_usage else b""
        return usage + b"data: [DONE]\n\n"

    def failed(self, error: ApiError) -> bytes:
        """Return the error; there is no [DONE] then."""
        return event(error.body)


def image_tokens(measured: Measured) -> Object:
    """Return `image_tokens`, of the prompt, where it has images: for APIs that have no place of their own for them."""
    details = measured["usage"]["prompt_tokens_details"]
    return {"image_tokens": details["image_tokens"]} if "image_tokens" in details else {}
