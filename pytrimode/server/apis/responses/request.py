"""From items to messages."""

from __future__ import annotations

from typing import Any

from pytrimode.server.apis.chat import asked
from pytrimode.server.apis.parts import Part, parts, refused, shown, without_images
from pytrimode.server.apis.responses.schema import ResponsesRequest
from pytrimode.server.schema import ChatCompletionRequest

_INCLUDED = (
    "reasoning.encrypted_content", "file_search_call.results", "web_search_call.results",
    "web_search_call.action.sources", "message.input_image.image_url", "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
)  # fmt: skip
_ROLES = ("user", "assistant", "system", "developer")


def chat_request(body: ResponsesRequest) -> ChatCompletionRequest:
    """Return the same request in our words. Raises FieldError for what cannot be kept, by its path."""
    if body.store:
        raise refused("store", "true is not supported: nothing is stored")
    for name in body.include or []:
        if name not in _INCLUDED:
            raise refused("include", f"{shown(name)} is not supported")
    messages = _Messages(body.instructions)
    if isinstance(body.input, str):
        messages.add({"role": "user", "content": body.input})
    else:
        for item in parts(body.input, "input"):
            messages.take(item)
    fields: dict[str, Any] = {
        "messages": messages.done(), "stream": body.stream, "parallel_tool_calls": body.parallel_tool_calls,
        **_tools(body), **_reasoning(body), **_format(body),
    }  # fmt: skip
    options = dict(body.model_extra or {})
    if body.max_output_tokens is not None:
        options["max_tokens"] = body.max_output_tokens
    return asked(ChatCompletionRequest, options | {name: value for name, value in fields.items() if value is not None})


class _Messages:
    """Messages made of items: reasoning, text and calls of the assistant that follow each other are one turn."""

    def __init__(self, instructions: str | None) -> None:
        self._made: list[dict[str, Any]] = [{"role": "system", "content": instructions}] if instructions else []
        self._turn: dict[str, Any] = {}
        self._images: list[dict[str, Any]] = []  # of results; they come behind the last of these

    def add(self, message: dict[str, Any]) -> None:
        """Add a message that is not the assistant's."""
        self._end_turn()
        self._show_images()
        self._made.append(message)

    def done(self) -> list[dict[str, Any]]:
        """Return all messages."""
        self._end_turn()
        self._show_images()
        return self._made

    def take(self, item: Part) -> None:
        """Add an item. Raises FieldError for one of a type that is not known here."""
        kind = item.maybe("type", str) or "message"
        if kind == "message":
            self._message(item)
        elif kind == "function_call":
            function = {"name": item.of("name", str), "arguments": item.of("arguments", str)}
            call = {"id": item.of("call_id", str), "type": "function", "function": function}
            self._turn.setdefault("tool_calls", []).append(call)
            item.end("id", "status", "caller", "async")
        elif kind == "function_call_output":
            text, images = without_images(_content(item, "output"))
            self._end_turn()
            self._made.append({"role": "tool", "tool_call_id": item.of("call_id", str), "content": text})
            self._images += images
            item.end("id", "status", "caller", "name")
        elif kind == "reasoning":
            self._reasoning(item)
        else:
            raise refused(f"{item.where}.type", f"{shown(kind)} is not supported")

    def _message(self, item: Part) -> None:
        role = item.one_of("role", _ROLES)
        content = _content(item, "content")
        item.end("id", "status", "phase")
        if role != "assistant":
            return self.add({"role": role, "content": content})
        if "content" in self._turn or "tool_calls" in self._turn:
            self._end_turn()
        self._turn["content"] = content
        return None

    def _reasoning(self, item: Part) -> None:
        if self._turn:
            self._end_turn()
        told = item.any("content") or item.any("summary") or []
        texts = [Part(part, f"{item.where}.content") for part in told] if isinstance(told, list) else []
        self._turn["reasoning_content"] = "\n".join(part.of("text", str) for part in texts)
        item.end("id", "status", "summary", "encrypted_content")

    def _show_images(self) -> None:
        if self._images:
            self._made.append({"role": "user", "content": self._images})
            self._images = []

    def _end_turn(self) -> None:
        if self._turn.keys() - {"reasoning_content"}:
            self._show_images()
            self._made.append({"role": "assistant", "content": None, **self._turn})
        self._turn = {}


def _content(item: Part, name: str) -> str | list[dict[str, Any]]:
    """Return text where there is nothing else: most templates want that."""
    content = item.any(name)
    if isinstance(content, str):
        return content
    if content is None:
        raise refused(f"{item.where}.{name}", "is missing")
    said = [_said(part) for part in parts(content, f"{item.where}.{name}")]
    if all(part["type"] == "text" for part in said):
        return "\n".join(part["text"] for part in said)
    return said


def _said(part: Part) -> dict[str, Any]:
    kind = part.of("type", str)
    if kind in ("input_text", "output_text", "text"):
        text = part.of("text", str)
        part.end("annotations", "logprobs", "prompt_cache_breakpoint")
        return {"type": "text", "text": text}
    if kind == "refusal":
        text = part.of("refusal", str)
        part.end()
        return {"type": "text", "text": text}
    if kind == "input_image":
        image = {"url": part.of("image_url", str), "detail": part.maybe("detail", str) or "auto"}
        part.end("prompt_cache_breakpoint")
        return {"type": "image_url", "image_url": image}
    raise refused(f"{part.where}.type", f"{shown(kind)} is not supported")


def _tools(body: ResponsesRequest) -> dict[str, Any]:
    tools: list[dict[str, Any]] = []
    for tool in parts(body.tools or [], "tools"):
        if (kind := tool.of("type", str)) != "function":
            raise refused(f"{tool.where}.type", f"{shown(kind)} is not supported: only functions are")
        function = {"name": tool.of("name", str), "parameters": tool.maybe("parameters", dict)}
        if description := tool.maybe("description", str):
            function["description"] = description
        tool.end("strict", "allowed_callers", "output_schema")
        tools.append({"type": "function", "function": function})
    choice: Any = body.tool_choice
    if isinstance(choice, dict):
        part = Part(choice, "tool_choice")
        kind = part.one_of("type", ["function", "allowed_tools"])
        if kind == "function":
            choice = {"type": "function", "function": {"name": part.of("name", str)}}
        else:
            choice = part.one_of("mode", ["auto", "required"])
            names = [one.maybe("name", str) for one in parts(part.of("tools", list), "tool_choice.tools")]
            tools = [tool for tool in tools if tool["function"]["name"] in names]
        part.end()
    return {"tools": tools or None, "tool_choice": choice}


def _reasoning(body: ResponsesRequest) -> dict[str, Any]:
    if body.reasoning is None:
        return {}
    reasoning = Part(body.reasoning, "reasoning")
    effort = reasoning.maybe("effort", str)
    reasoning.end("summary", "generate_summary")
    return {"reasoning_effort": effort}


def _format(body: ResponsesRequest) -> dict[str, Any]:
    if body.text is None:
        return {}
    text = Part(body.text, "text")
    if text.maybe("verbosity", str) not in (None, "medium"):
        raise refused("text.verbosity", "is not supported: leave it out")
    form = text.maybe("format", dict)
    text.end()
    if form is None:
        return {}
    wanted = Part(form, "text.format")
    kind = wanted.one_of("type", ["text", "json_object", "json_schema"])
    found: dict[str, Any] = {"type": kind}
    if kind == "json_schema":
        found["json_schema"] = {"schema": wanted.of("schema", dict)}
    wanted.end("name", "strict", "description")
    return {"response_format": found}
