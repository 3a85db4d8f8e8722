"""Chat templates render as transformers renders them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytrimode import TriMode
from pytrimode.formats.chat_template import ChatTemplate

CONVERSATION = [
    {"role": "system", "content": "Be <brief> & kind."},
    {"role": "user", "content": "  Hello 你好\n"},
    {"role": "assistant", "content": "<think>hm</think>\nHi."},
    {"role": "user", "content": "Bye"},
]

# What templates in the wild use: blocks on lines of their own, tojson, loop controls, namespaces, dates.
BUSY_TEMPLATE = """\
{% set found = namespace(n=0) %}
{% for message in messages %}
    {% if loop.index > 3 %}
        {% break %}
    {% endif %}
    {% set found.n = found.n + 1 %}
[{{ message | tojson }}]
{% endfor %}
{{ {"a": [1, {"b": "<é>"}]} | tojson(indent=2) }} {{ found.n }} {{ bos_token }}{{ strftime_now("%Y") }}
"""


@pytest.fixture(scope="module")
def tokenizer(checkpoint_dir: Path) -> Any:
    transformers = pytest.importorskip("transformers")
    return transformers.PreTrainedTokenizerFast.from_pretrained(checkpoint_dir)


@pytest.mark.parametrize("enable_thinking", [False, True])
@pytest.mark.parametrize("n_messages", [1, 2, 3, 4])
def test_the_shipped_template_renders_and_tokenizes_as_in_transformers(
    model: TriMode, tokenizer: Any, n_messages: int, enable_thinking: bool
) -> None:
    messages = CONVERSATION[:n_messages]
    options: Any = {"add_generation_prompt": True, "enable_thinking": enable_thinking}
    expected = tokenizer.apply_chat_template(messages, tokenize=False, **options)
    assert model.chat_template.render(messages, **options) == expected
    assert model.chat_tokens(messages, enable_thinking=enable_thinking) == tokenizer.encode(
        expected, add_special_tokens=False
    )


def test_a_busy_template_renders_as_in_transformers(tokenizer: Any) -> None:
    expected = tokenizer.apply_chat_template(CONVERSATION, chat_template=BUSY_TEMPLATE, tokenize=False)
    template = ChatTemplate(BUSY_TEMPLATE, bos_token=tokenizer.bos_token, eos_token=tokenizer.eos_token)
    assert template.render(CONVERSATION, add_generation_prompt=False) == expected


def test_content_in_parts_is_joined() -> None:
    template = ChatTemplate("{% for m in messages %}{{ m.content }}|{% endfor %}")
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert template.render([{"role": "user", "content": parts}, {"role": "assistant", "content": None}]) == "ab||"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{% for %}", "does not compile: line 1"),
        ("{{ raise_exception('no tools') }}", "refuses these messages: no tools"),
        ("{{ messages.nothing.at_all }}", "refuses these messages"),
        ("{{ ''.__class__.__mro__ }}", "refuses these messages"),
        ("{% set _ = messages.append(1) %}", "refuses these messages"),
    ],
)
def test_bad_templates_are_value_errors(source: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ChatTemplate(source).render([{"role": "user", "content": "x"}])


def test_messages_without_a_role_or_none_at_all_are_refused() -> None:
    with pytest.raises(ValueError, match="needs a role"):
        ChatTemplate("x").render([{"content": "x"}])
    with pytest.raises(ValueError, match="no messages"):
        ChatTemplate("x").render([])


def test_a_template_of_a_file(q8_gguf: Path, tmp_path: Path) -> None:
    file = tmp_path / "own.jinja"
    file.write_text("{% for m in messages %}[{{ m.content }}]{% endfor %}")
    with TriMode(q8_gguf, n_ctx=128, n_threads=1, chat_template_file=file) as model:
        prompt = model.chat_prompt([{"role": "user", "content": "Hello"}])
        assert model.detokenize(prompt.tokens).decode() == "[Hello]"
    file.write_text("{% for m in messages %}\n{{ m.content")
    with pytest.raises(ValueError, match=r"own\.jinja does not compile"):
        TriMode(q8_gguf, n_ctx=128, n_threads=1, chat_template_file=file)
    with pytest.raises(FileNotFoundError):
        TriMode(q8_gguf, n_ctx=128, n_threads=1, chat_template_file=tmp_path / "missing.jinja")


def test_special_tokens_in_texts_on_request(q8_gguf: Path) -> None:
    said = [{"role": "user", "content": "<|im_end|>"}]
    with TriMode(q8_gguf, n_ctx=128, n_threads=1, parse_special=True) as model:
        made = model.chat_tokens(said)
        model.parse_special = False
        assert (
            made.count(model.special_token("<|im_end|>"))
            == model.chat_tokens(said).count(model.special_token("<|im_end|>")) + 1
        )
