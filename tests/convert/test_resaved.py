"""What stands in a directory that a trainer saved into again: stale files, other types, tokens, pointers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from support.convert_helpers import read_metadata
from support.synthetic import edit_json, make_checkpoint
from transformers import AutoTokenizer, Ministral3Config, Ministral3Model, PreTrainedModel

from pytrimode import TriMode
from pytrimode.convert import ConversionError, convert
from pytrimode.convert.cli import main
from pytrimode.files.file_info import file_info


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "model", hidden=64)


def converted(source: Path, outtype: str = "f16") -> bytes:
    return convert(source, source.parent / "out.gguf", outtype, force=True, hashes=False).path.read_bytes()


def notes(source: Path) -> list[str]:
    return convert(source, source.parent / "out.gguf", "f16", force=True).notes


# --- Weights ----------------------------------------------------------------------------------------------------------


def test_a_single_file_goes_before_a_stale_index(tmp_path: Path) -> None:
    """As in transformers. The index and its shards are left of an earlier save: other weights."""
    model = make_checkpoint(tmp_path / "model", seed=1)
    expected = converted(model)
    old = make_checkpoint(tmp_path / "old", shards=2, seed=2)
    for file in [*old.glob("model-*.safetensors"), old / "model.safetensors.index.json"]:
        shutil.copy(file, model / file.name)
    assert converted(model) == expected
    assert [note.partition(";")[0] for note in notes(model)] == ["model.safetensors is converted"]


def test_f64_weights_become_f32(model: Path) -> None:
    weights = load_file(model / "model.safetensors")
    save_file({name: tensor.float() for name, tensor in weights.items()}, model / "model.safetensors")
    expected = {outtype: converted(model, outtype) for outtype in ("f32", "q8_0", "q4_k_m")}
    save_file({name: tensor.double() for name, tensor in weights.items()}, model / "model.safetensors")
    for outtype, single in expected.items():
        assert converted(model, outtype) == single


def test_f64_weights_beyond_f32_are_named(model: Path) -> None:
    weights = {name: tensor.double() for name, tensor in load_file(model / "model.safetensors").items()}
    weights["encoder.layers.1.mlp.up_proj.weight"][3, 5] = 1e300
    save_file(weights, model / "model.safetensors")
    with pytest.raises(ConversionError, match=r"encoder.layers.1.mlp.up_proj.weight: element \[3, 5\] is inf"):
        converted(model)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("consolidated.safetensors", "found consolidated.safetensors: Mistral's own layout"),
        ("consolidated-00001-of-00002.safetensors", "Mistral's own layout, which is not read: get the files named"),
        ("model-00001-of-00002.safetensors", "shards without their model.safetensors.index.json"),
        ("adapter_model.safetensors", "an adapter: trimode-convert --lora"),
        ("pytorch_model.bin", "only safetensors are read"),
    ],
)
def test_weights_under_other_names_are_named(model: Path, name: str, said: str) -> None:
    (model / "model.safetensors").rename(model / name)
    with pytest.raises(ConversionError, match="no weights") as error:
        converted(model)
    assert said in str(error.value)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_pointer_of_git_lfs_is_named(model: Path, name: str) -> None:
    (model / name).write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 7663347000\n")
    with pytest.raises(ConversionError, match=rf"{name}: a pointer of Git LFS, .*git lfs pull"):
        converted(model)


def test_a_pointer_in_place_of_a_gguf_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(ValueError, match=r"model.gguf: a pointer of Git LFS"):
        TriMode(tmp_path / "model.gguf")


# --- Tokens -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "generation", "kept", "lost"),
    [
        (11, [11, 2, 7], [11, 2, 7], []),
        ([11, 2], [11, 7], [11, 7, 2], []),
        ([7, 11, 2], 7, [7, 11, 2], []),
        (7, [7, 2, 3, 11], [7, 2, 3], []),  # llama.cpp ends at <|im_end|>, which is 11, by its text
        (7, [7, 2, 3, 4, 5], [7, 2, 3], [4, 5]),
    ],
)
def test_all_ends_of_both_configs_are_kept(
    model: Path, config: Any, generation: Any, kept: list[int], lost: list[int]
) -> None:
    edit_json(model / "config.json", eos_token_id=config)
    edit_json(model / "generation_config.json", eos_token_id=generation)
    out = convert(model, model.parent / "out.gguf", "f16")
    fields = read_metadata(out.path)
    assert [fields.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom")] == kept
    with TriMode(out.path, n_ctx=64, n_threads=1) as loaded:
        everything = {config, 11} if isinstance(config, int) else {*config, 11}
        everything |= {generation} if isinstance(generation, int) else set(generation)
        ends = {token for token in everything if loaded._model.is_eog(token)}
        assert ends == everything - set(lost)
    assert [note for note in out.notes if "three ends" in note] == (
        [f"a GGUF file names three ends of generation: tokens {', '.join(map(str, lost))} of eos_token_id are left "
         f"out, so give them as stop_token_ids"] if lost else []
    )  # fmt: skip


def test_added_tokens_without_rows_are_named(model: Path) -> None:
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    tokenizer["added_tokens"] += [{"id": 512, "content": "<new>", "special": True}, {"id": 513, "content": "<more>"}]
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(
        ConversionError, match=r"without rows in the embedding: '<new>', '<more>' .*resize_token_embeddings"
    ):
        converted(model)


def test_special_tokens_that_strip_spaces_are_told(model: Path) -> None:
    expected = converted(model)
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    next(token for token in tokenizer["added_tokens"] if token["content"] == "<mask>")["lstrip"] = True
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert converted(model) == expected
    assert "(<mask>)" in notes(model)[0] and "lstrip" in notes(model)[0]


# --- What is told to do next ------------------------------------------------------------------------------------------


def test_suggested_commands_are_quoted(model: Path, tmp_path: Path) -> None:
    directory = tmp_path / "my models; rm x"
    directory.mkdir()
    done = CliRunner().invoke(main, [str(model), str(directory / "a b.gguf"), "-t", "1"], catch_exceptions=False)
    assert f"pytrimode chat '{directory / 'a b.gguf'}'" in done.output
    model.rename(directory / "checkpoint")
    with pytest.raises(ValueError, match=f"trimode-convert '{directory / 'checkpoint'}' --q8_0"):
        TriMode(directory / "checkpoint")


def test_incomplete_files_say_what_is_missing_when_loaded_as_info_does(model: Path, tmp_path: Path) -> None:
    whole = convert(model, tmp_path / "whole.gguf", "f16").path
    data = whole.read_bytes()
    last = max(gguf.GGUFReader(whole).tensors, key=lambda tensor: tensor.data_offset)
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(data[:-100])
    first, *others = convert(model, tmp_path / "split.gguf", "f16", split_max_bytes=100_000).paths
    assert file_info(first)["n_tensors"] == file_info(whole)["n_tensors"]
    others[0].unlink()
    for path, said in ((cut, f"tensor {last.name} ends at byte"), (first, f"{others[0].name}: not found (1 of")):
        for read in (file_info, TriMode):
            with pytest.raises((ValueError, FileNotFoundError)) as error:
                read(path)
            assert said in str(error.value), read


# --- transformers 5 ---------------------------------------------------------------------------------------------------


class DiffusionConfig(Ministral3Config):
    model_type = "nemotron_labs_diffusion"


class NemotronLabsDiffusionModel(PreTrainedModel):
    """The modules that the family's own code has, under the same names."""

    config_class = DiffusionConfig

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__(config)
        self.encoder = Ministral3Model(config)
        self.diffusion_head = torch.nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()


