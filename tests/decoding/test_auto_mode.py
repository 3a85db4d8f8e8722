"""Mode auto: lengths change from cycle to cycle, and the text does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.coupled_text import random_prompts
from support.decoding import chat_prompts, decode
from support.joint_distribution import load_agreeing_model

from pytrimode import TriMode
from pytrimode.options.sampling import Sampling

MAX_TOKENS = 60


def flat(rows: int) -> float:
    """Seconds on a machine where every pass takes the same time."""
    return 1.0


def steep(rows: int) -> float:
    return float(rows)


def teach(model: TriMode, seconds: Callable[[int], float]) -> None:
    """Let the engine believe that it runs on such a machine: its real passes change that only slowly."""
    chooser = model.draft_length
    for _ in range(100):
        for rows in chooser.lengths:
            chooser.observe_pass(rows, seconds(rows))


@pytest.fixture
def fresh(q8_gguf: Path) -> Iterator[TriMode]:
    with TriMode(q8_gguf, n_ctx=1024, n_threads=1) as loaded:
        yield loaded


@pytest.mark.slow
@pytest.mark.parametrize("machine", [None, flat, steep])
def test_greedy_auto_equals_greedy_ar(
    fresh: TriMode, checkpoint_dir: Path, machine: Callable[[int], float] | None
) -> None:
    if machine:
        teach(fresh, machine)
    drafted = accepted = passes = 0
    for prompt in chat_prompts(fresh, checkpoint_dir, 12):
        expected, _ = decode(fresh, prompt, mode="ar", max_tokens=MAX_TOKENS)
        tokens, stats = decode(fresh, prompt, mode="auto", max_tokens=MAX_TOKENS)
        assert tokens == expected
        drafted, accepted = drafted + stats.drafted, accepted + stats.accepted
        passes += stats.forward_passes
    if machine is flat:
        assert drafted > 10 * passes / 2, "long drafts must be used where they cost nothing"
        assert accepted > 0.2 * drafted
    if machine is steep:
        assert drafted < 0.2 * passes, "plain AR must be used where drafts cost too much"


def test_a_seed_gives_the_text_of_ar(tmp_path: Path) -> None:
    with load_agreeing_model(tmp_path) as model:
        teach(model, flat)
        texts, drafted = set(), 0
        for prompt in random_prompts(model, 10):
            for seed in (1, 2):
                options = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "seed": seed}
                expected, _ = decode(
                    model, prompt, mode="ar", max_tokens=24, sampling=Sampling(**options, sampler="coupled")
                )
                tokens, stats = decode(model, prompt, mode="auto", max_tokens=24, sampling=Sampling(**options))
                assert tokens == expected
                texts.add(tuple(tokens))
                drafted += stats.drafted
        assert len(texts) > 15, "seeds must matter, or equality proves nothing"
        assert drafted > 200


def test_lengths_follow_the_drafts_that_are_accepted(fresh: TriMode, checkpoint_dir: Path) -> None:
    """trimode-tiny's drafts are nearly always accepted: the rates of all requests show it, and lengths grow."""
    teach(fresh, flat)
    chooser = fresh.draft_length
    before = chooser.new_request().tokens(16)
    for prompt in chat_prompts(fresh, checkpoint_dir, 12):
        decode(fresh, prompt, mode="auto", max_tokens=MAX_TOKENS)
    assert chooser.new_request().tokens(16) > before + 1


def test_a_block_length_in_auto_is_kept(model: TriMode, checkpoint_dir: Path) -> None:
    prompt = chat_prompts(model, checkpoint_dir, 1)[0]
    fixed, counted = decode(model, prompt, mode="self-spec", block_length=5, max_tokens=MAX_TOKENS)
    tokens, stats = decode(model, prompt, mode="auto", block_length=5, max_tokens=MAX_TOKENS)
    assert tokens == fixed
    assert (stats.drafted, stats.cycles, stats.forward_passes) == (
        counted.drafted, counted.cycles, counted.forward_passes,
    )  # fmt: skip


def test_max_tokens_is_exact(fresh: TriMode, checkpoint_dir: Path) -> None:
    teach(fresh, flat)
    prompt = chat_prompts(fresh, checkpoint_dir, 1)[0]
    for n in (1, 2, 3, 7, 33):
        tokens, _ = decode(fresh, prompt, mode="auto", max_tokens=n, ignore_eos=True, loop_window=0)
        assert len(tokens) == n
