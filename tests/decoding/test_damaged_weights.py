"""Weights that are NaN: no crash, no made-up token, and an error that names the file."""

from __future__ import annotations

import re
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from pytrimode import TriMode
from pytrimode.gguf.file_names import lora_path
from pytrimode.gguf.header import read_gguf_header

PROMPT = "Write a Python function called add_two"
F16_NAN = struct.pack("<H", 0x7E00)
SAMPLED = {"temperature": 0.8, "top_k": 40, "seed": 3}
CHAINS: list[dict[str, Any]] = [
    {"temperature": 0.0},
    {"temperature": 0.0, "repeat_penalty": 1.1},
    SAMPLED,
    SAMPLED | {"top_k": 0},
    SAMPLED | {"top_k": 0, "top_p": 1.0, "min_p": 0.0},
    SAMPLED | {"sampler": "coupled"},
]
NOT_FINITE = "no logit of a row is finite (NaN or infinity): the weights are damaged"


def overwrite(path: Path, tensor: str, at: int, data: bytes) -> None:
    """Change bytes of a tensor's data, from byte `at` on."""
    header = read_gguf_header(path)
    offset = next(t.offset for t in header.tensors if t.name == tensor)
    with path.open("r+b") as file:
        file.seek(header.data_start + offset + at)
        file.write(data)


def copied(model: Path, directory: Path) -> Path:
    path = directory / "damaged.gguf"
    shutil.copy(model, path)
    shutil.copy(lora_path(model), lora_path(path))
    return path


@pytest.fixture(scope="module")
def nan_mask(q8_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scale of the first block in the mask token's embedding is NaN: two bytes."""
    path = copied(q8_gguf, tmp_path_factory.mktemp("mask"))
    mask = read_gguf_header(path).metadata["tokenizer.ggml.mask_token_id"]
    n_embd = next(t.shape[0] for t in read_gguf_header(path).tensors if t.name == "token_embd.weight")
    row = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType.Q8_0]
    overwrite(path, "token_embd.weight", mask * n_embd // row[0] * row[1], F16_NAN)
    return path


@pytest.fixture(scope="module")
def damaged(nan_mask: Path) -> Iterator[TriMode]:
    with TriMode(nan_mask, n_ctx=256, n_threads=1) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def nan_norm(q8_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weight of the last norm is NaN, and so is every logit."""
    path = copied(q8_gguf, tmp_path_factory.mktemp("norm"))
    overwrite(path, "output_norm.weight", 0, np.float32("nan").tobytes())
    return path


def answer(model: TriMode, **options: Any) -> str:
    text: str = model.create_completion(PROMPT, max_tokens=24, **options)["choices"][0]["text"]
    return text


@pytest.mark.parametrize("chain", CHAINS, ids=str)
def test_masks_of_nan_draft_nothing_and_change_nothing(damaged: TriMode, chain: dict[str, Any]) -> None:
    text = answer(damaged, mode="self-spec", block_length=8, **chain)
    assert text
    if chain["temperature"] == 0.0 or "sampler" in chain:  # else ar draws other random numbers
        assert text == answer(damaged, mode="ar", **chain)


@pytest.mark.parametrize("chain", CHAINS, ids=str)
@pytest.mark.parametrize(
    "options", [{"mode": "self-spec", "block_length": 8, "fused": True}, {"mode": "auto"}], ids=str
)
def test_masks_of_nan_beside_a_verification_are_no_crash(
    damaged: TriMode, nan_mask: Path, chain: dict[str, Any], options: dict[str, Any]
) -> None:
    """Attention over cells that are shared takes their NaN to the verified rows: an error, or the text."""
    try:
        assert answer(damaged, **options, **chain)
    except RuntimeError as error:
        assert str(error).startswith(f"{nan_mask}: {NOT_FINITE}")


def test_under_a_grammar_masks_of_nan_change_nothing(damaged: TriMode) -> None:
    grammar = {"grammar": 'root ::= "yes " ("no " | "maybe ")+', "temperature": 0.0}
    assert answer(damaged, mode="self-spec", **grammar) == answer(damaged, mode="ar", **grammar)


@pytest.mark.parametrize("chain", CHAINS, ids=str)
def test_denoising_masks_of_nan_is_an_error_that_names_the_file(
    damaged: TriMode, nan_mask: Path, chain: dict[str, Any]
) -> None:
    with pytest.raises(RuntimeError, match=re.escape(f"{nan_mask}: {NOT_FINITE}")):
        answer(damaged, mode="diffusion", **chain)
    assert answer(damaged, mode="ar", **chain)  # the engine goes on


@pytest.mark.parametrize("chain", CHAINS, ids=str)
@pytest.mark.parametrize("mode", ["ar", "self-spec", "diffusion"])
def test_logits_that_are_all_nan_are_an_error_that_names_the_file(
    nan_norm: Path, mode: str, chain: dict[str, Any]
) -> None:
    error = re.escape(f"{nan_norm}: {NOT_FINITE}")
    with TriMode(nan_norm, n_ctx=256, n_threads=1) as model, pytest.raises(RuntimeError, match=error):
        answer(model, mode=mode, **chain)


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_an_adapter_that_is_not_finite_is_refused(q8_gguf: Path, tmp_path: Path, value: str) -> None:
    path = copied(q8_gguf, tmp_path)
    adapter = lora_path(path)
    tensor = next(t for t in read_gguf_header(adapter).tensors if t.name.endswith("lora_b"))
    size = {"F32": np.float32, "F16": np.float16}[tensor.type]
    overwrite(adapter, tensor.name, 0, size(value).tobytes())
    with pytest.raises(RuntimeError, match=f"^{adapter}: tensor {tensor.name} holds NaN or infinity"):
        TriMode(path, n_ctx=256, n_threads=1)
