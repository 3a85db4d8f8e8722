"""Every refused input is refused with a message that names the culprit, exit code 1, and nothing left behind."""

from __future__ import annotations

import json
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from support.convert_helpers import files_in, run_convert
from support.synthetic import edit_json, load_weights, make_checkpoint, to_bf16, write_safetensors

from pytrimode.convert import ConversionError, convert
from pytrimode.convert.cli import main

WEIGHTS = "model.safetensors"
LORA = "linear_spec_lora"
Q_PROJ = "encoder.layers.1.self_attn.q_proj.weight"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("pristine") / "model", lora_rank=2)


@pytest.fixture
def model(pristine: Path, tmp_path: Path) -> Path:
    """A checkpoint of the test's own, to damage."""
    return Path(shutil.copytree(pristine, tmp_path / "model"))


def refusal(model_dir: Path, *options: str) -> str:
    """Convert, which must fail cleanly; return what it said."""
    out = model_dir.parent / "out"
    out.mkdir()
    result = CliRunner().invoke(main, [str(model_dir), str(out / "model.gguf"), *options])
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    assert files_in(out) == set()
    assert result.output.startswith("Error: ")
    assert len(result.output.splitlines()) == 1
    return result.output


def rewrite(directory: Path, change: Callable[[dict[str, Any]], Any], name: str = WEIGHTS) -> None:
    """Change the tensors of a safetensors file."""
    tensors = {key: to_bf16(value) for key, value in load_weights(directory).items()}
    change(tensors)
    write_safetensors(directory / name, tensors)


