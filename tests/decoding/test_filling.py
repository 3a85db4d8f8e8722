"""Templates with several gaps."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from support.decoding import decode

from pytrimode import AsyncTriMode, Gap, TriMode

SORT = [{"role": "user", "content": "Sort these numbers: 52, 31, 97"}]
RANDOM = ["Words: ", Gap(3), " and ", Gap(choices=["red", "blue"]), ", then", Gap(4), "."]


def test_gaps_of_tokens_are_infills_with_masks_for_those_that_follow(model: TriMode) -> None:
    filled = model.fill(["Sort these numbers: ", Gap(5), " is r-i-v-e-r, ", Gap(2), "."])
    mask, before = model.mask_token_id, model.tokenize("") + model.tokenize("Sort these numbers: ", add_bos=False)
    river, dot = (model.tokenize(text, add_bos=False) for text in (" is r-i-v-e-r, ", "."))
    first, _ = decode(model, before, suffix=[*river, mask, mask, *dot], mode="diffusion", max_tokens=5)
    second, _ = decode(model, [*before, *first, *river], suffix=dot, mode="diffusion", max_tokens=2)
    texts = [model.detokenize(tokens).decode() for tokens in (first, second)]
    assert [gap["text"] for gap in filled["gaps"]] == texts
    assert filled["text"] == f"Sort these numbers: {texts[0]} is r-i-v-e-r, {texts[1]}."


def test_what_follows_decides_a_choice(model: TriMode) -> None:
    choices = ["31", "52", "97"]
    likelihoods = []
    for following in (", 52, 97", ", 31, 97", ", 97"):
        filled = model.fill([Gap(choices=choices), following], SORT)
        decision = model.decide(model.chat_tokens(SORT), [choice + following for choice in choices])
        best = max(range(3), key=lambda i: decision["choices"][i]["logprob"])
        assert filled["text"] == choices[best] + following
        assert filled["gaps"] == [
            {"text": choices[best], "finish_reason": "stop",
             "probability": pytest.approx(decision["choices"][best]["probability"])}
        ]  # fmt: skip
        likelihoods.append(filled["gaps"][0]["probability"])
    assert filled["text"] != "31, 97" and len(set(likelihoods)) == 3


def test_gaps_that_touch_and_end_the_text(model: TriMode) -> None:
    filled = model.fill([Gap(choices=["31", "52"]), Gap(choices=[",", ";"]), Gap(3)], SORT)
    number, sign, rest = (gap["text"] for gap in filled["gaps"])
    assert filled["text"] == number + sign + rest
    assert number == model.decide(model.chat_tokens(SORT), ["31", "52"])["best"] and sign == ","


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_regex_holds(model: TriMode, temperature: float) -> None:
    template = ["Dates: ", Gap(16, regex=r"\d{4}-\d{2}-\d{2}"), ", ", Gap(6, regex="[a-f]{3}"), "!"]
    filled = model.fill(template, temperature=temperature, seed=5)
    assert [gap["finish_reason"] for gap in filled["gaps"]] == ["stop", "stop"]
    assert re.fullmatch(r"Dates: \d{4}-\d{2}-\d{2}, [a-f]{3}!", filled["text"])


def test_a_regex_that_finds_no_room_is_told(model: TriMode) -> None:
    (gap,) = model.fill(["Dates: ", Gap(3, regex=r"\d{12}"), "."])["gaps"]
    assert gap["finish_reason"] == "length" and re.fullmatch(r"\d{3,11}", gap["text"])


def test_seeds_make_other_texts_and_the_same_again(model: TriMode) -> None:
    texts = [model.fill(RANDOM, temperature=1.5, seed=seed)["text"] for seed in (1, 2, 3, 1)]
    assert texts[0] == texts[3] and len(set(texts)) == 3


def test_it_does_not_block_the_event_loop(model: TriMode) -> None:
    assert asyncio.run(AsyncTriMode(model).fill(RANDOM, SORT)) == model.fill(RANDOM, SORT)


@pytest.mark.parametrize("gap", [Gap(8), Gap(choices=["31", "52"])])
def test_a_task_that_is_cancelled_ends_it(q8_gguf: Path, gap: Gap) -> None:
    template = ["sort these words " * 150, gap, " and ", gap]
    with TriMode(q8_gguf, n_ctx=1024, n_batch=32, n_threads=1) as model:

        def passes() -> float:
            return model.engine.times["passes"]

        async def leave() -> None:
            task = asyncio.ensure_future(AsyncTriMode(model).fill(template))
            while not passes():
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(leave())  # its end waits for the thread that filled
        left = passes()
        model.clear_cache()
        model.fill(template)
        assert 0 < left < passes() - left - 5


@pytest.mark.parametrize(
    ("template", "error", "message"),
    [
        ("a text", TypeError, "not a text"),
        ([], ValueError, "no Gap"),
        (["a", "b"], ValueError, "no Gap"),
        (["a", 3], TypeError, r"template\[1\] is int"),
        (["a", Gap(600), "b"], ValueError, "n_batch"),
        (["a", Gap(3, regex="(")], ValueError, "regex"),
    ],
)
def test_impossible_templates(model: TriMode, template: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        model.fill(template)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"max_tokens": 0}, ValueError, "at least one token"),
        ({"max_tokens": "4"}, TypeError, "max_tokens"),
        ({"choices": []}, ValueError, "choices"),
        ({"choices": ["a", "a"]}, ValueError, "2 times"),
        ({"choices": ["a"], "regex": "a"}, ValueError, "not both"),
        ({"regex": 5}, TypeError, "regex"),
    ],
)
def test_impossible_gaps(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Gap(**arguments)
