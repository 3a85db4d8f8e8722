"""Tool calls in the text of a model: each family's way to write them, as its chat template shows it."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypedDict

from pytrimode.formats.reasoning_grammar import after_reasoning, renamed

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
    grammar: Callable[[Sequence[Tool]], str]
    """GBNF rules, `call` among them: one call to one of the tools, without `begin` and `end`."""


def tool_format(template: str) -> ToolFormat | None:
    """The format that a chat template writes calls in; None where it is none that is known here."""
    for marks, found in _FORMATS:
        if all(mark in template for mark in marks):
            return found
    return None


def forced_call_grammar(form: ToolFormat, tools: Sequence[Tool], *, reasoning_open: bool) -> str:
    """GBNF that leaves nothing but a call, after the reasoning where the prompt has opened it.

    Raises ValueError for parameters that cannot be translated.
    """
    root = " ".join(filter(None, (_text(form.begin), "call", _text(form.end))))
    grammar = f"root ::= {root}\n{form.grammar(tools)}\n"
    return after_reasoning(grammar) if reasoning_open else grammar


def named(tools: Iterable[Tool], name: str) -> list[Tool]:
    """The tool of that name, if there is one."""
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
        """What became final."""
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
        """What was held back, once no more text comes."""
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
        properties = _properties(named(tools, name))
        arguments = {key: _typed(value, properties.get(key, {})) for key, value in _PARAMETER.findall(inner)}
        calls.append(Call(name, arguments))
    return calls


def _properties(tools: Sequence[Tool]) -> Mapping[str, Any]:
    found = ((tools[0]["function"].get("parameters") or {}) if tools else {}).get("properties")
    return found if isinstance(found, Mapping) else {}


def _typed(value: str, schema: Any) -> Any:
    """A value of any type but string is written as JSON."""
    kind = schema.get("type") if isinstance(schema, Mapping) else None
    if kind == "string":
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _tags_grammar(tools: Sequence[Tool]) -> str:
    calls, rules = [], [r'text ::= ( [^<] | "<" [^/] )*']
    for i, tool in enumerate(tools):
        function = tool["function"]
        required = (function.get("parameters") or {}).get("required") or []
        parts = [_text(f"\n<function={function['name']}>\n")]
        for j, (name, schema) in enumerate(_properties([tool]).items()):
            value, rule = _value_grammar(schema, f"value-{i}-{j}")
            rules.append(rule)
            part = f"{_text(f'<parameter={name}>' + chr(10))} {value} {_text(chr(10) + '</parameter>' + chr(10))}"
            parts.append(part if name in required else f"( {part} )?")
        rules.append(f"call-{i} ::= {' '.join(parts)} {_text('</function>' + chr(10))}")
        calls.append(f"call-{i}")
    return "\n".join([f"call ::= {' | '.join(calls)}", *filter(None, rules)])


def _value_grammar(schema: Any, name: str) -> tuple[str, str]:
    """What stands for a value, and the rules that takes."""
    if not isinstance(schema, Mapping) or schema.get("type") != "string":
        return name, _gbnf(schema if isinstance(schema, Mapping) else {}, name)
    choices = schema.get("enum") or []
    return (f"( {' | '.join(_text(str(choice)) for choice in choices)} )" if choices else "text"), ""


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


def _json_grammar(tools: Sequence[Tool]) -> str:
    return _gbnf({"anyOf": [_call_schema(tool["function"]) for tool in tools]}, "call")


def _list_grammar(tools: Sequence[Tool]) -> str:
    return f'call ::= "[" item "]"\n{_gbnf({"anyOf": [_call_schema(tool["function"]) for tool in tools]}, "item")}'


def _call_schema(function: Mapping[str, Any]) -> dict[str, Any]:
    properties = {"name": {"const": function["name"]}, "arguments": function.get("parameters") or {"type": "object"}}
    return {"type": "object", "properties": properties, "required": ["name", "arguments"]}


# --- [TOOL_CALLS]name[ARGS]{...}: Mistral since 2025 ------------------------------------------------------------------

_ARGS = "[ARGS]"
_TOOL_CALLS = "[TOOL_CALLS]"


def _parse_args(body: str, tools: Sequence[Tool]) -> list[Call]:
    calls = []
    for part in body.split(_TOOL_CALLS):
        name, found, arguments = part.partition(_ARGS)
        if not found:
            raise ValueError("no call")
        calls.append(_call_of({"name": name.strip(), "arguments": arguments}))
    return calls


def _args_grammar(tools: Sequence[Tool]) -> str:
    rules = []
    for i, tool in enumerate(tools):
        function = tool["function"]
        rules.append(f"call-{i} ::= {_text(function['name'] + _ARGS)} args-{i}")
        rules.append(_gbnf(function.get("parameters") or {"type": "object"}, f"args-{i}"))
    return "\n".join([f"call ::= {' | '.join(f'call-{i}' for i in range(len(tools)))}", *rules])


def _text(text: str) -> str:
    """A GBNF literal; "" for no text."""
    return json.dumps(text, ensure_ascii=False) if text else ""


def _gbnf(schema: Mapping[str, Any], root: str) -> str:
    """The rules of a schema under names of their own; its root is called `root`."""
    from pytrimode.formats.response_format import schema_grammar

    return renamed(schema_grammar(schema, "tools"), root)


_FORMATS: tuple[tuple[tuple[str, ...], ToolFormat], ...] = (
    (("<tool_call>", "<function="), ToolFormat("<tool_call>", "</tool_call>", _parse_tags, _tags_grammar)),
    (("<tool_call>",), ToolFormat("<tool_call>", "</tool_call>", _parse_json, _json_grammar)),
    (("<TOOLCALL>",), ToolFormat("<TOOLCALL>", "</TOOLCALL>", _parse_json, _list_grammar)),
    ((_TOOL_CALLS, _ARGS), ToolFormat(_TOOL_CALLS, "", _parse_args, _args_grammar)),
    ((_TOOL_CALLS,), ToolFormat(_TOOL_CALLS, "", _parse_json, _list_grammar)),
)
"""What a template must name, the most particular first."""

TAGS = ("<tool_call>", "</tool_call>", "<TOOLCALL>", "</TOOLCALL>", _TOOL_CALLS, _ARGS)
"""Special tokens in some vocabularies; part of the text, or calls could not be told from it."""
