"""The keyword arguments of single methods, for type checkers; nothing else imports this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pytrimode.options.arguments import RequestArguments


class CompletionArguments(RequestArguments, total=False):
    """Keyword arguments of `create_completion`."""

    logprobs: int | None
    echo: bool | None
    images: Sequence[Any] | None
    prompt_logprobs: int | None


class ChatArguments(RequestArguments, total=False):
    """Keyword arguments of `create_chat_completion`."""

    logprobs: bool | None
    top_logprobs: int | None
    enable_thinking: bool | None
    reasoning_format: str | None
    chat_template_kwargs: Mapping[str, Any] | None
    response_format: Mapping[str, Any] | None
    tools: Sequence[Mapping[str, Any]] | None
    tool_choice: str | Mapping[str, Any] | None
    prompt_logprobs: int | None
