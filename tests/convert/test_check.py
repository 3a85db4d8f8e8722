"""trimode-convert --check and --to-safetensors: what a file holds, and the way back."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from support.convert_helpers import files_in, read_metadata
from support.quantize_helpers import random_importance, stored_tensors, write_importance
from support.synthetic import edit_json, edit_weights, load_weights, make_checkpoint

from pytrimode.convert import convert
from pytrimode.convert.check import check
from pytrimode.convert.cli import main
from pytrimode.convert.restore.restore import restore


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("check") / "model", hidden=256, lora_rank=4, shards=2)


@pytest.mark.parametrize("outtype", ["f32", "bf16", "q8_0", "q4_k_m"])
def test_a_fresh_file_holds_its_checkpoint(outtype: str, model: Path, tmp_path: Path) -> None:
    path = convert(model, tmp_path / "model.gguf", outtype).path
    result = CliRunner().invoke(main, ["--check", str(path), str(model)])
    assert result.exit_code == 0, result.output
    assert "21 tensors, " in result.output
    assert "and the SHA-256 of its files agree" in result.output


def test_split_files_and_importance_matrices(model: Path, tmp_path: Path) -> None:
    source = convert(model, tmp_path / "source.gguf", "bf16").path
    imatrix = write_importance(tmp_path / "imatrix.gguf", random_importance(source))
    path = convert(model, tmp_path / "model.gguf", "q4_k_m", imatrix=imatrix, split_max_bytes=200_000).path
    assert check(path, model, imatrix=imatrix).differences == []
    refused = CliRunner().invoke(main, ["--check", str(path), str(model)])
    assert refused.exit_code == 1
    assert "was made with the importance matrix imatrix.gguf: give it with --imatrix" in refused.output


def test_one_flipped_bit_is_found(model: Path, tmp_path: Path) -> None:
    path = convert(model, tmp_path / "model.gguf", "q4_k_m").path
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(data)
    result = CliRunner().invoke(main, ["--check", str(path), str(model)])
    assert result.exit_code == 1
    assert "tensor output.weight: other weights than the checkpoint's in Q6_K" in result.output
    assert "differs from" in result.output and "in 1 places" in result.output


def test_other_weights_keys_and_files_are_found(tmp_path: Path) -> None:
    model = make_checkpoint(tmp_path / "model")
    path = convert(model, tmp_path / "model.gguf", "q8_0").path
    edit_weights(model, lambda name, weight: weight * (1.5 if "layers.1.mlp.up" in name else 1))
    edit_json(model / "config.json", rms_norm_eps=1e-6)
    found = check(path, model).differences
    assert found[0] == "mistral3.attention.layer_norm_rms_epsilon: differs from what the checkpoint gives"
    assert found[1] == "tensor blk.1.ffn_up.weight: other weights than the checkpoint's in Q8_0"
    assert [line.split(":")[0] for line in found[2:]] == ["config.json", "model.safetensors"]


@pytest.mark.parametrize(("dtype", "outtype"), [("bf16", "bf16"), ("f32", "f32"), ("f16", "f16"), ("bf16", "q8_0")])
def test_the_way_back(dtype: str, outtype: str, tmp_path: Path) -> None:
    """Weights come back as they were, and the restored checkpoint converts to the same file."""
    model = make_checkpoint(tmp_path / "model", dtype=dtype, lora_rank=4)
    path = convert(model, tmp_path / "one.gguf", outtype).path
    result = CliRunner().invoke(main, ["--to-safetensors", str(path), str(tmp_path / "restored" / "..." / "model")])
    assert result.exit_code == 1
    (tmp_path / "restored").mkdir()
    result = CliRunner().invoke(main, ["--to-safetensors", str(path), str(tmp_path / "restored" / "model")])
    assert result.exit_code == 0, result.output
    restored = tmp_path / "restored/model"
    for directory in ("", "linear_spec_lora"):
        before, after = load_weights(model / directory), load_weights(restored / directory)
        assert before.keys() == after.keys()
        if outtype != "q8_0":
            assert all(np.array_equal(before[name], after[name]) for name in before)
    again = convert(restored, tmp_path / "two.gguf", outtype).path
    first, second = read_metadata(path), read_metadata(again)
    for metadata in (first, second):
        for key in ("trimode.source.sha256", "trimode.source.files"):
            metadata.pop(key)
    assert first == second
    if outtype != "q8_0":
        assert stored_tensors(path) == stored_tensors(again)
        adapters = (tmp_path / f"{name}-drafter-lora.gguf" for name in ("one", "two"))
        assert len({adapter.read_bytes() for adapter in adapters}) == 1


def test_restoring_the_shipped_checkpoint_keeps_its_tokenizer(checkpoint_dir: Path, tmp_path: Path) -> None:
    path = convert(checkpoint_dir, tmp_path / "one.gguf", "bf16", lora=False, hashes=False).path
    restored = restore(path, tmp_path / checkpoint_dir.name)
    again = convert(restored, tmp_path / "two.gguf", "bf16", lora=False, hashes=False).path
    first, second = read_metadata(path), read_metadata(again)
    differing = {key for key in first if first[key] != second.get(key)}
    assert not {key for key in differing if key.startswith(("tokenizer.", "mistral3."))}


def test_restoring_leaves_nothing_behind_when_it_fails(model: Path, tmp_path: Path) -> None:
    path = convert(model, tmp_path / "model.gguf", "q8_0", lora=False).path
    shutil.copy(path, tmp_path / "bad.gguf")
    data = bytearray(path.read_bytes())
    data[data.index(b"mistral3.block_count") + 24] = 3
    (tmp_path / "bad.gguf").write_bytes(data)
    before = files_in(tmp_path)
    result = CliRunner().invoke(main, ["--to-safetensors", str(tmp_path / "bad.gguf"), str(tmp_path / "restored")])
    assert result.exit_code == 1
    assert "tensor blk.2.attn_norm.weight is missing" in result.output
    existing = CliRunner().invoke(main, ["--to-safetensors", str(path), str(tmp_path)])
    assert "exists already: give the name of a new directory" in existing.output
    assert files_in(tmp_path) == before
