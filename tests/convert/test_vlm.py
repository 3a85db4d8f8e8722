"""Vision and language checkpoints: the text model and, in a file beside it, the vision tower."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
from click.testing import CliRunner, Result
from support.convert_helpers import dequantize, files_in, permute_rope, read_metadata, read_tensors
from support.quantize_helpers import run_quantize, stored_tensors
from support.synthetic import edit_json, edit_weights, load_weights, make_checkpoint, write_safetensors
from support.vlm import IMAGE_TOKENS, PROJECTOR, TOWER, make_vlm, name_image_tokens

from pytrimode import TriMode, _native
from pytrimode.convert import convert
from pytrimode.convert.check import check
from pytrimode.convert.cli import main
from pytrimode.quantize.card import model_card

pytestmark = pytest.mark.slow

N_TEXT, N_VISION = 21, 2 + 2 * 9 + 4
HEADS = 2


@pytest.fixture(scope="module")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = make_checkpoint(tmp_path_factory.mktemp("text") / "model", lora_rank=4)
    name_image_tokens(model)
    return model


@pytest.fixture(params=["flat", "nested"])
def vlm(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The text model with a vision tower, its settings beside those of the vision or apart from them."""
    return make_vlm(tmp_path / "vlm" / "model", dtype="bf16", lora_rank=4, nested=request.param == "nested")


@pytest.fixture
def f32_vlm(tmp_path: Path) -> Path:
    return make_vlm(tmp_path / "vlm" / "model")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_the_text_model_is_converted(text_model: Path, vlm: Path, tmp_path: Path) -> None:
    """The same tensors and metadata as from the text model's own checkpoint, and it runs."""
    plain = convert(text_model, tmp_path / "plain.gguf", "q8_0", hashes=False)
    result = convert(vlm, tmp_path / "model.gguf", "q8_0", hashes=False)
    assert stored_tensors(result.path) == stored_tensors(plain.path)
    assert read_metadata(result.path) == read_metadata(plain.path)
    assert result.mmproj_path == tmp_path / "model-mmproj.gguf"
    assert result.skipped == []
    with TriMode(result.path, n_ctx=64, n_threads=1) as model:
        assert model.has_lora
        assert len(list(model.generate([1, 200, 201], max_tokens=4, mode="self-spec", temperature=0))) <= 4


def test_the_mmproj_file_holds_tower_and_projector(f32_vlm: Path, tmp_path: Path) -> None:
    """Every value is the checkpoint's: q and k with their rows in pairs, everything else as it is."""
    path = convert(f32_vlm, tmp_path / "model.gguf", "f32", mmproj_type="f32").mmproj_path
    weights, stored = load_weights(f32_vlm), read_tensors(path)
    layer = "transformer.layers.1."
    same = {
        "v.patch_embd.weight": TOWER + "patch_conv.weight",
        "v.pre_ln.weight": TOWER + "ln_pre.weight",
        "v.blk.1.ln1.weight": TOWER + layer + "attention_norm.weight",
        "v.blk.1.ln2.weight": TOWER + layer + "ffn_norm.weight",
        "v.blk.1.attn_v.weight": TOWER + layer + "attention.v_proj.weight",
        "v.blk.1.attn_out.weight": TOWER + layer + "attention.o_proj.weight",
        "v.blk.1.ffn_gate.weight": TOWER + layer + "feed_forward.gate_proj.weight",
        "v.blk.1.ffn_up.weight": TOWER + layer + "feed_forward.up_proj.weight",
        "v.blk.1.ffn_down.weight": TOWER + layer + "feed_forward.down_proj.weight",
        "mm.input_norm.weight": PROJECTOR + "norm.weight",
        "mm.patch_merger.weight": PROJECTOR + "patch_merger.merging_layer.weight",
        "mm.1.weight": PROJECTOR + "linear_1.weight",
        "mm.2.weight": PROJECTOR + "linear_2.weight",
    }
    for target, source in same.items():
        assert np.array_equal(dequantize(stored[target]), weights[source]), target
    for x in "qk":
        expected = permute_rope(weights[f"{TOWER}{layer}attention.{x}_proj.weight"], HEADS)
        assert np.array_equal(dequantize(stored[f"v.blk.1.attn_{x}.weight"]), expected)
    assert np.array_equal(dequantize(stored["v.token_embd.img_break"]), weights["encoder.embed_tokens.weight"][20])
    assert len(stored) == N_VISION + 1


