"""A random model with vision, converted once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.vlm import make_vlm

from pytrimode import TriMode
from pytrimode.convert import convert


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
