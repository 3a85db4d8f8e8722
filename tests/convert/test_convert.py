"""trimode-convert writes what the checkpoint holds, in a file that gguf-py and stock llama.cpp read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import gguf
import llama_cpp
import numpy as np
import pytest
from numpy.typing import NDArray
from support.convert_helpers import dequantize, permute_rope, read_metadata, read_tensors, run_convert
from support.synthetic import edit_json, load_weights, make_checkpoint

from pytrimode.convert import convert

HEADS, KV_HEADS, LAYERS = 4, 2, 2
TARGETS = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
QUANTIZED = ["q8_0", "q4_0", "q4_1", "q5_0", "q5_1"]
ALL_TYPES = ["f32", "f16", "bf16", *QUANTIZED]
FILE_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q8_0": 7, "q5_0": 8, "q5_1": 9, "bf16": 32}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "small-trimode", hidden=256, lora_rank=4)


@pytest.fixture(scope="module")
def source(checkpoint: Path) -> dict[str, NDArray[np.float32]]:
    """The checkpoint's weights under their GGUF names, q and k permuted by llama.cpp's formula."""
    weights = load_weights(checkpoint)
    found = {
        "token_embd.weight": weights["encoder.embed_tokens.weight"],
        "output_norm.weight": weights["encoder.norm.weight"],
        "output.weight": weights["diffusion_head.weight"],
    }
    for i in range(LAYERS):
        for name, target in TARGETS.items():
            values = weights[f"encoder.layers.{i}.{name}.weight"]
            if target in ("attn_q", "attn_k"):
                values = permute_rope(values, HEADS if target == "attn_q" else KV_HEADS)
            found[f"blk.{i}.{target}.weight"] = values
    return found


@pytest.fixture(scope="module")
def outputs(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One file of each output type, by type."""
    directory = tmp_path_factory.mktemp("outputs")
    return {name: convert(checkpoint, directory / "model-{ftype}.gguf", name).path for name in ALL_TYPES}


