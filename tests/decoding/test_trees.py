"""Trees of drafts: runs that begin with a second-best token, beside the chain; and the text stays that of ar."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.decoding import chat_prompts, decode, decode_all
from support.file_types import in_every_type_with_products

from pytrimode import TriMode, _native
from pytrimode.bench.prompts import PROMPTS
from pytrimode.files.model_file import find_drafter_lora
from pytrimode.options.generation_options import GenerationOptions
from pytrimode.options.sampling import Sampling

MAX_TOKENS = 48
TREES: list[dict[str, Any]] = [
    {"mode": "self-spec", "block_length": 4, "tree_nodes": 1},
    {"mode": "self-spec", "block_length": 8, "tree_nodes": 6},
    {"mode": "self-spec", "block_length": 16, "tree_nodes": 40},
    {"mode": "self-spec", "block_length": 32, "tree_nodes": 31},
    {"mode": "self-spec", "block_length": 32, "tree_nodes": 31, "use_lora": False},
    {"mode": "self-spec", "block_length": 16, "tree_nodes": -1},
    {"mode": "self-spec", "block_length": 8, "tree_nodes": 8, "ngram": 8},
    {"mode": "auto"},
]


def open_prompts(model: TriMode, n: int, category: str = "chat") -> list[list[int]]:
    """Prompts that the model is not sure of, so that second-best tokens are right now and then."""
    texts = [text for texts in PROMPTS.values() for text in texts] if category == "all" else PROMPTS[category]
    return [model.chat_tokens([{"role": "user", "content": text}]) for text in texts[:n]]


def hard_prompts(model: TriMode, checkpoint: Path, n: int) -> list[list[int]]:
    """Open ones, every second one behind a conversation, its answer over the 512th cell or not."""
    behind = chat_prompts(model, checkpoint, 2, long_tokens=480)[1]
    return [p if i % 2 else behind[: 430 + 5 * i] + p[1:] for i, p in enumerate(open_prompts(model, n, "all"))]


def check(model: TriMode, prompts: list[list[int]], trees: list[dict[str, Any]], least: float) -> None:
    """Every tree alone for some prompts, side by side for all; a share of `least` of the runs' drafts is accepted."""
    beside = followed = 0
    for i, prompt in enumerate(prompts):
        expected, _ = decode(model, prompt, mode="ar", max_tokens=MAX_TOKENS)
        alone = trees[i % len(trees)]
        requests = [(prompt, {"max_tokens": MAX_TOKENS} | options) for options in trees]
        answers = [(alone, decode(model, prompt, max_tokens=MAX_TOKENS, **alone))]
        answers += zip(trees, decode_all(model, requests), strict=True)
        for options, (tokens, stats) in answers:
            assert tokens == expected, f"{options}, prompt {i} of {len(prompt)} tokens"
            beside += stats.tree_drafted
            followed += stats.tree_accepted
            assert stats.accepted <= stats.drafted and stats.tree_accepted <= stats.accepted
    assert followed > least * beside, "the runs must matter, or equality proves nothing"


@pytest.mark.slow
@pytest.mark.parametrize("outtype", ["f32", "f16", "q8_0"])
def test_greedy_trees_equal_greedy_ar(tiny_gguf: Callable[[str], Path], checkpoint_dir: Path, outtype: str) -> None:
    with TriMode(tiny_gguf(outtype), n_ctx=1024, n_threads=1, n_parallel=len(TREES)) as model:
        check(model, hard_prompts(model, checkpoint_dir, 24), TREES, 0.01)


@in_every_type_with_products
def test_greedy_trees_equal_greedy_ar_in_every_type_with_products(
    tiny_gguf: Callable[[str], Path], checkpoint_dir: Path, outtype: str
) -> None:
    with TriMode(tiny_gguf(outtype), n_ctx=1024, n_threads=1, n_parallel=2) as model:
        check(model, hard_prompts(model, checkpoint_dir, 8), [TREES[2], TREES[3]], 0.005)


@pytest.mark.parametrize("type_kv", ["f16", "q8_0", "f32"])
def test_the_cache_holds_what_ar_would_have_left(q8_gguf: Path, type_kv: str) -> None:
    """Keys and values of accepted runs lie where their positions have them: what follows has the same bits."""
    followed = 0
    with TriMode(q8_gguf, n_ctx=512, n_threads=1, type_k=type_kv, type_v=type_kv) as model:
        for prompt in open_prompts(model, 20, "all"):
            tokens, stats = decode(
                model, prompt, mode="self-spec", block_length=16, tree_nodes=24, max_tokens=MAX_TOKENS
            )
            followed += stats.tree_accepted
            text = [*prompt, *tokens, 1]
            _, again = decode(model, text, mode="ar", max_tokens=1)
            assert again.cached_tokens >= len(text) - 2, "the test needs the cache"
            warm = model.logits(text, first=len(text) - 1)
            model.clear_cache()
            assert warm.tobytes() == model.logits(text, first=len(text) - 1).tobytes()
    assert followed > 10


