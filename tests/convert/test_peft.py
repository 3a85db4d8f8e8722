"""PEFT's directories: what of them is kept, and what is refused by name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.convert_helpers import dequantize, read_metadata, read_tensors
from support.loras import write_peft
from support.synthetic import load_weights, make_checkpoint, write_safetensors

from pytrimode.convert import ConversionError, convert, convert_lora

Q = "layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = make_checkpoint(tmp_path_factory.mktemp("peft") / "base", dtype="f32")
    convert(directory, directory.parent / "base.gguf", "f16")
    return directory


def test_matrices_and_metadata(base: Path, tmp_path: Path) -> None:
    peft = write_peft(tmp_path / "my-lora", base, ("o_proj", "q_proj"), rank=4, alpha=6.0)
    result = convert_lora(peft, tmp_path / "out.gguf")
    assert (result.n_pairs, result.ranks) == (4, [4])
    tensors, stored = read_tensors(result.path), load_weights(peft)
    for part, name in (("lora_a", "lora_A"), ("lora_b", "lora_B")):
        o = stored[f"base_model.model.model.layers.1.self_attn.o_proj.{name}.weight"]
        assert np.array_equal(dequantize(tensors[f"blk.1.attn_output.weight.{part}"]), o)
    b = stored[f"base_model.model.model.{Q}.lora_B.weight"].reshape(4, 2, 16, 4)  # heads, halves, pairs
    assert np.array_equal(dequantize(tensors["blk.0.attn_q.weight.lora_b"]), b.swapaxes(1, 2).reshape(128, 4))
    metadata = read_metadata(result.path)
    assert metadata["general.type"] == "adapter" and metadata["adapter.type"] == "lora"
    assert (metadata["adapter.lora.alpha"], metadata["general.name"]) == (6.0, "my-lora LoRA")


def test_the_base_model_is_a_directory_or_a_file(base: Path, tmp_path: Path) -> None:
    peft = write_peft(tmp_path / "peft", base, base_model_name_or_path="nvidia/Nemotron-Labs-Diffusion-8B")
    with pytest.raises(ConversionError, match="is no directory here: give the base model with --base"):
        convert_lora(peft, tmp_path / "out.gguf")
    files = [convert_lora(peft, tmp_path / f"{i}.gguf", base=of).path.read_bytes()
             for i, of in enumerate((base, base.parent / "base.gguf"))]  # fmt: skip
    assert files[0] == files[1]
    with pytest.raises(ConversionError, match=r"0\.gguf: exists"):
        convert_lora(peft, tmp_path / "0.gguf", base=base)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"use_dora": True}, "use_dora: .*no magnitudes"),
        ({"bias": "all"}, "bias: .*no biases"),
        ({"lora_bias": True}, "lora_bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save: .*merge it into the checkpoint"),
        ({"peft_type": "LOHA"}, "peft_type: .*only LoRA"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"trainable_token_indices": [5]}, "trainable_token_indices"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights is 'pissa_niter_4'"),
        ({"r": 5}, "expected shape .5, 64. .rank 5 for the base model., found .4, 64."),
        ({"r": 0}, "r: expected an integer"),
        ({"lora_alpha": "x"}, "lora_alpha: expected a positive number"),
        ({"rank_pattern": {"q_proj": 9}}, "expected shape .9, 64."),
        ({"rank_pattern": {"(": 9}}, "is no pattern"),
        ({"alpha_pattern": 5}, "alpha_pattern: expected an object"),
    ],
)
def test_what_cannot_be_kept_is_named(base: Path, tmp_path: Path, config: dict[str, Any], message: str) -> None:
    peft = write_peft(tmp_path / "peft", base)
    settings = json.loads((peft / "adapter_config.json").read_text())
    (peft / "adapter_config.json").write_text(json.dumps(settings | config))
    with pytest.raises(ConversionError, match=message):
        convert_lora(peft, tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()


def test_tensors_that_have_no_place_are_named(base: Path, tmp_path: Path) -> None:
    other = make_checkpoint(tmp_path / "other", hidden=32, dtype="f32")
    for change, message in (
        (lambda t: t | {"base_model.model.lm_head.lora_A.weight": np.ones((4, 64), np.float32)}, "lm_head.* cannot be"),
        (
            lambda t: t | {f"{Q}.lora_magnitude_vector": np.ones(128, np.float32)},
            "lora_magnitude_vector cannot be kept",
        ),
        (lambda t: {name: a for name, a in t.items() if not name.endswith(f"{Q}.lora_B.weight")}, "has no partner"),
        (lambda t: {name.replace("layers.1", "layers.7"): a for name, a in t.items()}, "the base model has 2 layers"),
        (lambda t: {}, "it has no tensors"),
        (lambda t: {name: a * np.float32("nan") for name, a in t.items()}, "is nan"),
    ):
        peft = write_peft(tmp_path / "peft", base)
        write_safetensors(peft / "adapter_model.safetensors", change(load_weights(peft)))
        with pytest.raises(ConversionError, match=message):
            convert_lora(peft, tmp_path / "out.gguf")
    peft = write_peft(tmp_path / "peft", base)
    with pytest.raises(ConversionError, match="the adapter belongs to another model"):
        convert_lora(peft, tmp_path / "out.gguf", base=other)
    (peft / "adapter_model.safetensors").unlink()
    with pytest.raises(ConversionError, match="not found: only safetensors are read"):
        convert_lora(peft, tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()


@pytest.mark.slow
def test_commands(checkpoint_dir: Path, q8_gguf: Path, tmp_path: Path) -> None:
    def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name(program)), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=100)

    peft, out = write_peft(tmp_path / "peft", checkpoint_dir, strength=0.6), tmp_path / "lora.gguf"
    done = run("trimode-convert", "--lora", peft, out, "--base", q8_gguf)
    assert done.returncode == 0 and done.stdout.startswith(f"{out}: a LoRA on 42 matrices, rank 4")
    ask = ("generate", q8_gguf, "-p", "Sort these numbers: 5, 3, 9", "-n", "20", "--temp", "0", "-t", "1")
    plain, off, on = (
        run("pytrimode", *ask, *more) for more in ((), ("--lora", f"{out}=0"), ("--lora", out, "--drafter-lora",
        q8_gguf.with_name(f"{q8_gguf.stem}-drafter-lora.gguf")))
    )  # fmt: skip
    assert plain.returncode == off.returncode == on.returncode == 0, on.stderr
    assert plain.stdout == off.stdout != on.stdout
    drafter = run("pytrimode", *ask, "--lora", q8_gguf.with_name(f"{q8_gguf.stem}-drafter-lora.gguf"))
    assert drafter.returncode == 1 and "give it as --drafter-lora" in drafter.stderr
    wrong = run("trimode-convert", "--lora", "--check", peft, out)
    assert wrong.returncode == 2 and "choose one of" in wrong.stderr
