"""Tools and calls in OpenAI's shapes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:
    from typing_extensions import NotRequired

Tool = dict[str, Any]
"""OpenAI's: {"type": "function", "function": {"name": ..., "description": ..., "parameters": a JSON schema}}."""


class CalledFunction(TypedDict):
    """`arguments`: a JSON object as text, as the model wrote it."""

    name: str
    arguments: str


class ToolCall(TypedDict):
    """OpenAI's."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class FunctionDelta(TypedDict):
    """`name`: in the first delta of a call; `arguments`: what is added to them."""

    name: NotRequired[str]
    arguments: str


class ToolCallDelta(TypedDict):
    """What a chunk adds to a call; `index`: its number in the answer. `id` and `type` are in the first one."""

    index: int
    id: NotRequired[str]
    type: NotRequired[Literal["function"]]
    function: FunctionDelta


def joined(deltas: Iterable[ToolCallDelta]) -> list[ToolCall]:
    """Return the calls that the deltas add up to."""
    calls: list[ToolCall] = []
    for delta in deltas:
        function = delta["function"]
        if "name" in function:
            called: CalledFunction = {"name": function["name"], "arguments": function["arguments"]}
            calls.append({"id": delta["id"], "type": "function", "function": called})
        else:
            calls[-1]["function"]["arguments"] += function["arguments"]
    return calls


def named(tools: Iterable[Tool], name: str) -> list[Tool]:
    """Return the tool of that name, if there is one."""
    return [tool for tool in tools if tool.get("function", {}).get("name") == name]


def properties_of(tools: Sequence[Tool]) -> Mapping[str, Any]:
    """Return the schemas of the arguments of the first tool; none for no tool."""
    found = ((tools[0]["function"].get("parameters") or {}) if tools else {}).get("properties")
    return found if isinstance(found, Mapping) else {}
