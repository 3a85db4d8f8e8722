"""Tools for chat templates without a place for them: told in the system message, called as JSON between tags."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pytrimode.formats.tool_calls import GENERIC
from pytrimode.formats.tools import Tool

_HOW = """You can call functions. Each of these lines is one, with a JSON schema of its arguments:

{tools}

To call one, write nothing but
{begin}{{"name": "the function's name", "arguments": {{...}}}}{end}
Its result comes in the next message. Answer in words where no function is needed."""


def knows_tools(source: str, variables: frozenset[str]) -> bool:
    """Whether a chat template has a place for tools."""
    return "tools" in variables or "tool_calls" in source


def spelled_out(messages: Sequence[Mapping[str, Any]], tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """Return the messages with tools, calls and results as text."""
    spoken = [_spoken(message) for message in messages]
    if not tools:
        return spoken
    lines = "\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in tools)
    text = _HOW.format(tools=lines, begin=GENERIC.begin, end=GENERIC.end)
    if spoken and spoken[0].get("role") in ("system", "developer") and isinstance(spoken[0].get("content"), str):
        return [{**spoken[0], "content": f"{spoken[0]['content']}\n\n{text}"}, *spoken[1:]]
    return [{"role": "system", "content": text}, *spoken]


def _spoken(message: Mapping[str, Any]) -> dict[str, Any]:
    role, content = message.get("role"), message.get("content")
    if role == "tool":
        return {"role": "user", "content": f"<tool_response>\n{_text(content)}\n</tool_response>"}
    calls = message.get("tool_calls")
    if role != "assistant" or not isinstance(calls, list) or not calls:
        return dict(message)
    functions = [call.get("function", {}) for call in calls if isinstance(call, Mapping)]
    written = [
        GENERIC.begin
        + json.dumps({"name": one.get("name"), "arguments": one.get("arguments")}, ensure_ascii=False)
        + GENERIC.end
        for one in functions
    ]
    rest = {key: value for key, value in message.items() if key != "tool_calls"}
    return {**rest, "content": "\n".join(filter(None, [_text(content), *written]))}


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    return content if isinstance(content, str) else ""
