"""Vision and language checkpoints: the text model converts, what belongs to the vision is named and left out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from support.convert_helpers import files_in, read_metadata
from support.quantize_helpers import stored_tensors
from support.synthetic import edit_json, load_weights, make_checkpoint, to_bf16, write_safetensors

from pytrimode import TriMode
from pytrimode.convert import convert
from pytrimode.convert.check import check
from pytrimode.convert.cli import main

TEXT_KEYS = ("hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads", "num_key_value_heads",
             "head_dim", "vocab_size", "rms_norm_eps", "hidden_act", "max_position_embeddings", "rope_parameters",
             "sliding_window", "mask_token_id")  # fmt: skip
VISION = {
    "encoder.vision_tower.patch_conv.weight": (8, 3, 2, 2),
    "encoder.vision_tower.ln_pre.weight": (8,),
    "encoder.vision_tower.transformer.layers.0.attention.q_proj.weight": (8, 8),
    "encoder.multi_modal_projector.linear_1.weight": (64, 32),
}
VISION_BYTES = 2 * sum(int(np.prod(shape)) for shape in VISION.values())


@pytest.fixture(scope="module")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("vlm") / "model", lora_rank=4)


@pytest.fixture(params=["flat", "nested"])
def vlm(request: pytest.FixtureRequest, text_model: Path, tmp_path: Path) -> Path:
    """The text model with a vision tower, its settings beside those of the vision or apart from them."""
    return with_vision(text_model, tmp_path / "vlm" / "model", nested=request.param == "nested")


def with_vision(text_model: Path, directory: Path, *, nested: bool) -> Path:
    shutil.copytree(text_model, directory)
    tensors = {name: to_bf16(values) for name, values in load_weights(directory).items()}
    tensors |= {name: np.full(shape, 0x3F80, np.uint16) for name, shape in VISION.items()}
    write_safetensors(directory / "model.safetensors", tensors)
    config = json.loads((directory / "config.json").read_text())
    config |= {
        "model_type": "nemotron_labs_diffusion_vlm",
        "vision_config": {"model_type": "pixtral", "hidden_size": 8},
    }
    if nested:
        text = {key: config.pop(key) for key in TEXT_KEYS}
        config["text_config"] = {**text, "model_type": "ministral3", "eos_token_id": None}
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_the_text_model_is_converted(text_model: Path, vlm: Path, tmp_path: Path) -> None:
    """The same tensors and metadata as from the text model's own checkpoint, and it runs."""
    plain = convert(text_model, tmp_path / "plain.gguf", "q8_0", hashes=False)
    result = convert(vlm, tmp_path / "model.gguf", "q8_0", hashes=False)
    assert stored_tensors(result.path) == stored_tensors(plain.path)
    assert read_metadata(result.path) == read_metadata(plain.path)
    assert {tensor.name: tensor.shape for tensor in result.skipped} == VISION
    with TriMode(result.path, n_ctx=64, n_threads=1) as model:
        assert model.has_lora
        assert len(list(model.generate([1, 200, 201], max_tokens=4, mode="self-spec", temperature=0))) <= 4


def test_what_is_left_out_is_said(vlm: Path, tmp_path: Path) -> None:
    result = run(vlm, tmp_path / "model.gguf", "--q8_0")
    assert result.exit_code == 0, result.output
    assert f"4 tensors ({VISION_BYTES / 1e3:.1f} kB) of its vision tower and projector are left out" in result.output
    dry = run(vlm, tmp_path / "other.gguf", "--q8_0", "--dry-run")
    assert dry.exit_code == 0, dry.output
    lines = [line for line in dry.output.splitlines() if line.endswith(": left out")]
    assert "encoder.vision_tower.patch_conv.weight  8 x 3 x 2 x 2 bf16, 0.2 kB: left out" in lines
    assert sorted(line.split()[0] for line in lines) == sorted(VISION)
    assert "q8_0: 21 tensors" in dry.output


def test_check_compares_the_text_model(vlm: Path, tmp_path: Path) -> None:
    path = convert(vlm, tmp_path / "model.gguf", "q4_0").path
    result = run("--check", path, vlm)
    assert result.exit_code == 0, result.output
    assert "21 tensors, " in result.output
    assert "and the SHA-256 of its files agree; 4 of its vision are no part of it" in result.output
    found = check(path, vlm)
    assert (found.differences, found.n_skipped) == ([], 4)


def test_the_way_back_gives_a_text_checkpoint(text_model: Path, vlm: Path, tmp_path: Path) -> None:
    path = convert(vlm, tmp_path / "model.gguf", "bf16").path
    result = run("--to-safetensors", path, tmp_path / "back")
    assert result.exit_code == 0, result.output
    before, after = load_weights(text_model), load_weights(tmp_path / "back")
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert json.loads((tmp_path / "back/config.json").read_text())["model_type"] == "nemotron_labs_diffusion"


def test_vision_tensors_have_no_place_in_a_text_checkpoint(text_model: Path, tmp_path: Path) -> None:
    model = with_vision(text_model, tmp_path / "model", nested=False)
    edit_json(model / "config.json", model_type="nemotron_labs_diffusion")
    result = run(model, tmp_path / "model.gguf")
    assert result.exit_code == 1
    first = "encoder.multi_modal_projector.linear_1.weight"
    assert f"tensor {first} has no place in the model (and 3 more)" in result.output
    assert files_in(tmp_path) == {"model"}


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("text_config", "none", "config.json: text_config: expected an object"),
        ("text_config__hidden_size", ..., "config.json: text_config: hidden_size: expected an integer"),
        ("text_config__tie_word_embeddings", True, "config.json: text_config: tie_word_embeddings: expected false"),
    ],
)
def test_errors_in_nested_settings_say_where(
    key: str, value: object, said: str, text_model: Path, tmp_path: Path
) -> None:
    model = with_vision(text_model, tmp_path / "model", nested=True)
    edit_json(model / "config.json", **{key: value})
    result = run(model, tmp_path / "model.gguf")
    assert result.exit_code == 1
    assert said in result.output
    assert files_in(tmp_path) == {"model"}