def largest_error(kind: gguf.GGMLQuantizationType, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The largest error that the type may make, per value. Half a step, or one step where a range is cut at an end."""
    name = kind.name
    if name in ("F32", "BF16"):  # the source is BF16
        return np.zeros_like(values)
    if name == "F16":
        return np.maximum(np.abs(values) * 2**-11, 2**-24)
    blocks = values.reshape(-1, 16 if name == "Q6_K" else 32)
    top, span = np.abs(blocks).max(axis=1), blocks.max(axis=1) - blocks.min(axis=1)
    step = {
        "Q8_0": top / 127 / 2,
        "Q4_0": top / 8,
        "Q5_0": top / 16,
        "Q4_1": span / 15 / 2,
        "Q5_1": span / 31 / 2,
        "Q6_K": top / 16,  # groups of 16 share an 8-bit scale: loose
    }[name]
    f16_rounding = top * 2**-9
    return np.broadcast_to((step + f16_rounding)[:, None], blocks.shape).reshape(values.shape)


@pytest.mark.parametrize("outtype", ALL_TYPES)
def test_every_type_dequantizes_to_within_its_error_of_the_source(
    outtype: str, outputs: dict[str, Path], source: dict[str, NDArray[np.float32]]
) -> None:
    tensors = read_tensors(outputs[outtype])
    assert set(tensors) == set(source)
    for name, tensor in tensors.items():
        values = dequantize(tensor)
        assert values.shape == source[name].shape
        excess = np.abs(values - source[name]) - largest_error(tensor.tensor_type, source[name])
        assert excess.max() <= 0, name
        correlation = np.corrcoef(values.ravel(), source[name].ravel())[0, 1]
        assert correlation > 0.99, name


@pytest.mark.parametrize("outtype", ALL_TYPES)
def test_types_of_tensors_follow_llama_cpp(outtype: str, outputs: dict[str, Path]) -> None:
    for name, tensor in read_tensors(outputs[outtype]).items():
        head = "Q6_K" if outtype in ("q4_0", "q4_1", "q5_0", "q5_1") else outtype.upper()
        expected = head if name == "output.weight" else outtype.upper()
        assert tensor.tensor_type.name == ("F32" if "norm" in name else expected), name
    assert read_metadata(outputs[outtype])["general.file_type"] == FILE_TYPES[outtype]


@pytest.mark.parametrize("outtype", QUANTIZED)
def test_quantized_bytes_equal_those_of_gguf_py(
    outtype: str, outputs: dict[str, Path], source: dict[str, NDArray[np.float32]]
) -> None:
    kind = gguf.GGMLQuantizationType[outtype.upper()]
    for name, tensor in read_tensors(outputs[outtype]).items():
        if tensor.tensor_type == kind:
            expected = gguf.quants.quantize(source[name], kind)
            assert np.array_equal(np.asarray(tensor.data).view(np.uint8), expected.view(np.uint8)), name


@pytest.mark.parametrize("dtype", ["f32", "f16"])
def test_other_source_dtypes(dtype: str, tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "model", dtype=dtype)
    path = convert(tmp_path / "model", tmp_path / "model.gguf", "f32").path
    head = dequantize(read_tensors(path)["output.weight"])
    assert np.array_equal(head, load_weights(tmp_path / "model")["diffusion_head.weight"])


def test_sharded_equals_single(checkpoint: Path, tmp_path: Path) -> None:
    sharded = make_checkpoint(tmp_path / checkpoint.name, hidden=256, lora_rank=4, shards=3)
    assert len(list(sharded.glob("model-*.safetensors"))) == 3
    converted = convert(sharded, tmp_path / "sharded.gguf", hashes=False).path
    single = convert(checkpoint, tmp_path / "single.gguf", hashes=False).path
    assert converted.read_bytes() == single.read_bytes()


def test_threads_do_not_change_the_bytes(checkpoint: Path, outputs: dict[str, Path], tmp_path: Path) -> None:
    for threads in (1, 3):
        path = convert(checkpoint, tmp_path / f"{threads}.gguf", threads=threads, lora=False).path
        assert path.read_bytes() == outputs["q8_0"].read_bytes()


def test_metadata_is_complete(outputs: dict[str, Path]) -> None:
    metadata = read_metadata(outputs["q8_0"])
    expected = {
        "general.architecture": "mistral3",
        "general.type": "model",
        "general.name": "small-trimode",
        "general.size_label": "657K",
        "general.quantization_version": 2,
        "general.tags": ["text-generation", "diffusion", "self-speculation", "tri-mode"],
        "mistral3.vocab_size": 512,
        "mistral3.context_length": 1024,
        "mistral3.embedding_length": 256,
        "mistral3.block_count": 2,
        "mistral3.feed_forward_length": 128,
        "mistral3.attention.head_count": 4,
        "mistral3.attention.head_count_kv": 2,
        "mistral3.attention.key_length": 32,
        "mistral3.attention.value_length": 32,
        "mistral3.rope.dimension_count": 32,
        "mistral3.rope.freq_base": 1e6,
        "mistral3.rope.scaling.type": "yarn",
        "mistral3.rope.scaling.factor": 16.0,
        "mistral3.rope.scaling.original_context_length": 64,
        "mistral3.rope.scaling.yarn_beta_fast": 32.0,
        "mistral3.rope.scaling.yarn_beta_slow": 1.0,
        "mistral3.rope.scaling.yarn_log_multiplier": 1.0,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "tekken",
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 11,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.mask_token_id": 100,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": False,
        "diffusion.shift_logits": False,
        "trimode.block_length": 32,
        "trimode.source_model": "small-trimode",
    }
    assert {key: metadata.get(key) for key in expected} == expected
    for key, value in {
        "mistral3.attention.layer_norm_rms_epsilon": 1e-5,
        "mistral3.attention.temperature_scale": 0.1,
        "trimode.threshold": 0.9,
    }.items():
        assert metadata[key] == np.float32(value)
    assert "<|im_start|>" in str(metadata["tokenizer.chat_template"])
    assert "tokenizer.ggml.padding_token_id" not in metadata


def test_hyperparameters_come_from_the_config(tmp_path: Path) -> None:
    """The values in which the 3B-Base and the 14B checkpoint differ from the others."""
    make_checkpoint(tmp_path / "model", rope_theta=1e9, factor=0.25, original_max=16384, beta=0.25, max_position=4096)
    edit_json(tmp_path / "model/config.json", eos_token_id=2, block_size=16, _name_or_path="nvidia/Some-Model-3B")
    (tmp_path / "model/README.md").write_text(
        "---\nlicense: other\nlicense_name: nvidia-open-model-license\nlicense_link: https://x.y/z\ntags:\n- a\n---\nHi"
    )
    metadata = read_metadata(convert(tmp_path / "model", tmp_path / "model.gguf").path)
    expected = {
        "general.name": "Some-Model-3B",
        "general.source.url": "https://huggingface.co/nvidia/Some-Model-3B",
        "general.license": "other",
        "general.license.name": "nvidia-open-model-license",
        "general.license.link": "https://x.y/z",
        "mistral3.context_length": 4096,
        "mistral3.rope.freq_base": 1e9,
        "mistral3.rope.scaling.factor": 0.25,
        "mistral3.rope.scaling.original_context_length": 16384,
        "mistral3.attention.temperature_scale": 0.25,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.eot_token_id": 11,
        "trimode.block_length": 16,
        "trimode.source_model": "nvidia/Some-Model-3B",
    }
    assert {key: metadata.get(key) for key in expected} == expected


def test_rows_that_are_no_whole_blocks_fall_back_and_say_so(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "model", hidden=96, ffn=80, head_dim=8)
    result = convert(tmp_path / "model", tmp_path / "model.gguf", "q4_0")
    tensors = read_tensors(result.path)
    assert tensors["output.weight"].tensor_type.name == "Q8_0"  # Q6_K has blocks of 256
    assert tensors["blk.0.ffn_down.weight"].tensor_type.name == "F16"
    assert tensors["blk.0.ffn_up.weight"].tensor_type.name == "Q4_0"
    assert len(result.notes) == 1
    assert "3 tensors are not q4_0" in result.notes[0]


def test_tokens_that_the_tokenizer_lacks_are_padded(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "model", vocab=1024)
    metadata = read_metadata(convert(tmp_path / "model", tmp_path / "model.gguf").path)
    tokens, types = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    assert isinstance(tokens, list) and isinstance(types, list)
    assert len(tokens) == len(types) == 1024
    assert tokens[-1] == "[PAD1023]" and types[-1] == 5  # UNUSED
    assert types[100] == 3 and types[20] == 4 and types[200] == 1  # CONTROL, USER_DEFINED, NORMAL


def test_stock_llama_cpp_runs_the_file_like_transformers(tmp_path: Path) -> None:
    """Logits of llama.cpp's own graph against Ministral3ForCausalLM, below and beyond original_max (32)."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    make_checkpoint(tmp_path / "model", original_max=32, hidden=128)
    path = convert(tmp_path / "model", tmp_path / "model.gguf", "f32").path
    settings = json.loads((tmp_path / "model/config.json").read_text())
    del settings["model_type"], settings["architectures"], settings["torch_dtype"]
    model = transformers.Ministral3ForCausalLM(transformers.Ministral3Config(**settings)).eval()
    weights = {
        name.replace("encoder.", "model.").replace("diffusion_head", "lm_head"): torch.tensor(values)
        for name, values in load_weights(tmp_path / "model").items()
    }
    model.load_state_dict(weights)
    tokens = [int(token) for token in np.random.default_rng(1).integers(128, 512, 96)]
    with torch.no_grad():
        expected = model(torch.tensor([tokens])).logits[0].numpy()
    stock = llama_cpp.Llama(
        str(path), n_ctx=256, logits_all=True, flash_attn=False, type_k=0, type_v=0, verbose=False, n_threads=1
    )
    stock.eval(tokens)
    assert 3 < np.abs(expected).max() < 12
    assert np.abs(stock.scores[: len(tokens)] - expected).max() <= 1e-4


def test_stock_llama_cpp_completes_and_chats(outputs: dict[str, Path]) -> None:
    stock = llama_cpp.Llama(str(outputs["q8_0"]), n_ctx=128, verbose=False, n_threads=1)
    assert stock.token_eos() == 11
    reply = stock.create_chat_completion([{"role": "user", "content": "Hi"}], max_tokens=4, temperature=0.0)
    assert reply["usage"]["completion_tokens"] <= 4


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_14b_shapes_stay_below_1_gib_of_memory(tmp_path: Path) -> None:
    """Two layers with the shapes of the 14B checkpoint; a vocabulary of 8,192 to keep the test short."""
    make_checkpoint(
        tmp_path / "model", hidden=5120, ffn=16384, heads=32, kv_heads=8, head_dim=128, vocab=8192, rope_theta=1e9,
        zeros=True,
    )  # fmt: skip
    code = (
        "import re, sys; from pathlib import Path; from pytrimode.convert import convert; r = convert(*sys.argv[1:]); "
        "print(r.n_params, re.search(r'VmHWM:\\s+(\\d+) kB', Path('/proc/self/status').read_text())[1])"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path / "model"), str(tmp_path / "model.gguf")]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=300, check=True)
    n_params, kib = map(int, done.stdout.split())
    (tmp_path / "model/model.safetensors").unlink()
    assert n_params > 600_000_000
    assert kib < 1024 * 1024
    assert read_tensors(tmp_path / "model.gguf")["blk.1.ffn_down.weight"].shape.tolist() == [16384, 5120]


