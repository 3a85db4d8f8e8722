"""Graphs as for a device, computed on the CPU: embedding looked up outside, argmax within, padded rows.

The same on a device of its own: tools/second_device.py.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.decoding import heldout

from pytrimode import _native
from pytrimode.files.model_file import find_drafter_lora
from pytrimode.files.shipped_model import shipped_checkpoint

MODES = ("ar", "self-spec", "diffusion")
BYTES_PER_ROW = 12
"""Argmax, its logit, its probability."""


@pytest.fixture(scope="module")
def model(q8_gguf: Path) -> _native.Model:
    return _native.Model(str(q8_gguf), lora_path=str(find_drafter_lora(q8_gguf, "auto")))


def engine(model: _native.Model, **options: bool | str) -> _native.Engine:
    return _native.Engine(model, n_ctx=1024, n_threads=1, **options)


def tokens(model: _native.Model, n: int) -> list[int]:
    return np.random.default_rng(1).integers(130, model.n_vocab, n).tolist()


def answer(engine: _native.Engine, prompt: list[int], **options: object) -> _native.Event:
    return engine.wait_to_end(engine.submit(prompt, _native.RequestOptions(**options)))


def prompts(model: _native.Model, n: int) -> list[list[int]]:
    texts = [entry["messages"][-1]["content"] for entry in heldout(shipped_checkpoint())[:: 200 // n]]
    return [
        model.tokenize(f"<|im_start|>user\n{t}<|im_end|>\n<|im_start|>assistant\n<think></think>".encode(), True, True)
        for t in texts
    ]


def test_the_first_passes_of_a_graph_tell_nothing_of_others(model: _native.Model) -> None:
    """A device loads kernels in the first and records the graph in the second: `auto` took that for the price of a
    draft, and never drafted.
    """
    prompt = prompts(model, 1)[0]
    request = {"mode": "ar", "ignore_eos": True, "loop_window": 0}
    few, more = (engine(model, device_graphs=True) for _ in range(2))
    answer(few, prompt, max_tokens=3, **request)  # the first token is the prompt's
    answer(more, prompt, max_tokens=6, **request)
    assert few.draft_length.cost.table() == []
    assert [rows for rows, _ in more.draft_length.cost.table()] == [1]


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 5, 100, 600])
def test_logits_are_those_of_the_other_graphs(f32_gguf: Path, n: int) -> None:
    model = _native.Model(str(f32_gguf), lora_path=str(find_drafter_lora(f32_gguf, "auto")))
    options: dict[str, bool | str] = {"type_k": "f32", "type_v": "f32", "flash_attn": False}
    plain, device = engine(model, **options), engine(model, **options, device_graphs=True)
    for block_start, lora in ((-1, False), (max(n - 16, 0), False), (max(n - 16, 0), True)):
        expected = plain.logits(tokens(model, n), block_start, lora)
        found = device.logits(tokens(model, n), block_start, lora)
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("n", [5, 600])
def test_logits_with_flash_attention_are_near_those_of_the_other_graphs(model: _native.Model, n: int) -> None:
    """It rounds queries to F16, and products of Q8_0 round activations."""
    expected, found = (engine(model, device_graphs=on).logits(tokens(model, n)) for on in (False, True))
    assert np.abs(found - expected).mean() <= 1e-2 * np.abs(expected).mean()


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_answers_are_those_of_the_other_graphs(model: _native.Model, mode: str) -> None:
    """Short ones: in long ones a near-tie may go the other way, as the kernels differ with the number of rows."""
    plain, device = engine(model), engine(model, device_graphs=True)
    asked = prompts(model, 20)
    same = [
        answer(plain, p, mode=mode, max_tokens=24).tokens == answer(device, p, mode=mode, max_tokens=24).tokens
        for p in asked
    ]
    assert sum(same) >= len(same) - 1


@pytest.mark.parametrize("mode", MODES)
def test_greedy_steps_bring_back_a_few_bytes_per_row(model: _native.Model, mode: str) -> None:
    device = engine(model, device_graphs=True)
    answer(device, prompts(model, 1)[0], mode=mode, max_tokens=30)
    assert 0 < device.times["bytes_out"] <= 2 * BYTES_PER_ROW * device.times["rows"]  # padding at most doubles them


def test_few_graphs_serve_all_numbers_of_rows(model: _native.Model) -> None:
    device = engine(model, device_graphs=True)
    for n in range(1, 33):
        device.logits(tokens(model, n))
    assert device.times["graphs"] <= 6  # 1, 2, 4, 8, 16, 32


def test_the_mask_is_never_the_highest(model: _native.Model) -> None:
    """Its logit is left out where the argmax is computed: with only masks around, it would often be the highest."""
    device = engine(model, device_graphs=True)
    block = [*prompts(model, 1)[0], *[model.mask_token_id] * 16]
    event = answer(device, block, mode="ar", max_tokens=16, ignore_eos=True)
    assert model.mask_token_id not in event.tokens


def test_planned_compute_is_what_is_allocated(model: _native.Model, q8_gguf: Path) -> None:
    planned = _native.plan_memory(str(q8_gguf), lora_path=str(find_drafter_lora(q8_gguf, "auto")), n_ctx=1024)
    assert planned[-1]["compute"] == engine(model).memory["compute"]


def test_the_cpu_leaves_nothing_to_itself(model: _native.Model) -> None:
    for cache in ("f32", "q5_1"):
        options = {"n_ctx": 256, "n_threads": 1, "type_k": cache, "type_v": cache, "use_scheduler": True}
        assert _native.Engine(model, **options).left_to_cpu == set()


SAMPLED = {"mode": "ar", "max_tokens": 24, "temperature": 0.8, "top_k": 40, "seed": 3}


@pytest.mark.parametrize("mode", MODES)
def test_sampling_brings_back_candidates_not_the_vocabulary(model: _native.Model, mode: str) -> None:
    device = engine(model, device_graphs=True)
    answer(device, prompts(model, 1)[0], **SAMPLED | {"mode": mode})
    candidates = 128 * 8  # id and logit
    assert 0 < device.times["bytes_out"] <= 2 * (BYTES_PER_ROW + candidates) * device.times["rows"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 1.5, "top_p": 1.0, "min_p": 0.0},
        {"repeat_penalty": 1.3},
        {"top_k": 1},
        {"mode": "diffusion"},
    ],
    ids=["defaults", "hot", "penalty", "top-1", "diffusion"],
)
def test_texts_drawn_from_candidates_are_those_drawn_from_whole_rows(
    model: _native.Model, options: dict[str, object]
) -> None:
    """Logprobs want whole rows."""
    device = engine(model, device_graphs=True)
    for prompt in prompts(model, 10):
        few = answer(device, prompt, **SAMPLED | options).tokens
        whole = answer(device, prompt, **SAMPLED | options, logprobs=0).tokens
        assert few == whole


@pytest.mark.parametrize("options", [{"top_k": 0}, {"top_k": 120, "repeat_penalty": 1.1}, {"dry_multiplier": 0.5}])
def test_whole_rows_are_fetched_where_candidates_do_not_decide(
    model: _native.Model, options: dict[str, object]
) -> None:
    plain, device = engine(model), engine(model, device_graphs=True)
    same = [
        answer(plain, p, **SAMPLED | options).tokens == answer(device, p, **SAMPLED | options).tokens
        for p in prompts(model, 10)
    ]
    assert sum(same) >= len(same) - 1
