"""Bytes of the vision tower that a checkpoint's config.json describes, before there is a file of it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from pytrimode.convert.vision.config import VisionConfig
from pytrimode.convert.vision.mmproj import DEFAULT_MMPROJ_TYPE, add_tower, stored_kind
from pytrimode.convert.vision.names import IMAGE_BREAK, tower_weights
from pytrimode.gguf import keys, vision_keys
from pytrimode.gguf.metadata import Metadata
from pytrimode.gguf.writer import OutputTensor, encode_header, file_bytes
from pytrimode.vision.memory import tower_bytes


def planned_tower_bytes(config: VisionConfig) -> int:
    """Return `tower_bytes` of the mmproj file that the converter would write, F16, on the CPU.

    The header of that file is written, its data is a hole: the backend is asked for the buffer of the real graph.
    """
    metadata = Metadata()
    metadata.string(keys.GENERAL_ARCHITECTURE, vision_keys.ARCHITECTURE)
    add_tower(metadata, config)
    tensors = list(_tensors(config))
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "mmproj.gguf"
        with path.open("wb") as file:
            file.write(encode_header(metadata, tensors))
            file.truncate(file_bytes(metadata, tensors))
        return tower_bytes(path)


def _tensors(config: VisionConfig) -> Iterator[OutputTensor]:
    shapes = [(weight.target, weight.shape) for weight in tower_weights(config)]
    for name, shape in [*shapes, (IMAGE_BREAK, (config.text_hidden,))]:
        yield OutputTensor(name, shape, stored_kind(name, shape, DEFAULT_MMPROJ_TYPE), lambda: ())
