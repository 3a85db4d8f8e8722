"""Logits against transformers' Ministral3 and against stock llama.cpp, for all three row kinds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_cpp import Llama
from support.reference import ministral3, reference_logits
from support.synthetic import make_checkpoint

from pytrimode import TriMode
from pytrimode.convert import convert

ORIGINAL_MAX = 64
N_TOKENS = 200  # far beyond ORIGINAL_MAX: YaRN and the query scale matter
BLOCK_START = 150

# (theta, factor): 3B and 8B, 14B, 3B-Base
ROPES = [(1e6, 16.0), (1e9, 16.0), (1e6, 0.25), (1e9, 8.0)]


@pytest.fixture(scope="module", params=ROPES, ids=lambda p: f"theta{p[0]:g}-factor{p[1]:g}")
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """transformers' model and the F32 GGUF of the same random checkpoint."""
    theta, factor = request.param
    root = tmp_path_factory.mktemp("parity")
    source = make_checkpoint(
        root / "model", hidden=128, layers=3, heads=4, kv_heads=2, head_dim=64, ffn=256, rope_theta=theta,
        factor=factor, original_max=ORIGINAL_MAX, beta=0.1 if factor > 1 else 0.25, dtype="f32",
    )  # fmt: skip
    gguf = root / "model.gguf"
    convert(source, gguf, "f32")
    return ministral3(source), gguf


def tokens(n: int = N_TOKENS, seed: int = 0) -> list[int]:
    return [1, *(int(t) for t in np.random.default_rng(seed).integers(128, 500, n - 1))]


@pytest.mark.parametrize("block_start", [None, BLOCK_START, ORIGINAL_MAX - 16], ids=["causal", "block", "block-early"])
def test_exact_attention_equals_transformers(pair: tuple[Any, Path], block_start: int | None) -> None:
    reference, gguf = pair
    with TriMode(gguf, n_ctx=512, flash_attn=False, type_k="f32", type_v="f32", n_threads=1) as model:
        ours = model.logits(tokens(), block_start=block_start)
    expected = reference_logits(reference, tokens(), block_start)
    assert np.abs(expected).max() > 3, "the logits should have a realistic range"
    assert np.abs(ours - expected).max() <= 1e-4


@pytest.mark.parametrize("block_start", [None, BLOCK_START], ids=["causal", "block"])
def test_flash_attention_is_near_transformers(pair: tuple[Any, Path], block_start: int | None) -> None:
    reference, gguf = pair
    with TriMode(gguf, n_ctx=512, n_threads=1) as model:
        ours = model.logits(tokens(), block_start=block_start)
    expected = reference_logits(reference, tokens(), block_start)
    # F16 keys, values and queries: 5e-3 where logits range over +-5 (stock llama.cpp shows 3.6e-3 there).
    assert np.abs(ours - expected).max() <= 5e-3 * max(1, np.abs(expected).max() / 5)


def test_query_scale_and_rope_matter_here(pair: tuple[Any, Path]) -> None:
    """The reference itself must react to position beyond original_max, or the tests above prove nothing."""
    reference, _ = pair
    expected = reference_logits(reference, tokens())
    scale = reference.config.rope_parameters["llama_4_scaling_beta"]
    reference.config.rope_parameters["llama_4_scaling_beta"] = 0.0
    try:
        without = reference_logits(reference, tokens())
    finally:
        reference.config.rope_parameters["llama_4_scaling_beta"] = scale
    assert np.abs(expected[:ORIGINAL_MAX] - without[:ORIGINAL_MAX]).max() == 0
    assert np.abs(expected - without).max() > 1e-2


def test_a_block_row_sees_what_follows_it(pair: tuple[Any, Path]) -> None:
    _, gguf = pair
    with TriMode(gguf, n_ctx=512, n_threads=1) as model:
        causal = model.logits(tokens())
        block = model.logits(tokens(), block_start=BLOCK_START)
    assert np.array_equal(causal[:BLOCK_START], block[:BLOCK_START])
    # All but the last row of the block see more than before; the last row sees the same cells, whose keys changed.
    assert all(np.abs(causal[i] - block[i]).max() > 1e-3 for i in range(BLOCK_START, N_TOKENS))


def stock_logits(gguf: Path, ids: list[int], *, flash_attn: bool, cache: int = 0) -> np.ndarray:
    """Stock llama.cpp's, all rows in one batch; `cache` is the GGML_TYPE of keys and values."""
    llama = Llama(
        str(gguf), n_ctx=2048, n_batch=512, n_threads=1, n_threads_batch=1, logits_all=True, flash_attn=flash_attn,
        type_k=cache, type_v=cache, verbose=False,
    )  # fmt: skip
    llama.eval(ids)
    return np.array(llama.scores[: len(ids)])