def test_the_mmproj_file_says_what_llama_cpp_needs(f32_vlm: Path, tmp_path: Path) -> None:
    metadata = read_metadata(convert(f32_vlm, tmp_path / "model.gguf", "f32").mmproj_path)
    assert metadata["general.architecture"] == "clip"
    assert metadata["general.type"] == "mmproj"
    assert metadata["clip.projector_type"] == "pixtral"
    assert metadata["clip.has_vision_encoder"] is True
    assert metadata["clip.use_silu"] is True
    assert "clip.use_gelu" not in metadata
    numbers = {"image_size": 1540, "patch_size": 14, "embedding_length": 64, "feed_forward_length": 128,
               "block_count": 2, "attention.head_count": 2, "projection_dim": 64, "spatial_merge_size": 2}  # fmt: skip
    assert {key: metadata[f"clip.vision.{key}"] for key in numbers} == numbers
    assert metadata["clip.vision.attention.layer_norm_epsilon"] == pytest.approx(1e-5)
    assert metadata["clip.vision.image_mean"] == pytest.approx([0.48145466, 0.4578275, 0.40821073])
    assert metadata["clip.vision.image_std"] == pytest.approx([0.26862954, 0.26130258, 0.27577711])
    ids = {name: metadata[f"trimode.vision.{name}_token_id"] for name in ("start", "pad", "break", "end")}
    assert list(ids.values()) == list(IMAGE_TOKENS)
    assert metadata["trimode.vision.max_side"] == 1400


@pytest.mark.parametrize(("kind", "stored"), [(None, "F16"), ("q8_0", "Q8_0"), ("bf16", "BF16"), ("f32", "F32")])
def test_matrices_have_the_type_asked_for(kind: str | None, stored: str, f32_vlm: Path, tmp_path: Path) -> None:
    """Vectors and the patches' kernel stay F32."""
    path = convert(f32_vlm, tmp_path / "model.gguf", "q4_0", mmproj_type=kind).mmproj_path
    for name, tensor in read_tensors(path).items():
        plain = len(tensor.shape) != 2 or name == "v.patch_embd.weight"
        assert tensor.tensor_type.name == ("F32" if plain else stored), name


def test_gelu_and_biases(tmp_path: Path) -> None:
    model = make_vlm(tmp_path / "model", act="gelu", bias=True)
    path = convert(model, tmp_path / "model.gguf", "f32").mmproj_path
    metadata, tensors = read_metadata(path), read_tensors(path)
    assert metadata["clip.use_gelu"] is True
    assert "clip.use_silu" not in metadata
    assert np.array_equal(dequantize(tensors["mm.2.bias"]), load_weights(model)[PROJECTOR + "linear_2.bias"])
    assert _native.Tower(str(path)).n_embd == 64


