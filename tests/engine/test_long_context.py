"""Contexts beyond 16,384, which the real models were first trained on: YaRN, query scale, chunked prefill, memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support.reference import ministral3
from support.synthetic import make_checkpoint
from transformers import DynamicCache

from pytrimode import TriMode, _native
from pytrimode.convert import convert

pytestmark = pytest.mark.slow

ORIGINAL_MAX = 16384
N_TOKENS = ORIGINAL_MAX + 300
BLOCK_START = N_TOKENS - 16
COMPARED = 512  # the last rows: on both sides of ORIGINAL_MAX


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """transformers' model and the F32 GGUF of a random checkpoint with the rope of the real 3B and 8B."""
    root = tmp_path_factory.mktemp("long")
    source = make_checkpoint(
        root / "model", hidden=32, layers=2, heads=1, kv_heads=1, head_dim=32, ffn=32,
        original_max=ORIGINAL_MAX, max_position=262144, dtype="f32",
    )  # fmt: skip
    return ministral3(source), convert(source, root / "model.gguf", "f32").path


def tokens() -> list[int]:
    return [1, *(int(t) for t in np.random.default_rng(5).integers(128, 500, N_TOKENS - 1))]


class Reference:
    """transformers' logits of the last COMPARED rows, over one cache of what stands before them."""

    def __init__(self, model: Any, ids: list[int]) -> None:
        self.model, self.ids, self.cache = model, ids, DynamicCache()
        self.start = len(ids) - COMPARED
        for at in range(0, self.start, COMPARED):
            self._run(at, min(at + COMPARED, self.start), in_both_directions=False)

    def rows(self, block_start: int | None = None) -> NDArray[np.float32]:
        """[COMPARED, vocab]: causal rows; rows from `block_start` on see each other in both directions."""
        split = block_start or len(self.ids)
        parts = [self._run(self.start, split, in_both_directions=False)]
        if block_start:
            parts.append(self._run(block_start, len(self.ids), in_both_directions=True))
        self.cache.crop(-COMPARED)
        return np.concatenate(parts)

    def _run(self, at: int, end: int, *, in_both_directions: bool) -> NDArray[np.float32]:
        seen = torch.arange(end)[None] <= torch.arange(at, end)[:, None]
        mask = torch.zeros(end - at, end).masked_fill(~(seen | in_both_directions), torch.finfo(torch.float32).min)
        positions = torch.arange(at, end)[None]
        with torch.no_grad():
            out = self.model(
                torch.tensor([self.ids[at:end]]), position_ids=positions, attention_mask=mask[None, None],
                past_key_values=self.cache, use_cache=True,
            )  # fmt: skip
        return out.logits[0].numpy()


@pytest.fixture(scope="module")
def reference(pair: tuple[Any, Path]) -> Reference:
    return Reference(pair[0], tokens())


@pytest.mark.parametrize("block_start", [None, BLOCK_START], ids=["causal", "block"])
def test_rows_beyond_16384_equal_transformers(
    pair: tuple[Any, Path], reference: Reference, block_start: int | None
) -> None:
    with TriMode(pair[1], n_ctx=N_TOKENS, flash_attn=False, type_k="f32", type_v="f32", n_threads=1) as model:
        ours = model.logits(tokens(), block_start=block_start)[-COMPARED:]
    expected = reference.rows(block_start)
    assert np.abs(expected).max() > 3, "the logits should have a realistic range"
    assert np.abs(ours - expected).max() <= 1e-4


def test_the_query_scale_acts_from_16384_on(reference: Reference) -> None:
    """Without it the last rows are others and those before 16,384 the same: the test above would notice."""
    expected = reference.rows()
    rope = reference.model.config.rope_parameters
    beta, rope["llama_4_scaling_beta"] = rope["llama_4_scaling_beta"], 0.0
    try:
        without = reference.rows()
    finally:
        rope["llama_4_scaling_beta"] = beta
    before = ORIGINAL_MAX - reference.start
    assert np.abs(expected[before:] - without[before:]).max() > 1e-3
    assert np.array_equal(expected[:before], without[:before])


@pytest.mark.parametrize("n_ctx", [32768, 131072])
@pytest.mark.parametrize("cache", ["f16", "q8_0"])
def test_memory_of_a_long_context_is_as_planned(pair: tuple[Any, Path], n_ctx: int, cache: str) -> None:
    _, gguf = pair
    plan = _native.plan_memory(str(gguf), n_ctx=n_ctx, type_k=cache, type_v=cache)
    with TriMode(gguf, n_ctx=n_ctx, type_k=cache, type_v=cache) as model:
        allocated = model.memory["kv_cache"]
    planned = sum(device["kv_cache"] for device in plan)
    bytes_per_value = 2 if cache == "f16" else 34 / 32
    assert abs(planned - allocated) <= 0.03 * allocated
    assert allocated >= n_ctx * 2 * 2 * 32 * bytes_per_value  # layers, K and V, width
