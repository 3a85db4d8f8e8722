"""The body of `/v1/responses`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field, model_validator

from pytrimode.server.apis.field_table import FieldTable
from pytrimode.server.schema import Body, Int32

FIELDS = FieldTable(
    kept={
        "input": "text, or items: messages of text and images, `function_call`, `function_call_output`, `reasoning`",
        "instructions": "a system message in front of the others",
        "max_output_tokens": "`max_tokens`",
        "text": "`format` as `response_format`",
        "reasoning": "`effort` as `reasoning_effort`; reasoning comes as it is, without a summary",
        "tools": "functions; tools that OpenAI runs are refused",
        "tool_choice": "also `allowed_tools`",
        "parallel_tool_calls": "as in a chat completion",
        "store": "left out it is false: nothing is stored; true is refused",
        "include": "`reasoning.encrypted_content` and what only hosted tools give have no effect",
        "metadata": "comes back in the response",
        "stream": "",
    },
    idle=(
        "model", "user", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
        "prompt_cache_options", "client_metadata", "stream_options", "access_programs",
    ),
    refused={
        "background": (False,),
        "background_options": (),
        "context_management": ([],),
        "conversation": (),
        "image": (),
        "max_tool_calls": (),
        "moderation": (),
        "previous_response_id": (),
        "prompt": (),
        "top_logprobs": (0,),
        "truncation": ("disabled",),
    },
)  # fmt: skip


class ResponsesRequest(Body):
    """`POST /v1/responses`; what else there is are options of ours."""

    model_config = ConfigDict(extra="allow")

    input: str | Annotated[list[dict[str, Any]], Field(min_length=1)]
    instructions: str | None = None
    max_output_tokens: Int32 | None = None
    text: dict[str, Any] | None = None
    reasoning: dict[str, Any] | None = None
    tools: Annotated[list[dict[str, Any]], Field(max_length=128)] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    store: bool | None = None
    include: list[str] | None = None
    metadata: dict[str, Any] | None = None
    stream: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _known(cls, body: Any) -> Any:
        return FIELDS.checked(body) if isinstance(body, dict) else body
