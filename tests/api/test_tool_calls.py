"""Tool calls in the ways in which models write them: read however the text is cut, and held to by a grammar."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tool_templates import TEMPLATES

from pytrimode import TriMode
from pytrimode.formats.tool_calls import ToolCallParser, tool_format

TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
                "required": ["city"],
            },
        },
    },
    {"type": "function", "function": {"name": "now"}},
]
TWO_CALLS = {
    "tags": "Look:\n<tool_call>\n<function=weather>\n<parameter=city>\n12\n</parameter>\n<parameter=days>\n3\n"
    "</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=now>\n</function>\n</tool_call>",
    "json": 'Look:\n<tool_call>\n{"name": "weather", "arguments": {"city": "12", "days": 3}}\n</tool_call>\n'
    '<tool_call>{"name": "now", "arguments": {}}</tool_call>\n',
    "list": 'Look: <TOOLCALL>[{"name": "weather", "arguments": {"city": "12", "days": 3}}, '
    '{"name": "now", "arguments": {}}]</TOOLCALL>',
    "args": 'Look:[TOOL_CALLS]weather[ARGS]{"city": "12", "days": 3}[TOOL_CALLS]now[ARGS]{}',
    "mistral": 'Look: [TOOL_CALLS][{"name": "weather", "arguments": {"city": "12", "days": 3}}, '
    '{"name": "now", "arguments": "{}"}]',
}  # fmt: skip
NO_CALLS = [
    "2 < 3 <tool",
    "<tool_call>nonsense</tool_call>",
    "<tool_call>",
    "[TOOL_CALLS]x",
    "<TOOLCALL>[1]</TOOLCALL>",
    " a \n",
]


def read(form: str, pieces: list[str]) -> tuple[str, list[tuple[str, Any]]]:
    found = tool_format(TEMPLATES[form])
    assert found
    parser = ToolCallParser(found, TOOLS)
    parts = [*(parser.feed(piece) for piece in pieces), parser.finish()]
    calls = [call["function"] for part in parts for call in part.calls]
    assert parser.n_calls == len(calls)
    return "".join(part.content for part in parts), [(c["name"], json.loads(c["arguments"])) for c in calls]


@pytest.mark.parametrize("form", TWO_CALLS)
def test_calls_are_read(form: str) -> None:
    content, calls = read(form, [TWO_CALLS[form]])
    assert content == "Look:"
    assert calls == [("weather", {"city": "12", "days": 3}), ("now", {})]


@pytest.mark.parametrize("form", TWO_CALLS)
@pytest.mark.parametrize("text", NO_CALLS)
def test_what_is_no_call_stays_text(form: str, text: str) -> None:
    content, calls = read(form, [text])
    assert content == text and not calls


@pytest.mark.parametrize("form", TWO_CALLS)
@given(cuts=st.lists(st.integers(0, 220)), which=st.integers(0, len(NO_CALLS)))
def test_the_result_does_not_depend_on_how_the_text_is_cut(form: str, cuts: list[int], which: int) -> None:
    text = [TWO_CALLS[form], *NO_CALLS][which]
    edges = [0, *sorted(cuts), len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(edges)]
    assert read(form, pieces) == read(form, [text])


def test_an_unknown_template_has_no_format() -> None:
    assert tool_format("{{ tools }} <call>") is None


@pytest.mark.parametrize("form", TEMPLATES)
def test_each_rule_of_a_grammar_is_there_once(form: str) -> None:
    found = tool_format(TEMPLATES[form])
    assert found
    rules = re.findall(r"^(\w+):", found.grammar(TOOLS, lambda _: -1), re.MULTILINE)
    assert "call" in rules and "start" not in rules and len(rules) == len(set(rules))


def test_tools_in_the_python_api(model: TriMode) -> None:
    """The shipped model's template has no place for tools: they are told in words, and a call comes as JSON in tags."""
    city: Any = {"type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}}, "required": ["city"]}
    city["additionalProperties"] = False
    tools = [{"type": "function", "function": {"name": "weather", "parameters": city}}]
    question: Any = [{"role": "user", "content": "What is the weather in Oslo?"}]
    wanted: Any = {"tools": tools, "max_tokens": 100, "temperature": 0.0}
    result: Any = model.create_chat_completion(question, tool_choice="required", **wanted)
    (choice,) = result["choices"]
    (call,) = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "tool_calls" and choice["message"]["content"] is None
    assert call["function"]["name"] == "weather"
    assert json.loads(call["function"]["arguments"])["city"] in ("Oslo", "Rome")

    chunks: Any = list(model.create_chat_completion(question, tool_choice="required", stream=True, **wanted))
    streamed = [one for chunk in chunks for one in chunk["choices"][0]["delta"].get("tool_calls", [])]
    assert [one["function"] for one in streamed] == [call["function"]]
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"

    history = [*question, choice["message"], {"role": "tool", "tool_call_id": call["id"], "content": "rain"}]
    after: Any = model.create_chat_completion(history, **wanted | {"max_tokens": 4})
    assert after["usage"]["prompt_tokens"] > result["usage"]["prompt_tokens"]

    for choice, message in (
        ("always", "tool_choice: use auto"),
        ({"type": "function", "function": {"name": "other"}}, "no function 'other'"),
    ):
        with pytest.raises(ValueError, match=message):
            model.create_chat_completion(question, tool_choice=choice, tools=tools)
    with pytest.raises(ValueError, match="tools: each must be"):
        model.create_chat_completion(question, tools=[{"name": "weather"}])