def test_what_was_written_is_said(vlm: Path, tmp_path: Path) -> None:
    result = run(vlm, tmp_path / "model.gguf", "--q8_0")
    assert result.exit_code == 0, result.output
    assert f"{tmp_path / 'model-mmproj.gguf'}: vision tower and projector, f16, {N_VISION + 1} tensors" in result.output
    assert "left out" not in result.output
    dry = run(vlm, tmp_path / "other.gguf", "--q8_0", "--mmproj-type", "q8_0", "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert "v.blk.0.attn_q.weight" in dry.output
    assert f"q8_0: {N_TEXT} tensors" in dry.output
    assert f"vision tower and projector, q8_0, {N_VISION + 1} tensors" in dry.output
    assert f"would write {tmp_path / 'other-mmproj.gguf'}" in dry.output
    assert not (tmp_path / "other-mmproj.gguf").exists()


def test_without_the_tower(vlm: Path, tmp_path: Path) -> None:
    result = run(vlm, tmp_path / "model.gguf", "--q8_0", "--no-mmproj")
    assert result.exit_code == 0, result.output
    assert f"{N_VISION} tensors (" in result.output
    assert "of its vision tower and projector are left out" in result.output
    assert files_in(tmp_path) == {"vlm", "model.gguf", "model-drafter-lora.gguf"}
    dry = run(vlm, tmp_path / "other.gguf", "--q8_0", "--no-mmproj", "--dry-run")
    lines = [line for line in dry.output.splitlines() if line.endswith(": left out")]
    assert len(lines) == N_VISION


def test_check_compares_both_files(vlm: Path, tmp_path: Path) -> None:
    path = convert(vlm, tmp_path / "model.gguf", "q4_0", mmproj_type="q8_0").path
    result = run("--check", path, vlm)
    assert result.exit_code == 0, result.output
    assert f"{path} holds {vlm}: {N_TEXT} tensors, " in result.output
    assert f"model-mmproj.gguf holds the vision tower of {vlm}: {N_VISION + 1} tensors, " in result.output
    assert result.output.count("and the SHA-256 of its files agree") == 2
    assert (check(path, vlm).differences, check(path, vlm).n_skipped) == ([], N_VISION)
    assert check(tmp_path / "model-mmproj.gguf", vlm).is_mmproj


def test_check_names_what_differs(f32_vlm: Path, tmp_path: Path) -> None:
    path = convert(f32_vlm, tmp_path / "model.gguf", "f32").path
    changed = f"{TOWER}transformer.layers.0.attention.k_proj.weight"
    edit_weights(f32_vlm, lambda name, weight: -weight if name == changed else weight)
    result = run("--check", path, f32_vlm)
    assert result.exit_code == 1
    assert (
        "model-mmproj.gguf: tensor v.blk.0.attn_k.weight: other weights than the checkpoint's in F16" in result.output
    )
    assert "v.blk.0.attn_q.weight" not in result.output


def test_check_of_a_tower_against_a_text_model(text_model: Path, f32_vlm: Path, tmp_path: Path) -> None:
    path = convert(f32_vlm, tmp_path / "model.gguf", "f32").mmproj_path
    result = run("--check", path, text_model)
    assert result.exit_code == 1
    assert "is no vision and language model" in result.output


def test_the_way_back_gives_the_checkpoint(f32_vlm: Path, tmp_path: Path) -> None:
    """F32 to F32: the same tensors, and settings that give the same two files again."""
    first = convert(f32_vlm, tmp_path / "model.gguf", "f32", mmproj_type="f32", hashes=False)
    result = run("--to-safetensors", first.path, tmp_path / "back")
    assert result.exit_code == 0, result.output
    before, after = load_weights(f32_vlm), load_weights(tmp_path / "back")
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    again = convert(tmp_path / "back", tmp_path / "again.gguf", "f32", mmproj_type="f32", hashes=False)
    assert stored_tensors(again.mmproj_path) == stored_tensors(first.mmproj_path)
    assert json.loads((tmp_path / "back/config.json").read_text())["model_type"] == "nemotron_labs_diffusion_vlm"


def test_the_way_back_without_a_tower_gives_a_text_checkpoint(text_model: Path, vlm: Path, tmp_path: Path) -> None:
    path = convert(vlm, tmp_path / "model.gguf", "bf16", mmproj=False).path
    result = run("--to-safetensors", path, tmp_path / "back")
    assert result.exit_code == 0, result.output
    before, after = load_weights(text_model), load_weights(tmp_path / "back")
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert json.loads((tmp_path / "back/config.json").read_text())["model_type"] == "nemotron_labs_diffusion"


def test_quantizing_takes_the_tower_along(f32_vlm: Path, tmp_path: Path) -> None:
    first = convert(f32_vlm, tmp_path / "model.gguf", "f16")
    done = run_quantize(first.path, tmp_path / "small.gguf", "q4_0")
    assert done.returncode == 0, done.stderr
    assert "small-mmproj.gguf: vision tower and projector, f16" in done.stdout
    assert stored_tensors(tmp_path / "small-mmproj.gguf") == stored_tensors(first.mmproj_path)
    assert read_metadata(tmp_path / "small-mmproj.gguf") == read_metadata(first.mmproj_path)
    card = model_card([tmp_path / "small.gguf"])
    assert "| `small-mmproj.gguf` | vision tower, f16 |" in card
    assert 'pipeline_tag: "image-text-to-text"' in card


def test_llama_cpp_reads_the_file(f32_vlm: Path, tmp_path: Path) -> None:
    """gguf-py's own names of the tensors and keys."""
    path = convert(f32_vlm, tmp_path / "model.gguf", "f32").mmproj_path
    arch = gguf.MODEL_ARCH.MMPROJ
    block = gguf.TENSOR_NAMES[gguf.MODEL_TENSOR.V_ENC_ATTN_Q].format(bid=0)
    known = {gguf.TENSOR_NAMES[tensor] for tensor in gguf.MODEL_TENSORS[arch]}
    assert f"{block}.weight" in read_tensors(path)
    for name in read_tensors(path):
        pattern = name.removesuffix(".weight").replace("v.blk.0", "v.blk.{bid}").replace("v.blk.1", "v.blk.{bid}")
        pattern = pattern.replace("mm.1", "mm.{bid}").replace("mm.2", "mm.{bid}")
        assert pattern in known, name
    keys = read_metadata(path)
    assert gguf.Keys.ClipVision.SPATIAL_MERGE_SIZE in keys
    assert gguf.Keys.Clip.PROJECTOR_TYPE in keys


def test_vision_tensors_have_no_place_in_a_text_checkpoint(f32_vlm: Path, tmp_path: Path) -> None:
    edit_json(f32_vlm / "config.json", model_type="nemotron_labs_diffusion")
    result = run(f32_vlm, tmp_path / "model.gguf")
    assert result.exit_code == 1
    first = "encoder.multi_modal_projector.linear_1.weight"
    assert f"tensor {first} has no place in the model (and 23 more)" in result.output
    assert files_in(tmp_path) == {"vlm"}


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("text_config", "none", "config.json: text_config: expected an object"),
        ("text_config__hidden_size", ..., "config.json: text_config: hidden_size: expected an integer"),
        ("text_config__tie_word_embeddings", True, "config.json: text_config: tie_word_embeddings: expected false"),
    ],
)
def test_errors_in_nested_settings_say_where(key: str, value: object, said: str, tmp_path: Path) -> None:
    model = make_vlm(tmp_path / "model", nested=True)
    edit_json(model / "config.json", **{key: value})
    result = run(model, tmp_path / "model.gguf")
    assert result.exit_code == 1
    assert said in result.output
    assert files_in(tmp_path) == {"model"}


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("vision_config", ..., "vision_config: expected an object, the key is missing"),
        ("vision_config__model_type", "siglip", 'vision_config: model_type: expected "pixtral", found "siglip"'),
        ("vision_config__hidden_act", "quick_gelu", 'hidden_act: expected "silu" or "gelu", found "quick_gelu"'),
        ("vision_config__patch_size", 16, "patch_size: expected 14, found 16"),
        ("vision_config__rope_parameters__rope_theta", 1e6, "rope_parameters: rope_theta: expected null or 10000"),
        ("vision_config__rope_theta", 500000.0, "rope_theta: expected null or 10000"),
        ("vision_config__num_channels", 1, "num_channels: expected null or 3, found 1"),
        ("vision_config__head_dim", 16, "head_dim: expected null or 32, found 16"),
        ("vision_config__num_attention_heads", 32, "num_attention_heads: expected a divisor of hidden_size / 4"),
        ("vision_config__attention_bias", True, "attention_bias: expected null or false, found true"),
        ("vision_config__image_size", 0, "image_size: expected an integer from 14"),
        (
            "vision_config__num_hidden_layers",
            3,
            "transformer.layers.2.attention_norm.weight is missing",
        ),
        ("vision_config__num_hidden_layers", 1, "tensor encoder.vision_tower.transformer.layers.1.attention"),
        ("vision_config__intermediate_size", 64, "layers.0.feed_forward.gate_proj.weight: expected shape [64, 64]"),
        ("vision_feature_layer", -2, "vision_feature_layer: expected -1, found -2"),
        ("projector_hidden_act", "relu", 'projector_hidden_act: expected "gelu", found "relu"'),
        ("spatial_merge_size", 1, "spatial_merge_size: expected 2, found 1"),
        ("multimodal_projector_bias", True, "tensor encoder.multi_modal_projector.linear_1.bias is missing"),
        ("rms_norm_eps", 1e-6, "rms_norm_eps: expected 1e-05 (as in the vision tower"),
        ("image_token_id", 10, "image_token_id: expected null or 19, found 10"),
    ],
)
def test_what_the_tower_cannot_be_is_named(key: str, value: object, said: str, f32_vlm: Path, tmp_path: Path) -> None:
    edit_json(f32_vlm / "config.json", **{key: value})
    result = run(f32_vlm, tmp_path / "model.gguf")
    assert result.exit_code == 1
    assert said in result.output
    assert files_in(tmp_path) == {"vlm"}
    assert run(f32_vlm, tmp_path / "model.gguf", "--no-mmproj").exit_code == 0 or key == "vision_config"


