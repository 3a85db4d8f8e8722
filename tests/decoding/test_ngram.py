"""Drafts that are read off the text: what they are, and that the text stays that of ar."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.decoding import chat_prompts, decode
from support.joint_distribution import (
    OFF,
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
from pytrimode._native import DraftLength, NgramAcceptance, NgramLookup
from pytrimode.options.sampling import COUPLED, REJECTION, Sampling

N_VOCAB, MASK = 1000, 999
MIN_MATCH, MAX_MATCH = 3, 32
MAX_TOKENS = 60
N_DRAWS = 1000
SETTINGS: list[dict[str, Any]] = [
    {"mode": "self-spec", "block_length": 1, "ngram": 1},
    {"mode": "self-spec", "block_length": 1, "ngram": 63},
    {"mode": "self-spec", "block_length": 8, "ngram": 5},
    {"mode": "self-spec", "block_length": 8, "ngram": -1},
    {"mode": "self-spec", "block_length": 8, "fused": True, "ngram": 16},
    {"mode": "auto"},
]
CASES = [
    (TEMPERATURES[i % 4], name, sampler, request)
    for sampler, request in (
        (REJECTION, {"block_length": 1, "ngram": 8}),
        (REJECTION, {"block_length": 4, "fused": True, "ngram": 2}),
        (COUPLED, {"block_length": 4, "ngram": 8}),
    )
    for i, name in enumerate(TRUNCATIONS)
]


# --- What is drafted --------------------------------------------------------------------------------------------------


def lookup_of(tokens: Sequence[int], n_prompt: int = 0) -> NgramLookup:
    found = NgramLookup(N_VOCAB, MASK)
    for i, token in enumerate(tokens):
        (found.add if i < n_prompt else found.push)(token)
    return found


def expected_draft(tokens: Sequence[int], n: int) -> tuple[int, list[int]]:
    """The longest match of the end, and what followed it, by comparing everything with everything."""
    matches: dict[int, int] = {}
    for place in range(1, len(tokens)):
        length = 0
        while length < min(place, MAX_MATCH) and tokens[place - 1 - length] == tokens[-1 - length]:
            length += 1
        if length >= MIN_MATCH:
            matches[place] = length
    if not matches:
        return 0, []
    longest = max(matches.values())
    places = [place for place, length in matches.items() if length == longest]
    votes = Counter(tokens[place] for place in places)
    source = max(places, key=lambda place: (votes[tokens[place]], place))
    text = list(tokens)
    draft: list[int] = []
    while len(draft) < n and 0 <= text[source + len(draft)] < N_VOCAB and text[source + len(draft)] != MASK:
        draft.append(text[source + len(draft)])
        text.append(draft[-1])
    return longest, draft


@settings(max_examples=300)
@given(st.lists(st.integers(0, 3), max_size=60), st.integers(0, 59))  # under 64 places: all of them are looked at
def test_the_draft_is_what_followed_the_longest_match(tokens: list[int], n_prompt: int) -> None:
    found = lookup_of(tokens, min(n_prompt, len(tokens) - 1))
    assert (found.match, found.draft(10)) == expected_draft(tokens, 10)


def test_a_text_that_repeats_is_continued_for_as_long_as_wanted() -> None:
    assert lookup_of([1, 2, 3, 4] * 2 + [1]).draft(9) == [2, 3, 4, 1, 2, 3, 4, 1, 2]


def test_the_most_frequent_continuation_of_the_longest_match_wins() -> None:
    text = [7, 8, 9, 1] * 3 + [5, 7, 8, 9, 2, 6, 7, 8, 9, 2, 4, 7, 8, 9]
    assert lookup_of(text).draft(1) == [1], "three times, although 2 came last"
    assert lookup_of([4, 7, 8, 9, 2, *[7, 8, 9, 1] * 2, 4, 7, 8, 9]).draft(1) == [2], (
        "behind 4 tokens that are the same, not 3"
    )


def test_masks_and_rows_of_images_are_not_drafted() -> None:
    assert lookup_of([1, 2, 3, 4, MASK, 1, 2, 3]).draft(5) == [4]
    assert lookup_of([1, 2, 3, N_VOCAB, 4, 1, 2, 3]).draft(5) == []
    assert lookup_of([N_VOCAB, N_VOCAB + 1, N_VOCAB + 2, 4, N_VOCAB, N_VOCAB + 1, N_VOCAB + 2]).draft(1) == [4]


def test_a_match_behind_more_places_than_are_looked_at_is_followed() -> None:
    """A long passage is copied whose three-token sequences stand in hundreds of other places."""
    passage = [n for i in range(40) for n in (i + 10, 1, 2, 3)]
    noise = [n for i in range(200) for n in (500 + i, 1, 2, 3)]
    found, right = lookup_of([*passage, *noise, 10, 1, 2, 3]), 0
    for token in passage[4:]:
        right += found.draft(1) == [token]
        found.push(token)
    assert right > 0.9 * len(passage[4:])


def test_rates_follow_what_is_observed_for_each_length_of_match() -> None:
    rates = NgramAcceptance(memory=60)
    before = rates.rate(3)
    for _ in range(100):
        rates.observe(3, False)
        rates.observe(30, True)
    assert rates.rate(3) < 0.1 < before and rates.rate(30) > 0.9
    assert rates.tokens(30, 8) == pytest.approx(1 + sum(rates.rate(30) ** i for i in range(1, 9)))
    assert rates.tokens(3, 8) < 1.2


@pytest.mark.parametrize("rate", [0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("slope", [0.004, 0.05, 0.15, 0.5])
def test_as_many_are_verified_as_give_the_most_tokens_a_second(slope: float, rate: float) -> None:
    """On simulated machines, against the best of all numbers; never where plain ar is faster."""

    def seconds(rows: float) -> float:
        return 1.0 + slope * rows

    choice, rates = DraftLength(64), NgramAcceptance(memory=1e6)
    for rows in (1, 2, 4, 8, 16, 32, 64) * 4:
        choice.observe_pass(rows, seconds(rows))
    rng = np.random.default_rng(0)
    for right in rng.random(20_000) < rate:
        rates.observe(32, bool(right))
    speed = {n: (rates.tokens(32, n) if n else 1.0) / seconds(n + 1) for n in range(64)}
    n = choice.looked_up(rates, 32, 63, speed[0])
    assert speed[n] >= 0.97 * max(speed.values())
    assert choice.looked_up(rates, 32, 63, 1e9) == 0
    assert choice.looked_up(rates, 32, 5, speed[0]) <= 5


# --- The text is that of ar -------------------------------------------------------------------------------------------


def copying_prompts(model: TriMode, checkpoint: Path) -> list[list[int]]:
    """Held-out prompts, each behind a conversation that has its answer already; and plain repetition."""
    prompts = []
    for prompt in chat_prompts(model, checkpoint, 8):
        answer, _ = decode(model, prompt, mode="ar", max_tokens=30)
        prompts.append([*prompt, *answer, *prompt])
    return [
        *prompts,
        model.tokenize(b"one two three, one two three, one two three, one"),
        *chat_prompts(model, checkpoint, 2),
    ]


@pytest.mark.parametrize("outtype", ["f32", "q8_0", "q4_k_m"])
def test_greedy_equals_greedy_ar(tiny_gguf: Callable[[str], Path], checkpoint_dir: Path, outtype: str) -> None:
    read_off = accepted = 0
    with TriMode(tiny_gguf(outtype), n_ctx=1024, n_threads=1) as model:
        for prompt in copying_prompts(model, checkpoint_dir):
            expected, _ = decode(model, prompt, mode="ar", max_tokens=MAX_TOKENS)
            for options in SETTINGS:
                tokens, stats = decode(model, prompt, max_tokens=MAX_TOKENS, **options)
                assert tokens == expected, options
                read_off, accepted = read_off + stats.ngram_drafted, accepted + stats.ngram_accepted
                assert stats.ngram_drafted <= stats.drafted
    assert 0.2 * read_off < accepted < read_off, "drafts must be right and wrong, or equality proves nothing"


def test_a_copy_takes_few_passes(model: TriMode, checkpoint_dir: Path) -> None:
    tokens = passes = without = 0
    for prompt in copying_prompts(model, checkpoint_dir)[:8]:
        options: dict[str, Any] = {"mode": "self-spec", "block_length": 4, "max_tokens": MAX_TOKENS}
        emitted, stats = decode(model, prompt, ngram=16, **options)
        _, plain = decode(model, prompt, ngram=0, **options)
        tokens, passes, without = tokens + len(emitted), passes + stats.forward_passes, without + plain.forward_passes
        assert plain.ngram_drafted == 0
    assert passes < 0.7 * without and tokens > 1.5 * passes


@pytest.mark.parametrize("ngram", [1, 16, 63])
def test_max_tokens_and_the_context_are_exact(q8_gguf: Path, ngram: int) -> None:
    prompt = [1, *range(200, 230)] * 3
    options: dict[str, Any] = {"ignore_eos": True, "loop_window": 0}
    with TriMode(q8_gguf, n_ctx=256, n_threads=1) as model:
        for n in (1, 2, 3, 17, 256 - len(prompt)):
            expected, _ = decode(model, prompt, mode="ar", max_tokens=n, **options)
            tokens, _ = decode(model, prompt, mode="self-spec", block_length=4, ngram=ngram, max_tokens=n, **options)
            assert tokens == expected and len(tokens) == n


def test_stop_strings_grammars_penalties_and_logprobs_are_those_of_ar(model: TriMode, checkpoint_dir: Path) -> None:
    list_of_words = 'root ::= "[" word (", " word){7} "]"\nword ::= "\\"red\\"" | "\\"green\\""'
    wanted: list[dict[str, Any]] = [
        {"stop": ["."], "max_tokens": 40},
        {"repeat_penalty": 1.2, "frequency_penalty": 0.3, "max_tokens": 40},
        {"logprobs": 3, "max_tokens": 40},
        {"logit_bias": {200: 2.0}, "max_tokens": 40},
        {"grammar": list_of_words, "max_tokens": 80},
    ]
    read_off = 0
    for prompt in copying_prompts(model, checkpoint_dir)[:4]:
        for options in wanted:
            answers = [
                model.create_completion(prompt, temperature=0.0, **decoding, **options)
                for decoding in ({"mode": "ar"}, {"mode": "self-spec", "block_length": 1, "ngram": 12})
            ]
            choices = [answer["choices"][0] for answer in answers]
            assert choices[0]["text"] == choices[1]["text"], options
            assert choices[0]["finish_reason"] == choices[1]["finish_reason"]
            assert json.dumps(choices[0]["logprobs"]) == json.dumps(choices[1]["logprobs"])
            read_off += answers[1]["timings"]["ngram_n"]
    assert read_off > 100


# --- The distribution is that of ar -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def agreeing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TriMode]:
    """Random weights, 8 requests at once."""
    with load_agreeing_model(tmp_path_factory.mktemp("ngram"), n_parallel=8) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def repeating(agreeing: TriMode) -> list[int]:
    """A prompt whose likeliest next tokens have all been followed by likely ones before."""
    words = [200, 210, 220]
    likely = np.argsort(agreeing.logits([1, *words])[-1])[::-1][:12]
    prompt = [1]
    for token in map(int, likely):
        follow = agreeing.logits([1, *words, token])[-1]
        prompt += [*words, token, int(np.argsort(follow)[-2]), int(follow.argmax())]
    return [*prompt, *words]


@pytest.mark.slow
@pytest.mark.parametrize(("temperature", "truncation", "sampler", "request_options"), CASES)
def test_the_joint_distribution_is_the_exact_one(
    agreeing: TriMode,
    repeating: list[int],
    temperature: float,
    truncation: str,
    sampler: str,
    request_options: dict[str, Any],
) -> None:
    sampling = Sampling(temperature=temperature, sampler=sampler, **TRUNCATIONS[truncation])
    cells = enumerate_cells(Distributions(agreeing, repeating, sampling), N_DRAWS)
    drawn = draw_many(agreeing, repeating, sampling, range(N_DRAWS), mode="self-spec", **request_options)
    assert chi_square_p(cells, drawn.counts) > SIGNIFICANCE / len(CASES)


def test_sampled_drafts_are_accepted_and_rejected(agreeing: TriMode, repeating: list[int]) -> None:
    sampling = Sampling(temperature=1.0, **TRUNCATIONS["none"])
    drawn = draw_many(agreeing, repeating, sampling, range(200), length=6, mode="self-spec", block_length=1, ngram=4)
    assert drawn.drafted > 100
    assert 0.02 < drawn.accepted / drawn.drafted < 0.95


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_coupled_gives_the_text_of_ar(agreeing: TriMode, repeating: list[int], seed: int) -> None:
    sampling = Sampling(temperature=1.0, sampler=COUPLED, seed=seed, **OFF)
    expected, _ = decode(agreeing, repeating, mode="ar", max_tokens=20, sampling=sampling)
    for options in SETTINGS:
        tokens, _ = decode(agreeing, repeating, max_tokens=20, sampling=sampling, **options)
        assert tokens == expected, options
