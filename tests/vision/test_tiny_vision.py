"""models/trimode-tiny-vision: what train.py trains in torch is what the engine computes from the assembled checkpoint.

Random weights: of the text model the shipped ones, changed and rounded as train.py exports them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pytrimode import TriMode, _native
from pytrimode.convert import convert

N_TOKENS = 12


@pytest.fixture(scope="module")
def scenes(scripts: None) -> list[Any]:
    from draw import heldout_scenes

    return heldout_scenes()[::29]


@pytest.fixture(scope="module")
def checkpoint(scripts: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from assemble import CHANGES, TEXT_MODEL, assemble
    from checkpoint import load_model
    from network import BREAK, END, START, VISION, Eyes, Rows, Seeing
    from train import export

    torch.manual_seed(0)
    text = load_model(TEXT_MODEL)
    model = Seeing(text, Eyes(VISION, text.config["hidden_size"]), (START, BREAK, END, 300, 301, 500))
    with torch.no_grad():
        for change in model.changes.values():
            if isinstance(change, Rows):
                change.rows.mul_(1.5)
            else:
                change.b.normal_(std=0.02)
    directory = tmp_path_factory.mktemp("tiny")
    export(model, directory / CHANGES)
    return assemble(directory / "trimode-tiny-vision", directory / CHANGES)


@pytest.fixture(scope="module")
def reference(checkpoint: Path) -> Any:
    """The network of train.py on the weights of the assembled checkpoint: its low-rank changes are none."""
    import json

    from model import TriMode as Text
    from network import VISION, Eyes, Seeing
    from safetensors.torch import load_file

    weights = {name: t.float() for name, t in load_file(checkpoint / "model.safetensors").items()}
    parts = ("encoder.vision_tower.", "encoder.multi_modal_projector.")
    of_eyes = {name.removeprefix("encoder."): t for name, t in weights.items() if name.startswith(parts)}
    text = Text(json.loads((checkpoint / "config.json").read_text()))
    text.load_state_dict({name: t for name, t in weights.items() if not name.startswith(parts)}, strict=True)
    eyes = Eyes(VISION, text.config["hidden_size"])
    eyes.load_state_dict(of_eyes, strict=True)
    return Seeing(text, eyes).eval()


@pytest.fixture(scope="module")
def model(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TriMode]:
    gguf = convert(checkpoint, tmp_path_factory.mktemp("gguf") / "tiny.gguf", "f32", mmproj_type="f32").path
    with TriMode(gguf, n_ctx=512, n_threads=1) as made:
        yield made


def test_held_out_pictures_are_those_that_training_never_has(scenes: list[Any]) -> None:
    import random

    from draw import heldout_scenes, scene
    from tasks import is_heldout

    assert {made.kind for made in scenes} == {"shapes", "digit", "word"}
    assert all(is_heldout(made.key) for made in scenes)
    rng = random.Random(0)
    assert not any(is_heldout(scene(rng).key) for _ in range(300))
    again = heldout_scenes()[::29]
    assert all(
        np.array_equal(a.pixels, b.pixels) and a.questions == b.questions for a, b in zip(scenes, again, strict=True)
    )


def test_rows_equal_the_engine(model: TriMode, checkpoint: Path, reference: Any, scenes: list[Any]) -> None:
    tower = _native.Tower(str(model.model_path).replace(".gguf", "-mmproj.gguf"), n_threads=1)
    with torch.no_grad():
        expected = reference.eyes([made.pixels for made in scenes]).numpy()
    got = np.concatenate([tower.encode(made.pixels, 1400) for made in scenes])
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() < 2e-5


def greedy(reference: Any, ids: list[int], pixels: np.ndarray) -> list[int]:
    """Tokens that the torch network writes after the prompt."""
    told: list[int] = []
    with torch.no_grad():
        reference.seen = reference.eyes([pixels])
        for _ in range(N_TOKENS):
            now = torch.tensor([ids + told])
            n = now.shape[1]
            hidden, _ = reference.text.hidden(now, torch.arange(n)[None], torch.ones(1, n, n).tril().bool())
            logits = reference.text.diffusion_head(hidden[0, -1])
            logits[100] = -torch.inf  # the mask is never written
            told.append(int(logits.argmax()))
    return told


def test_answers_equal_the_engine_in_every_exact_mode(model: TriMode, reference: Any, scenes: list[Any]) -> None:
    from network import image_ids

    for made in scenes:
        parts = [{"type": "image", "image": made.pixels}, {"type": "text", "text": made.questions[0][1]}]
        messages = [{"role": "user", "content": parts}]
        ids = list(model.chat_prompt(messages).tokens)
        shown = image_ids(made.pixels)
        at = ids.index(shown[0])
        assert ids[at : at + len(shown)] == shown
        wanted = model.detokenize(greedy(reference, ids, made.pixels))
        for mode in ("ar", "self-spec"):
            result = model.create_chat_completion(
                messages, mode=mode, block_length=8, max_tokens=N_TOKENS, temperature=0.0, ignore_eos=True,
                loop_window=0,
            )  # fmt: skip
            message = result["choices"][0]["message"]
            assert message["content"].strip().encode() in wanted
            assert message["content"].strip()
