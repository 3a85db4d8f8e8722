"""The preflight: what libllama, ggml or a command would fall over is refused by file, key or tensor, and value."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from support.hostile import ADAPTER, MODEL, Case, File, array, cases, scalar, text
from support.synthetic import make_checkpoint

from pytrimode.convert import convert
from pytrimode.files.model_file import preflight
from pytrimode.gguf import keys
from pytrimode.gguf.layout import F32, STRING, U32
from pytrimode.gguf.preflight import check_adapter, check_model


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with an adapter beside it."""
    directory = tmp_path_factory.mktemp("good")
    return convert(make_checkpoint(directory / "checkpoint", lora_rank=8), directory / MODEL, "f16").path


@pytest.fixture(scope="module")
def wrong(good: Path) -> list[Case]:
    return [case for case in cases(good, good.with_name(ADAPTER), mutations=0) if not case.is_runnable]


def refusal(case: Case, directory: Path) -> str:
    for name, data in case.files.items():
        (directory / name).write_bytes(data())
    model = directory / (MODEL if MODEL in case.files else min(case.files))
    adapter = directory / ADAPTER
    try:
        preflight(model, adapter if ADAPTER in case.files else None, None)
    except (ValueError, FileNotFoundError) as error:
        return str(error)
    return ""


def test_a_good_file_passes(good: Path) -> None:
    shape = check_model(good).shape
    check_adapter(good.with_name(ADAPTER), shape)
    assert (shape.n_layer, shape.n_embd, shape.head_dim) == (2, 64, 32)


def test_the_shipped_model_passes(q8_gguf: Path) -> None:
    check_model(q8_gguf)


def test_every_wrong_file_is_refused_by_name(wrong: list[Case], tmp_path: Path) -> None:
    assert len(wrong) > 500
    accepted, unnamed, slow = [], [], []
    for case in wrong:
        began = time.process_time()
        said = refusal(case, tmp_path)
        if time.process_time() - began > 2:
            slow.append(case.name)
        if not said:
            accepted.append(case.name)
        elif not said.startswith(str(tmp_path)) or not said.isprintable() or len(said) > 400:
            unnamed.append((case.name, said[:200]))
    assert (accepted, unnamed, slow) == ([], [], [])


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (keys.BLOCK_COUNT, scalar(U32, 513), "mistral3.block_count is 513, expected an integer from 1 to 512"),
        (keys.RMS_EPSILON, scalar(F32, -1), "layer_norm_rms_epsilon is -1.0, expected a finite number above 0"),
        (keys.ROPE_SCALING_TYPE, text("longrope"), "rope.scaling.type is 'longrope'; supported: none, linear, yarn"),
        (keys.EXPERT_COUNT, scalar(U32, 2**32 - 1), "expert_count is 4294967295, expected an integer from 0 to 0"),
        (keys.TOKENIZER_MODEL, text("none"), "tokenizer.ggml.model is 'none', expected 'gpt2'"),
        (keys.TOKENIZER_UNK, scalar(U32, 2**32 - 1), "unknown_token_id is 4294967295, expected an integer from 0 to"),
        (keys.TOKENIZER_TOKENS, array(STRING, [b"a", b"a"]), "tokenizer.ggml.tokens: tokens 0 and 1 are the same, 'a'"),
        (keys.GENERAL_TYPE, text("\x1b[31madapter"), r"general.type is '\x1b[31madapter', expected 'model'"),
    ],
)  # fmt: skip
def test_a_refusal_names_key_and_value(good: Path, tmp_path: Path, key: str, value: bytes, said: str) -> None:
    path = tmp_path / MODEL
    path.write_bytes(File.read(good).set(key, value).encode())
    with pytest.raises(ValueError) as caught:
        check_model(path)
    assert str(caught.value).startswith(f"{path}: ") and said in str(caught.value)


def test_a_type_that_no_kernel_has_is_named_with_its_tensor(good: Path, tmp_path: Path) -> None:
    path = tmp_path / MODEL
    file = File.read(good)
    path.write_bytes(file.with_tensor("output_norm.weight", kind=30, data=bytes(128)).encode())
    with pytest.raises(
        ValueError, match=r"tensor output_norm\.weight is stored as BF16, which the engine cannot use: F32"
    ):
        check_model(path)
