"""Keys and values of a prompt outside the engine, and what they came from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pytrimode.gguf import keys
from pytrimode.gguf.header import read_gguf_header

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pytrimode._native import Model

MODEL_FIELDS = ("architecture", "name", "n_layer", "n_vocab", "kv_width")
"""Fields of an origin that tell models apart; the others tell apart what the same model leaves in a cache."""

_SAMPLE_BYTES = 1024


class ImageRun(NamedTuple):
    """Rows of an image among the tokens of a state: `n` of them from `begin` on, in the image those from `first` on.

    `key` names the image's content, which has `n_rows` rows.
    """

    begin: int
    n: int
    key: str
    first: int
    n_rows: int


@dataclass(frozen=True)
class CacheState:
    """What the cache holds of the first tokens of a prompt, as it is stored there: any cache type, no conversion."""

    tokens: NDArray[np.int32]
    """[n]"""
    k: NDArray[np.uint8]
    """Keys, after RoPE: [n_layer, n, bytes of a row]."""
    v: NDArray[np.uint8]
    """Values: [n_layer, n, bytes of a row]."""
    origin: Mapping[str, Any]
    """Of the model and the cache: see `origin_of`."""
    images: tuple[ImageRun, ...] = ()
    """Where tokens stand for rows of images."""


def origin_of(model: Model, file: Path, type_k: str, type_v: str) -> dict[str, Any]:
    """Return what keys and values depend on, as JSON: the model, its RoPE and other hyperparameters, weights, cache
    types.
    """
    metadata = model.metadata
    architecture = metadata[keys.GENERAL_ARCHITECTURE]
    return {
        "architecture": architecture,
        "name": metadata.get(keys.GENERAL_NAME, ""),
        "n_layer": model.n_layer,
        "n_vocab": model.n_vocab,
        "kv_width": model.n_head_kv * model.head_dim,
        "hyperparameters": {k: v for k, v in sorted(metadata.items()) if k.startswith(f"{architecture}.")},
        "weights": weights_digest(file),
        "type_k": type_k,
        "type_v": type_v,
    }


def weights_digest(*files: Path) -> str:
    """SHA-256 of the tensor table and the beginning of every tensor, of a file or of the parts of a split one: differs
    for other types and after any training."""
    digest = hashlib.sha256()
    for file in files:
        header = read_gguf_header(file)
        with file.open("rb") as stream:
            for tensor in header.tensors:
                stream.seek(header.data_start + tensor.offset)
                digest.update(repr((tensor.name, tensor.shape, tensor.type)).encode())
                digest.update(stream.read(min(_SAMPLE_BYTES, tensor.n_bytes or 0)))
    return digest.hexdigest()


def difference(theirs: Mapping[str, Any], ours: Mapping[str, Any], fields: tuple[str, ...] | None = None) -> str:
    """Return the first of `fields` (default: all) in which two origins differ, in words; "" where there is none."""
    for field in fields or dict.fromkeys((*ours, "loras")):  # which only those have that were made with some
        mine = ours.get(field)
        if theirs.get(field) != mine:
            if isinstance(mine, Mapping) or field in ("weights", "loras"):
                return f"other {field}"
            return f"{field} {shown(theirs.get(field))}, not {shown(mine)}"
    return ""


def shown(value: Any) -> str:
    """Return a value from a file for a message: short, and without what a terminal would obey."""
    text = str(value)
    return (text if text.isprintable() else ascii(text))[:80]