def test_more_tokens_per_forward(model: TriMode) -> None:
    passes = {0: 0, 31: 0}
    for prompt in open_prompts(model, 24, "all"):
        for n in passes:
            _, stats = decode(model, prompt, mode="self-spec", block_length=16, tree_nodes=n, max_tokens=MAX_TOKENS)
            passes[n] += stats.forward_passes
            assert stats.tree_drafted > 0 if n else stats.tree_drafted == stats.tree_accepted == 0
    assert passes[0] > 1.04 * passes[31]


def test_every_end(model: TriMode) -> None:
    """max_tokens, stop tokens and stop strings at every place of an answer, in runs too; min_tokens behind it."""
    for prompt in open_prompts(model, 3):
        expected, _ = decode(model, prompt, mode="ar", max_tokens=MAX_TOKENS)
        spec: dict[str, Any] = {"mode": "self-spec", "block_length": 16, "tree_nodes": 30}
        for n in range(1, len(expected) + 1):
            assert decode(model, prompt, max_tokens=n, **spec)[0] == expected[:n]
        for token in dict.fromkeys(expected):
            ends: dict[str, Any] = {"stop_token_ids": [token], "max_tokens": MAX_TOKENS}
            assert decode(model, prompt, **ends, **spec)[0] == expected[: expected.index(token) + 1]
            text = model.detokenize([token]).strip()
            if text:
                stops: dict[str, Any] = {"stop": [text], "max_tokens": MAX_TOKENS}
                assert decode(model, prompt, **stops, **spec)[0] == decode(model, prompt, **stops, mode="ar")[0]
        more: dict[str, Any] = {"min_tokens": len(expected) + 5, "max_tokens": len(expected) + 20}
        assert decode(model, prompt, **more, **spec)[0] == decode(model, prompt, **more, mode="ar")[0]


def test_to_the_end_of_the_context(q8_gguf: Path) -> None:
    """No run has places behind it; and two requests take their cells from one another."""
    with TriMode(q8_gguf, n_ctx=192, n_threads=1, n_parallel=2) as model:
        prompts = open_prompts(model, 4)
        to_the_end: dict[str, Any] = {"ignore_eos": True, "loop_window": 0, "max_tokens": -1}
        expected = [decode(model, prompt, mode="ar", **to_the_end)[0] for prompt in prompts]
        spec = {"mode": "self-spec", "block_length": 32, "tree_nodes": 31} | to_the_end
        assert [tokens for tokens, _ in decode_all(model, [(p, spec) for p in prompts])] == expected
        assert all(len(p) + len(e) == 192 for p, e in zip(prompts, expected, strict=True))


def test_logprobs_are_those_of_ar(f32_gguf: Path) -> None:
    """To the bit, of rows in runs too: their cells lie where attention adds up in the same order.

    With weights of 32 bits: products of quantized ones round small differences off.
    """
    followed = 0
    with TriMode(f32_gguf, n_ctx=512, n_threads=1, type_k="f32", type_v="f32") as model:
        for prompt in open_prompts(model, 30, "all"):
            found = {}
            for name, options in {"ar": {"mode": "ar"}, "tree": TREES[2]}.items():
                wanted = GenerationOptions(
                    sampling=Sampling(temperature=0.0), max_tokens=MAX_TOKENS, logprobs=3, **options
                )
                events = [event for _, event in model.run_many([(prompt, model.resolve(wanted, len(prompt)))], 1)]
                found[name] = [
                    (p.chosen.token, p.chosen.logprob, [(t.token, t.logprob) for t in p.top])
                    for event in events
                    for p in event.logprobs
                ]
                followed += events[-1].stats.tree_accepted
            assert found["ar"] == found["tree"]
    assert followed > 20


def test_a_reasoning_budget_forces_its_end_within_runs(model: TriMode) -> None:
    prompt = model.chat_tokens([{"role": "user", "content": "Sort these numbers: 52, 31, 97"}], enable_thinking=True)
    for budget in (0, 1, 5, 16, 17):
        limits = {"max_tokens": 60, "max_thinking_tokens": budget}
        ar, _ = decode(model, prompt, mode="ar", **limits)
        assert decode(model, prompt, mode="self-spec", block_length=16, tree_nodes=30, **limits)[0] == ar


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0.0, repeat_penalty=1.2),
        Sampling(temperature=0.0, logit_bias={65: 1.0}),
        Sampling(temperature=0.8, seed=3, sampler="coupled"),
        Sampling(temperature=0.8, seed=3),
        Sampling(temperature=0.0, grammar="root ::= [a-z ]+"),
    ],
)
def test_where_a_sampler_weighs_tokens_there_are_no_trees(model: TriMode, sampling: Sampling) -> None:
    prompt = open_prompts(model, 1)[0]
    spec: dict[str, Any] = {"mode": "self-spec", "block_length": 8, "sampling": sampling, "max_tokens": 30}
    plain, _ = decode(model, prompt, **spec)
    tokens, stats = decode(model, prompt, tree_nodes=20, **spec)
    assert tokens == plain and stats.tree_drafted == 0


