"""The vision tower against transformers' Pixtral tower and Mistral3 projector, and its preprocessing."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.vlm import make_vlm, mistral3, picture, reference_rows

from pytrimode import _native
from pytrimode.convert import convert

SIZES = [(28, 28), (84, 56), (28, 280), (1400, 28), (448, 336)]


@pytest.fixture(scope="module")
def vlm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_vlm(tmp_path_factory.mktemp("vlm") / "model")


@pytest.fixture(scope="module")
def mmproj(vlm: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    directory = tmp_path_factory.mktemp("mmproj")

    def path(kind: str) -> Path:
        model = directory / f"{kind}.gguf"
        if not model.exists():
            convert(vlm, model, "f32", mmproj_type=kind)
        return directory / f"{kind}-mmproj.gguf"

    return path


@pytest.fixture(scope="module")
def tower(mmproj: Callable[[str], Path]) -> _native.Tower:
    return _native.Tower(str(mmproj("f32")), n_threads=1)


@pytest.fixture(scope="module")
def reference(vlm: Path) -> Any:
    return mistral3(vlm)


def relative(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_rows_equal_transformers(width: int, height: int, tower: _native.Tower, reference: Any) -> None:
    image = picture(width, height)
    expected = reference_rows(reference, tower.pixels(image, 1400))
    got = tower.encode(image, 1400)
    assert got.shape == (width * height // 784, 64)
    assert np.abs(got - expected).max() < 1e-5
    assert relative(got, expected) < 3e-6


@pytest.mark.parametrize(("kind", "bound"), [("f16", 2e-3), ("q8_0", 5e-2), ("bf16", 2e-2)])
def test_other_types_are_near(
    kind: str, bound: float, mmproj: Callable[[str], Path], tower: _native.Tower, reference: Any
) -> None:
    image = picture(448, 336)
    expected = reference_rows(reference, tower.pixels(image, 1400))
    got = _native.Tower(str(mmproj(kind)), n_threads=1).encode(image, 1400)
    assert 1e-6 < relative(got, expected) < bound


@pytest.mark.parametrize(("act", "bias"), [("gelu", False), ("silu", True)])
def test_gelu_and_biases_equal_transformers(act: str, bias: bool, tmp_path: Path) -> None:
    model = make_vlm(tmp_path / "model", act=act, bias=bias, hidden=96, heads=3, layers=1, seed=3)
    path = convert(model, tmp_path / "model.gguf", "f32", mmproj_type="f32").mmproj_path
    tower = _native.Tower(str(path), n_threads=1)
    image = picture(140, 84, seed=1)
    expected = reference_rows(mistral3(model), tower.pixels(image, 1400))
    assert np.abs(tower.encode(image, 1400) - expected).max() < 1e-5


def test_an_interval_of_keys_in_f16_is_less_exact(mmproj: Callable[[str], Path], tower: _native.Tower) -> None:
    image = picture(280, 140)
    fast = _native.Tower(str(mmproj("f32")), n_threads=1, exact=False).encode(image, 1400)
    assert 1e-6 < relative(fast, tower.encode(image, 1400)) < 2e-3


def test_bits_do_not_depend_on_threads_or_earlier_pictures(mmproj: Callable[[str], Path], tower: _native.Tower) -> None:
    image = picture(300, 200)
    alone = _native.Tower(str(mmproj("f32")), n_threads=2)
    assert np.array_equal(alone.encode(image, 1400), tower.encode(image, 1400))


def test_aborting(tower: _native.Tower) -> None:
    abort = _native.VisionAbort()
    abort.set()
    with pytest.raises(_native.VisionCancelledError):
        tower.encode(picture(300, 200), 1400, abort)
    assert tower.encode(picture(56, 56), 1400).shape == (4, 64)


def test_ctrl_c(tower: _native.Tower) -> None:
    """A signal ends an encoding of the main thread, and the tower goes on."""
    image = picture(700, 700)
    started = time.monotonic()
    tower.encode(image, 1400)
    whole = time.monotonic() - started
    threading.Timer(min(0.3, whole / 4), os.kill, (os.getpid(), signal.SIGINT)).start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        tower.encode(image, 1400)
    assert time.monotonic() - started < whole
    assert tower.encode(picture(56, 56), 1400).shape == (4, 64)


@pytest.mark.parametrize("side", [0, 27, 29, 1000, 1568])
def test_sides_out_of_range(side: int, tower: _native.Tower) -> None:
    with pytest.raises(ValueError, match=f"max_side {side}: must be a multiple of 28 from 28 to 1540"):
        tower.encode(picture(30, 30), side)


@pytest.mark.parametrize(
    ("size", "max_side", "cells"),
    [
        ((640, 480), 1400, (23, 18)), ((1920, 1080), 1400, (50, 29)), ((28, 28), 1400, (1, 1)),
        ((29, 28), 1400, (2, 1)),
        ((1, 1), 1400, (1, 1)), ((1400, 1400), 1400, (50, 50)), ((1401, 700), 1400, (50, 25)),
        ((10000, 1), 1400, (50, 1)), ((3000, 2000), 784, (28, 19)), ((4032, 3024), 448, (16, 12)),
    ],
)  # fmt: skip
def test_cells(size: tuple[int, int], max_side: int, cells: tuple[int, int]) -> None:
    assert _native.vision_grid(*size, max_side) == cells


OPENCV = Path(__file__).with_name("opencv_cubic.npz")
"""Every 9th row and 11th column of what cv2.resize(..., INTER_CUBIC) of OpenCV 5.0 makes of `picture(width, height, 1)`
as float32, with mean and deviation: [3, rows, columns], under names of WIDTHxHEIGHT_SIDE."""


@pytest.mark.parametrize("name", np.load(OPENCV).files)
def test_pixels_equal_opencv(name: str, tower: _native.Tower) -> None:
    size, _, side = name.partition("_")
    width, height = map(int, size.split("x"))
    expected = np.load(OPENCV)[name]
    got = tower.pixels(picture(width, height, 1), int(side))[:, ::9, ::11]
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() < 2e-5
