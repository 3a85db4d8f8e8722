"""Loading the vision tower beside a model."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from pytrimode import _native
from pytrimode.gguf import vision_keys as keys
from pytrimode.gguf.header import read_gguf_header
from pytrimode.vision.encoder import DEFAULT_CACHE_BYTES, Vision, check_side
from pytrimode.vision.prompt import ImageTokens


class Vocabulary(Protocol):
    """The tokens of the text model."""

    model_path: str

    def special_token(self, text: str) -> int:
        """Its id; -1: there is none."""


def tower_device(n_gpu_layers: int, main_gpu: int) -> str:
    """Where the tower goes: to a GPU if the model has layers there; "": the CPU."""
    gpus = [device["name"] for device in _native.devices() if device["type"] in ("gpu", "igpu")]
    return gpus[min(main_gpu, len(gpus) - 1)] if gpus and n_gpu_layers != 0 else ""


def load_vision(
    path: Path,
    *,
    n_embd: int,
    digest: str,
    model: Vocabulary,
    device: str = "",
    n_threads: int = 0,
    max_side: int | None = None,
    cache_bytes: int = DEFAULT_CACHE_BYTES,
) -> Vision:
    """Return the tower of an mmproj file.

    `n_embd`: width of the text model that takes its rows, `model`, whose vocabulary is asked. `digest`: names the
    weights of the tower.

    Raises RuntimeError for a file that is damaged or belongs to another model, ValueError for a `max_side` that is none
    and for a model whose vocabulary has no tokens for images.
    """
    header = read_gguf_header(path)
    tower = _native.Tower(str(path), n_threads=n_threads, device=device)
    if tower.n_embd != n_embd:
        raise RuntimeError(
            f"{path}: {keys.PROJECTION_DIM}: rows of {tower.n_embd}, the model has {n_embd}: it belongs to another "
            f"model; give the right one (--mmproj) or none (--no-mmproj)"
        )
    ids = {name: model.special_token(text) for name, text in keys.IMAGE_TOKENS.items()}
    for name, text in keys.IMAGE_TOKENS.items():
        if ids[name] < 0:
            raise ValueError(
                f"{model.model_path}: its vocabulary has no token {text}: it takes no images (--no-mmproj)"
            )
        recorded = header.metadata.get(keys.TOKEN_ID.format(name), ids[name])
        if recorded != ids[name]:
            raise RuntimeError(
                f"{path}: {keys.TOKEN_ID.format(name)}: {recorded}, the model's {text} is {ids[name]}: it belongs to "
                f"another model; give the right one (--mmproj) or none (--no-mmproj)"
            )
    recorded_side = header.metadata.get(keys.MAX_SIDE)
    usual = recorded_side if isinstance(recorded_side, int) else keys.DEFAULT_MAX_SIDE
    side = check_side(max_side or min(usual, tower.largest_side), tower.largest_side)
    tokens = ImageTokens(ids["start"], ids["pad"], ids["break"], ids["end"])
    return Vision(tower, path, digest, tokens, side, cache_bytes)
