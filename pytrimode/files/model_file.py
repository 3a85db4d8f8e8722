"""Is this path a model, and where are its drafter LoRA and its vision tower? Answers before anything is loaded."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from pytrimode.gguf.file_names import lora_beside, mmproj_beside
from pytrimode.gguf.layout import MAGIC
from pytrimode.gguf.lfs import LFS_ADVICE, LFS_POINTER
from pytrimode.gguf.preflight import check_adapter, check_mmproj, check_model, check_user_lora


def check_model_file(path: str | Path) -> Path:
    """Return the path, if a GGUF file is there.

    Raises FileNotFoundError, or ValueError that says what to do.
    """
    file = Path(path).expanduser()
    if not file.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if file.is_dir():
        if (file / "config.json").exists():
            raise ValueError(
                f"{path} is a checkpoint directory; convert it first: trimode-convert {shlex.quote(str(path))} --q8_0"
            )
        raise ValueError(f"{path} is a directory; a GGUF file is needed")
    with file.open("rb") as stream:
        start = stream.read(len(LFS_POINTER))
    if start == LFS_POINTER:
        raise ValueError(f"{path}: {LFS_ADVICE}")
    if not start.startswith(MAGIC):
        raise ValueError(f'{path}: not a GGUF file (it does not start with "GGUF")')
    return file


def preflight(model: Path, lora: Path | None, tower: Path | None, adapters: Sequence[str] = ()) -> None:
    """Check a model and what goes with it before libllama sees them. Raises ValueError, OSError."""
    checked = check_model(model)
    if lora:
        check_adapter(lora, checked.shape)
    for adapter in adapters:
        check_user_lora(Path(adapter))
    if tower:
        check_mmproj(tower)


def find_drafter_lora(model: Path, wanted: str | Path | None) -> Path | None:
    """Return the drafter LoRA to load: "auto" looks beside the model, None means none, a path must exist.

    Raises FileNotFoundError or ValueError for a path that is no GGUF file.
    """
    if wanted is None:
        return None
    if wanted == "auto":
        beside = lora_beside(model)
        return beside if beside.is_file() else None
    return check_model_file(wanted)


def find_mmproj(model: Path, wanted: str | Path | None) -> Path | None:
    """Return the vision tower to load: "auto" looks beside the model, None means none, a path must exist.

    Raises FileNotFoundError or ValueError for a path that is no GGUF file.
    """
    if wanted is None:
        return None
    if wanted == "auto":
        beside = mmproj_beside(model)
        return beside if beside.is_file() else None
    return check_model_file(wanted)
