"""From Anthropic's messages to OpenAI's."""

from __future__ import annotations

import json
from typing import Any

from pytrimode.server.apis.anthropic.schema import CountTokensRequest, MessagesRequest
from pytrimode.server.apis.chat import asked
from pytrimode.server.apis.parts import Part, parts, refused, shown, without_images
from pytrimode.server.schema import ChatCompletionRequest

_HINTS = ("cache_control", "citations", "transformations")
"""Of blocks: no answer depends on them."""
_TOOL_HINTS = ("cache_control", "strict", "eager_input_streaming", "input_examples")


def chat_request(body: CountTokensRequest) -> ChatCompletionRequest:
    """Return the same request in our words. Raises FieldError for what cannot be kept, by its path."""
    fields: dict[str, Any] = dict(body.model_extra or {})
    messages = _system(body.system)
    for i, message in enumerate(body.messages):
        messages += _turns(message.role, message.content, f"messages.{i}.content")
    fields |= {"messages": messages, **_tools(body), **_thinking(body), **_output(body)}
    if messages[-1]["role"] == "assistant" and "tool_calls" not in messages[-1]:
        fields["continue_final_message"] = True
    if isinstance(body, MessagesRequest):
        fields |= {"stream": body.stream, "stop": body.stop_sequences or fields.get("stop")}
    return asked(ChatCompletionRequest, fields)


def _system(system: str | list[dict[str, Any]] | None) -> list[dict[str, Any]]:
    if not system:
        return []
    return [{"role": "system", "content": system if isinstance(system, str) else _texts(system, "system")}]


def _texts(blocks: Any, where: str) -> str:
    """Return blocks that are nothing but text."""
    texts = []
    for block in parts(blocks, where):
        block.one_of("type", ["text"])
        texts.append(block.of("text", str))
        block.end(*_HINTS)
    return "\n".join(texts)


def _turns(role: str, content: str | list[dict[str, Any]], where: str) -> list[dict[str, Any]]:
    """Return what a turn becomes: the results of tools in messages of their own, before what is said to them."""
    if isinstance(content, str):
        return [{"role": role, "content": content}]
    if role == "system":
        return [{"role": role, "content": _texts(content, where)}]
    said: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    turn: dict[str, Any] = {}
    for block in parts(content, where):
        kind = block.of("type", str)
        if kind in ("text", "image", "document"):
            said.append(_said(kind, block))
        elif kind == "tool_result" and role == "user":
            result, images = _result(block)
            results.append(result)
            said += images
        elif kind == "tool_use" and role == "assistant":
            turn.setdefault("tool_calls", []).append(_call(block))
        elif kind == "thinking" and role == "assistant":
            turn["reasoning_content"] = turn.get("reasoning_content", "") + block.of("thinking", str)
            block.end("signature", *_HINTS)
        elif kind != "redacted_thinking":  # which none but its maker can read
            raise refused(f"{block.where}.type", f"{shown(kind)} is not supported in a turn of the {role}")
    if role == "user":
        return [*results, *([{"role": role, "content": _content(said)}] if said or not results else [])]
    return [{"role": role, "content": _content(said), **turn}]


def _said(kind: str, block: Part) -> dict[str, Any]:
    if kind == "text":
        text = block.of("text", str)
        block.end(*_HINTS)
        return {"type": "text", "text": text}
    source = Part(block.of("source", dict), f"{block.where}.source")
    block.end("title", "context", *_HINTS)
    if kind == "document":
        source.one_of("type", ["text"])
        text = source.of("data", str)
        source.end("media_type")
        return {"type": "text", "text": text}
    source.one_of("type", ["base64"])
    url = f"data:{source.of('media_type', str)};base64,{source.of('data', str)}"
    source.end()
    return {"type": "image_url", "image_url": {"url": url}}


def _content(said: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """Return text where there is nothing else: most templates want that."""
    if all(part["type"] == "text" for part in said):
        return "\n".join(part["text"] for part in said)
    return said


def _result(block: Part) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the message of a result, and its images, which the user's message behind it takes."""
    content = block.any("content")
    if isinstance(content, list):
        inner = parts(content, f"{block.where}.content")
        content = _content([_said(one.one_of("type", ["text", "image"]), one) for one in inner])
    elif content is not None and not isinstance(content, str):
        raise refused(f"{block.where}.content", "must be text or a list of blocks")
    text, images = without_images(content or "")
    if block.maybe("is_error", bool):
        text = f"Error: {text}"
    message = {"role": "tool", "tool_call_id": block.of("tool_use_id", str), "content": text}
    block.end(*_HINTS)
    return message, images


def _call(block: Part) -> dict[str, Any]:
    function = {"name": block.of("name", str), "arguments": json.dumps(block.of("input", dict), ensure_ascii=False)}
    call = {"id": block.of("id", str), "type": "function", "function": function}
    block.end("caller", *_HINTS)
    return call


def _tools(body: CountTokensRequest) -> dict[str, Any]:
    tools = []
    for tool in parts(body.tools or [], "tools"):
        if (kind := tool.maybe("type", str)) not in (None, "custom"):
            raise refused(f"{tool.where}.type", f"{shown(kind or '')} is not supported: only functions are")
        function = {"name": tool.of("name", str), "parameters": tool.of("input_schema", dict)}
        if description := tool.maybe("description", str):
            function["description"] = description
        tool.end(*_TOOL_HINTS)
        tools.append({"type": "function", "function": function})
    if body.tool_choice is None:
        return {"tools": tools or None}
    choice = Part(body.tool_choice, "tool_choice")
    kind = choice.one_of("type", ["auto", "any", "tool", "none"])
    named = {"type": "function", "function": {"name": choice.of("name", str)}} if kind == "tool" else None
    parallel = not choice.maybe("disable_parallel_tool_use", bool)
    choice.end()
    return {
        "tools": tools or None,
        "tool_choice": named or {"any": "required"}.get(kind, kind),
        "parallel_tool_calls": parallel,
    }


def _thinking(body: CountTokensRequest) -> dict[str, Any]:
    if body.thinking is None:
        return {}
    thinking = Part(body.thinking, "thinking")
    kind = thinking.one_of("type", ["enabled", "disabled", "adaptive"])
    budget = thinking.of("budget_tokens", int) if kind == "enabled" else None
    thinking.end("display")
    if kind == "adaptive":
        return {}
    return {"chat_template_kwargs": {"enable_thinking": kind == "enabled"}, "max_thinking_tokens": budget}


def _output(body: CountTokensRequest) -> dict[str, Any]:
    form, found = body.output_format, dict[str, Any]()
    if body.output_config is not None:
        config = Part(body.output_config, "output_config")
        form = config.maybe("format", dict) or form
        if effort := config.maybe("effort", str):
            thinking = _thinking(body).get("chat_template_kwargs", {})
            found["chat_template_kwargs"] = {**thinking, "reasoning_effort": effort}
        config.end()
    if form is not None:
        wanted = Part(form, "output_config.format")
        wanted.one_of("type", ["json_schema"])
        found["response_format"] = {"type": "json_schema", "json_schema": {"schema": wanted.of("schema", dict)}}
        wanted.end("name")
    return found
