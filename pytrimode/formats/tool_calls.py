"""Each family's way to write tool calls, as its chat template shows it, and grammars that hold a model to one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytrimode.formats.call_readers import ARGS, CALL_ID, ArgsReader, CallReader, JsonReader, TagsReader
from pytrimode.formats.constraint import Constraint, checked, json_rule
from pytrimode.formats.gbnf import TokenOf
from pytrimode.formats.json_schema import moved, pointed_at, types_of
from pytrimode.formats.lark import literal, token
from pytrimode.formats.tools import Tool, properties_of


@dataclass(frozen=True)
class ToolFormat:
    """How a family of models writes calls."""

    begin: str
    end: str
    """Empty: a call ends where the next one begins, or the text."""
    reader: Callable[[Sequence[Tool]], CallReader]
    """Reads what stands between `begin` and `end`."""
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


# --- <tool_call><function=name><parameter=key>value</parameter></function></tool_call>: Nemotron 3, Qwen3-Coder -------


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
        for j, name in enumerate(properties_of([tool])):
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

_TOOL_CALLS = "[TOOL_CALLS]"


def _args_grammar(tools: Sequence[Tool], token_of: TokenOf) -> str:
    rules = []
    for i, tool in enumerate(tools):
        function = tool["function"]
        rules.append(f"call_{i}: {literal(function['name'])} {_tag(ARGS, token_of)} args_{i}")
        rules.append(f"args_{i}: {json_rule(_parameters(function))}")
    return "\n".join([f"call: {' | '.join(f'call_{i}' for i in range(len(tools)))}", *rules])


def _tag(text: str, token_of: TokenOf) -> str:
    """Return a tag, by its token where it has one; nothing for none."""
    found = token_of(text) if text else -1
    return token(found) if found >= 0 else literal(text) if text else ""


GENERIC = ToolFormat("<tool_call>", "</tool_call>", JsonReader, _json_grammar)
"""For templates without a place for tools; see `generic_tools`."""

_FORMATS: tuple[tuple[tuple[str, ...], ToolFormat], ...] = (
    (("<tool_call>", "<function="), ToolFormat("<tool_call>", "</tool_call>", TagsReader, _tags_grammar)),
    (("<tool_call>",), GENERIC),
    (("<TOOLCALL>",), ToolFormat("<TOOLCALL>", "</TOOLCALL>", JsonReader, _list_grammar)),
    ((_TOOL_CALLS, ARGS), ToolFormat(_TOOL_CALLS, "", ArgsReader, _args_grammar)),
    ((_TOOL_CALLS,), ToolFormat(_TOOL_CALLS, "", JsonReader, _list_grammar)),
)
"""What a template must name, the most particular first."""

TAGS = ("<tool_call>", "</tool_call>", "<TOOLCALL>", "</TOOLCALL>", _TOOL_CALLS, CALL_ID, ARGS)
"""Special tokens in some vocabularies; part of the text, or calls could not be told from it."""
