"""Sampling: self-speculation keeps the target distribution exactly, by rejection and with coupled noise.

The joint distribution of the next three tokens is enumerated from `logits()` with an independent implementation of the
truncation, and compared with what many seeds give.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from decoding import chat_prompts, decode
from scipy.stats import chi2
from synthetic import make_checkpoint

from pytrimode import TriMode
from pytrimode.convert import convert
from pytrimode.sampling import Sampling

N_DRAWS = 2000
LENGTH = 3
PROMPT = [1, *range(140, 160)]
P_VALUE = 1e-4


@pytest.fixture(scope="module")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TriMode]:
    """Random weights: drafts agree with the target only in part, so that rejections are common."""
    root = tmp_path_factory.mktemp("sampling")
    source = make_checkpoint(root / "model", hidden=64, layers=2, dtype="f32", seed=5)
    convert(source, root / "model.gguf", "f32")
    with TriMode(root / "model.gguf", n_ctx=256, n_threads=1, flash_attn=False, type_k="f32", type_v="f32") as model:
        yield model


def target(row: np.ndarray, mask: int, history: Sequence[int], options: dict[str, Any]) -> dict[int, float]:
    """The sampler chain on one row, written out: penalty, top-k, top-p, min-p, temperature."""
    logits = {i: float(x) for i, x in enumerate(row) if i != mask}
    for token in set(history):
        penalty = options.get("repeat_penalty", 1.0)
        logits[token] = logits[token] / penalty if logits[token] > 0 else logits[token] * penalty
    ranked = sorted(logits, key=lambda t: -logits[t])[: options["top_k"] or None]

    def softmax(tokens: list[int], temperature: float = 1.0) -> dict[int, float]:
        weights = np.exp((np.array([logits[t] for t in tokens]) - logits[tokens[0]]) / temperature)
        return dict(zip(tokens, weights / weights.sum(), strict=True))

    p = softmax(ranked)
    if options["top_p"] < 1:
        cumulative = np.cumsum([p[t] for t in ranked])
        ranked = ranked[: int(np.searchsorted(cumulative, options["top_p"])) + 1]
        p = softmax(ranked)
    ranked = [t for t in ranked if p[t] >= options["min_p"] * p[ranked[0]]]
    return softmax(ranked, options["temperature"])


def exact_joint(model: TriMode, options: dict[str, Any]) -> dict[tuple[int, ...], float]:
    """Probability of every possible continuation of LENGTH tokens."""
    joint: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(LENGTH):
        longer = {}
        for tokens, p in joint.items():
            row = model.logits([*PROMPT, *tokens])[-1]
            for token, q in target(row, model.mask_token_id, tokens, options).items():
                longer[(*tokens, token)] = p * q
        joint = longer
    return joint


def chi_square_p(joint: dict[tuple[int, ...], float], counts: Counter[tuple[int, ...]], n: int) -> float:
    """p value; continuations expected less than five times count as one."""
    assert not set(counts) - set(joint), "a token came out that the target excludes"
    common = [t for t, p in joint.items() if n * p >= 5]
    observed = [counts[t] for t in common]
    expected = [n * joint[t] for t in common]
    rest = n - sum(expected)
    if rest >= 5:
        observed.append(n - sum(observed))
        expected.append(rest)
    statistic = sum((o - e) ** 2 / e for o, e in zip(observed, expected, strict=True))
    return float(chi2.sf(statistic, len(expected) - 1))


def draws(model: TriMode, n: int, options: dict[str, Any], **request: Any) -> Counter[tuple[int, ...]]:
    counts: Counter[tuple[int, ...]] = Counter()
    for seed in range(n):
        sampling = Sampling(**options, **request.get("sampling", {}), seed=seed)
        rest = {k: v for k, v in request.items() if k != "sampling"}
        tokens, _ = decode(model, PROMPT, max_tokens=LENGTH, ignore_eos=True, sampling=sampling, **rest)
        counts[tuple(tokens)] += 1
    return counts


CASES = {
    "top-k": {"temperature": 1.5, "top_k": 3, "top_p": 1.0, "min_p": 0.0},
    "top-p": {"temperature": 0.7, "top_k": 0, "top_p": 0.3, "min_p": 0.0},
    "min-p": {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.4},
    "all": {"temperature": 1.0, "top_k": 4, "top_p": 0.9, "min_p": 0.1, "repeat_penalty": 1.2},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    "request_options",
    [
        {"mode": "ar"},
        {"mode": "self-spec", "block_length": 2},
        {"mode": "self-spec", "block_length": 4},
        {"mode": "self-spec", "block_length": 4, "sampling": {"sampler": "coupled"}},
    ],
    ids=["ar", "B2", "B4", "B4-coupled"],
)
def test_the_joint_distribution_is_the_exact_one(
    random_model: TriMode, case: str, request_options: dict[str, Any]
) -> None:
    joint = exact_joint(random_model, CASES[case])
    assert abs(sum(joint.values()) - 1) < 1e-6
    counts = draws(random_model, N_DRAWS, CASES[case], **request_options)
    assert chi_square_p(joint, counts, N_DRAWS) > P_VALUE


def test_the_distribution_test_can_fail(random_model: TriMode) -> None:
    """Greedy matching, as a wrong acceptance rule would give, and a slightly wrong temperature are both found out."""
    joint = exact_joint(random_model, CASES["top-k"])
    greedy: Counter[tuple[int, ...]] = Counter()
    tokens, _ = decode(random_model, PROMPT, max_tokens=LENGTH, ignore_eos=True, mode="self-spec")
    greedy[tuple(tokens)] = N_DRAWS
    assert chi_square_p(joint, greedy, N_DRAWS) < P_VALUE
    colder = draws(random_model, N_DRAWS, {**CASES["top-k"], "temperature": 0.7}, mode="self-spec", block_length=4)
    assert chi_square_p(joint, colder, N_DRAWS) < P_VALUE


@pytest.mark.parametrize("temperature", [0.5, 1.0])
@pytest.mark.parametrize("top_p", [0.9, 1.0])
def test_coupled_gives_the_text_of_ar(q8_gguf: Path, checkpoint_dir: Path, temperature: float, top_p: float) -> None:
    with TriMode(q8_gguf, n_ctx=1024, n_threads=1) as model:
        for prompt in chat_prompts(model, checkpoint_dir, 25):
            for seed in (1, 2, 3):
                sampling = Sampling(
                    temperature=temperature, top_p=top_p, top_k=0, min_p=0.0, sampler="coupled", seed=seed
                )
                expected, _ = decode(model, prompt, mode="ar", max_tokens=40, sampling=sampling)
                for block_length in (2, 8, 16):
                    tokens, _ = decode(
                        model, prompt, mode="self-spec", max_tokens=40, block_length=block_length, sampling=sampling
                    )
                    assert tokens == expected


def test_a_seed_repeats_and_seeds_differ(random_model: TriMode) -> None:
    def run(seed: int | None) -> list[int]:
        sampling = Sampling(temperature=1.0, seed=seed)
        return decode(random_model, PROMPT, max_tokens=20, mode="self-spec", ignore_eos=True, sampling=sampling)[0]

    assert run(7) == run(7)
    assert len({tuple(run(seed)) for seed in range(5)}) > 1
    assert len({tuple(run(None)) for _ in range(5)}) > 1


@pytest.mark.parametrize("mode", ["ar", "self-spec"])
def test_greedy_with_penalties_is_the_same_in_both_modes(random_model: TriMode, mode: str) -> None:
    sampling = Sampling(repeat_penalty=1.3, frequency_penalty=0.2, logit_bias={150: 1.0})
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


def test_a_grammar_holds_in_every_causal_mode(model: TriMode) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}, "ok": {"type": "boolean"}},
              "required": ["n", "ok"], "additionalProperties": False}  # fmt: skip
    for mode in ("ar", "self-spec"):
        for seed in range(10):
            result = model.create_chat_completion(
                [{"role": "user", "content": "Give me an object."}], max_tokens=200, mode=mode, seed=seed,
                temperature=0.7, response_format={"type": "json_object", "schema": schema},
            )  # fmt: skip
            if result["choices"][0]["finish_reason"] == "stop":
                parsed = json.loads(result["choices"][0]["message"]["content"])
                assert set(parsed) == {"n", "ok"}


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
    left, _ = decode(model, tokens, mode="diffusion", max_tokens=24, reveal="leftmost", threshold=1.0)
    assert len(left) <= 24
