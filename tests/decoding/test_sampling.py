"""Sampling: self-speculation keeps the target distribution, whatever the block length, by rejection and coupled.

A quick version of benchmarks/sampling_distribution.py: fewer draws, and one block length for each case.
"""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from support.decoding import decode
from support.joint_distribution import (
    OFF,
    PROMPTS,
    SIGNIFICANCE,
    TEMPERATURES,
    TRUNCATIONS,
    Cell,
    Cells,
    Tokens,
    chi_square_p,
    draw_many,
    enumerate_cells,
    load_agreeing_model,
    simulate_many,
)
from support.sampling_reference import RULES, WRONG_RULES, Distributions, truncated, with_history

from pytrimode import TriMode
from pytrimode.options.sampling import COUPLED, REJECTION, Sampling

pytestmark = pytest.mark.slow

N_DRAWS = 1000
PROMPT = PROMPTS[2]
BLOCK_LENGTHS = (2, 4, 16)
# Every temperature with every truncation for one block length each; then each truncation in ar and coupled.
CASES = [
    (temperature, name, {"mode": "self-spec", "block_length": BLOCK_LENGTHS[(i + j) % 3], "sampler": REJECTION})
    for i, temperature in enumerate(TEMPERATURES)
    for j, name in enumerate(TRUNCATIONS)
] + [
    (TEMPERATURES[j % 4], name, {"mode": mode, "block_length": 4, "sampler": sampler})
    for mode, sampler in (("ar", REJECTION), ("self-spec", COUPLED))
    for j, name in enumerate(TRUNCATIONS)
]


@pytest.fixture(scope="module")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TriMode]:
    """Random weights whose drafts agree with the target in part: accepted and rejected drafts are both common."""
    with load_agreeing_model(tmp_path_factory.mktemp("sampling")) as model:
        yield model


@pytest.mark.parametrize(
    ("temperature", "truncation", "request_options"),
    CASES,
    ids=[f"T{t}-{name}-{'-'.join(str(v) for v in request.values())}".replace(" ", "-") for t, name, request in CASES],
)
def test_the_joint_distribution_is_the_exact_one(
    random_model: TriMode, temperature: float, truncation: str, request_options: dict[str, Any]
) -> None:
    options = dict(request_options)
    sampling = Sampling(temperature=temperature, sampler=options.pop("sampler"), **TRUNCATIONS[truncation])
    cells = enumerate_cells(Distributions(random_model, PROMPTS[0], sampling), N_DRAWS)
    assert sum(cells.expected.values()) == pytest.approx(N_DRAWS)
    drawn = draw_many(random_model, PROMPTS[0], sampling, range(N_DRAWS), **options)
    assert chi_square_p(cells, drawn.counts) > SIGNIFICANCE / len(CASES)


def test_drafts_are_accepted_and_rejected(random_model: TriMode) -> None:
    sampling = Sampling(temperature=1.0, **TRUNCATIONS["none"])
    drawn = draw_many(random_model, PROMPTS[0], sampling, range(100), mode="self-spec", block_length=4)
    assert 0.2 < drawn.accepted / drawn.drafted < 0.9


@pytest.mark.parametrize("rule", [*RULES, *WRONG_RULES])
def test_a_wrong_acceptance_rule_is_found_out(random_model: TriMode, rule: str) -> None:
    """The same test on the same logits, with the rule exchanged: greedy matching, no residual, a wrong temperature."""
    of = Distributions(random_model, PROMPTS[0], Sampling(temperature=0.7, **TRUNCATIONS["none"]))
    cells = enumerate_cells(of, N_DRAWS)
    p = chi_square_p(cells, simulate_many(of, (RULES | WRONG_RULES)[rule], N_DRAWS, block_length=4))
    assert (p > SIGNIFICANCE / len(CASES)) == (rule in RULES)


def test_a_wrong_temperature_is_found_out(random_model: TriMode) -> None:
    cells = enumerate_cells(
        Distributions(random_model, PROMPTS[0], Sampling(temperature=0.7, **TRUNCATIONS["none"])), N_DRAWS
    )
    warmer = Sampling(temperature=0.8, **TRUNCATIONS["none"])
    drawn = draw_many(random_model, PROMPTS[0], warmer, range(N_DRAWS), mode="self-spec", block_length=4)
    assert chi_square_p(cells, drawn.counts) < SIGNIFICANCE / len(CASES)


def test_a_seed_repeats_and_seeds_differ(random_model: TriMode) -> None:
    def run(seed: int | None) -> list[int]:
        sampling = Sampling(temperature=1.0, seed=seed)
        return decode(random_model, PROMPT, max_tokens=20, mode="self-spec", ignore_eos=True, sampling=sampling)[0]

    assert run(7) == run(7)
    assert len({tuple(run(seed)) for seed in range(5)}) > 1
    assert len({tuple(run(None)) for _ in range(5)}) > 1


