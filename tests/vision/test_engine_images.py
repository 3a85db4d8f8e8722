"""Prompts with rows of images on the engine, against transformers' Mistral3ForConditionalGeneration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.synthetic import MASK
from support.vlm import PAD, image_tokens, make_vlm, mistral3, picture

from pytrimode import _native
from pytrimode.convert import convert

TEXTS = [[1, 200, 210, 220], [230, 231, 232], [240, 250, 260, 270, 10, 199]]
SIZES = [(84, 56), (280, 308)]
N_TOKENS = 24


@pytest.fixture(scope="module")
def vlm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_vlm(tmp_path_factory.mktemp("vlm") / "model")


@pytest.fixture(scope="module")
def model(vlm: Path) -> _native.Model:
    return _native.Model(str(convert(vlm, vlm.parent / "model.gguf", "f32", mmproj_type="f32").path))


@pytest.fixture(scope="module")
def tower(vlm: Path, model: _native.Model) -> _native.Tower:
    return _native.Tower(str(vlm.parent / "model-mmproj.gguf"), n_threads=1)


@pytest.fixture(scope="module")
def reference(vlm: Path) -> Any:
    return mistral3(vlm)


def make_engine(model: _native.Model, **options: Any) -> _native.Engine:
    return _native.Engine(model, **{"n_ctx": 1024, "type_k": "f32", "type_v": "f32", "n_threads": 1, "images": True,
                                    **options})  # fmt: skip


def prompt_of(pictures: Sequence[NDArray[np.uint8]]) -> list[int]:
    tokens = list(TEXTS[0])
    for image, text in zip(pictures, TEXTS[1:], strict=False):
        tokens += image_tokens(*_native.vision_grid(image.shape[1], image.shape[0], 1400)) + text
    return tokens


class Prompt:
    """A prompt with pictures, for one engine."""

    def __init__(self, engine: _native.Engine, tower: _native.Tower, pictures: Sequence[NDArray[np.uint8]]) -> None:
        self.engine, self.pictures = engine, pictures
        self.tokens = prompt_of(pictures)
        self.images = [engine.add_image(str(hash(image.tobytes())), tower.encode(image, 1400)) for image in pictures]

    @property
    def arguments(self) -> dict[str, Any]:
        return {"images": self.images, "image_pad": PAD}

    def generate(self, mode: str = "ar", **options: Any) -> tuple[list[int], int]:
        """Tokens, and how many of the prompt came from the cache."""
        options = {"max_tokens": N_TOKENS, "temperature": 0.0, "ignore_eos": True, "loop_window": 0, **options}
        request = self.engine.submit(self.tokens, _native.RequestOptions(mode=mode, **options), **self.arguments)
        event = self.engine.wait_to_end(request)
        assert not event.error
        return list(event.tokens), event.stats.cached_tokens


@pytest.fixture(scope="module")
def pictures() -> list[NDArray[np.uint8]]:
    return [picture(w, h, seed) for seed, (w, h) in enumerate(SIZES)]


def pixels_of(tower: _native.Tower, pictures: Sequence[NDArray[np.uint8]]) -> dict[str, Any]:
    import torch

    made = [tower.pixels(image, 1400) for image in pictures]
    batch = np.zeros((len(made), 3, max(p.shape[1] for p in made), max(p.shape[2] for p in made)), np.float32)
    for i, p in enumerate(made):
        batch[i, :, : p.shape[1], : p.shape[2]] = p
    return {"pixel_values": torch.from_numpy(batch), "image_sizes": torch.tensor([p.shape[1:] for p in made])}


@pytest.fixture(scope="module")
def expected(reference: Any, tower: _native.Tower, pictures: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    import torch

    with torch.no_grad():
        out = reference(input_ids=torch.tensor([prompt_of(pictures)]), **pixels_of(tower, pictures))
    return out.logits[0].numpy()


@pytest.fixture(scope="module")
def greedy(reference: Any, tower: _native.Tower, pictures: list[NDArray[np.uint8]]) -> list[int]:
    import torch

    tokens = prompt_of(pictures)
    with torch.no_grad():
        out = reference.generate(
            input_ids=torch.tensor([tokens]), attention_mask=torch.ones(1, len(tokens), dtype=torch.long),
            **pixels_of(tower, pictures), max_new_tokens=N_TOKENS, do_sample=False, eos_token_id=None,
        )  # fmt: skip
    return out[0, len(tokens) :].tolist()


@pytest.mark.parametrize("options", [{}, {"device_graphs": True}, {"use_scheduler": True}, {"n_batch": 32}])
def test_logits_equal_transformers(
    options: dict[str, Any], model: _native.Model, tower: _native.Tower, pictures: list[NDArray[np.uint8]],
    expected: NDArray[np.float32],
) -> None:  # fmt: skip
    """Two pictures, 144 rows, past the context of before YaRN's extension."""
    engine = make_engine(model, **options)
    prompt = Prompt(engine, tower, pictures)
    assert len(prompt.tokens) > 64
    got = engine.logits(prompt.tokens, **prompt.arguments)
    others = np.arange(got.shape[1]) != MASK
    assert np.abs(got - expected)[:, others].max() < 4e-5
    assert np.linalg.norm((got - expected)[:, others]) / np.linalg.norm(expected[:, others]) < 5e-6


