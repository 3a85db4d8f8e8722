"""A conversation in a file: what was said and asked, and what the cache holds of it.

The file is a numpy .npz without pickles: `conversation` (uint8, JSON in ASCII), `tokens` (int32 [n]), `k` and `v`
(uint8 [n_layer, n, bytes of a row]).
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pytrimode.files.cache_state import MODEL_FIELDS, CacheState, ImageRun, difference, shown
from pytrimode.files.stored_arrays import Entry, NotArrays, StoredArrays
from pytrimode.gguf.errors import ConversionError
from pytrimode.gguf.output import OutputFile
from pytrimode.options.generation_options import GenerationOptions
from pytrimode.options.sampling import Sampling
from pytrimode.vision.picture import from_image_url, open_picture
from pytrimode.vision.prompt import LOCAL

FORMAT = "pytrimode conversation"
VERSION = 1

_HEADER = "conversation"
_ENTRIES = {_HEADER: Entry("|u1", 1), "tokens": Entry("<i4", 1), "k": Entry("|u1", 3), "v": Entry("|u1", 3)}
_HEADER_BYTES = 256 << 20
"""Most bytes of JSON: pictures are in it."""
_STRUCTURE = b"[{,:"
_MOST_PARTS = 2_000_000
"""Most of these characters in it: a value takes many times its characters in memory."""
_ROLES = ("user", "assistant")
_MOST_IMAGE_ROWS = 1 << 20
_SHOWN = 300
"""Characters of a message that quotes a file."""


@dataclass(frozen=True)
class SavedConversation:
    """What the file holds."""

    system: str | None
    turns: list[dict[str, Any]]
    enable_thinking: bool
    options: GenerationOptions
    cache: CacheState
    unread: str = ""
    """Why the cache was left in the file; it is empty then."""


def write_conversation(path: Path, saved: SavedConversation) -> None:
    """Write the file; it appears complete, or not at all, and replaces an older conversation.

    Raises FileExistsError for a file that is something else, OSError where it cannot be written.
    """
    if path.exists() and not _is_conversation(path):
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


def read_conversation(
    path: Path, *, origin: Mapping[str, Any] | None = None, n_ctx: int | None = None
) -> SavedConversation:
    """Read the file, which may come from anybody. `origin`, `n_ctx`: of the model that is to go on with it; a cache
    that could not be its is left in the file.

    Raises ValueError when it is no conversation, one with another model, of another version, truncated or damaged;
    OSError.
    """
    try:
        with StoredArrays(path, _ENTRIES) as arrays:
            header = _read_header(path, arrays)
            if origin and (other := difference(header["origin"], origin, MODEL_FIELDS)):
                raise _AsItIs(f"{path}: a conversation with another model: {other}")
            unread = _too_large(arrays, origin, n_ctx)
            return SavedConversation(
                system=header["system"],
                turns=[_turn(turn) for turn in header["turns"]],
                enable_thinking=header["enable_thinking"],
                options=_options(header["options"]),
                cache=_no_cache(header["origin"]) if unread else _read_cache(arrays, header),
                unread=unread,
            )
    except NotArrays as error:
        raise _not_saved(path) from error
    except _AsItIs as error:
        raise ValueError(str(error)) from error
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError) as error:
        raise _damaged(path, error) from error


class _AsItIs(Exception):  # noqa: N818 - becomes a ValueError
    """A message that needs nothing in front."""


def _read_header(path: Path, arrays: StoredArrays) -> dict[str, Any]:
    if _HEADER not in arrays:
        raise NotArrays
    if arrays.shape(_HEADER).n_bytes > _HEADER_BYTES:
        raise ValueError(f"{_HEADER} has more than {_HEADER_BYTES} bytes")
    text = bytes(arrays.read(_HEADER))
    n_parts = sum(text.count(bytes([mark])) for mark in _STRUCTURE)
    if n_parts > _MOST_PARTS:
        raise ValueError(f"{_HEADER} has {n_parts} parts, at most {_MOST_PARTS} are read")
    header = json.loads(text)
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise NotArrays
    if header.get("version") != VERSION:
        raise _AsItIs(f"{path}: version {shown(header.get('version'))} of the format; this pytrimode reads {VERSION}")
    for name, kinds in (
        ("system", (str, type(None))),
        ("turns", (list,)),
        ("enable_thinking", (bool,)),
        ("options", (dict,)),
        ("origin", (dict,)),
    ):
        if not isinstance(header[name], kinds):
            raise ValueError(f"{name} is of the type {type(header[name]).__name__}")
    return header


def _too_large(arrays: StoredArrays, origin: Mapping[str, Any] | None, n_ctx: int | None) -> str:
    """Return why this model cannot have the cache, from its sizes alone; "" where it may."""
    if origin is None or n_ctx is None:
        return ""
    (n,), _ = arrays.shape("tokens")
    if n > n_ctx:
        return f"the state has {n} tokens, the context has {n_ctx}"
    most = n * origin["n_layer"] * origin["kv_width"] * 4
    for name in ("k", "v"):
        if (n_bytes := arrays.shape(name).n_bytes) > most:
            return f"{name} of {n} tokens has {n_bytes} bytes, at most {most} are this model's"
    return ""


def _no_cache(origin: Mapping[str, Any]) -> CacheState:
    empty = np.empty((0, 0, 0), np.uint8)
    return CacheState(np.empty(0, np.int32), empty, empty, origin)


def _read_cache(arrays: StoredArrays, header: Mapping[str, Any]) -> CacheState:
    (n,), k, v = arrays.shape("tokens").shape, arrays.shape("k").shape, arrays.shape("v").shape
    if k[:2] != v[:2] or k[1] != n:
        raise ValueError(f"k is {list(k)} and v is {list(v)} for {n} tokens")
    images = _image_runs(header.get("images", []), n)
    return CacheState(arrays.read("tokens"), arrays.read("k"), arrays.read("v"), header["origin"], images)


def _turn(saved: Any) -> dict[str, Any]:
    if saved["role"] not in _ROLES:
        raise ValueError(f"a turn has the role {saved['role']!r}")
    return {"role": saved["role"], "content": _content(saved["content"])}


def _content(saved: Any) -> Any:
    """Return a text, or a list of parts with text and images."""
    if isinstance(saved, str):
        return saved
    if not isinstance(saved, list):
        raise ValueError(f"a turn's content is of the type {type(saved).__name__}")
    parts: list[dict[str, Any]] = []
    for part in saved:
        if part["type"] == "text":
            if not isinstance(part["text"], str):
                raise ValueError("a turn has a part without a text")
            parts.append({"type": "text", "text": part["text"]})
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
        if not isinstance(run.key, str) or not all(type(n) is int for n in run if n is not run.key):
            raise ValueError("images: each is a list of two numbers, a text and two numbers")
        if run.n_rows > _MOST_IMAGE_ROWS:
            raise ValueError(f"images: one has {run.n_rows} rows")
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


def _is_conversation(path: Path) -> bool:
    try:
        with StoredArrays(path, _ENTRIES) as arrays:
            return _HEADER in arrays
    except (OSError, ValueError):
        return False


def _not_saved(path: Path) -> ValueError:
    return ValueError(f"{path}: not a saved conversation")


def _damaged(path: Path, error: Exception) -> ValueError:
    said = f"no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
    if isinstance(error, RecursionError):
        said = "it is nested too deeply"
    return ValueError(f"{path}: truncated or damaged: {said[:_SHOWN].encode('ascii', 'backslashreplace').decode()}")
