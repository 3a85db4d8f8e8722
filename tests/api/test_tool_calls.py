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
from pytrimode.formats.tool_calls import tool_format
from pytrimode.formats.tool_parser import ToolCallParser
from pytrimode.formats.tools import joined

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


CUT = {
    "tags": "<tool_call>\n<function=weather>\n<parameter=city>\nOs",
    "json": '<tool_call>\n{"name": "weather", "arguments": {"city": "Os',
    "list": '<TOOLCALL>[{"name": "weather", "arguments": {"city": "Os',
    "args": '[TOOL_CALLS]weather[ARGS]{"city": "Os',
    "mistral": '[TOOL_CALLS][{"name": "weather", "arguments": {"city": "Os',
}
TEXTS = {
    "tags": "<tool_call>\n<function=weather>\n<parameter=city>\n{}\n</parameter>\n</function>\n</tool_call>",
    "json": '<tool_call>\n{{ "arguments" : {{"city":{} }}, "name": "weather"}}</tool_call>',
    "list": '<TOOLCALL>[ {{"id":"1","name": "weather", "arguments":{{"city" : {}}}}} ]</TOOLCALL>',
    "args": '[TOOL_CALLS]weather[CALL_ID]12[ARGS] {{\n"city": {}\n}} ',
    "mistral": '[TOOL_CALLS][{{"name": "weather", "arguments": {{"city": {}}}}}]',
}


def parts_of(
    form: str, pieces: list[str], *, whole: bool | None = None, **options: Any
) -> tuple[list[Any], ToolCallParser]:
    found = tool_format(TEMPLATES[form])
    assert found
    parser = ToolCallParser(found, TOOLS, **options)
    parser.whole = len(pieces) == 1 if whole is None else whole
    return [*(parser.feed(piece) for piece in pieces), parser.finish()], parser


def read(form: str, pieces: list[str], **options: Any) -> tuple[str, list[tuple[str, str]]]:
    """Content and calls; a text in one piece is read as a whole."""
    parts, parser = parts_of(form, pieces, **options)
    calls = [call["function"] for call in joined(delta for part in parts for delta in part.calls)]
    assert parser.n_calls == len(calls) or "single" in options
    return "".join(part.content for part in parts), [(call["name"], call["arguments"]) for call in calls]


@pytest.mark.parametrize("form", TWO_CALLS)
def test_calls_are_read(form: str) -> None:
    content, calls = read(form, [TWO_CALLS[form]])
    assert content == "Look:"
    assert [(name, json.loads(text)) for name, text in calls] == [("weather", {"city": "12", "days": 3}), ("now", {})]


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


@pytest.mark.parametrize("form", TEXTS)
@given(value=st.text(), cuts=st.lists(st.integers(0, 120)))
def test_streamed_arguments_add_up_to_those_of_the_whole(form: str, value: str, cuts: list[int]) -> None:
    if any(tag in value for tag in ("</parameter>", "</tool_call>", "</TOOLCALL>", "[TOOL_CALLS]")):
        return
    text = TEXTS[form].format(value if form == "tags" else json.dumps(value))
    edges = [0, *sorted(cuts), len(text)]
    whole = read(form, [text])
    assert read(form, [text[a:b] for a, b in itertools.pairwise(edges)]) == whole
    ((_, arguments),) = whole[1]
    assert json.loads(arguments) == {"city": value}


@pytest.mark.parametrize("form", TWO_CALLS)
def test_arguments_come_as_they_are_written(form: str) -> None:
    parts, _ = parts_of(form, list(TWO_CALLS[form]))
    deltas = [delta for part in parts for delta in part.calls if delta["index"] == 0]
    assert deltas[0]["function"] == {"name": "weather", "arguments": "{"} and deltas[0]["id"]
    assert len(deltas) > 5 and not any("id" in delta for delta in deltas[1:])


