"""The bodies of `/v1/messages` and `/v1/messages/count_tokens`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from pytrimode.server.apis.field_table import FieldTable
from pytrimode.server.schema import Body, StopString

FIELDS = FieldTable(
    kept={
        "messages": "content as text or blocks `text`, `image` (base64), `tool_use`, `tool_result`, `thinking`, "
        "`document` (of text); a last one of the assistant is continued",
        "system": "a message in front of the others",
        "max_tokens": "may be left out: to the end of the context",
        "stop_sequences": "`stop`",
        "tools": "functions, those with an `input_schema`; tools that Anthropic runs are refused",
        "tool_choice": "`tool_choice`; `disable_parallel_tool_use` is `parallel_tool_calls: false`",
        "thinking": "`enabled` is `enable_thinking` with `max_thinking_tokens`, `disabled` its opposite; `adaptive` is "
        "the server's default",
        "output_config": "`format` as `response_format`; `effort` as the chat template's variable `reasoning_effort`",
        "output_format": "as `output_config.format`",
        "stream": "",
    },
    idle=("model", "metadata", "service_tier", "cache_control", "inference_geo", "diagnostics"),
    refused={
        "container": (),
        "context_management": ({}, {"edits": []}, {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}),
        "mcp_servers": ([],),
        "speed": ("standard",),
        "user_profile_id": (),
        "workspace_id": (),
    },
)


class AnthropicMessage(Body):
    """A turn. What may be in `content`: docs/server.md."""

    role: Literal["user", "assistant", "system"]
    content: str | list[dict[str, Any]]


class CountTokensRequest(Body):
    """`POST /v1/messages/count_tokens`; options of ours are taken and change nothing."""

    model_config = ConfigDict(extra="allow")

    messages: Annotated[list[AnthropicMessage], Field(min_length=1)]
    system: str | list[dict[str, Any]] | None = None
    tools: Annotated[list[dict[str, Any]], Field(max_length=128)] | None = None
    tool_choice: dict[str, Any] | None = None
    thinking: dict[str, Any] | None = None
    output_config: dict[str, Any] | None = None
    output_format: dict[str, Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _known(cls, body: Any) -> Any:
        return FIELDS.checked(body) if isinstance(body, dict) else body


class MessagesRequest(CountTokensRequest):
    """`POST /v1/messages`; what else there is are options of ours."""

    stop_sequences: Annotated[list[StopString], Field(max_length=16)] | None = None
    stream: bool | None = None
