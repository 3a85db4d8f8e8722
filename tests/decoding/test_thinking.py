"""Reasoning: its budget in every mode, and reasoning told from the answer."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.decoding import decode

from pytrimode import MODES, TriMode
from pytrimode.formats.reasoning import ReasoningSplit

QUESTION = [{"role": "user", "content": "Sort these numbers: 52, 31, 97"}]
BUDGETS = (0, 1, 5, 16, 17)


@pytest.fixture(scope="module")
def think_tokens(model: TriMode) -> tuple[int, int]:
    (begin,), (end,) = (model.tokenize(t, add_bos=False, special=True) for t in ("<think>", "</think>"))
    return begin, end


@pytest.mark.parametrize("mode", MODES)
def test_the_end_of_reasoning_comes_when_the_budget_is_spent(
    model: TriMode, mode: str, think_tokens: tuple[int, int]
) -> None:
    _, end = think_tokens
    prompt = model.chat_tokens(QUESTION, enable_thinking=True)
    options: dict[str, Any] = {"mode": mode, "max_tokens": 60, "block_length": 8, "ignore_eos": True}
    free, _ = decode(model, prompt, **options)
    natural = free.index(end) if end in free else len(free)
    for budget in BUDGETS:
        tokens, _ = decode(model, prompt, max_thinking_tokens=budget, **options)
        assert len(tokens) == 60
        assert tokens.index(end) == min(budget, natural)
        if mode != "diffusion":  # there a block may look ahead of the budget
            assert tokens[: min(budget, natural)] == free[: min(budget, natural)]


@pytest.mark.parametrize("block_length", [2, 8, 16])
def test_a_budget_leaves_self_spec_equal_to_ar(model: TriMode, block_length: int) -> None:
    prompt = model.chat_tokens(QUESTION, enable_thinking=True)
    for budget in BUDGETS:
        ar, _ = decode(model, prompt, mode="ar", max_tokens=60, max_thinking_tokens=budget)
        spec, _ = decode(
            model, prompt, mode="self-spec", block_length=block_length, max_tokens=60, max_thinking_tokens=budget
        )
        assert ar == spec


@pytest.mark.parametrize("mode", MODES)
def test_reasoning_opened_by_the_model_counts_too(model: TriMode, mode: str, think_tokens: tuple[int, int]) -> None:
    """The budget begins where <think> is emitted: a prompt that has it as its first output token shows the same."""
    begin, end = think_tokens
    prompt = model.prompt_tokens("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n")
    tokens, _ = decode(model, prompt, mode=mode, max_tokens=40, max_thinking_tokens=0, ignore_eos=True)
    for i, token in enumerate(tokens[:-1]):
        if token == begin:
            assert tokens[i + 1] == end
    assert begin in tokens, "the test needs a model that opens its answers with <think>"


def test_without_reasoning_a_budget_changes_nothing(model: TriMode) -> None:
    prompt = model.chat_tokens(QUESTION)
    assert decode(model, prompt, max_tokens=40)[0] == decode(model, prompt, max_tokens=40, max_thinking_tokens=0)[0]


def test_a_model_without_reasoning_tags_refuses_a_budget(random_gguf: Any) -> None:
    with TriMode(random_gguf, n_ctx=64, n_threads=1) as random_model:
        if random_model.tokenize("</think>", add_bos=False, special=True) != random_model.tokenize(
            "</think>", add_bos=False, special=False
        ):
            pytest.fail("the random model has reasoning tags: the test needs one without")
        with pytest.raises(ValueError, match="max_thinking_tokens"):
            random_model.create_completion("a", max_thinking_tokens=3)


@pytest.mark.parametrize("mode", MODES)
def test_reasoning_comes_apart_or_inline_streamed_or_not(model: TriMode, mode: str) -> None:
    options: dict[str, Any] = {"enable_thinking": True, "mode": mode, "temperature": 0.0, "max_tokens": 80}
    inline: Any = model.create_chat_completion(QUESTION, reasoning_format="none", **options)
    apart: Any = model.create_chat_completion(QUESTION, **options)
    message = apart["choices"][0]["message"]
    reasoning, tag, content = inline["choices"][0]["message"]["content"].partition("</think>")
    assert tag, "the test needs reasoning that ends"
    assert (message["reasoning_content"], message["content"]) == (reasoning.strip(), content.lstrip())
    chunks: Any = list(model.create_chat_completion(QUESTION, stream=True, **options))
    deltas = [c["choices"][0]["delta"] for c in chunks]
    assert "".join(d.get("reasoning_content", "") for d in deltas) == message["reasoning_content"]
    assert "".join(d.get("content", "") for d in deltas) == message["content"]
    plain: Any = model.create_chat_completion(QUESTION, mode=mode, temperature=0.0, max_tokens=80)
    assert "reasoning_content" not in plain["choices"][0]["message"]


def pieces(text: str, cuts: list[int]) -> Iterator[str]:
    edges = [0, *sorted(c % (len(text) + 1) for c in cuts), len(text)]
    return (text[a:b] for a, b in pairwise(edges))


@settings(max_examples=200)
@given(
    st.lists(st.sampled_from(["<think>", "</think>", "\n", " ", "a", "b c", "<", "</thi", "nk>"]), max_size=12),
    st.lists(st.integers(0, 200), max_size=8),
    st.booleans(),
)
def test_the_split_does_not_depend_on_how_the_text_is_cut(parts: list[str], cuts: list[int], opened: bool) -> None:
    text = "".join(parts)

    def split(fed: Iterator[str]) -> tuple[str, str]:
        splitter = ReasoningSplit(open=opened)
        out = [splitter.feed(piece) for piece in fed]
        out.append(splitter.finish())
        return "".join(o.reasoning for o in out), "".join(o.content for o in out)

    whole = split(iter([text]))
    assert split(pieces(text, cuts)) == whole
    assert "<think>" not in whole[1]
    assert "</think>" not in whole[0]


def test_the_split_of_some_texts() -> None:
    for opened, text, expected in (
        (True, "\nI see.\n</think>\n\nYes.", ("I see.", "Yes.")),
        (True, "I see", ("I see", "")),
        (False, "  Yes </think> no", ("", "  Yes </think> no")),
        (False, "<think>\na\n</think>\n\nb", ("a", "b")),
        (True, "a.</think>b.<think>c.</think>d.", ("a.\nc.", "b.\nd.")),
        (True, "a</thi</think><think>nk></think>b <think></think>c", ("a</thi\nnk>", "b c")),
        (False, "a < b", ("", "a < b")),
    ):
        splitter = ReasoningSplit(open=opened)
        first, rest = splitter.feed(text), splitter.finish()
        assert (first.reasoning + rest.reasoning, first.content + rest.content) == expected