@pytest.mark.parametrize("form", CUT)
def test_a_call_cut_in_half_is_no_call(form: str) -> None:
    assert read(form, [CUT[form]]) == (CUT[form], [])
    parts, parser = parts_of(form, list(CUT[form]))
    assert parser.n_calls == 0
    (call,) = joined(delta for part in parts for delta in part.calls)
    assert call["function"]["arguments"].startswith('{"city": "Os'), "what was told stands"


def test_the_calls_before_the_one_that_is_cut_are_calls() -> None:
    for form, text in TWO_CALLS.items():
        if form in ("list", "mistral"):
            continue
        cut = text[: text.rindex("now") + 2]
        content, calls = read(form, [cut])
        assert [name for name, _ in calls] == ["weather"] and content.startswith("Look:") and content.endswith("no")


@pytest.mark.parametrize("form", TWO_CALLS)
def test_a_single_call_is_the_first_one(form: str) -> None:
    text = TWO_CALLS[form] + ("" if form in ("args", "mistral") else " and more")
    for pieces in ([text], list(text)):
        content, calls = read(form, pieces, single=True)
        assert content == "Look:" and [name for name, _ in calls] == ["weather"]


@pytest.mark.parametrize(
    "body",
    [
        '{"name": "now", "arguments": [1]}', '{"name": 1, "arguments": {}}', '{"arguments": {}}', '{"name": "now"',
        '{"name": "now", "arguments": {}, "arguments": {}}', '{"name": "now", "arguments": {}} x', "[]", "{}",
        '{"name": "now", "arguments": {"a": ' + "[" * 100_000, "]}", '{"name": "now", "arguments": "["}', '"', ":{",
    ],
)  # fmt: skip
def test_a_body_that_is_no_call_stays_text(body: str) -> None:
    text = f"<tool_call>{body}</tool_call>"
    assert read("json", [text]) == (text, [])
    parts_of("json", list(text)[:2000])


FRAGMENTS = {
    "tags": [
        "<tool_call>", "</tool_call>", "<function=weather>", "<function=now>", "</function>", "<parameter=city>",
        "<parameter=days>", "</parameter>", "\n", "x", "3", '"', "\\", "<", "</", "é",
    ],
    "json": [
        "<tool_call>", "</tool_call>", '{"name": "weather", "arguments": {"city": "x"}}', '{"name": "now"}', "{", "}",
        "[", "]", '{"name":"now","arguments":', '"', ":", ",", "\\", '"arguments"', '"name"', "\n", " ", "1", "x",
    ],
    "list": ["<TOOLCALL>", "</TOOLCALL>", "[", "]", ",", '{"name":"now","arguments":{}}', "{", "}", '"', "x", "\n"],
    "args": ["[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "now", "{", "}", '{"city": "x"}', '"', "\n", " ", "[", "x"],
    "mistral": ["[TOOL_CALLS]", "[", "]", ",", '{"name":"now","arguments":{}}', "{", "}", '"', "x", "\n"],
}  # fmt: skip


@pytest.mark.parametrize("form", FRAGMENTS)
@given(data=st.data())
def test_whatever_is_written_a_stream_and_a_whole_agree(form: str, data: st.DataObject) -> None:
    text = "".join(data.draw(st.lists(st.sampled_from(FRAGMENTS[form]), max_size=14)))
    results = []
    for pieces, whole in (([text], True), (list(text), True), ([text], False), (list(text), False)):
        parts, parser = parts_of(form, pieces, whole=whole)
        calls = [call["function"] for call in joined(delta for part in parts for delta in part.calls)]
        results.append(("".join(part.content for part in parts), calls, parser.n_calls))
    assert results[0] == results[1] and results[2] == results[3]
    (content, calls, n), (told_content, told, n_told) = results[0], results[2]
    assert len(calls) == n == n_told <= len(told)
    assert all(isinstance(json.loads(call["arguments"]), dict) for call in calls)
    if len(told) == n:
        assert (told_content, told) == (content, calls), "only a call that was begun and is none is told otherwise"


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
    streamed = joined(one for chunk in chunks for one in chunk["choices"][0]["delta"].get("tool_calls", []))
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
