"""`tools` and `tool_choice` of a request: what the template is given, how the answer is read, what it is held to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytrimode.formats.constraint import Constraint
from pytrimode.formats.gbnf import TokenOf
from pytrimode.formats.generic_tools import knows_tools, spelled_out
from pytrimode.formats.tool_calls import GENERIC, ToolFormat, forced_call_grammar, tool_format
from pytrimode.formats.tool_parser import ToolCallParser
from pytrimode.formats.tools import Tool, named

if TYPE_CHECKING:
    from pytrimode.formats.chat_template import ChatTemplate

AUTO, NONE, REQUIRED = "auto", "none", "required"


@dataclass(frozen=True)
class Tools:
    """What a request says of tools. Without any, `offered` is empty."""

    offered: Sequence[Tool] = ()
    choice: str = NONE
    form: ToolFormat | None = None
    """None: the template writes calls in a way that is not known; they stay text."""
    parallel: bool = True
    """Whether an answer may have more than one call; else what comes behind the first one is dropped."""

    @classmethod
    def of(
        cls,
        tools: Sequence[Mapping[str, Any]] | None,
        tool_choice: str | Mapping[str, Any] | None,
        template: ChatTemplate,
        *,
        parallel: bool = True,
    ) -> Tools:
        """OpenAI's fields. Raises ValueError for tools that are none and for a choice that cannot be kept."""
        offered = [_checked(tool) for tool in tools or ()]
        choice, only = _choice(tool_choice)
        if only is not None:
            offered = named(offered, only)
            if not offered:
                shown = only if len(only) <= 60 else only[:60] + "..."
                raise ValueError(f"tool_choice: there is no function {shown!r} in tools")
        if not offered and choice == REQUIRED:
            raise ValueError("tool_choice: required needs tools")
        if not offered or choice == NONE:
            return cls()
        form = tool_format(template.source) if _has_place(template) else GENERIC
        if choice == REQUIRED and form is None:
            raise ValueError(
                "tool_choice: the chat template writes calls in a way that is not known, so the model cannot be held "
                "to one: use auto"
            )
        return cls(offered, choice, form, parallel)

    @property
    def variables(self) -> dict[str, Any]:
        """For the template."""
        return {"tools": self.offered, "tool_choice": self.choice} if self.offered else {}

    def messages(self, messages: Sequence[Mapping[str, Any]], template: ChatTemplate) -> list[dict[str, Any]]:
        """Messages as a template takes them: earlier calls with objects for arguments; all of it as text for a template
        without a place for tools.

        Raises ValueError for arguments that are not JSON.
        """
        opened = [_with_objects(message) for message in messages]
        return opened if _has_place(template) else spelled_out(opened, self.offered)

    def parser(self) -> ToolCallParser | None:
        """For one answer."""
        return ToolCallParser(self.form, self.offered, single=not self.parallel) if self.form else None

    def constraint(self, token_of: TokenOf, *, reasoning_open: bool) -> Constraint | None:
        """Return what leaves nothing but a call, where one is required.

        Raises ValueError for parameters with a keyword that cannot be kept.
        """
        if self.choice != REQUIRED or self.form is None:
            return None
        return forced_call_grammar(self.form, self.offered, token_of, reasoning_open=reasoning_open)


def _has_place(template: ChatTemplate) -> bool:
    return knows_tools(template.source, template.variables)


def _checked(tool: Any) -> Tool:
    function = tool.get("function") if isinstance(tool, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str) or not function["name"]:
        raise ValueError('tools: each must be {"type": "function", "function": {"name": ..., "parameters": ...}}')
    return dict(tool)


def _choice(wanted: str | Mapping[str, Any] | None) -> tuple[str, str | None]:
    """OpenAI's words, and the function that is asked for by name."""
    if wanted is None:
        return AUTO, None
    if isinstance(wanted, str) and wanted in (AUTO, NONE, REQUIRED):
        return wanted, None
    function = wanted.get("function") if isinstance(wanted, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str):
        raise ValueError('tool_choice: use auto, none, required or {"type": "function", "function": {"name": ...}}')
    return REQUIRED, name


def _with_objects(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message with the arguments of its calls as objects, not as JSON in a string."""
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
            raise ValueError("messages: the arguments of a tool call are not JSON") from None
    if arguments is None:
        arguments = {}
    elif not isinstance(arguments, dict):
        arguments = {"value": arguments}  # templates go through them by name
    return {**call, "function": {**function, "arguments": arguments}}
