"""The bodies of errors, in the shape of the API whose route was asked."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Shaped = dict[str, Any]

_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


class AnthropicErrorObject(BaseModel):
    """What went wrong."""

    model_config = ConfigDict(extra="allow")

    type: str
    message: str


class AnthropicError(BaseModel):
    """Anthropic's body of every response that is no success."""

    type: Literal["error"]
    error: AnthropicErrorObject


class OllamaError(BaseModel):
    """Ollama's body of every response that is no success."""

    error: str


def shaped(path: str, body: Shaped) -> Shaped:
    """Return OpenAI's error body as the API of a path has it."""
    if is_anthropic(path):
        return anthropic_error(body)
    if is_ollama(path):
        return {"error": body["error"]["message"]}
    return body


def is_anthropic(path: str) -> bool:
    """Whether a path is one of Anthropic's API."""
    return path.removeprefix("/v1") in ("/messages", "/messages/count_tokens")


def is_ollama(path: str) -> bool:
    """Whether a path is one of Ollama's API."""
    return path.startswith("/api/")


def anthropic_error(body: Shaped) -> Shaped:
    """Return an error body as Anthropic has it; `param` and `code` stay, which clients do not mind."""
    error = body["error"]
    usual = "invalid_request_error" if error["code"] < 500 else "api_error"
    return {"type": "error", "error": {**error, "type": _ANTHROPIC_TYPES.get(error["code"], usual)}}
