"""Templates of the shapes that models have, rendered as transformers renders them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from support.template_shapes import BOTH, END, ONLY_PARTS, SHAPES, TURNS

from pytrimode.formats.chat_template import SECONDS, ChatTemplate

SYSTEM = {"role": "system", "content": "Be <brief> & kind."}
USER = {"role": "user", "content": "  Hello 你好\n"}
ANSWER = {"role": "assistant", "content": "<think>hm</think>\nHi."}
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": "é"}}}
CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "one": [USER],
    "several": [SYSTEM, USER, ANSWER, {"role": "user", "content": "Bye", "name": "Ann"}],
    "calls": [USER, {"role": "assistant", "content": "", "tool_calls": [CALL]}, {"role": "tool", "content": "3"}],
}
TOOLS = [{"type": "function", "function": {"name": "add", "description": "Adds", "parameters": {"type": "object"}}}]


@pytest.fixture(scope="module")
def tokenizer(checkpoint_dir: Path) -> Any:
    transformers = pytest.importorskip("transformers")
    return transformers.PreTrainedTokenizerFast.from_pretrained(checkpoint_dir)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_renders_as_in_transformers(shape: str, tokenizer: Any) -> None:
    source = SHAPES[shape]
    template = ChatTemplate(source, bos_token=tokenizer.bos_token, eos_token=tokenizer.eos_token)
    for messages in CONVERSATIONS.values():
        for options in ({}, {"tools": TOOLS}, {"add_generation_prompt": True, "enable_thinking": False}):
            given: dict[str, Any] = {"add_generation_prompt": False, **options}
            try:
                expected = tokenizer.apply_chat_template(messages, chat_template=source, tokenize=False, **given)
            except Exception as error:
                with pytest.raises(ValueError, match="refuses these messages"):
                    template.render(messages, **given)
                assert "alternate" in str(error)
                continue
            assert template.render(messages, **given) == expected


PARTS = [{"type": "text", "text": "Hello"}, {"type": "text", "text": " you"}]


@pytest.mark.parametrize(
    ("source", "content", "expected"),
    [
        (ONLY_PARTS, "Hello", "<Hello>"),
        (ONLY_PARTS, PARTS, "<Hello>< you>"),
        (BOTH, "Hello", "Hello"),
        (BOTH, PARTS, "<Hello>< you>"),
        (SHAPES["subscripts"], PARTS, "user: Hello you\nassistant:"),
    ],
)  # fmt: skip
def test_content_is_given_as_the_template_reads_it(source: str, content: Any, expected: str) -> None:
    assert ChatTemplate(source).render([{"role": "user", "content": content}]) == expected


@pytest.mark.parametrize("source", [SHAPES["ChatML"], SHAPES["subscripts"]])
@pytest.mark.parametrize("begun", ["Ones: 2 + 3 =", " spaced "])
def test_the_last_message_is_continued_as_in_transformers(source: str, begun: str, tokenizer: Any) -> None:
    messages = [USER, {"role": "assistant", "content": begun}]
    expected = tokenizer.apply_chat_template(
        messages, chat_template=source, tokenize=False, continue_final_message=True
    )  # fmt: skip
    assert ChatTemplate(source).render(messages, continue_final_message=True) == expected


def test_only_a_message_of_the_assistant_is_continued() -> None:
    with pytest.raises(ValueError, match="the last message is of user"):
        ChatTemplate(SHAPES["ChatML"]).render([USER], continue_final_message=True)


def test_a_developer_is_the_system_where_a_template_knows_none() -> None:
    rendered = [ChatTemplate(SHAPES["ChatML"]).render([{**SYSTEM, "role": role}]) for role in ("developer", "system")]
    assert rendered[0] == rendered[1]
    knowing = ChatTemplate(TURNS + "{{ 'D' if m.role == 'developer' else 'S' }}" + END)
    assert knowing.render([{**SYSTEM, "role": "developer"}]) == "D"


FAILING = {
    "{{ 100 / (messages | length - 1) }}": "fails in line 1: ZeroDivisionError",
    "\n\n{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}\n{{ f(0) }}": "fails in line 3: RecursionError",
    "{% for i in range(1000000000) %}x{% endfor %}": "fails in line 1: OverflowError",
    "{{ 'x' * 10**10 }}": "takes more than 1 s, or too much memory",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}": "takes more than 1 s",
    "{% for i in range(99999) %}{{ 'x' * 9999 }}{% endfor %}": "fails: it writes more than",
    "{{ raise_exception('\x1b[31mno\x07') }}": "refuses these messages: ?\\[31mno",
}


@pytest.mark.parametrize("source", FAILING)
def test_whatever_a_template_does_is_an_error_that_names_it(source: str) -> None:
    begin = time.process_time()
    with pytest.raises(ValueError, match=f"^the chat template {FAILING[source]}") as caught:
        ChatTemplate(source).render([USER])
    assert str(caught.value).isprintable()
    assert time.process_time() - begin < SECONDS
    assert ChatTemplate(SHAPES["ChatML"]).render([USER])  # the process is there again
