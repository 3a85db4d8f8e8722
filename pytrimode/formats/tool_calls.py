"""Tool calls in the text of a model: each family's way to write them, as its chat template shows it."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypedDict

from pytrimode.formats.constraint import Constraint, checked, json_rule
from pytrimode.formats.gbnf import TokenOf
from pytrimode.formats.json_schema import moved, pointed_at, type_of, types_of
from pytrimode.formats.lark import literal, token

Tool = dict[str, Any]
"""OpenAI's: {"type": "function", "function": {"name": ..., "description": ..., "parameters": a JSON schema}}."""


class CalledFunction(TypedDict):
    """`arguments`: a JSON object as text."""

    name: str
    arguments: str


class ToolCall(TypedDict):
    """OpenAI's."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class Call(NamedTuple):
    """A function and its arguments, as the model wrote them."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class ToolFormat:
    """How a family of models writes calls."""

    begin: str
    end: str
    """Empty: the calls go on to the end of the text."""
    parse: Callable[[str, Sequence[Tool]], list[Call]]
    """The calls between `begin` and `end`. Raises ValueError, KeyError or TypeError for what is no call."""
    grammar: Callable[[Sequence[Tool], TokenOf], str]
    """Lark rules, `call` among them: one call to one of the tools, without `begin` and `end`."""


def tool_format(template: str) -> ToolFormat | None:
    """Return the format that a chat template writes calls in; None where it is none that is known here."""
    for marks, found in _FORMATS:
        if all(mark in template for mark in marks):
            return found
    return None


def forced_call_grammar(
    form: ToolFormat, tools: Sequence[Tool], token_of: TokenOf, *, reasoning_open: bool
) -> Constraint:
    """Return what leaves nothing but a call, after the reasoning where the prompt has opened it. `token_of`: the id of
    a special token by its name, or -1.

    Raises ValueError for parameters with a keyword that cannot be kept.
    """
    ends = [_tag(form.begin, token_of), "call", _tag(form.end, token_of)]
    try:
        rules = f"start: {' '.join(filter(None, ends))}\n{form.grammar(tools, token_of)}\n"
        return checked(rules, "tools", after_reasoning=reasoning_open)
    except (ValueError, TypeError, AttributeError) as error:
        message = str(error)
        raise ValueError(message if message.startswith("tools: ") else f"tools: {message}") from None


def named(tools: Iterable[Tool], name: str) -> list[Tool]:
    """Return the tool of that name, if there is one."""
    return [tool for tool in tools if tool.get("function", {}).get("name") == name]


class Pieces(NamedTuple):
    """What a piece of text added."""

    content: str
    calls: list[ToolCall]


class ToolCallParser:
    """Feeds on pieces of text, gives out content and finished calls.

    What comes out is the same however the text is cut. Calls that cannot be read come out as content.
    """

    def __init__(self, form: ToolFormat, tools: Sequence[Tool]) -> None:
        self._form = form
        self._tools = tools
        self._held = ""
        self._inside = False
        self.n_calls = 0

    def feed(self, text: str) -> Pieces:
        """Return what became final."""
        self._held += text
        content, calls = "", list[ToolCall]()
        while True:
            tag = self._form.end if self._inside else self._form.begin
            head, found, tail = self._held.partition(tag) if tag else (self._held, "", "")
            if not found:
                break
            self._held = tail
            if not self._inside:
                content += head.rstrip()
            elif not self._give(head, calls):
                content += self._form.begin + head + tag
            self._inside = not self._inside
        if not self._inside:
            keep = self._possible_begin()
            content, self._held = content + self._held[:keep], self._held[keep:]
        return Pieces(content, calls)

    def finish(self) -> Pieces:
        """Return what was held back, once no more text comes."""
        calls: list[ToolCall] = []
        content = self._held
        if self._inside:
            # A model may end its turn without the tag; a call that was cut off cannot be read.
            content = "" if self._give(self._held, calls) else self._form.begin + self._held
        elif self.n_calls:
            content = content.rstrip()
        self._held, self._inside = "", False
        return Pieces(content, calls)

    def _give(self, body: str, calls: list[ToolCall]) -> bool:
        """Add the calls; False where there are none."""
        try:
            found = self._form.parse(body, self._tools)
        except (ValueError, KeyError, TypeError):
            found = []
        for call in found:
            arguments = json.dumps(call.arguments, ensure_ascii=False)
            calls.append(
                {
                    "id": f"call_{uuid.uuid4().hex[:24]}",
                    "type": "function",
                    "function": {"name": call.name, "arguments": arguments},
                }
            )
        self.n_calls += len(found)
        return bool(found)

    def _possible_begin(self) -> int:
        """Where white space and a part of the tag begin that may belong to a call."""
        text, tag = self._held, self._form.begin
        first = max(0, len(text) - len(tag) + 1)
        end = next((i for i in range(first, len(text)) if tag.startswith(text[i:])), len(text))
        return len(text[:end].rstrip())