@pytest.mark.parametrize("n", [300, 900])
def test_logits_equal_stock_llama_cpp(tiny_gguf: Callable[[str], Path], n: int) -> None:
    """Its attention by products of matrices; with flash attention it rounds queries to F16."""
    ids = tokens(n, seed=3)
    with TriMode(
        tiny_gguf("f32"), n_ctx=2048, n_threads=1, lora_path=None, repack=False, type_k="f32", type_v="f32"
    ) as model:
        ours = model.logits(ids)
    assert np.abs(ours - stock_logits(tiny_gguf("f32"), ids, flash_attn=False)).max() <= 1e-4


@pytest.mark.parametrize("outtype", ["f16", "bf16", "q8_0", "q4_0"])
def test_logits_of_other_types_differ_no_more_than_stock_from_itself(
    tiny_gguf: Callable[[str], Path], outtype: str
) -> None:
    """Products of these types round activations, and a last bit may decide which way."""
    ids = tokens(300, seed=3)
    with TriMode(
        tiny_gguf(outtype), n_ctx=2048, n_threads=1, lora_path=None, repack=False, type_k="f32", type_v="f32"
    ) as model:
        ours = model.logits(ids)
    products, flash = (stock_logits(tiny_gguf(outtype), ids, flash_attn=on) for on in (False, True))
    assert np.abs(ours - products).mean() <= np.abs(flash - products).mean()


def test_scheduler_path_is_bit_equal_to_the_direct_one(q8_gguf: Path) -> None:
    from pytrimode import _native

    model = _native.Model(str(q8_gguf))
    direct = _native.Engine(model, n_ctx=512, n_threads=1)
    scheduled = _native.Engine(model, n_ctx=512, n_threads=1, use_scheduler=True)
    assert np.array_equal(direct.logits(tokens(100)), scheduled.logits(tokens(100)))
    assert np.array_equal(direct.logits(tokens(100), 80), scheduled.logits(tokens(100), 80))


@pytest.mark.slow
@pytest.mark.parametrize("outtype", ["f32", "f16", "q8_0"])
def test_rows_from_the_cache_have_the_bits_of_all_at_once(tiny_gguf: Callable[[str], Path], outtype: str) -> None:
    """Pieces of any length, passes of 64 rows, blocks last to first, and a request's own cells in between."""
    ids = tokens(600, seed=5)
    mask = [ids[300], *[100] * 31]
    with TriMode(tiny_gguf(outtype), n_ctx=1024, n_threads=1, n_batch=64) as model:
        causal = model.logits(ids)
        blocks = {p: model.logits(ids[:p] + mask, block_start=p, lora=lora) for p, lora in ((520, True), (300, False))}
        list(model.generate(ids[:290], max_tokens=20, temperature=0.0, mode="ar", ignore_eos=True))
        for begin, end in ((100, 130), (130, 131), (131, 320), (320, 600), (5, 600), (599, 600)):
            assert np.array_equal(model.logits(ids[:end], first=begin), model.logits(ids[:end])[begin:])
            assert np.array_equal(model.logits(ids, first=begin), causal[begin:])
        for p, whole in blocks.items():
            again = model.logits(ids[:p] + mask, block_start=p, lora=p == 520, first=p)
            assert np.array_equal(again, whole[p:])
            assert np.array_equal(model.logits(ids[:p] + mask, block_start=p, lora=p == 520, first=p + 3), again[3:])
            assert np.array_equal(model.logits(ids[:p] + mask, block_start=p, lora=p == 520, first=50), whole[50:])


def test_rows_taken_a_few_at_a_time_are_computed_once(q8_gguf: Path) -> None:
    ids = tokens(512, seed=6)
    with TriMode(q8_gguf, n_ctx=1024, n_threads=1) as model:
        engine = model.engine
        model.logits(ids, first=256)
        assert engine.state["n_idle_cells"] == 512
        model.logits(ids[:320], first=319)
        assert engine.state["n_idle_cells"] == 512
        model.clear_cache()
        model.logits(ids)
        assert engine.state["n_idle_cells"] == 0


@pytest.mark.parametrize("first", [-1, 10])
def test_rows_that_there_are_not_are_refused(model: TriMode, first: int) -> None:
    with pytest.raises(ValueError, match=f"first {first}: must be between 0 and 9"):
        model.logits(tokens(10), first=first)