def test_fused_cycles_have_no_trees(model: TriMode) -> None:
    prompt = open_prompts(model, 1)[0]
    _, stats = decode(model, prompt, mode="self-spec", block_length=8, fused=True, tree_nodes=9, max_tokens=20)
    assert stats.fused_passes > 0 and stats.tree_drafted == 0


# --- Graphs as for a device ------------------------------------------------------------------------------------------


def test_trees_on_a_device(q8_gguf: Path, model: TriMode) -> None:
    """Second-best tokens come from the candidates that the device finds; exact passes have no trees."""
    loaded = _native.Model(str(q8_gguf), lora_path=str(find_drafter_lora(q8_gguf, "auto")))
    engine = _native.Engine(loaded, n_ctx=1024, n_threads=1, device_graphs=True)
    totals: dict[int, np.ndarray] = {}
    for prompt in open_prompts(model, 16, "all"):
        texts = set()
        for n in (0, 20):
            options = _native.RequestOptions(mode="self-spec", block_length=16, max_tokens=32, tree_nodes=n)
            event = engine.wait_to_end(engine.submit(prompt, options))
            texts.add(tuple(event.tokens))
            stats = event.stats
            totals[n] = totals.get(n, 0) + np.array([stats.forward_passes, stats.tree_accepted])
        assert len(texts) == 1
    assert totals[20][0] < totals[0][0] and totals[20][1] > 0
    options = _native.RequestOptions(mode="self-spec", block_length=16, max_tokens=32, tree_nodes=-1)
    assert engine.wait_to_end(engine.submit(prompt, options)).stats.tree_drafted == 0, "the price is not known there"
    exact = _native.Engine(loaded, n_ctx=1024, n_threads=1, device_graphs=True, exact_rows=32)
    with pytest.raises(ValueError, match="tree_nodes is 3"):
        exact.submit([1, 5, 6], _native.RequestOptions(mode="self-spec", tree_nodes=3))
    event = exact.wait_to_end(
        exact.submit(prompt, _native.RequestOptions(mode="self-spec", block_length=0, tree_nodes=-1, max_tokens=32))
    )
    assert event.stats.tree_drafted == 0


# --- What is verified ------------------------------------------------------------------------------------------------


def learned(slope: float) -> _native.DraftLength:
    choice = _native.DraftLength(64)
    for rows in (1, 2, 4, 8, 16, 32, 64) * 4:
        choice.observe_pass(rows, 1.0 + slope * rows)
    return choice


def test_the_least_sure_position_gets_the_run() -> None:
    choice = learned(0.01)
    chain, runs = choice.tree(choice.acceptance, [9.0, 9.0, 0.3, 9.0, 9.0, 9.0], n_beside=1)
    assert (chain, runs) == (6, [(2, 1)])
    chain, runs = choice.tree(choice.acceptance, [9.0, 9.0, 0.3, 9.0, 9.0, 9.0], n_beside=3)
    assert (chain, runs) == (6, [(2, 3)]), "the run goes on before a sure position gets one"


def test_dear_rows_cut_the_chain_and_cheap_ones_add_runs() -> None:
    leads = [6.0, 6.0, 0.1, 0.1, 0.1, 4.0, 4.0]
    sizes = []
    for slope in (0.5, 0.1, 0.001):
        choice = learned(slope)
        chain, runs = choice.tree(choice.acceptance, leads)
        sizes.append(chain + sum(length for _, length in runs))
    assert 2 <= sizes[0] <= 3 and sizes[0] < sizes[1] < sizes[2]
    assert learned(0.001).tree(learned(0.001).acceptance, leads, most_rows=5)[0] <= 4


def test_what_verifications_tell_counts() -> None:
    choice = learned(0.05)
    leads = [0.1] * 8
    before = choice.tree(choice.acceptance, leads)
    for _ in range(300):
        choice.observe_node("best", 0.1, True)
        choice.observe_node("second", 0.1, False)
    chain, runs = choice.tree(choice.acceptance, leads)
    assert chain == 8 > before[0] and not runs
    with pytest.raises(ValueError, match="kind"):
        choice.observe_node("worst", 0.1, True)
