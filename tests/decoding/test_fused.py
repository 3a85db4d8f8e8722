"""Fused cycles: a pass verifies a draft and makes the next one, and the text stays that of ar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.coupled_text import random_prompts
from support.decoding import chat_prompts, decode
from support.joint_distribution import (
    PROMPTS,
    SIGNIFICANCE,
    TEMPERATURES,
    TRUNCATIONS,
    chi_square_p,
    draw_many,
    enumerate_cells,
    load_agreeing_model,
)
from support.sampling_reference import Distributions

from pytrimode import TriMode
from pytrimode.options.generation_options import GenerationOptions
from pytrimode.options.sampling import COUPLED, REJECTION, Sampling

BLOCKS = [(2, True), (3, True), (4, True), (8, True), (16, True), (4, False), (16, False)]
"""Length, and whether the LoRA drafts."""
MAX_TOKENS = 40
N_DRAWS = 1000
LENGTH = 4
CASES = [
    (TEMPERATURES[i % 4], name, (2, 4, 8)[i % 3], sampler)
    for sampler in (REJECTION, COUPLED)
    for i, name in enumerate(TRUNCATIONS)
]


@pytest.fixture(scope="module")
def agreeing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TriMode]:
    """Random weights whose drafts agree with the target in part."""
    with load_agreeing_model(tmp_path_factory.mktemp("fused"), n_parallel=8) as loaded:
        yield loaded


@pytest.mark.slow
@pytest.mark.parametrize("outtype", ["f32", "f16", "q8_0"])
def test_greedy_fused_equals_greedy_ar(tiny_gguf: Callable[[str], Path], checkpoint_dir: Path, outtype: str) -> None:
    drafted = accepted = passes = emitted = 0
    with TriMode(tiny_gguf(outtype), n_ctx=1024, n_threads=1) as model:
        for i, prompt in enumerate(chat_prompts(model, checkpoint_dir, 12, long_tokens=520)):
            if i % 2:
                prompt = prompt[-512 + 3 * i :]  # its answer crosses 512 cells, where ggml changes kernels
            expected, _ = decode(model, prompt, mode="ar", max_tokens=MAX_TOKENS)
            for block_length, use_lora in BLOCKS:
                tokens, stats = decode(
                    model, prompt, mode="self-spec", max_tokens=MAX_TOKENS, block_length=block_length, fused=True,
                    use_lora=use_lora,
                )  # fmt: skip
                assert tokens == expected, f"B {block_length}, LoRA {use_lora}, prompt of {len(prompt)} tokens"
                drafted, accepted = drafted + stats.drafted, accepted + stats.accepted
                passes, emitted = passes + stats.forward_passes, emitted + len(tokens)
    assert accepted > 0.3 * drafted, "the drafts must matter, or equality proves nothing"
    assert emitted > 1.5 * passes


def test_a_fused_pass_emits_more_than_two_passes(model: TriMode, checkpoint_dir: Path) -> None:
    for block_length in (4, 8):
        passes = {True: 0, False: 0}
        for prompt in chat_prompts(model, checkpoint_dir, 20):
            for fused in passes:
                _, stats = decode(
                    model, prompt, mode="self-spec", max_tokens=MAX_TOKENS, block_length=block_length, fused=fused
                )
                passes[fused] += stats.forward_passes
        assert passes[False] > 1.2 * passes[True], "the same tokens, in fewer passes"


def test_fused_auto_equals_ar_at_a_length_that_is_given(model: TriMode, checkpoint_dir: Path) -> None:
    for prompt in chat_prompts(model, checkpoint_dir, 6):
        expected, _ = decode(model, prompt, mode="ar", max_tokens=MAX_TOKENS)
        for mode in ("self-spec", "auto"):
            tokens, _ = decode(model, prompt, mode=mode, max_tokens=MAX_TOKENS, block_length=4, fused="auto")
            assert tokens == expected


def test_max_tokens_is_exact(model: TriMode, checkpoint_dir: Path) -> None:
    prompt = chat_prompts(model, checkpoint_dir, 1)[0]
    for n in (1, 2, 3, 4, 5, 7, 33):
        tokens, _ = decode(
            model, prompt, mode="self-spec", block_length=8, fused=True, max_tokens=n, ignore_eos=True, loop_window=0
        )
        assert len(tokens) == n


def test_the_context_may_end_in_a_cycle(q8_gguf: Path) -> None:
    """Groups stand in cells behind all others: where there are none left, they become narrower."""
    with TriMode(q8_gguf, n_ctx=256, n_threads=1) as model:
        for n in range(210, 250, 3):
            prompt = [1, *range(200, 200 + n)]
            options: dict[str, Any] = {"max_tokens": 256 - len(prompt), "ignore_eos": True, "loop_window": 0}
            expected, _ = decode(model, prompt, mode="ar", **options)
            tokens, _ = decode(model, prompt, mode="self-spec", block_length=16, fused=True, **options)
            assert tokens == expected


@pytest.mark.slow
@pytest.mark.parametrize(("temperature", "truncation", "block_length", "sampler"), CASES)
def test_the_joint_distribution_is_the_exact_one(
    agreeing: TriMode, temperature: float, truncation: str, block_length: int, sampler: str
) -> None:
    sampling = Sampling(temperature=temperature, sampler=sampler, **TRUNCATIONS[truncation])
    cells = enumerate_cells(Distributions(agreeing, PROMPTS[0], sampling), N_DRAWS, LENGTH)
    drawn = draw_many(
        agreeing, PROMPTS[0], sampling, range(N_DRAWS), length=LENGTH, mode="self-spec", block_length=block_length,
        fused=True,
    )  # fmt: skip
    assert chi_square_p(cells, drawn.counts) > SIGNIFICANCE / len(CASES)


def test_sampled_drafts_are_accepted_and_rejected(agreeing: TriMode) -> None:
    sampling = Sampling(temperature=1.0, **TRUNCATIONS["none"])
    drawn = draw_many(
        agreeing, PROMPTS[0], sampling, range(200), length=6, mode="self-spec", block_length=4, fused=True
    )
    assert drawn.drafted > 100
    assert 0.2 < drawn.accepted / drawn.drafted < 0.9


def test_coupled_gives_the_text_of_ar(agreeing: TriMode) -> None:
    texts, drafted = set(), 0
    for prompt in random_prompts(agreeing, 12):
        prompt = prompt[:24]
        for seed in (1, 2):
            sampling = Sampling(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, sampler=COUPLED, seed=seed)
            expected, _ = decode(agreeing, prompt, mode="ar", max_tokens=24, sampling=sampling)
            texts.add(tuple(expected))
            for block_length in (2, 4, 8):
                tokens, stats = decode(
                    agreeing, prompt, mode="self-spec", block_length=block_length, fused=True, max_tokens=24,
                    sampling=sampling,
                )  # fmt: skip
                assert tokens == expected
                drafted += stats.drafted
    assert len(texts) > 15, "seeds must matter, or equality proves nothing"
    assert drafted > 100


@pytest.mark.parametrize("fused", ["on", 1, 2.0, "measured"])
def test_other_values_are_refused(fused: Any) -> None:
    with pytest.raises(ValueError if isinstance(fused, str) else TypeError, match="fused"):
        GenerationOptions(fused=fused)
