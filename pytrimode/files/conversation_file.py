"""A conversation in a file: what was said and asked, and what the cache holds of it.

The file is a numpy .npz without pickles: `conversation` (uint8, JSON in ASCII), `tokens` (int32 [n]), `k` and `v`
(uint8 [n_layer, n, bytes of a row]).
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pytrimode.files.cache_state import CacheState, ImageRun
from pytrimode.gguf.errors import ConversionError
from pytrimode.gguf.output import OutputFile
from pytrimode.options.generation_options import GenerationOptions
from pytrimode.options.sampling import Sampling
from pytrimode.vision.picture import from_image_url, open_picture
from pytrimode.vision.prompt import LOCAL

FORMAT = "pytrimode conversation"
VERSION = 1

_ZIP_MAGIC = b"PK"
_HEADER = "conversation"
_ENTRIES = {_HEADER: (np.uint8, 1), "tokens": (np.int32, 1), "k": (np.uint8, 3), "v": (np.uint8, 3)}
"""dtype and number of dimensions."""


@dataclass(frozen=True)
class SavedConversation:
    """What the file holds."""

    system: str | None
    turns: list[dict[str, Any]]
    enable_thinking: bool
    options: GenerationOptions
    cache: CacheState


def write_conversation(path: Path, saved: SavedConversation) -> None:
    """Write the file; it appears complete, or not at all, and replaces an older conversation.

    Raises FileExistsError for a file that is something else, OSError where it cannot be written.
    """
    if path.exists() and not _has_header(path):
        raise FileExistsError(f"{path}: exists and is not a saved conversation: give another name")
    header = {
        "format": FORMAT,
        "version": VERSION,
        "system": saved.system,
        "turns": [_shown(turn) for turn in saved.turns],
        "enable_thinking": saved.enable_thinking,
        "options": saved.options,
        "origin": saved.cache.origin,
        "images": saved.cache.images,
    }
    text = json.dumps(header, default=_plain).encode("ascii")
    cache = saved.cache
    arrays: dict[str, Any] = {_HEADER: np.frombuffer(text, np.uint8), "tokens": cache.tokens}
    arrays |= {"k": cache.k, "v": cache.v}
    try:
        with OutputFile(path, force=True) as output:
            stream = io.BufferedRandom(output.file)  # type: ignore[arg-type]
            np.savez(stream, **arrays)
            stream.detach()
            output.publish()
    except ConversionError as error:
        raise OSError(str(error)) from error


def read_conversation(path: Path) -> SavedConversation:
    """Read the file. Raises ValueError when it is none, of another version, truncated or damaged; OSError."""
    arrays = _read_arrays(path)
    try:
        header = json.loads(arrays[_HEADER].tobytes())
    except ValueError as error:
        raise _damaged(path, error) from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise _not_saved(path)
    if header.get("version") != VERSION:
        raise ValueError(f"{path}: version {header.get('version')} of the format; this pytrimode reads {VERSION}")
    try:
        _check_cache(arrays)
        return SavedConversation(
            system=header["system"],
            turns=[{"role": str(turn["role"]), "content": _content(turn["content"])} for turn in header["turns"]],
            enable_thinking=bool(header["enable_thinking"]),
            options=_options(header["options"]),
            cache=CacheState(
                arrays["tokens"],
                arrays["k"],
                arrays["v"],
                dict(header["origin"]),
                _image_runs(header.get("images", []), len(arrays["tokens"])),
            ),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, error) from error


def _read_arrays(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    with path.open("rb") as stream:
        if stream.read(len(_ZIP_MAGIC)) != _ZIP_MAGIC:
            raise _not_saved(path)
        stream.seek(0)
        try:
            with np.load(stream, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in _ENTRIES if name in archive}
        except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, NotImplementedError, MemoryError) as error:
            raise _damaged(path, error) from error
    if _HEADER not in arrays:
        raise _not_saved(path)
    return arrays


def _check_cache(arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
    for name, (dtype, n_dims) in _ENTRIES.items():
        array = arrays[name]
        if array.dtype != dtype or array.ndim != n_dims:
            raise ValueError(f"{name} is {array.dtype} {list(array.shape)}")
    k, v, n = arrays["k"], arrays["v"], len(arrays["tokens"])
    if k.shape[:2] != v.shape[:2] or k.shape[1] != n:
        raise ValueError(f"k is {list(k.shape)} and v is {list(v.shape)} for {n} tokens")


def _content(saved: Any) -> Any:
    """Return a text, or a list of parts with text and images."""
    if not isinstance(saved, list):
        return str(saved)
    parts: list[dict[str, Any]] = []
    for part in saved:
        if part["type"] == "text":
            parts.append({"type": "text", "text": str(part["text"])})
        else:
            picture = from_image_url(part["image_url"])
            parts.append({"type": LOCAL, LOCAL: picture})
    return parts


def _shown(turn: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a turn with its images as `data:` URIs."""
    if isinstance(turn["content"], str):
        return turn
    parts = [
        part
        if part["type"] == "text"
        else {"type": "image_url", "image_url": {"url": open_picture(part[LOCAL]).data_uri()}}
        for part in turn["content"]
    ]
    return {**turn, "content": parts}


def _image_runs(saved: Any, n_tokens: int) -> tuple[ImageRun, ...]:
    runs = tuple(ImageRun(*run) for run in saved)
    for run in runs:
        if not (0 <= run.begin <= run.begin + run.n <= n_tokens and 0 <= run.first <= run.first + run.n <= run.n_rows):
            raise ValueError(f"images: rows {list(run)} of {n_tokens} tokens")
    return runs


def _options(saved: Mapping[str, Any]) -> GenerationOptions:
    return GenerationOptions(**{**saved, "sampling": Sampling(**saved["sampling"])})


def _plain(value: Any) -> dict[str, Any]:
    """JSON for what the module `json` does not know."""
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value) if field.init}
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__} cannot be saved")


def _has_header(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return f"{_HEADER}.npy" in archive.namelist()


def _not_saved(path: Path) -> ValueError:
    return ValueError(f"{path}: not a saved conversation")


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path}: truncated or damaged: {error or type(error).__name__}")
