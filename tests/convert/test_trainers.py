"""What trainers and older libraries leave: other places of the template, other spellings of RoPE, prefixed names."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from pytrimode.convert import ConversionError, convert
from pytrimode.convert.cli import main

Edit = Callable[[dict[str, Any]], Any]


@pytest.fixture
def copied(checkpoint_dir: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint without its LoRA."""
    target = tmp_path / "model"
    target.mkdir()
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(checkpoint_dir / name, target / name)
    shutil.copyfile(checkpoint_dir / "chat_template.jinja", target / "chat_template.jinja")
    (target / "model.safetensors").symlink_to(checkpoint_dir / "model.safetensors")
    return target


def edit(path: Path, change: Edit) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def fields(path: Path) -> dict[str, Any]:
    found = gguf.GGUFReader(path).fields
    return {name: field.contents() for name, field in found.items() if not name.startswith(("GGUF.", "trimode.source"))}


def converted(source: Path) -> dict[str, Any]:
    return fields(convert(source, source.parent / "out.gguf", "f16", force=True, hashes=False).path)


# --- The chat template ------------------------------------------------------------------------------------------------

TEMPLATE = "{{ messages[0].content }}"
NAMED = [{"name": "default", "template": TEMPLATE}, {"name": "tool_use", "template": "{{ tools }}"}]


@pytest.mark.parametrize(
    ("file", "value"),
    [
        ("chat_template.json", TEMPLATE),
        ("chat_template.json", NAMED),
        ("tokenizer_config.json", NAMED),
        ("tokenizer_config.json", [{"name": "chat", "template": TEMPLATE}]),
    ],
)
def test_a_template_is_found_where_hugging_face_keeps_it(copied: Path, file: str, value: Any) -> None:
    (copied / "chat_template.jinja").unlink()
    if not (copied / file).exists():
        (copied / file).write_text("{}")
    edit(copied / file, lambda data: data.update(chat_template=value))
    assert converted(copied)["tokenizer.chat_template"] == TEMPLATE


def test_several_templates_without_a_default_are_an_error(copied: Path) -> None:
    (copied / "chat_template.jinja").unlink()
    several = [{"name": name, "template": TEMPLATE} for name in ("rag", "tools")]
    edit(copied / "tokenizer_config.json", lambda data: data.update(chat_template=several))
    with pytest.raises(
        ConversionError, match=r"tokenizer_config.json: chat_template: none of rag, tools is called def"
    ):
        converted(copied)


@pytest.mark.parametrize("has_template", [True, False])
def test_who_has_no_template_is_not_told_to_chat(copied: Path, tmp_path: Path, has_template: bool) -> None:
    if not has_template:
        (copied / "chat_template.jinja").unlink()
    out = CliRunner().invoke(main, [str(copied), str(tmp_path / "out.gguf"), "-t", "1"], catch_exceptions=False)
    assert out.exit_code == 0
    assert ("pytrimode chat" in out.output) == has_template and ("pytrimode generate" in out.output) != has_template


# --- RoPE -------------------------------------------------------------------------------------------------------------


def as_transformers_4(config: dict[str, Any], kind: str) -> None:
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = {kind: rope.pop("rope_type"), **rope}


@pytest.mark.parametrize("kind", ["rope_type", "type"])
def test_rope_as_transformers_4_wrote_it_gives_the_same_file(copied: Path, kind: str) -> None:
    expected = converted(copied)
    edit(copied / "config.json", lambda config: as_transformers_4(config, kind))
    assert converted(copied) == expected


def test_a_factor_of_attention_must_be_what_follows_from_the_rest(copied: Path) -> None:
    def give(changes: dict[str, Any]) -> Edit:
        return lambda config: config["rope_parameters"].update(changes)

    expected = converted(copied)
    edit(copied / "config.json", give({"attention_factor": 1.0}))
    assert converted(copied) == expected
    edit(copied / "config.json", give({"attention_factor": 1.1}))
    with pytest.raises(ConversionError, match=r"attention_factor: expected 1: llama.cpp derives it.*found 1.1"):
        converted(copied)
    without = {"mscale": None, "mscale_all_dim": None, "factor": 16.0}
    edit(copied / "config.json", give(without | {"attention_factor": 1.0}))
    with pytest.raises(ConversionError, match=r"attention_factor: expected 1.27726"):
        converted(copied)
    edit(copied / "config.json", give(without | {"attention_factor": 0.1 * math.log(16) + 1}))
    assert converted(copied)["mistral3.rope.scaling.factor"] == 16.0


# --- Names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "base_model.model."])
def test_a_prefix_of_all_names_is_left_out_and_told(copied: Path, prefix: str) -> None:
    expected = convert(copied, copied.parent / "plain.gguf", "f16", hashes=False)
    weights = load_file(copied / "model.safetensors")
    (copied / "model.safetensors").unlink()
    save_file({prefix + name: tensor for name, tensor in weights.items()}, copied / "model.safetensors")
    result = convert(copied, copied.parent / "prefixed.gguf", "f16", hashes=False)
    assert result.path.read_bytes() == expected.path.read_bytes()
    assert result.notes[0] == f'the names of the weights begin with "{prefix}", which is left out'
