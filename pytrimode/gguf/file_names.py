"""How GGUF files are named: types, the parts of a split one, drafter LoRA and vision tower beside a model.

Files that the user names have companions of the same name: `model.gguf`, `model-drafter-lora.gguf`,
`model-mmproj.gguf`. Names that the converter gives follow the convention of GGUF
(https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#gguf-naming-convention), under which all types of a model
share their companions: `Model-8B-Q4_K_M.gguf`, `Model-8B-Drafter-F32-LoRA.gguf`, `mmproj-Model-8B-F16.gguf`.
"""

from __future__ import annotations

import glob
import re
from pathlib import Path

_PART = re.compile(r"(.*)-(\d{5})-of-(\d{5})(\.gguf)?")
_TYPE = r"(?:UD-)?(?:I?Q\d(?:_[A-Z0-9]+)*|TQ\d_0|MXFP4(?:_MOE)?|NVFP4|BF16|F16|F32)"
_ENCODING = re.compile(rf"(.+?)[-.]({_TYPE})", re.IGNORECASE)


def part_path(out: Path, number: int, count: int) -> Path:
    """Return the name of a part, numbers from 1: `model.gguf` -> `model-00001-of-00003.gguf`."""
    return out.with_name(f"{out.name.removesuffix('.gguf')}-{number:05d}-of-{count:05d}.gguf")


def whole_name(name: str) -> str:
    """Return the name of a file without the numbers of a part."""
    match = _PART.fullmatch(name)
    return f"{match[1]}{match[4] or ''}" if match else name


def part_of(name: str) -> tuple[int, int] | None:
    """Return number and count of a part, None for a file of its own."""
    match = _PART.fullmatch(name)
    return (int(match[2]), int(match[3])) if match else None


def encoding_of(name: str) -> str | None:
    """Return the type in a file's name, in lower case: "q4_k_m" of `Model-8B-Q4_K_M.gguf`; None without one."""
    match = _ENCODING.fullmatch(whole_name(name).removesuffix(".gguf"))
    return match[2].lower() if match else None


def without_encoding(name: str) -> str:
    """Return what stands before the type in a file's name: `Model-8B` of `Model-8B-Q4_K_M.gguf`."""
    stem = whole_name(name).removesuffix(".gguf")
    match = _ENCODING.fullmatch(stem)
    return match[1] if match else stem


def drafter_name(base: str, kind: str) -> str:
    """Return the conventional name of a drafter LoRA: `Model-8B-Drafter-F32-LoRA.gguf`."""
    return f"{base}-Drafter-{kind.upper()}-LoRA.gguf"


def mmproj_name(base: str, kind: str) -> str:
    """Return the conventional name of a vision tower, by which other programs find it: `mmproj-Model-8B-F16.gguf`."""
    return f"mmproj-{base}-{kind.upper()}.gguf"


def lora_path(model: Path) -> Path:
    """Return the name of the drafter LoRA of one file, or of its parts: `model.gguf` -> `model-drafter-lora.gguf`."""
    return model.with_name(f"{whole_name(model.name).removesuffix('.gguf')}-drafter-lora.gguf")


def mmproj_path(model: Path) -> Path:
    """Return the name of the vision tower of one file, or of its parts: `model.gguf` -> `model-mmproj.gguf`."""
    return model.with_name(f"{whole_name(model.name).removesuffix('.gguf')}-mmproj.gguf")


def lora_beside(model: Path) -> Path:
    """Where the drafter LoRA of a model lies: under its own name, else under the conventional one. It may not exist."""
    return _beside(lora_path(model), drafter_name(glob.escape(without_encoding(model.name)), "*"))


def mmproj_beside(model: Path) -> Path:
    """Where the vision tower of a model lies: under its own name, else under the conventional one. It may not exist."""
    return _beside(mmproj_path(model), mmproj_name(glob.escape(without_encoding(model.name)), "*"))


def _beside(own: Path, pattern: str) -> Path:
    """Return `own`, where there is none the largest file of the pattern: that of the most bits."""
    if own.is_file():
        return own
    shared = [path for path in own.parent.glob(pattern) if path.is_file()]
    return max(shared, key=lambda path: (path.stat().st_size, path.name), default=own)