@pytest.mark.parametrize("mode", ["ar", "self-spec"])
def test_greedy_with_penalties_is_the_same_in_both_modes(random_model: TriMode, mode: str) -> None:
    sampling = Sampling(temperature=0.0, repeat_penalty=1.3, frequency_penalty=0.2, logit_bias={150: 1.0})
    tokens, _ = decode(random_model, PROMPT, max_tokens=30, mode=mode, ignore_eos=True, sampling=sampling)
    known: list[int] = []
    for token in tokens:
        row = random_model.logits([*PROMPT, *known])[-1].copy()
        row[150] += 1.0
        for seen, n in Counter(known[-64:]).items():
            row[seen] = row[seen] / 1.3 if row[seen] > 0 else row[seen] * 1.3
            row[seen] -= 0.2 * n
        row[random_model.mask_token_id] = -np.inf
        assert token == int(row.argmax())
        known.append(token)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"temperature": -1}, "temperature -1: must be 0 or more"),
        ({"top_p": 1.5}, "top_p 1.5: must be between 0 and 1"),
        ({"repeat_penalty": 0}, "repeat_penalty 0"),
        ({"sampler": "magic"}, "unknown sampler 'magic'"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {10**6: 1}}, "token id 1000000 is not in the vocabulary"),
        ({"grammar": "root ::= ("}, "grammar: cannot be parsed"),
    ],
)
def test_bad_options_are_named(model: TriMode, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        model.create_completion("Hello", **options)


def test_diffusion_samples_and_takes_steps(random_model: TriMode, model: TriMode) -> None:
    prompt = [{"role": "user", "content": "Hello"}]
    tokens = model.chat_tokens(prompt)
    seen = {
        tuple(
            decode(random_model, PROMPT, mode="diffusion", max_tokens=24, sampling=Sampling(temperature=2.0, seed=s))[0]
        )
        for s in range(5)
    }
    assert len(seen) > 1
    for steps in (1, 2, 4):
        out, stats = decode(
            model, tokens, mode="diffusion", max_tokens=33, block_length=16, steps=steps, ignore_eos=True
        )
        assert len(out) == 33
        # 1 + 2 * (15 + 1): the seed from the prefill, then two whole blocks, each with the seed of its causal pass.
        assert stats.forward_passes == 2 * (steps + 1)


def test_diffusion_draws_candidates_from_the_truncated_row(random_model: TriMode) -> None:
    """One denoising pass for a block whose seed a bias makes likely: its tokens are independent draws from its rows,
    where the bias holds too."""
    seed_token, mask = 200, random_model.mask_token_id
    rows = random_model.logits([*PROMPT, seed_token, mask, mask], block_start=len(PROMPT))[-2:]
    for options in (OFF, OFF | {"top_k": 5}, OFF | {"top_p": 0.9}, OFF | {"min_p": 0.1}):
        sampling = Sampling(temperature=1.0, logit_bias={seed_token: 9.0}, **options)
        drawn = draw_many(random_model, PROMPT, sampling, range(N_DRAWS), mode="diffusion", block_length=3, steps=1)
        seeded = {tokens: times for tokens, times in drawn.counts.items() if tokens[0] == seed_token}
        n = sum(seeded.values())
        assert n > N_DRAWS / 4
        for i, row in enumerate(rows):
            p = truncated(with_history(row, mask, [], sampling), sampling)
            expected: dict[Cell, float] = {(t,): n * p[t] for t in range(len(p)) if p[t] > 0}
            cells = Cells(expected, lambda tokens, p=p: p[tokens[0]] == 0)  # type: ignore[misc]
            counts: Counter[Tokens] = Counter()
            for tokens, times in seeded.items():
                counts[tokens[1 + i : 2 + i]] += times
            assert chi_square_p(cells, counts) > SIGNIFICANCE / 8


@pytest.mark.parametrize("options", [{"repeat_penalty": 1.3, "penalty_last_n": 1 << 28},
                                     {"dry_multiplier": 0.8, "dry_penalty_last_n": 1 << 28}])  # fmt: skip
def test_looking_back_further_than_the_context_costs_nothing(model: TriMode, options: dict[str, Any]) -> None:
    """llama.cpp's samplers make room for all the tokens that they are to look back at: 4 bytes each, or 12."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    far: Any = model.create_completion("Hello", max_tokens=24, temperature=0.0, **options)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 << 10, "KiB"
    near: Any = model.create_completion(
        "Hello", max_tokens=24, temperature=0.0, **{name: min(value, model.n_ctx) for name, value in options.items()}
    )
    assert far["choices"] == near["choices"]
