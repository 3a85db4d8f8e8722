"""From Ollama's messages and prompts to OpenAI's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pytrimode.server.apis.chat import asked
from pytrimode.server.apis.ollama.schema import OPTION_FIELDS, GenerateRequest, OllamaChatRequest
from pytrimode.server.apis.parts import Part, parts, refused
from pytrimode.server.schema import ChatCompletionRequest, CompletionRequest

INFILL_MAX_TOKENS = 128
"""Of a request with a `suffix` that names no number."""


def chat_request(body: OllamaChatRequest) -> ChatCompletionRequest:
    """Return the same request in our words. Raises FieldError for what cannot be kept, by its path."""
    messages = [_message(message) for message in parts(body.messages, "messages")]
    fields = _fields(body) | {"messages": messages}
    if messages[-1]["role"] == "assistant" and "tool_calls" not in messages[-1]:
        fields["continue_final_message"] = True
    if body.tools:
        fields["tools"] = [{"type": "function", **tool} for tool in body.tools]
    return asked(ChatCompletionRequest, fields)


def generate_request(body: GenerateRequest) -> ChatCompletionRequest | CompletionRequest:
    """Return the same request in our words; with `raw` or a `suffix` it is one without a chat template."""
    prompt = body.prompt or ""
    if not body.raw and not body.suffix:
        messages = [{"role": "system", "content": body.system}] if body.system else []
        messages.append({"role": "user", "content": _with_images(prompt, body.images)})  # type: ignore[dict-item]
        return asked(ChatCompletionRequest, _fields(body) | {"messages": messages})
    for name in ("images", "system", "think"):
        if getattr(body, name):
            raise refused(name, "does not go with raw or a suffix")
    fields = _fields(body, chat=False)
    if fields.get("max_tokens") in (None, -1):
        fields["max_tokens"] = INFILL_MAX_TOKENS if body.suffix else -1  # a gap has a length
    return asked(CompletionRequest, {**fields, "prompt": prompt, "suffix": body.suffix})


def _fields(body: OllamaChatRequest | GenerateRequest, *, chat: bool = True) -> dict[str, Any]:
    fields = OPTION_FIELDS.checked(body.options or {})
    if (n := fields.pop("num_predict", None)) is not None:
        fields["max_tokens"] = -1 if n == -2 else n
    fields["stream"] = body.stream is not False
    if body.format:
        fields["response_format"] = _format(body.format)
    if body.logprobs:
        fields |= (
            {"logprobs": True, "top_logprobs": body.top_logprobs} if chat else {"logprobs": body.top_logprobs or 0}
        )
    elif body.top_logprobs:
        raise refused("top_logprobs", "needs logprobs: true")
    if chat and isinstance(body.think, str):
        fields["reasoning_effort"] = body.think
    elif chat and body.think is not None:
        fields["chat_template_kwargs"] = {"enable_thinking": body.think}
    return fields


def _format(form: str | dict[str, Any]) -> dict[str, Any]:
    if isinstance(form, dict):
        return {"type": "json_schema", "json_schema": {"schema": form}}
    if form != "json":
        raise refused("format", 'must be "json" or a JSON schema')
    return {"type": "json_object"}


def _message(part: Part) -> dict[str, Any]:
    role = part.one_of("role", ["system", "user", "assistant", "tool"])
    message: dict[str, Any] = {"role": role, "content": _with_images(part.maybe("content", str) or "",
                                                                     part.maybe("images", list))}  # fmt: skip
    if role == "assistant":
        if thinking := part.maybe("thinking", str):
            message["reasoning_content"] = thinking
        if calls := part.any("tool_calls"):
            where = f"{part.where}.tool_calls"
            message["tool_calls"] = [_call(call, i) for i, call in enumerate(parts(calls, where))]
    if role == "tool":
        message |= {"name": part.maybe("tool_name", str), "tool_call_id": part.maybe("tool_call_id", str)}
    part.end()
    return message


def _call(call: Part, index: int) -> dict[str, Any]:
    function = Part(call.of("function", dict), f"{call.where}.function")
    called = {
        "name": function.of("name", str),
        "arguments": json.dumps(function.maybe("arguments", dict) or {}, ensure_ascii=False),
    }
    function.end("index")
    found = {"id": call.maybe("id", str) or f"call_{index}", "type": "function", "function": called}
    call.end("type")
    return found


def _with_images(text: str, images: Sequence[Any] | None) -> str | list[dict[str, Any]]:
    if not images:
        return text
    for image in images:
        if not isinstance(image, str):
            raise refused("images", "must be base64")
    # The kind of a picture is read from its bytes.
    shown = [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}} for image in images]
    return [*shown, {"type": "text", "text": text}]