def test_other_colours_are_refused(f32_vlm: Path, tmp_path: Path) -> None:
    (f32_vlm / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5, 0.5, 0.5]}))
    result = run(f32_vlm, tmp_path / "model.gguf")
    assert "preprocessor_config.json: image_mean: expected null or [0.48145466" in result.output


def test_a_tokenizer_without_image_tokens(f32_vlm: Path, tmp_path: Path) -> None:
    text = (f32_vlm / "tokenizer.json").read_text()
    (f32_vlm / "tokenizer.json").write_text(text.replace("<|image_break|>", "<other>"))
    result = run(f32_vlm, tmp_path / "model.gguf")
    assert "the tokenizer has no token <|image_break|>" in result.output


def test_a_missing_or_unknown_tensor_is_named(f32_vlm: Path, tmp_path: Path) -> None:
    weights = load_weights(f32_vlm)
    lost = weights.pop(PROJECTOR + "norm.weight")
    write_safetensors(f32_vlm / "model.safetensors", weights)
    assert f"tensor {PROJECTOR}norm.weight is missing" in run(f32_vlm, tmp_path / "model.gguf").output
    write_safetensors(f32_vlm / "model.safetensors", weights | {PROJECTOR + "norm.weight": lost, TOWER + "x": lost})
    assert f"tensor {TOWER}x has no place in the vision tower" in run(f32_vlm, tmp_path / "model.gguf").output
