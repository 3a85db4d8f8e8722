"""The drafter LoRA acts on draft rows only, and as a merged o_proj would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.decoding import chat_prompts, decode
from support.synthetic import edit_weights, load_weights, make_checkpoint

from pytrimode import TriMode
from pytrimode.convert import convert

RANK = 8
TOKENS = [1, *range(130, 170)]
BLOCK_START = 25


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A random F32 model with its LoRA, and the same model with the LoRA merged into o_proj by hand."""
    root = tmp_path_factory.mktemp("lora")
    source = make_checkpoint(root / "model", hidden=128, layers=3, lora_rank=RANK, dtype="f32")
    convert(source, root / "model.gguf", "f32")
    adapter = load_weights(source / "linear_spec_lora")
    merged = make_checkpoint(root / "merged", hidden=128, layers=3, dtype="f32")

    def merge(name: str, weight: np.ndarray) -> np.ndarray:
        if not name.endswith("o_proj.weight"):
            return weight
        prefix = f"base_model.model.{name.removesuffix('.weight')}"
        delta = adapter[f"{prefix}.lora_B.weight"] @ adapter[f"{prefix}.lora_A.weight"]
        return weight + 4.0 * delta  # alpha / r, as in the real adapters

    edit_weights(merged, merge)
    convert(merged, root / "merged.gguf", "f32")
    return root / "model.gguf", root / "merged.gguf"


def load(path: Path) -> TriMode:
    return TriMode(path, n_ctx=256, n_threads=1, flash_attn=False, type_k="f32", type_v="f32")


def test_lora_changes_draft_logits_and_nothing_else(pair: tuple[Path, Path]) -> None:
    with load(pair[0]) as model:
        assert model.lora_rank == RANK
        plain = model.logits(TOKENS, block_start=BLOCK_START)
        drafted = model.logits(TOKENS, block_start=BLOCK_START, lora=True)
        assert np.array_equal(plain[:BLOCK_START], drafted[:BLOCK_START]), "rows before the block have it off"
        assert (np.abs(plain[BLOCK_START:] - drafted[BLOCK_START:]).max(axis=1) > 1e-3).all()
        assert np.array_equal(plain, model.logits(TOKENS, block_start=BLOCK_START)), "it leaves nothing behind"


def test_lora_equals_merging_it_into_o_proj(pair: tuple[Path, Path]) -> None:
    block = TOKENS[BLOCK_START:]
    with load(pair[0]) as model, load(pair[1]) as merged:
        assert merged.lora_rank == 0
        # From the first position on, so that every key and value is computed with the LoRA, as in the merged model.
        ours = model.logits(block, block_start=0, lora=True)
        assert np.abs(ours - merged.logits(block, block_start=0)).max() <= 1e-4
        assert np.abs(ours - model.logits(block, block_start=0)).max() > 1e-2


@pytest.mark.slow
def test_verify_logits_are_the_base_models(q8_gguf: Path, checkpoint_dir: Path) -> None:
    """Self-spec with the LoRA emits what the model emits where no LoRA was ever loaded."""
    with (
        TriMode(q8_gguf, n_ctx=512, n_threads=1) as with_lora,
        TriMode(q8_gguf, n_ctx=512, n_threads=1, lora_path=None) as without,
    ):
        assert with_lora.has_lora
        assert not without.has_lora
        drafts_differ = 0
        options: dict[str, Any] = {"mode": "self-spec", "block_length": 32, "max_tokens": 60}
        for prompt in chat_prompts(with_lora, checkpoint_dir, 180)[::6]:  # of every task
            tokens, on = decode(with_lora, prompt, **options)
            expected, off = decode(without, prompt, **options)
            assert tokens == expected
            drafts_differ += on.accepted != off.accepted or on.forward_passes != off.forward_passes
        assert drafts_differ > 0, "the LoRA must change what is drafted"


def test_lora_without_an_adapter_is_refused(pair: tuple[Path, Path]) -> None:
    with load(pair[1]) as model, pytest.raises(ValueError, match="without a drafter LoRA"):
        model.logits(TOKENS, block_start=BLOCK_START, lora=True)
