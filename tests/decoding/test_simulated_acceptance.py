"""Acceptance by lot, for benchmarks: drafts are accepted at the rates that are given, in every kind of cycle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from support.decoding import decode

from pytrimode import TriMode
from pytrimode._native import Stats
from pytrimode.bench.acceptance import SimulatedAcceptance, published, read_acceptance
from pytrimode.options.generation_options import GenerationOptions, option_table
from pytrimode.options.sampling import Sampling
from pytrimode.plan.model_shape import BUILT_IN

PROMPT = [1, 5, 6, 7, 8]
LENGTH = 300


@pytest.fixture(scope="module")
def tiny(q8_gguf: Path) -> Iterator[TriMode]:
    """An engine of its own: what is learned of acceptance here says nothing of the model."""
    with TriMode(q8_gguf, n_ctx=1024, n_threads=1) as model:
        yield model


def simulate(
    model: TriMode, rates: Sequence[float], after_rejection: float = 0.5, seed: int = 1, **options: Any
) -> tuple[list[int], Stats]:
    wanted = GenerationOptions(
        **{"max_tokens": LENGTH, "ignore_eos": True, "loop_window": 0, "mode": "self-spec"} | options,
        sampling=Sampling(temperature=0.0, seed=seed),
    )
    resolved = model.resolve(wanted, len(PROMPT))
    lots = SimulatedAcceptance(tuple(rates), after_rejection, "test")
    resolved = replace(resolved, engine=resolved.engine.replace(**lots.engine_arguments()))
    tokens: list[int] = []
    for _, event in model.run_many([(PROMPT, resolved)], 1):
        tokens += event.tokens
        last = event.stats
    return tokens, last


@pytest.mark.parametrize("fused", [False, True])
def test_all_drafts_or_none(tiny: TriMode, fused: bool) -> None:
    for rate, per_pass in ((1.0, 4.0 if fused else 2.0), (0.0, 1.0 if fused else 0.5)):
        tokens, stats = simulate(tiny, [rate], rate, block_length=4, fused=fused, max_tokens=100)
        assert len(tokens) == 100 and stats.simulated_acceptance
        assert stats.completion_tokens / stats.forward_passes == pytest.approx(per_pass, rel=0.05)


@pytest.mark.parametrize("block_length", [4, 8])
def test_tokens_per_cycle_are_those_of_the_rates(tiny: TriMode, block_length: int) -> None:
    rates = published("8B")
    n_tokens = n_cycles = 0
    for seed in range(4):
        _, stats = simulate(tiny, rates.rates, seed=seed, block_length=block_length)
        n_tokens += stats.completion_tokens - 1
        n_cycles += stats.cycles
    assert n_tokens / n_cycles == pytest.approx(rates.tokens(block_length), rel=0.08)


def test_fused_cycles_meet_the_same_rates(tiny: TriMode) -> None:
    """A draft that rides with a verification begins behind its first mask: accepted are its second, third ... token."""
    rates = (0.9, 0.8, 0.4, 0.2)
    drafted = accepted = 0
    for seed in range(4):
        _, stats = simulate(tiny, rates, 0.0, seed=seed, block_length=3, fused=True)
        drafted, accepted = drafted + stats.drafted, accepted + stats.accepted
    # Two drafts each time: the second is accepted where the first was.
    assert accepted / drafted == pytest.approx((0.8 + 0.8 * 0.4) / 2, rel=0.1)


def test_what_was_seen_chooses_the_cycles_of_mode_auto(tiny: TriMode) -> None:
    for _ in range(2):
        simulate(tiny, [0.9, 0.1], mode="auto", fused="auto", block_length=4)
    learned = tiny.draft_length.acceptance.rates
    assert learned[0] > 0.75 and learned[1] < 0.6


def test_a_seed_repeats_itself(tiny: TriMode) -> None:
    runs = [simulate(tiny, [0.7], seed=seed, block_length=8, max_tokens=100) for seed in (3, 3, 4)]
    cycles = [stats.cycles for _, stats in runs]
    assert runs[0][0] == runs[1][0] and cycles[0] == cycles[1] != cycles[2]


def test_real_requests_are_not_touched(tiny: TriMode) -> None:
    simulate(tiny, [1.0], block_length=4, max_tokens=50)
    spec, stats = decode(tiny, PROMPT, mode="self-spec", block_length=4, max_tokens=50)
    ar, _ = decode(tiny, PROMPT, mode="ar", max_tokens=50)
    assert spec == ar and not stats.simulated_acceptance


def test_no_option_of_a_request_leads_there(tiny: TriMode) -> None:
    names = [*(field.name for field in fields(GenerationOptions)), *option_table()]
    assert not any("simulated" in name for name in names)
    with pytest.raises(TypeError, match="simulated_acceptance"):
        tiny.create_completion("Hello", simulated_acceptance=[1.0])  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("rates", "options", "message"),
    [
        ([1.5], {}, "between 0 and 1, not 1.5"),
        ([float("nan")], {}, "between 0 and 1"),
        ([0.5], {"mode": "ar"}, "greedy requests in mode self-spec"),
        ([0.5], {"mode": "diffusion"}, "greedy requests in mode self-spec"),
    ],
)
def test_what_cannot_be_simulated_is_refused(
    tiny: TriMode, rates: list[float], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        simulate(tiny, rates, **options)


# --- Rates -----------------------------------------------------------------------------------------------------------


def test_published_rates_give_the_published_figures() -> None:
    """8B with LoRA: tokens per cycle, and whole blocks accepted, by block length (see `pytrimode.bench.acceptance`)."""
    found = published("8B")
    for block_length, tokens, whole in ((4, 3.67, 0.815), (8, 6.36, 0.597), (16, 10.2, 0.406), (32, 15.5, 0.272)):
        assert found.tokens(block_length) == pytest.approx(tokens, rel=0.005)
        assert found.tokens(block_length) - found.tokens(block_length - 1) == pytest.approx(whole, rel=0.005)
    assert found.rates[0] == pytest.approx(0.949)
    for size, gain in (("3B", 1.14), ("14B", 1.28)):
        assert published(size).tokens(32) == pytest.approx(15.5 * gain / (5.99 / 4.52), rel=0.005)


def test_a_model_gets_the_rates_of_its_size(tmp_path: Path) -> None:
    shape = BUILT_IN["14B"].hparams
    metadata = {"mistral3.embedding_length": str(shape.hidden), "mistral3.feed_forward_length": str(shape.ffn)}
    assert read_acceptance("published", metadata) == published("14B")
    assert read_acceptance("published", {}) == published("8B") == read_acceptance("8b", metadata)
    file = tmp_path / "mine.json"
    file.write_text("[0.9, 0.5]")
    assert read_acceptance(str(file), metadata) == SimulatedAcceptance((0.9, 0.5), 0.5, "mine.json")
    file.write_text('{"rates": [1], "after_rejection": 0.25, "source": "a test"}')
    assert read_acceptance(str(file), metadata) == SimulatedAcceptance((1.0,), 0.25, "a test")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "rates: expected a list"),
        ("[0.5, 2]", r"rates\[1\]: expected a number between 0 and 1, found 2"),
        ('{"rates": ["x"]}', r"rates\[0\]"),
        ('{"rates": [1], "after_rejection": true}', "after_rejection"),
        ("3", "expected a list of rates"),
        ("{", "not JSON"),
    ],
)
def test_bad_files_of_rates_are_refused(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "rates.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=rf"rates\.json: {message}"):
        read_acceptance(str(file), {})