@pytest.mark.parametrize("mode", ["ar", "self-spec"])
def test_greedy_tokens_equal_transformers(
    mode: str, model: _native.Model, tower: _native.Tower, pictures: list[NDArray[np.uint8]], greedy: list[int]
) -> None:
    prompt = Prompt(make_engine(model), tower, pictures)
    assert prompt.generate(mode, block_length=8) == (greedy, 0)


def test_the_pictures_decide(model: _native.Model, tower: _native.Tower, greedy: list[int]) -> None:
    """A test of the tests: other pictures, other tokens."""
    others = [picture(w, h, seed + 10)[::-1].copy() for seed, (w, h) in enumerate(SIZES)]
    assert Prompt(make_engine(model), tower, others).generate()[0] != greedy


def test_the_cache_knows_pictures_by_content(
    model: _native.Model, tower: _native.Tower, pictures: list[NDArray[np.uint8]], greedy: list[int]
) -> None:
    engine = make_engine(model)
    first = Prompt(engine, tower, pictures)
    assert first.generate()[1] == 0
    again = Prompt(engine, tower, pictures)
    assert [image.first for image in again.images] == [image.first for image in first.images]
    assert again.generate() == (greedy, len(again.tokens) - 1)
    other_second = Prompt(engine, tower, [pictures[0], picture(*SIZES[1], 5)])
    common = len(TEXTS[0]) + len(image_tokens(3, 2)) + len(TEXTS[1]) + 1
    assert other_second.generate()[1] == common
    other_first = Prompt(engine, tower, [picture(*SIZES[0], 6), pictures[1]])
    assert other_first.generate()[1] == len(TEXTS[0]) + 1


@pytest.mark.parametrize("outtype", ["f32", "q8_0"])
def test_bits_beside_an_image(vlm: Path, tower: _native.Tower, outtype: str, tmp_path: Path) -> None:
    """Text decodes to the same tokens and log-probabilities while a picture is being prefilled, and the other way."""
    model = _native.Model(str(convert(vlm, tmp_path / "model.gguf", outtype, mmproj=False).path))

    def run(*, together: bool) -> list[list[tuple[int, list[float]]]]:
        engine = make_engine(model, n_parallel=2, n_ubatch=32, n_batch=64)
        prompt = Prompt(engine, tower, [picture(280, 308, 3)])
        options = {"mode": "self-spec", "max_tokens": 32, "temperature": 0.0, "ignore_eos": True, "logprobs": 3,
                   "block_length": 8, "loop_window": 0}  # fmt: skip
        text = engine.submit([1, 200, 201, 202], _native.RequestOptions(**options))
        found: dict[int, list[tuple[int, list[float]]]] = {}

        def take(events: list[_native.Event]) -> None:
            for event in events:
                entry = [(p.chosen.token, [top.logprob for top in p.top]) for p in event.logprobs]
                found.setdefault(event.request_id, []).extend(entry)

        take(engine.step())
        image = engine.submit(prompt.tokens, _native.RequestOptions(**options), **prompt.arguments) if together else 0
        for _ in range(120):
            take(engine.step())
        if not together:
            image = engine.submit(prompt.tokens, _native.RequestOptions(**options), **prompt.arguments)
            for _ in range(120):
                take(engine.step())
        return [found[text], found[image]]

    assert run(together=True) == run(together=False)


