"""A random model with vision, converted once; the scripts of models/trimode-tiny-vision."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.vlm import make_vlm

from pytrimode import TriMode
from pytrimode.convert import convert

FOLDER = Path(__file__).resolve().parents[2] / "models" / "trimode-tiny-vision"


@pytest.fixture(scope="module")
def scripts() -> Iterator[None]:
    """The modules of trimode-tiny-vision, and of trimode-tiny beside it, can be imported."""
    before = list(sys.path), set(sys.modules)
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path[:] = before[0]
    for name in set(sys.modules) - before[1]:
        if str(FOLDER.parent) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture(scope="session")
def vlm_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """F32, its vision tower in F32 and its drafter LoRA beside it."""
    directory = tmp_path_factory.mktemp("vlm")
    model = make_vlm(directory / "vlm", lora_rank=4)
    return convert(model, directory / "vlm.gguf", "f32", mmproj_type="f32").path


@pytest.fixture(scope="session")
def vlm(vlm_gguf: Path) -> Iterator[TriMode]:
    """Shared: a test must leave no request running."""
    with TriMode(vlm_gguf, n_ctx=1024, n_threads=1, n_parallel=2) as model:
        yield model