def rewrite_header(
    path: Path, change: Callable[[dict[str, Any]], Any], *, raw: Callable[[bytes], bytes] = bytes
) -> None:
    """Change the header of a safetensors file and nothing else."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = raw(json.dumps(header).encode())
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


# --- the directory and its JSON files ---


def test_missing_directory(tmp_path: Path) -> None:
    assert f"{tmp_path / 'nowhere'}: not found" in refusal(tmp_path / "nowhere")


def test_file_instead_of_directory(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"")
    assert "model.bin: not a directory" in refusal(tmp_path / "model.bin")


def test_directory_without_config(model: Path) -> None:
    (model / "config.json").unlink()
    assert "model: not a checkpoint directory: it has no config.json" in refusal(model)


def test_missing_tokenizer(model: Path) -> None:
    (model / "tokenizer.json").unlink()
    assert "tokenizer.json: not found" in refusal(model)


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff\xfe{}", b"", b"[" * 100_000])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_bad_json(model: Path, name: str, content: bytes) -> None:
    (model / name).write_bytes(content)
    assert name in refusal(model)


@pytest.mark.parametrize("found", ["llama", None, 3])
def test_unsupported_model_type(model: Path, found: object) -> None:
    edit_json(model / "config.json", model_type=found)
    message = refusal(model)
    assert "config.json: model_type" in message
    assert repr(found) in message


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("hidden_size", ..., "hidden_size: expected an integer"),
        ("hidden_size", "64", 'found "64"'),
        ("num_hidden_layers", 0, "num_hidden_layers: expected an integer from 1"),
        ("num_key_value_heads", 3, "num_key_value_heads: expected a divisor of num_attention_heads (4), found 3"),
        ("head_dim", 33, "head_dim: expected an even number, found 33"),
        ("rms_norm_eps", -1, "rms_norm_eps: expected a positive number, found -1"),
        ("hidden_act", "gelu", 'hidden_act: expected "silu", found "gelu"'),
        ("tie_word_embeddings", True, "tie_word_embeddings"),
        ("attention_bias", True, "attention_bias"),
        ("sliding_window", 4096, "sliding_window"),
        ("rope_parameters", None, "rope_parameters: expected an object, found null"),
        ("rope_parameters__rope_type", "linear", 'rope_type: expected "yarn", found "linear"'),
        ("rope_parameters__factor", 0, "factor: expected a positive number, found 0"),
        ("rope_parameters__mscale", 0.707, "mscale: expected 1"),
        ("rope_parameters__original_max_position_embeddings", ..., "original_max_position_embeddings"),
        ("mask_token_id", ..., ""),  # tokenizer_config.json has it
        ("eos_token_id", 512, "eos_token_id: expected a token id below vocab_size (512), found 512"),
    ],
)
def test_unsupported_or_missing_settings(model: Path, key: str, value: object, said: str) -> None:
    edit_json(model / "config.json", **{key: value})
    if said:
        assert said in refusal(model)
    else:
        convert(model, model.parent / "model.gguf")


def test_model_without_mask_token(model: Path) -> None:
    edit_json(model / "config.json", mask_token_id=...)
    edit_json(model / "tokenizer_config.json", mask_token=...)
    assert "mask_token_id: missing" in refusal(model)


# --- the tokenizer ---


def test_tokenizer_with_more_tokens_than_the_model(model: Path) -> None:
    edit_json(model / "tokenizer.json", model__vocab__zzz=512)
    message = refusal(model)
    assert "tokenizer.json: token 'zzz' has id 512" in message
    assert "vocab_size 512" in message


def test_two_tokens_with_one_id(model: Path) -> None:
    edit_json(model / "tokenizer.json", model__vocab__zzz=300)
    assert "have the same id 300" in refusal(model)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("model__type", "Unigram", 'type: expected "BPE", found "Unigram"'),
        ("model__merges", [["a"]], "merges[0]: expected two tokens"),
        ("model__merges", ["a b c"], "merges[0]: expected two tokens"),
        ("model__merges", None, "merges: expected a list"),
        ("model__vocab__zzz", "7", "expected a token id"),
        ("normalizer", {"type": "NFC"}, "llama.cpp does not normalize text"),
        ("pre_tokenizer", {"type": "Whitespace"}, 'found "Whitespace"'),
        ("pre_tokenizer", None, "pre_tokenizer: expected an object"),
        ("pre_tokenizer__pretokenizers", 1, "pretokenizers"),
        ("post_processor__single", [{"Sequence": {"id": "A"}}] * 2, "single: expected one text"),
        ("added_tokens", [{"id": 3}], "content: expected a text"),
        ("model__vocab", {"a\ud800": 300}, "is not valid Unicode text"),
        ("added_tokens", 7, "added_tokens: expected an array of objects, found 7"),
        ("added_tokens", [{"id": 3, "content": "<a>", "lstrip": True}], "lstrip"),
    ],
)
def test_tokenizer_that_llama_cpp_would_not_reproduce(model: Path, key: str, value: object, said: str) -> None:
    edit_json(model / "tokenizer.json", **{key: value})
    message = refusal(model)
    assert "tokenizer" in message
    assert said in message


def test_another_split_pattern(model: Path) -> None:
    data = json.loads((model / "tokenizer.json").read_text())
    data["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\s+"
    (model / "tokenizer.json").write_text(json.dumps(data))
    message = refusal(model)
    assert "not the Tekken split" in message
    assert r'found {"Regex": "\\s+"}' in message


# --- the weights ---


def test_missing_tensor(model: Path) -> None:
    rewrite(model, lambda tensors: tensors.pop(Q_PROJ))
    assert f"tensor {Q_PROJ} is missing" in refusal(model)


def test_extra_tensor(model: Path) -> None:
    rewrite(model, lambda tensors: tensors.update({"encoder.layers.7.x": np.zeros(3, np.uint16)}))
    assert "tensor encoder.layers.7.x has no place in the model" in refusal(model)


def test_misshapen_tensor(model: Path) -> None:
    rewrite(model, lambda tensors: tensors.update({Q_PROJ: np.zeros((64, 64), np.uint16)}))
    assert f"tensor {Q_PROJ}: expected shape [128, 64] (from config.json), found [64, 64]" in refusal(model)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", [Q_PROJ, "encoder.norm.weight", "diffusion_head.weight"])
def test_nan_and_infinity_are_found_where_they_are(model: Path, name: str, value: float) -> None:
    def damage(tensors: dict[str, Any]) -> None:
        tensors[name].reshape(-1)[37] = to_bf16(np.array([value], np.float32))[0]

    rewrite(model, damage)
    message = refusal(model)
    assert f"tensor {name}: element [0, 37] is {value}" in message


def test_nan_in_a_permuted_row_is_named_as_in_the_checkpoint(model: Path) -> None:
    def damage(tensors: dict[str, Any]) -> None:
        tensors[Q_PROJ][77, 5] = 0x7FC0

    rewrite(model, damage)
    assert f"tensor {Q_PROJ}: element [77, 5] is nan" in refusal(model)


@pytest.mark.parametrize("outtype", ["f16", "q8_0", "q4_0"])
def test_weight_too_large_for_the_type(model: Path, outtype: str) -> None:
    def damage(tensors: dict[str, Any]) -> None:
        tensors[Q_PROJ][2, 3] = to_bf16(np.array([2.0**99], np.float32))[0]

    rewrite(model, damage)
    assert f"tensor {Q_PROJ}: element [2, 3] is 6.33825e+29, too large for {outtype}: use --bf16" in refusal(
        model, f"--{outtype}"
    )


@pytest.mark.parametrize("size", [0, 4, 8, 100, -1, -200])
def test_truncated_weights(model: Path, size: int) -> None:
    data = (model / WEIGHTS).read_bytes()
    (model / WEIGHTS).write_bytes(data[:size])
    message = refusal(model)
    assert WEIGHTS in message
    assert "truncated or corrupt" in message


def test_trailing_bytes(model: Path) -> None:
    with (model / WEIGHTS).open("ab") as file:
        file.write(b"x")
    assert "the tensors end at byte" in refusal(model)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dtype": "I8"}, "dtype 'I8' is not supported"),
        ({"dtype": ["F32"]}, "dtype ['F32'] is not supported"),
        ({"dtype": "F32"}, "does not take"),
        ({"shape": [3, 64]}, "does not take"),
        ({"shape": [-1, 64]}, "is not a list of sizes"),
        ({"shape": None}, "is not a list of sizes"),
        ({"data_offsets": [10, 5]}, "are not a range"),
        ({"data_offsets": [0, 2**62]}, "the file has"),
        ({"data_offsets": [0, 16384]}, "overlaps"),
    ],
)
def test_corrupt_header_entry(model: Path, change: dict[str, Any], said: str) -> None:
    rewrite_header(model / WEIGHTS, lambda header: header[Q_PROJ].update(change))
    message = refusal(model)
    assert Q_PROJ in message or said == "overlaps"
    assert said in message


def test_header_length_beyond_the_file(model: Path) -> None:
    data = (model / WEIGHTS).read_bytes()
    (model / WEIGHTS).write_bytes(struct.pack("<Q", 2**60) + data[8:])
    assert f"the header claims {2**60} bytes" in refusal(model)


def test_header_that_is_no_json(model: Path) -> None:
    rewrite_header(model / WEIGHTS, lambda header: None, raw=lambda text: b"?" * len(text))
    assert "the header is not valid JSON" in refusal(model)


def test_tensor_name_that_would_break_the_terminal(model: Path) -> None:
    rewrite_header(model / WEIGHTS, lambda header: header.update({"a\n\x1b[31m\ud800": header.pop(Q_PROJ)}))
    assert f"tensor {Q_PROJ} is missing" in refusal(model)
    edit = {"a\n\x1b[31m\ud800": 3}
    rewrite_header(model / WEIGHTS, lambda header: header.update(edit))
    shutil.rmtree(model.parent / "out")
    assert r"tensor a\n\x1b[31m\ud800: its header entry is not an object" in refusal(model)


def test_hole_in_the_data(model: Path) -> None:
    rewrite_header(model / WEIGHTS, lambda header: header.pop("encoder.norm.weight"))
    assert "the tensors end at byte" in refusal(model)


def test_tensor_twice_in_the_header(model: Path) -> None:
    entry = b'{"encoder.norm.weight": {}, '
    rewrite_header(model / WEIGHTS, lambda header: None, raw=lambda text: entry + text[1:])
    assert "lists 'encoder.norm.weight' twice" in refusal(model)


def test_no_weights(model: Path) -> None:
    (model / WEIGHTS).rename(model / "pytorch_model.bin")
    assert "found pytorch_model.bin: only safetensors are read" in refusal(model)


def test_missing_shard(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "model", shards=3)
    (tmp_path / "model/model-00002-of-00003.safetensors").unlink()
    assert "model-00002-of-00003.safetensors: shard not found (1 of 3 are missing)" in refusal(tmp_path / "model")


def test_shard_without_a_promised_tensor(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "model", shards=2)
    index = tmp_path / "model/model.safetensors.index.json"
    data = json.loads(index.read_text())
    data["weight_map"]["encoder.norm.weight"] = "model-00001-of-00002.safetensors"
    index.write_text(json.dumps(data))
    message = refusal(tmp_path / "model")
    assert "model-00001-of-00002.safetensors: tensor encoder.norm.weight is missing" in message


def test_shard_outside_of_the_directory(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "model", shards=2)
    data = {"weight_map": {"a": "../../etc/passwd"}}
    (tmp_path / "model/model.safetensors.index.json").write_text(json.dumps(data))
    assert "expected a file name, found '../../etc/passwd'" in refusal(tmp_path / "model")


# --- the drafter LoRA ---


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("target_modules", ["q_proj", "o_proj"], "target_modules"),
        ("use_rslora", True, "use_rslora"),
        ("use_dora", True, "use_dora"),
        ("bias", "all", "bias"),
        ("r", 3, "expected shape [3, 128], found [2, 128]"),
        ("lora_alpha", 0, "lora_alpha: expected a positive number"),
        ("rank_pattern", {"x": 4}, "rank_pattern"),
        ("peft_type", "IA3", "peft_type"),
    ],
)
def test_adapters_of_another_kind(model: Path, key: str, value: object, said: str) -> None:
    edit_json(model / LORA / "adapter_config.json", **{key: value})
    message = refusal(model)
    assert LORA in message
    assert said in message


def test_adapter_that_lacks_a_layer(model: Path) -> None:
    name = "base_model.model.encoder.layers.1.self_attn.o_proj.lora_B.weight"
    rewrite(model / LORA, lambda tensors: tensors.pop(name), "adapter_model.safetensors")
    message = refusal(model)
    assert f"{LORA}/adapter_model.safetensors: tensor {name} is missing: the adapter must cover all 2 layers" in message


def test_adapter_without_weights(model: Path) -> None:
    (model / LORA / "adapter_model.safetensors").unlink()
    assert f"{LORA}/adapter_model.safetensors: not found" in refusal(model)


# --- the output ---


def test_missing_output_directory(model: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, [str(model), str(tmp_path / "no/such/model.gguf")])
    assert result.exit_code == 1
    assert f"the directory {tmp_path / 'no/such'} does not exist" in result.output


def test_unknown_outtype_in_python(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="outtype 'q9': expected one of q8_0, q6_k"):
        convert(model, tmp_path / "model.gguf", "q9")


def test_no_traceback_on_the_real_command_line(tmp_path: Path) -> None:
    done = run_convert(tmp_path, tmp_path / "model.gguf", "--q8_0")
    assert done.returncode == 1
    assert done.stderr == f"Error: {tmp_path}: not a checkpoint directory: it has no config.json\n"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX resource limits")
def test_file_that_cannot_grow_leaves_nothing_behind(model: Path, tmp_path: Path) -> None:
    """RLIMIT_FSIZE makes the write fail half-way, as a full disk or a quota does."""
    import resource

    (tmp_path / "out").mkdir()
    limit = 100_000
    done = run_convert(
        model, tmp_path / "out/model.gguf", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: {tmp_path / 'out/model.gguf'}: cannot be written: File too large")
    assert files_in(tmp_path / "out") == set()


def test_error_is_one_exception_in_python(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"no config\.json"):
        convert(tmp_path, tmp_path / "model.gguf")
