"""The drafter LoRA becomes an adapter that stock llama.cpp loads, with exactly the delta of the checkpoint."""

from __future__ import annotations

from pathlib import Path

import llama_cpp
import numpy as np
import pytest
from numpy.typing import NDArray
from support.convert_helpers import dequantize, read_metadata, read_tensors
from support.synthetic import load_weights, make_checkpoint, to_bf16, write_safetensors

from pytrimode.convert import ConversionResult, convert

RANK = 4
LORA_DIR = "linear_spec_lora"
O_PROJ = "base_model.model.encoder.layers.{}.self_attn.o_proj"
TOKENS = list(range(200, 232))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("lora") / "model", lora_rank=RANK)


@pytest.fixture(scope="module")
def converted(model: Path) -> ConversionResult:
    return convert(model, model.parent / "model.gguf", "f32")


def logits(path: Path, lora: Path | None = None) -> NDArray[np.float32]:
    stock = llama_cpp.Llama(
        str(path), lora_path=lora and str(lora), n_ctx=64, logits_all=True, verbose=False, n_threads=1
    )
    stock.eval(TOKENS)
    return np.array(stock.scores[: len(TOKENS)])


def test_adapter_holds_the_pairs_of_every_layer(model: Path, converted: ConversionResult) -> None:
    assert converted.lora_path == model.parent / "model-drafter-lora.gguf"
    tensors = read_tensors(converted.lora_path)
    source = load_weights(model / LORA_DIR)
    assert len(tensors) == 4
    for layer in (0, 1):
        for part, name in (("lora_a", "lora_A"), ("lora_b", "lora_B")):
            tensor = tensors[f"blk.{layer}.attn_output.weight.{part}"]
            assert tensor.tensor_type.name == "F32"
            assert np.array_equal(dequantize(tensor), source[f"{O_PROJ.format(layer)}.{name}.weight"])
    assert tensors["blk.0.attn_output.weight.lora_a"].shape.tolist() == [128, RANK]
    assert tensors["blk.0.attn_output.weight.lora_b"].shape.tolist() == [RANK, 64]


def test_metadata_of_the_adapter(converted: ConversionResult) -> None:
    assert converted.lora_path is not None
    metadata = read_metadata(converted.lora_path)
    assert metadata["general.type"] == "adapter"
    assert metadata["general.architecture"] == "mistral3"
    assert metadata["adapter.type"] == "lora"
    assert metadata["adapter.lora.alpha"] == 4.0 * RANK


@pytest.mark.parametrize(("dtype", "expected"), [("bf16", "F32"), ("f16", "F16")])
def test_half_precision_adapters(model: Path, tmp_path: Path, dtype: str, expected: str) -> None:
    make_checkpoint(tmp_path / "model", lora_rank=RANK)
    source = load_weights(model / LORA_DIR)
    halves = {name: to_bf16(x) if dtype == "bf16" else x.astype(np.float16) for name, x in source.items()}
    write_safetensors(tmp_path / "model" / LORA_DIR / "adapter_model.safetensors", halves)
    result = convert(tmp_path / "model", tmp_path / "model.gguf")
    assert result.lora_path is not None
    tensor = read_tensors(result.lora_path)["blk.1.attn_output.weight.lora_b"]
    assert tensor.tensor_type.name == expected
    stored = load_weights(tmp_path / "model" / LORA_DIR)[O_PROJ.format(1) + ".lora_B.weight"]
    assert np.array_equal(dequantize(tensor), stored)


def test_stock_llama_cpp_applies_it_like_merged_weights(
    model: Path, converted: ConversionResult, tmp_path: Path
) -> None:
    """W + alpha / r * B A, merged by hand into o_proj, gives the logits of the adapter."""
    source, weights = load_weights(model / LORA_DIR), load_weights(model)
    for layer in (0, 1):
        a, b = (source[f"{O_PROJ.format(layer)}.lora_{part}.weight"] for part in "AB")
        weights[f"encoder.layers.{layer}.self_attn.o_proj.weight"] += 4 * (b @ a)
    make_checkpoint(tmp_path / "merged")
    write_safetensors(tmp_path / "merged/model.safetensors", weights)
    merged = logits(convert(tmp_path / "merged", tmp_path / "merged.gguf", "f32").path)
    adapted = logits(converted.path, converted.lora_path)
    assert np.abs(adapted - logits(converted.path)).max() > 0.1
    assert np.abs(adapted - merged).max() < 5e-3


def test_checkpoint_without_adapter(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "model")
    result = convert(tmp_path / "model", tmp_path / "model.gguf")
    assert result.lora_path is None
    assert result.notes == []
    assert not (tmp_path / "model-drafter-lora.gguf").exists()
