"""Properties of the sampler for any options: the chain, the noise, the acceptance rule, token by token.

The chain of `sampling_reference` is llama.cpp's; the engine's tokens are those of that chain under noise that depends
on seed and position alone; and the rule by which it accepts gives exactly the target, summed up instead of drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.decoding import decode, targets
from support.joint_distribution import OFF, PROMPTS, load_agreeing_model
from support.sampling_reference import (
    RULES,
    Distributions,
    FreshNoise,
    Noise,
    Stream,
    coupled,
    draw,
    draw_gumbel,
    expected_acceptance,
    philox,
    rejection,
    residual,
    self_spec,
    truncated,
    with_history,
)
from support.stock_sampler import stock_distribution, stock_vocab

from pytrimode import TriMode
from pytrimode.options.sampling import COUPLED, REJECTION, SAMPLERS, Sampling

pytestmark = pytest.mark.slow

# The same examples in every run: a float that falls exactly on an edge is then met always or never.
steady = settings(derandomize=True, max_examples=150)
MASK, N_VOCAB = 100, 400
MAX_TOKENS = 16

truncation = {
    "temperature": st.floats(0.2, 2.0),
    "top_k": st.sampled_from([0, 1, 2, 5, 40, 1000]),
    "top_p": st.just(1.0) | st.floats(0.01, 1.0),
    "min_p": st.just(0.0) | st.floats(0.0, 1.0),
    "seed": st.integers(0, 2**64 - 1),
}
penalties = {
    "repeat_penalty": st.just(1.0) | st.floats(0.5, 2.0),
    "frequency_penalty": st.just(0.0) | st.floats(-1.0, 1.0),
    "presence_penalty": st.just(0.0) | st.floats(-1.0, 1.0),
    "penalty_last_n": st.sampled_from([0, 1, 4, 64]),
    "logit_bias": st.dictionaries(st.integers(0, N_VOCAB - 1), st.floats(-10.0, 10.0), max_size=3),
}
dry = {
    "dry_multiplier": st.just(0.0) | st.floats(0.0, 2.0),
    "dry_allowed_length": st.sampled_from([1, 2]),
    "dry_penalty_last_n": st.sampled_from([-1, 4, 64]),
    "dry_sequence_breakers": st.sampled_from([("\n", ":", '"', "*"), ("a",)]),
}
typical = {"typical_p": st.just(1.0) | st.floats(0.05, 1.0)}
any_options = st.builds(Sampling, **truncation, **penalties, **typical)
distributions = st.lists(st.sampled_from([0.0, 0.0, 1e-6, 0.1, 0.5, 1.0, 3.0]), min_size=8, max_size=8).filter(any)


def distribution(weights: list[float]) -> np.ndarray:
    return np.array(weights) / sum(weights)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sampling")


@pytest.fixture(scope="module")
def model(directory: Path) -> Iterator[TriMode]:
    with load_agreeing_model(directory) as loaded:
        assert (loaded.mask_token_id, loaded.n_vocab) == (MASK, N_VOCAB)
        yield loaded


@pytest.fixture(scope="module")
def vocab(model: TriMode, directory: Path) -> Iterator[Any]:
    with stock_vocab(directory / "model.gguf") as loaded:
        yield loaded


@steady
@given(any_options, st.integers(0, 2**32), st.lists(st.integers(0, N_VOCAB - 1), max_size=80), st.floats(0.5, 8.0))
def test_the_chain_is_that_of_llama_cpp(
    sampling: Sampling, row_seed: int, history: list[int], steepness: float
) -> None:
    row = (np.random.default_rng(row_seed).standard_normal(N_VOCAB) * steepness).astype(np.float32)
    ours = truncated(with_history(row, MASK, history, sampling), sampling)
    assert ours == pytest.approx(stock_distribution(row, MASK, history, sampling), abs=1e-5)


@settings(steady, max_examples=80)
@given(st.builds(Sampling, **truncation, **penalties, **typical, **dry), st.sampled_from(PROMPTS))
def test_the_engine_draws_from_that_chain(model: TriMode, vocab: Any, sampling: Sampling, prompt: list[int]) -> None:
    tokens, found = targets(model, prompt, sampling, max_tokens=12, mode="ar", ignore_eos=True)
    rows = model.logits([*prompt, *tokens])[len(prompt) - 1 :]
    for i, target in enumerate(found):
        ours = np.zeros(N_VOCAB)
        ours[list(target)] = list(target.values())
        assert ours == pytest.approx(stock_distribution(rows[i], MASK, tokens[:i], sampling, vocab), abs=1e-5)


@steady
@given(any_options, st.integers(0, 2**32))
def test_what_truncation_keeps(sampling: Sampling, row_seed: int) -> None:
    row = np.random.default_rng(row_seed).standard_normal(N_VOCAB).astype(np.float32)
    logits = with_history(row, MASK, [], sampling)
    p = truncated(logits, sampling)
    kept = p > 0
    assert p.sum() == pytest.approx(1) and kept[logits.argmax()] | (sampling.typical_p < 1) and not kept[MASK]
    assert sampling.top_k <= 0 or kept.sum() <= sampling.top_k
    if sampling.typical_p == 1:
        assert logits[kept].min() >= logits[~kept].max(), "the likeliest are kept"
    if sampling.min_p > 0:
        assert logits[kept].min() >= logits[kept].max() + np.log(sampling.min_p) - 1e-9


@steady
@given(any_options, st.sampled_from(PROMPTS), st.sampled_from([1, 2, 3, 5, 16]))
def test_a_coupled_token_depends_on_its_distribution_seed_and_position_only(
    model: TriMode, sampling: Sampling, prompt: list[int], block_length: int
) -> None:
    """Every token of every mode and block length is the argmax of ln p + noise(seed, position)."""
    options = {"max_tokens": MAX_TOKENS, "ignore_eos": True, "sampling": replace(sampling, sampler=COUPLED)}
    ar, _ = decode(model, prompt, mode="ar", **options)
    tokens, _ = decode(model, prompt, mode="self-spec", block_length=block_length, **options)
    assert tokens == ar
    noise = Noise(sampling.seed or 0, N_VOCAB)
    targets = Distributions(model, prompt, sampling).targets(tuple(tokens))
    assert tokens == [draw_gumbel(p, noise, len(prompt) + i) for i, p in enumerate(targets[:-1])]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_draws_from_more_tokens_than_fit_a_block_of_weights(q8_gguf: Path, sampler: str) -> None:
    """Without truncation rows are summed up and searched in blocks (native/sampling/row.h)."""
    sampling = Sampling(temperature=3.0, seed=5, sampler=sampler, **OFF)
    with TriMode(q8_gguf, n_ctx=256, n_threads=1) as shipped:
        assert shipped.n_vocab > 1024
        prompt, noise = shipped.prompt_tokens("Hello"), Noise(5, shipped.n_vocab)
        tokens, found = targets(shipped, prompt, sampling, max_tokens=60, mode="ar", ignore_eos=True)
        for position, (token, target) in enumerate(zip(tokens, found, strict=True), len(prompt)):
            p = np.zeros(shipped.n_vocab)
            p[list(target)] = list(target.values())
            uniform = noise.uniform(position, Stream.TARGET)
            assert token == (draw_gumbel(p, noise, position) if sampler == COUPLED else draw(p, uniform))
        assert max(tokens) > 1024


@steady
@given(st.builds(Sampling, **truncation, **penalties), st.sampled_from(PROMPTS), st.sampled_from([1, 2, 3, 5, 16]))
def test_rejection_accepts_and_replaces_by_the_rule(
    model: TriMode, sampling: Sampling, prompt: list[int], block_length: int
) -> None:
    """The engine emits, drafts and accepts what the rule gives, written out in numpy, under the same noise."""
    tokens, stats = decode(
        model, prompt, mode="self-spec", max_tokens=MAX_TOKENS, block_length=block_length, ignore_eos=True,
        sampling=replace(sampling, sampler=REJECTION),
    )  # fmt: skip
    noise = Noise(sampling.seed or 0, N_VOCAB)
    run = self_spec(
        Distributions(model, prompt, sampling), rejection, noise, max_tokens=MAX_TOKENS, block_length=block_length
    )
    assert (tokens, stats.drafted, stats.accepted) == (run.tokens, run.drafted, run.accepted)


@steady
@given(distributions, distributions)
def test_rejection_is_exact_in_expectation(target: list[float], proposal: list[float]) -> None:
    """Summed over drafts and outcomes instead of drawn."""
    p, q = distribution(target), distribution(proposal)
    accepted = np.minimum(p, q)  # q(x) min(1, p(x) / q(x))
    emitted = accepted + (1 - accepted.sum()) * residual(p, q)
    assert emitted == pytest.approx(p, abs=1e-12)
    assert accepted.sum() == pytest.approx(expected_acceptance(REJECTION, p, q))
    assert (1 - accepted.sum()) == pytest.approx(np.abs(p - q).sum() / 2), "rejected as often as the two differ"


@steady
@given(distributions, distributions)
def test_acceptance_of_the_three_rules_is_in_order(target: list[float], proposal: list[float]) -> None:
    p, q = distribution(target), distribution(proposal)
    rates = {rule: expected_acceptance(rule, p, q) for rule in RULES}
    best = rates[REJECTION]
    assert rates["sample and compare"] <= rates[COUPLED] + 1e-9
    assert best / (2 - best) - 1e-9 <= rates[COUPLED] <= best + 1e-9, "(1 - TV) / (1 + TV) at least"


@settings(steady, max_examples=10)
@given(distributions, distributions, st.integers(0, 1000))
def test_acceptance_in_closed_form_is_what_the_rules_give(target: list[float], proposal: list[float], n: int) -> None:
    p, q = distribution(target), distribution(proposal)
    times, rng = 400, np.random.default_rng(n)
    for name, rule in RULES.items():
        accepted = 0
        for _ in range(times):
            noise = FreshNoise(rng, len(p))
            draft = draw_gumbel(q, noise, 7) if rule is coupled else draw(q, noise.uniform(7, Stream.DRAFT))
            accepted += rule(p, q, draft, noise, 7)[0]
        rate = expected_acceptance(name, p, q)
        assert abs(accepted - times * rate) <= 5 * np.sqrt(times * rate * (1 - rate)) + 1e-6


def test_the_noise_is_philox() -> None:
    """Known answers of the authors' Random123 (tests/kat_vectors, philox4x32, 10 rounds)."""
    for counter, key, words in (
        ([0] * 4, (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([2**32 - 1] * 4, (2**32 - 1,) * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], (0xA4093822, 0x299F31D0),
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ):  # fmt: skip
        assert [int(w) for w in philox([np.uint64(c) for c in counter], key)] == words
