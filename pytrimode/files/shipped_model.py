"""The checkpoint that comes with pytrimode, converted once into the user's cache directory."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from pytrimode.files.cache_dir import cache_dir

NAME = "trimode-tiny"
OUTTYPE = "q8_0"
DIRECTORY_VARIABLE = "PYTRIMODE_MODEL_DIR"
_PACKAGE = Path(__file__).resolve().parents[1]


def shipped_checkpoint() -> Path:
    """Return the directory of the shipped checkpoint.

    Looked for in `$PYTRIMODE_MODEL_DIR`, in the installed package, in the source tree that the package runs from, and
    in ./models. Raises FileNotFoundError that says what to do.
    """
    wanted = os.environ.get(DIRECTORY_VARIABLE)
    if wanted:
        if not (Path(wanted) / "config.json").is_file():
            raise FileNotFoundError(f"{DIRECTORY_VARIABLE}={wanted}: no checkpoint is there (config.json is missing)")
        return Path(wanted)
    for models in (_PACKAGE / "models", _PACKAGE.parent / "models", Path("models")):
        if (models / NAME / "config.json").is_file():
            return models / NAME
    raise FileNotFoundError(
        f"the shipped checkpoint {NAME} was not found: name a MODEL, run in a clone of the repository, "
        f"or set {DIRECTORY_VARIABLE} to its models/{NAME}"
    )


def shipped_gguf(notice: Callable[[str], None] = lambda text: None, outtype: str = OUTTYPE) -> Path:
    """Return the shipped model as GGUF of a type of the converter's, its drafter LoRA beside it; converted at first
    use.

    Kept under a name made of the checkpoint's content and pytrimode's version. `notice` is told when a conversion
    starts. Raises FileNotFoundError without a checkpoint, RuntimeError when it cannot be converted.
    """
    checkpoint = shipped_checkpoint()
    cache = cache_dir()
    directory = cache / f"{NAME}-{version('pytrimode')}-{_content_hash(checkpoint)}-{outtype}"
    gguf = directory / f"{NAME}-{outtype.upper()}.gguf"
    if not gguf.is_file():
        notice(f"converting {NAME} to {outtype.upper()}, once: {gguf}")
        cache.mkdir(parents=True, exist_ok=True)
        _convert_into(checkpoint, gguf, outtype)
    return gguf


def _content_hash(checkpoint: Path) -> str:
    """Of names and contents of what the converter may read."""
    digest = hashlib.sha256()
    files = [*checkpoint.glob("*"), *checkpoint.glob("linear_spec_lora/*")]
    for file in sorted(f for f in files if f.suffix in (".json", ".jinja", ".safetensors")):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(checkpoint)} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def _convert_into(checkpoint: Path, gguf: Path, outtype: str) -> None:
    """Fill a new directory out of sight, then give it its name: nobody sees half of it."""
    from pytrimode.convert.conversion import convert
    from pytrimode.gguf.errors import ConversionError

    directory = gguf.parent
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f".{NAME}-", ignore_cleanup_errors=True) as scratch:
        part = Path(scratch) / "new"
        part.mkdir()
        try:
            convert(checkpoint, part / gguf.name, outtype)
        except ConversionError as error:
            raise RuntimeError(str(error)) from error
        if not gguf.is_file():
            shutil.rmtree(directory, ignore_errors=True)
        try:
            part.rename(directory)
        except OSError:
            # Another process was faster.
            if not gguf.is_file():
                raise