def test_converting_imports_neither_torch_nor_transformers(checkpoint: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pytrimode.convert import convert; convert(sys.argv[1], sys.argv[2]); "
        "print([m for m in ('torch', 'transformers', 'safetensors', 'tokenizers', 'gguf') if m in sys.modules])"
    )
    arguments = [sys.executable, "-c", code, str(checkpoint), str(tmp_path / "out.gguf")]
    assert subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.strip() == "[]"


@pytest.mark.slow
def test_command_line_says_what_it_wrote(checkpoint: Path, tmp_path: Path) -> None:
    done = run_convert(checkpoint, tmp_path / "model-{ftype}.gguf", "--outtype", "q5_1")
    assert done.returncode == 0, done.stderr
    out = tmp_path / "model-q5_1.gguf"
    assert done.stdout.splitlines()[0].startswith(f"{out}: q5_1, 21 tensors, ")
    assert "bits per weight" in done.stdout
    assert done.stdout.splitlines()[-1] == f"Try it: pytrimode chat {out}"
    assert run_convert(checkpoint, tmp_path / "model-{ftype}.gguf", "--q5_1", "--force", "--quiet").stdout == ""


def test_two_output_types_are_a_usage_error(checkpoint: Path, tmp_path: Path) -> None:
    done = run_convert(checkpoint, tmp_path / "model.gguf", "--q8_0", "--f16")
    assert done.returncode == 2
    assert "choose one output type" in done.stderr