def test_a_request_that_pauses(
    model: _native.Model, tower: _native.Tower, pictures: list[NDArray[np.uint8]], greedy: list[int]
) -> None:
    """Two prompts that do not fit the cache together: the younger one waits in host memory, and goes on the same."""
    engine = make_engine(model, n_ctx=256, n_parallel=2, n_batch=64)
    prompt = Prompt(engine, tower, pictures)
    options = {"mode": "ar", "max_tokens": N_TOKENS, "temperature": 0.0, "ignore_eos": True, "loop_window": 0}
    other = Prompt(engine, tower, [pictures[0], picture(*SIZES[1], 5)])
    wanted = other.generate()[0]
    engine.clear_cache()
    requests = [engine.submit(p.tokens, _native.RequestOptions(**options), **p.arguments) for p in (prompt, other)]
    assert [list(engine.wait_to_end(request).tokens) for request in requests] == [greedy, wanted]


def test_vectors_may_go_once_the_cells_are_there(
    model: _native.Model, tower: _native.Tower, pictures: list[NDArray[np.uint8]], greedy: list[int]
) -> None:
    """Ids stay those of their content while the cache holds them."""
    engine = make_engine(model)
    prompt = Prompt(engine, tower, pictures)
    ids = [image.first for image in prompt.images]
    prompt.generate()
    prompt.images = []
    again = Prompt(engine, tower, pictures)
    assert [image.first for image in again.images] == ids
    assert again.generate() == (greedy, len(again.tokens) - 1)


def test_ids_of_forgotten_images_are_not_mistaken(model: _native.Model, tower: _native.Tower) -> None:
    """More images than are remembered: those that nobody needs go, and what is in the cache stays right."""
    engine = make_engine(model)
    rows = tower.encode(picture(28, 28), 1400)
    kept = engine.add_image("kept", rows)
    for i in range(1100):
        engine.add_image(f"image {i}", rows)
    assert engine.add_image("kept", rows).first == kept.first
    later = engine.add_image("image 3", rows)
    assert later.first < kept.first - 1000


def test_what_is_refused(model: _native.Model, tower: _native.Tower, pictures: list[NDArray[np.uint8]]) -> None:
    engine = make_engine(model)
    prompt = Prompt(engine, tower, pictures)
    ar = _native.RequestOptions(mode="ar")
    for tokens in ([1, -2], [1, -5000], [1, prompt.images[0].first]):
        with pytest.raises(ValueError, match="is not in the vocabulary"):
            engine.submit(tokens, ar)
    with pytest.raises(ValueError, match="more places for rows of images"):
        engine.submit([*prompt.tokens, PAD], ar, **prompt.arguments)
    with pytest.raises(ValueError, match="fewer places for rows of images"):
        engine.submit(prompt.tokens[:100], ar, **prompt.arguments)
    bare = engine.add_image("bare", n_rows=6)
    with pytest.raises(ValueError, match="the vectors of image bare are not there"):
        engine.submit([1, *[PAD] * 6], ar, images=[bare], image_pad=PAD)
    with pytest.raises(ValueError, match="has 6 rows, not 7"):
        engine.add_image("bare", n_rows=7)
    with pytest.raises(ValueError, match="must be rows of 64 numbers"):
        engine.add_image("wide", np.zeros((2, 63), np.float32))
    with pytest.raises(ValueError, match="made without images"):
        make_engine(model, images=False).add_image("any", np.zeros((2, 64), np.float32))


def test_an_image_without_a_picture_is_a_token(model: _native.Model) -> None:
    """The pad is a token like others where no pictures are given."""
    assert np.array_equal(
        make_engine(model).logits([1, PAD, 200]), make_engine(model, images=False).logits([1, PAD, 200])
    )
