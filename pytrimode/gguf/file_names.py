"""How GGUF files are named: the parts of a split one, drafter LoRA and vision tower beside a model."""

from __future__ import annotations

import re
from pathlib import Path

_PART = re.compile(r"(.*)-(\d{5})-of-(\d{5})(\.gguf)?")


def part_path(out: Path, number: int, count: int) -> Path:
    """Return the name of a part, numbers from 1: `model.gguf` -> `model-00001-of-00003.gguf`."""
    return out.with_name(f"{out.name.removesuffix('.gguf')}-{number:05d}-of-{count:05d}.gguf")


def whole_name(name: str) -> str:
    """Return the name of a file without the numbers of a part."""
    match = _PART.fullmatch(name)
    return f"{match[1]}{match[4] or ''}" if match else name


def lora_path(model: Path) -> Path:
    """Where the drafter LoRA of a GGUF file, or of its parts, lies: `model.gguf` -> `model-drafter-lora.gguf`."""
    return model.with_name(f"{whole_name(model.name).removesuffix('.gguf')}-drafter-lora.gguf")


def mmproj_path(model: Path) -> Path:
    """Where the vision tower of a GGUF file, or of its parts, lies: `model.gguf` -> `model-mmproj.gguf`."""
    return model.with_name(f"{whole_name(model.name).removesuffix('.gguf')}-mmproj.gguf")
