"""models/trimode-tiny-vision as it is shipped: asked about pictures that it was not trained on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytrimode import TriMode, _native
from pytrimode.convert import convert

EVERY = 17
"""Of the 200 held-out pictures: twelve, of every kind."""


@pytest.fixture(scope="module")
def scenes(scripts: None) -> list[Any]:
    from draw import heldout_scenes

    return heldout_scenes()[::EVERY]


@pytest.fixture(scope="module")
def checkpoint(scripts: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from assemble import assemble

    return assemble(tmp_path_factory.mktemp("vision") / "trimode-tiny-vision")


@pytest.fixture(scope="module")
def model(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TriMode]:
    gguf = convert(checkpoint, tmp_path_factory.mktemp("vision") / "tiny.gguf", "bf16", mmproj_type="f32").path
    with TriMode(gguf, n_ctx=512, n_threads=1) as made:
        yield made


def ask(model: TriMode, pixels: np.ndarray, question: str, mode: str, **options: Any) -> str:
    content = [{"type": "image", "image": pixels}, {"type": "text", "text": question}]
    messages = [{"role": "user", "content": content}]
    result = model.create_chat_completion(messages, mode=mode, max_tokens=32, temperature=0.0, **options)
    return result["choices"][0]["message"]["content"]


def test_it_sees_in_every_mode(model: TriMode, scenes: list[Any]) -> None:
    assert {scene.kind for scene in scenes} == {"shapes", "digit", "word"}
    right = {"ar": 0, "diffusion": 0}
    for scene in scenes:
        ((_, question, answer),) = scene.questions
        told = ask(model, scene.pixels, question, "ar")
        right["ar"] += told == answer
        right["diffusion"] += ask(model, scene.pixels, question, "diffusion", block_length=16) == answer
        for use_lora in (True, False):
            assert ask(model, scene.pixels, question, "self-spec", block_length=16, use_lora=use_lora) == told
    assert right["ar"] >= len(scenes) - 1
    assert right["diffusion"] >= len(scenes) - 2


def test_a_picture_decides_the_answer(model: TriMode, scenes: list[Any]) -> None:
    """Pictures of one kind change places: each question gets the answer of the other picture."""
    one, other = [scene for scene in scenes if scene.questions[0][0] == "word"][:2]
    assert one.questions[0][2] != other.questions[0][2]
    for scene, pixels in ((one, other.pixels), (other, one.pixels)):
        told = ask(model, pixels, scene.questions[0][1], "ar")
        assert told == (other if scene is one else one).questions[0][2]


def test_it_answers_text_as_trimode_tiny_does(model: TriMode) -> None:
    for mode in ("ar", "self-spec"):
        result = model.create_chat_completion(
            [{"role": "user", "content": "What is 47 + 85?"}], mode=mode, temperature=0.0
        )
        assert result["choices"][0]["message"]["content"].endswith("So 47 + 85 = 132.")


def test_rows_equal_the_network_of_the_training(checkpoint: Path, model: TriMode, scenes: list[Any]) -> None:
    import torch
    from network import VISION, Eyes
    from safetensors.torch import load_file

    weights = load_file(checkpoint / "model.safetensors")
    parts = ("encoder.vision_tower.", "encoder.multi_modal_projector.")
    eyes = Eyes(VISION, 256)
    eyes.load_state_dict({k.removeprefix("encoder."): t.float() for k, t in weights.items() if k.startswith(parts)})
    tower = _native.Tower(str(model.model_path).replace(".gguf", "-mmproj.gguf"), n_threads=1)
    with torch.no_grad():
        expected = eyes([scene.pixels for scene in scenes]).numpy()
    got = np.concatenate([tower.encode(scene.pixels, 1400) for scene in scenes])
    assert np.abs(got - expected).max() < 1e-4
