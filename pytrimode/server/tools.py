"""`tools` and `tool_choice` of a request: what the template is given, how the answer is read, what it is held to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pytrimode.formats.chat_template import ChatTemplate
from pytrimode.formats.gbnf import TokenOf
from pytrimode.formats.generic_tools import knows_tools
from pytrimode.formats.tool_calls import GENERIC, ToolCallParser, ToolFormat, forced_call_grammar, named, tool_format
from pytrimode.options.generation_options import GenerationOptions
from pytrimode.server.errors import ApiError
from pytrimode.server.schema import TemplateFields
from pytrimode.server.threads import CHARS_HELD


@dataclass(frozen=True)
class Tools:
    """What a request says of tools. Without any, `offered` is empty."""

    offered: list[dict[str, Any]]
    choice: str
    form: ToolFormat | None
    """None: the template writes calls in a way that is not known; they stay text."""

    @classmethod
    def of(cls, body: TemplateFields, template: ChatTemplate) -> Tools:
        """Read the tools of a request. Raises ApiError for a choice that cannot be kept."""
        offered = [tool.model_dump(exclude_unset=True) for tool in body.tools or []]
        choice, only = _choice(body.tool_choice)
        if only is not None:
            offered = named(offered, only)
            if not offered:
                raise ApiError(400, f"tool_choice: there is no function {only!r} in tools", param="tool_choice")
        if not offered and choice == "required":
            raise ApiError(400, "tool_choice: required needs tools", param="tool_choice")
        if not offered or choice == "none":
            return cls([], "none", None)
        generic = not knows_tools(template.source, template.variables)
        form = GENERIC if generic else tool_format(template.source)
        if choice == "required" and form is None:
            raise ApiError(400, "tool_choice: the chat template writes calls in a way that is not known, so the model "
                           "cannot be held to one: use auto", param="tool_choice")  # fmt: skip
        return cls(offered, choice, form)

    @property
    def variables(self) -> dict[str, Any]:
        """For the template."""
        return {"tools": self.offered, "tool_choice": self.choice} if self.offered else {}

    def parser(self) -> ToolCallParser | None:
        """For one answer."""
        return ToolCallParser(self.form, self.offered) if self.form else None

    def constrain(self, options: GenerationOptions, token_of: TokenOf, *, reasoning_open: bool) -> GenerationOptions:
        """With a grammar that leaves nothing but a call, where one is required."""
        if self.choice != "required" or self.form is None:
            return options
        if options.sampling.grammar:
            raise ApiError(400, "give a required tool_choice, or grammar or response_format, not both", param="tools")
        if (n := len(json.dumps(self.offered))) > CHARS_HELD:
            raise ApiError(400, f"tools has {n} characters: at most {CHARS_HELD} where a call is required")
        grammar = forced_call_grammar(self.form, self.offered, token_of, reasoning_open=reasoning_open)
        return replace(options, sampling=replace(options.sampling, grammar=grammar))


def _choice(wanted: str | dict[str, Any] | None) -> tuple[str, str | None]:
    """OpenAI's words, and the function that is asked for by name."""
    if wanted is None:
        return "auto", None
    if isinstance(wanted, str) and wanted in ("auto", "none", "required"):
        return wanted, None
    function = wanted.get("function") if isinstance(wanted, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str):
        raise ApiError(
            400, 'tool_choice: use auto, none, required or {"type": "function", "function": {"name": ...}}',
            param="tool_choice",
        )  # fmt: skip
    return "required", name


def template_message(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message as templates take it: the arguments of earlier calls as objects, not as JSON in a string."""
    calls = message.get("tool_calls")
    if not isinstance(calls, list):
        return dict(message)
    return {**message, "tool_calls": [_opened(call) for call in calls]}


def _opened(call: Any) -> Any:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping):
        return call
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            raise ApiError(400, "messages: the arguments of a tool call are not JSON", param="messages") from None
    if arguments is None:
        arguments = {}
    elif not isinstance(arguments, dict):
        arguments = {"value": arguments}  # templates go through them by name
    return {**call, "function": {**function, "arguments": arguments}}
