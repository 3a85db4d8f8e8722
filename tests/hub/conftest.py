"""A hub on this machine, and caches of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
from support.hub_server import Hub, HubRepo, hub_server
from support.synthetic import make_checkpoint

NAME = "me/Small-Diffusion-8B"


@pytest.fixture(scope="session")
def small_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("small") / "model", hidden=256, ffn=256, lora_rank=2)


@pytest.fixture
def hub(small_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Has `me/Small-Diffusion-8B`, a checkpoint."""
    with hub_server() as served:
        served.repos[NAME] = HubRepo(small_checkpoint)
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.setenv("PYTRIMODE_CACHE", str(tmp_path / "cache"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.chdir(tmp_path)
        # huggingface_hub has read its environment already.
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
        yield served
