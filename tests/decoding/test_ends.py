"""What ends an answer and what may not yet: min_tokens, stop_token_ids; and logit bias, in every mode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.decoding import chat_prompts, decode, targets

from pytrimode import MODES, TriMode
from pytrimode.formats.text_stream import TextStream
from pytrimode.options.sampling import Sampling

DRAFTS: list[dict[str, Any]] = [
    {"mode": "self-spec", "block_length": 4},
    {"mode": "self-spec", "block_length": 16},
    {"mode": "self-spec", "block_length": 8, "fused": True},
    {"mode": "self-spec", "block_length": 8, "ngram": 8},
    {"mode": "auto"},
]
SAMPLINGS = {
    "greedy": Sampling(temperature=0.0),
    "coupled": Sampling(temperature=0.8, seed=5, sampler="coupled"),
    "penalties": Sampling(temperature=0.0, repeat_penalty=1.2),
}


@pytest.fixture(scope="module")
def prompts(model: TriMode, checkpoint_dir: Path) -> list[list[int]]:
    return chat_prompts(model, checkpoint_dir, 6)


def ends(model: TriMode) -> set[int]:
    return {token for token in range(model.n_vocab) if model.is_eog(token)}


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_nothing_ends_before_min_tokens(
    model: TriMode, prompts: list[list[int]], mode: str, temperature: float
) -> None:
    sampling = Sampling(temperature=temperature, seed=3)
    n_later = 0
    for prompt in prompts:
        plain, _ = decode(model, prompt, mode=mode, sampling=sampling, max_tokens=60)
        assert plain[-1] in ends(model), "the test needs answers that end"
        n = len(plain) + 7
        emitted, _ = decode(model, prompt, mode=mode, sampling=sampling, min_tokens=n, max_tokens=n + 40)
        assert len(emitted) >= n and not ends(model) & set(emitted[:-1])
        assert emitted[: len(plain) - 1] == plain[:-1] or mode == "diffusion" or temperature
        n_later += emitted[-1] in ends(model)
        exact, _ = decode(model, prompt, mode=mode, sampling=sampling, min_tokens=n, max_tokens=n)
        assert len(exact) == n and not ends(model) & set(exact)
    assert n_later, "no answer ended after all"


@pytest.mark.parametrize("drafts", DRAFTS)
@pytest.mark.parametrize("name", SAMPLINGS)
def test_self_spec_is_ar_with_min_tokens(
    model: TriMode, prompts: list[list[int]], drafts: dict[str, Any], name: str
) -> None:
    for prompt in prompts:
        for n in (1, 17, 40):
            asked: dict[str, Any] = {"sampling": SAMPLINGS[name], "min_tokens": n, "max_tokens": 60}
            assert decode(model, prompt, **asked, **drafts)[0] == decode(model, prompt, **asked, mode="ar")[0]


def test_rows_before_min_tokens_are_those_of_the_model_without_its_ends(
    model: TriMode, prompts: list[list[int]]
) -> None:
    prompt, n = prompts[0], 30
    sampling = Sampling(temperature=1.0, seed=1, top_k=0, top_p=1.0, min_p=0.0)
    for drafts in ({"mode": "ar"}, {"mode": "self-spec", "block_length": 8}):
        emitted, rows = targets(model, prompt, sampling, 40, min_tokens=n, **drafts)
        logits = model.logits([*prompt, *emitted])[len(prompt) - 1 :]
        for i, row in enumerate(rows):
            held = ends(model) if i < n else set()
            assert not held & row.keys()
            kept = [token for token in range(model.n_vocab) if token not in held | {model.mask_token_id}]
            expected = np.exp(logits[i][kept].astype(np.float64) - logits[i].max())
            expected /= expected.sum()
            found = np.array([row.get(token, 0.0) for token in kept])
            assert np.abs(found - expected).max() < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_stop_strings_and_loops_wait_for_min_tokens(model: TriMode, prompts: list[list[int]], mode: str) -> None:
    for prompt in prompts:
        options: dict[str, Any] = {"mode": mode, "temperature": 0.0}
        text: str = model.create_completion(prompt, **options, max_tokens=60)["choices"][0]["text"]
        stop = text[1:3]
        n = len(model.tokenize(text, add_bos=False)) + 3
        options |= {"max_tokens": n + 30, "loop_window": 6, "ignore_eos": True}
        free: Any = model.create_completion(prompt, **options, min_tokens=n)
        held: Any = model.create_completion(prompt, **options, min_tokens=n, stop=[stop])
        assert held["usage"]["completion_tokens"] >= n
        whole, shown = free["choices"][0]["text"], held["choices"][0]["text"]
        assert whole.startswith(shown) and stop in shown
        chunks: Any = model.create_completion(prompt, **options, min_tokens=n, stop=[stop], stream=True)
        assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == shown


@pytest.mark.parametrize("mode", MODES)
def test_stop_token_ids(model: TriMode, prompts: list[list[int]], mode: str) -> None:
    for prompt in prompts:
        options: dict[str, Any] = {"mode": mode, "temperature": 0.0, "max_tokens": 60}
        plain, _ = decode(model, prompt, mode=mode, max_tokens=60)
        at = next(i for i in range(3, len(plain)) if plain[i] not in plain[:i])
        result: Any = model.create_completion(prompt, **options, stop_token_ids=[plain[at], 5])
        assert result["choices"][0]["finish_details"] == {"type": "stop", "stop": None}
        assert result["choices"][0]["text"] == model.detokenize(plain[:at]).decode()
        assert result["usage"]["completion_tokens"] == at
        ignoring: Any = model.create_completion(prompt, **options, stop_token_ids=[plain[at]], ignore_eos=True)
        assert ignoring["choices"][0]["text"] == result["choices"][0]["text"]
        later, _ = decode(model, prompt, mode=mode, max_tokens=60, stop_token_ids=[plain[at]], min_tokens=at + 2)
        assert len(later) >= at + 2 and plain[at] not in later[: at + 2]


def test_drafts_with_stop_token_ids_are_ar(model: TriMode, prompts: list[list[int]]) -> None:
    for prompt in prompts:
        token = decode(model, prompt, mode="ar", max_tokens=60)[0][5]
        expected = decode(model, prompt, mode="ar", max_tokens=60, stop_token_ids=[token])[0]
        assert expected[-1] == token
        for drafts in DRAFTS:
            assert decode(model, prompt, max_tokens=60, stop_token_ids=[token], **drafts)[0] == expected


def test_min_tokens_in_the_middle_of_a_text(model: TriMode) -> None:
    begin, rest = model.tokenize("def add(a, b):\n"), model.tokenize("\n\nprint(add(1, 2))", add_bos=False)
    middle, _ = decode(model, begin, mode="diffusion", suffix=rest, max_tokens=12, min_tokens=12)
    assert len(middle) == 12 and not ends(model) & set(middle)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("reveal", ["confidence", "leftmost", "margin"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logit_bias_holds(model: TriMode, prompts: list[list[int]], mode: str, reveal: str, temperature: float) -> None:
    plain = {token for prompt in prompts for token in decode(model, prompt, mode=mode, max_tokens=30)[0]}
    frequent = sorted(plain - ends(model))
    wanted = next(token for token in range(200, model.n_vocab) if token not in plain)
    for prompt in prompts:
        banned = Sampling(temperature=temperature, seed=2, logit_bias=dict.fromkeys(frequent, -1000.0))
        options: dict[str, Any] = {"mode": mode, "reveal": reveal, "max_tokens": 30}
        emitted, _ = decode(model, prompt, sampling=banned, **options)
        assert emitted and not set(emitted) & set(frequent)
        forced = Sampling(temperature=temperature, seed=2, logit_bias={wanted: 1000.0})
        emitted, _ = decode(model, prompt, sampling=forced, loop_window=0, **options)
        assert emitted == [wanted] * 30


def test_logit_bias_holds_beside_a_grammar_in_diffusion(model: TriMode, prompts: list[list[int]]) -> None:
    for letter in "abc":
        token = model.tokenize(letter, add_bos=False)[-1]
        text: str = model.create_completion(
            prompts[0], mode="diffusion", grammar="root ::= [abc] [abc] [abc] [abc]", temperature=0.0,
            logit_bias={token: 1000.0},
        )["choices"][0]["text"]  # fmt: skip
        assert letter in text and set(text) == {letter}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_tokens": -1}, "min_tokens -1: must be 0 or more"),
        ({"min_tokens": 9, "max_tokens": 8}, "min_tokens 9: must be at most max_tokens"),
        ({"stop_token_ids": [99999]}, "stop_token_ids: token id 99999 is not in the vocabulary"),
    ],
)
def test_what_cannot_be(model: TriMode, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model.create_completion("Hello", **options)


def test_an_end_that_a_grammar_wants_and_min_tokens_refuses(model: TriMode) -> None:
    with pytest.raises(RuntimeError, match="grammar, logit bias and min_tokens together allow no token"):
        model.create_completion("Hello", grammar='root ::= "ab"', min_tokens=30, max_tokens=40)


def test_stop_strings_that_do_not_count_yet() -> None:
    for stops, pieces, free, expected in (
        (["ab"], ["a", "b", "c", "a", "b", "x"], 2, "abc"),
        (["ab"], ["a", "b", "c"], 1, ""),
        (["a", "abc"], ["a", "b", "d", "a"], 2, "abd"),
        (["bc"], ["ab", "cb", "c"], 2, "abc"),
    ):
        stream = TextStream(stops)
        text = "".join(stream.feed(piece.encode(), may_stop=i >= free) for i, piece in enumerate(pieces))
        assert text + stream.finish() == expected