# --- <tool_call><function=name><parameter=key>value</parameter></function></tool_call>: Nemotron 3, Qwen3-Coder -------

_FUNCTION = re.compile(r"<function=([^>\n]+)>(.*?)</function>", re.DOTALL)
_PARAMETER = re.compile(r"<parameter=([^>\n]+)>\n?(.*?)\n?</parameter>", re.DOTALL)


def _parse_tags(body: str, tools: Sequence[Tool]) -> list[Call]:
    calls = []
    for name, inner in _FUNCTION.findall(body):
        tool = named(tools, name)
        properties, parameters = _properties(tool), (tool[0]["function"].get("parameters") or {}) if tool else {}
        arguments = {
            key: _typed(value, properties.get(key, {}), parameters) for key, value in _PARAMETER.findall(inner)
        }
        calls.append(Call(name, arguments))
    return calls


def _properties(tools: Sequence[Tool]) -> Mapping[str, Any]:
    found = ((tools[0]["function"].get("parameters") or {}) if tools else {}).get("properties")
    return found if isinstance(found, Mapping) else {}


def _typed(value: str, schema: Any, parameters: Mapping[str, Any]) -> Any:
    """Return a value in its type: any but a string is written as JSON."""
    types = types_of(schema, parameters)
    try:
        found = json.loads(value)
    except ValueError:
        return value
    if "string" not in types:
        return found
    kinds = {"integer", "number"} if type_of(found) == "integer" else {type_of(found)}
    return found if kinds & (types - {"string"}) else value


def _choices(schema: Any, root: Mapping[str, Any], depth: int = 0) -> list[str]:
    """All values of a schema as they are written between tags; none where they are not named."""
    if not isinstance(schema, Mapping) or depth > 10:
        return []
    if "const" in schema or schema.get("enum"):
        values = [schema["const"]] if "const" in schema else schema["enum"]
        return [value if isinstance(value, str) else json.dumps(value) for value in values]
    if isinstance(reference := schema.get("$ref"), str):
        return _choices(pointed_at(reference, root), root, depth + 1)
    ways = [_choices(way, root, depth + 1) for way in schema.get("anyOf") or []]
    return [choice for way in ways for choice in way] if ways and all(ways) else []


def _tags_grammar(tools: Sequence[Tool], token_of: TokenOf) -> str:
    del token_of
    calls, rules = [], [r"TEXT: /(?:[^<]|<[^\/])*\n<\/parameter>\n/"]
    for i, tool in enumerate(tools):
        function = tool["function"]
        parameters = _parameters(function)
        required = parameters.get("required") or []
        parts = [literal(f"\n<function={function['name']}>\n")]
        for j, name in enumerate(_properties([tool])):
            value, rule = _value_grammar(parameters, name, f"value_{i}_{j}")
            rules.append(rule)
            part = f"{literal(f'<parameter={name}>' + chr(10))} {value}"
            parts.append(part if name in required else f"( {part} )?")
        rules.append(f"call_{i}: {' '.join(parts)} {literal('</function>' + chr(10))}")
        calls.append(f"call_{i}")
    return "\n".join([f"call: {' | '.join(calls)}", *filter(None, rules)])


def _value_grammar(parameters: Mapping[str, Any], name: str, rule: str) -> tuple[str, str]:
    """Return what stands for a value, up to the line behind it, and the rules that takes."""
    schema = parameters["properties"][name]
    end = literal("\n</parameter>\n")
    if "string" in types_of(schema, parameters):
        choices = _choices(schema, parameters)
        return (f"( {' | '.join(map(literal, choices))} ) {end}" if choices else "TEXT"), ""
    pointer = "#/$defs/0/properties/" + name.replace("~", "~0").replace("/", "~1")
    held = {"$ref": pointer, "$defs": {"0": moved(parameters, "#/$defs/0")}}
    return f"{rule} {end}", f"{rule}: {json_rule(held)}"


