"""Infill: the middle between a prompt and a suffix, against plain-Python denoising on top of logits()."""

from __future__ import annotations

from typing import Any

import pytest
from support.decoding import decode
from support.reference import argmax, probability

from pytrimode import TriMode

CODE = 'def get_total(price, tax):\n    """Return the sum of price and tax."""\n    return '


def infill(model: TriMode, prompt: list[int], suffix: list[int], n: int, threshold: float) -> tuple[list[int], int]:
    """The algorithm, one pass after the other: (tokens up to an end of generation, passes)."""
    mask = model.mask_token_id
    middle: list[int | None] = [None] * n
    passes = 0
    while True:
        done = middle[: middle.index(None)] if None in middle else middle
        for i, token in enumerate(done):
            if token is not None and model.is_eog(token):
                return [t for t in done[: i + 1] if t is not None], passes
        if None not in middle:
            return [t for t in middle if t is not None], passes
        block = [prompt[-1], *(mask if t is None else t for t in middle), *suffix]
        rows = model.logits([*prompt[:-1], *block], block_start=len(prompt) - 1)[len(prompt) :]
        passes += 1
        sure = {i: probability(rows[i], mask) for i, t in enumerate(middle) if t is None}
        best = max(sure, key=lambda i: sure[i])
        for i, p in sure.items():
            if i == best or p >= threshold:
                middle[i] = argmax(rows[i], mask)


@pytest.mark.parametrize(("n", "threshold"), [(1, 0.9), (3, 0.9), (6, 0.9), (6, 0.3), (12, 1.0)])
def test_infill_equals_plain_denoising(model: TriMode, n: int, threshold: float) -> None:
    suffix = model.tokenize("\n```", add_bos=False)
    for text in (CODE, "Sort 3, 1, 2: ", "a"):
        prompt = model.prompt_tokens(text)
        tokens, stats = decode(model, prompt, suffix=suffix, mode="diffusion", max_tokens=n, threshold=threshold)
        assert (tokens, stats.forward_passes) == infill(model, prompt, suffix, n, threshold)


def test_the_suffix_decides_the_middle(model: TriMode) -> None:
    middles = {
        model.create_completion("Sort these numbers: ", suffix, max_tokens=4, temperature=0.0)["choices"][0]["text"]  # type: ignore[index]
        for suffix in (" is r-i-v-e-r.", " = 5.", "\n    return total", " words.")
    }
    assert len(middles) > 1


def test_a_prompt_of_one_token_has_a_middle_too(model: TriMode) -> None:
    tokens, _ = decode(model, [300], suffix=[301], mode="diffusion", max_tokens=3, ignore_eos=True)
    assert len(tokens) == 3


def test_infill_leaves_the_cache_usable(model: TriMode) -> None:
    before: Any = model.create_completion(CODE, max_tokens=12, temperature=0.0)
    model.create_completion(CODE, "\n", max_tokens=5, temperature=0.0)
    after: Any = model.create_completion(CODE, max_tokens=12, temperature=0.0)
    assert before["choices"] == after["choices"]


def test_impossible_infill(model: TriMode) -> None:
    for options, message in (
        ({"mode": "ar", "max_tokens": 4}, "a suffix needs mode diffusion"),
        ({"max_tokens": None}, "a suffix needs max_tokens"),
        ({"max_tokens": 600}, "n_batch"),
        ({"max_tokens": 4, "logprobs": 1}, "logprobs"),
    ):
        with pytest.raises(ValueError, match=message):
            model.create_completion(CODE, "end", **options)  # type: ignore[arg-type]