@pytest.mark.slow
@pytest.mark.parametrize("shard_size", ["1GB", "4MB"])
def test_a_checkpoint_saved_again_by_transformers_5_gives_the_same_bytes(
    checkpoint_dir: Path, tmp_path: Path, shard_size: str
) -> None:
    (tmp_path / "a").mkdir()
    original, saved = tmp_path / "a" / "model", tmp_path / "b" / "model"
    shutil.copytree(checkpoint_dir, original, ignore=shutil.ignore_patterns("linear_spec_lora", "README.md", "*.py"))
    model = NemotronLabsDiffusionModel.from_pretrained(original)
    assert model.encoder.layers[0].mlp.up_proj.weight.abs().sum() > 0
    model.save_pretrained(saved, max_shard_size=shard_size)
    AutoTokenizer.from_pretrained(original).save_pretrained(saved)
    assert (saved / "model.safetensors").is_file() == (shard_size == "1GB")
    ours = convert(original, tmp_path / "ours.gguf", "q8_0", hashes=False)
    theirs = convert(saved, tmp_path / "theirs.gguf", "q8_0", hashes=False)
    assert {name: np.asarray(value).tolist() for name, value in read_metadata(theirs.path).items()} == {
        name: np.asarray(value).tolist() for name, value in read_metadata(ours.path).items()
    }
    assert theirs.path.read_bytes() == ours.path.read_bytes()