# --- JSON, between tags or in a list ---------------------------------------------------------------------------------


def _parse_json(body: str, tools: Sequence[Tool]) -> list[Call]:
    found = json.loads(body)
    return [_call_of(item) for item in (found if isinstance(found, list) else [found])]


def _call_of(item: Any) -> Call:
    if not isinstance(item, dict):
        raise TypeError("no call")
    arguments = item.get("arguments", item.get("parameters", {}))
    if isinstance(arguments, str):
        arguments = json.loads(arguments)
    if not isinstance(item["name"], str) or not isinstance(arguments, dict):
        raise TypeError("no call")
    return Call(item["name"], arguments)


def _json_grammar(tools: Sequence[Tool], token_of: TokenOf) -> str:
    del token_of
    return f"call: {json_rule(_any_call(tools))}"


def _list_grammar(tools: Sequence[Tool], token_of: TokenOf) -> str:
    del token_of
    return f'call: "[" item "]"\nitem: {json_rule(_any_call(tools))}'


def _any_call(tools: Sequence[Tool]) -> dict[str, Any]:
    """Return the schema of a call to one of the tools."""
    return {
        "anyOf": [_call_schema(tool["function"]["name"], f"#/$defs/{i}") for i, tool in enumerate(tools)],
        "$defs": {str(i): moved(_parameters(tool["function"]), f"#/$defs/{i}") for i, tool in enumerate(tools)},
    }


def _call_schema(name: str, arguments: str) -> dict[str, Any]:
    properties = {"name": {"const": name}, "arguments": {"$ref": arguments}}
    required = ["name", "arguments"]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _parameters(function: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of a function's arguments: an object's, whatever it says."""
    found = function.get("parameters") or {}
    if not isinstance(found, dict):
        raise ValueError(f"the parameters of {function.get('name')} are no schema")
    return {"type": "object", **found}


# --- [TOOL_CALLS]name[ARGS]{...}: Mistral since 2025 ------------------------------------------------------------------

_ARGS = "[ARGS]"
_TOOL_CALLS = "[TOOL_CALLS]"
_CALL_ID = "[CALL_ID]"


def _parse_args(body: str, tools: Sequence[Tool]) -> list[Call]:
    calls = []
    for part in body.split(_TOOL_CALLS):
        name, found, arguments = part.partition(_ARGS)
        if not found:
            raise ValueError("no call")
        calls.append(_call_of({"name": name.partition(_CALL_ID)[0].strip(), "arguments": arguments}))
    return calls


def _args_grammar(tools: Sequence[Tool], token_of: TokenOf) -> str:
    rules = []
    for i, tool in enumerate(tools):
        function = tool["function"]
        rules.append(f"call_{i}: {literal(function['name'])} {_tag(_ARGS, token_of)} args_{i}")
        rules.append(f"args_{i}: {json_rule(_parameters(function))}")
    return "\n".join([f"call: {' | '.join(f'call_{i}' for i in range(len(tools)))}", *rules])


def _tag(text: str, token_of: TokenOf) -> str:
    """Return a tag, by its token where it has one; nothing for none."""
    found = token_of(text) if text else -1
    return token(found) if found >= 0 else literal(text) if text else ""


GENERIC = ToolFormat("<tool_call>", "</tool_call>", _parse_json, _json_grammar)
"""For templates without a place for tools; see `generic_tools`."""

_FORMATS: tuple[tuple[tuple[str, ...], ToolFormat], ...] = (
    (("<tool_call>", "<function="), ToolFormat("<tool_call>", "</tool_call>", _parse_tags, _tags_grammar)),
    (("<tool_call>",), GENERIC),
    (("<TOOLCALL>",), ToolFormat("<TOOLCALL>", "</TOOLCALL>", _parse_json, _list_grammar)),
    ((_TOOL_CALLS, _ARGS), ToolFormat(_TOOL_CALLS, "", _parse_args, _args_grammar)),
    ((_TOOL_CALLS,), ToolFormat(_TOOL_CALLS, "", _parse_json, _list_grammar)),
)
"""What a template must name, the most particular first."""

TAGS = ("<tool_call>", "</tool_call>", "<TOOLCALL>", "</TOOLCALL>", _TOOL_CALLS, _CALL_ID, _ARGS)
"""Special tokens in some vocabularies; part of the text, or calls could not be told from it."""
