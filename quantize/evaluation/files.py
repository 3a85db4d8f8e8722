"""The files of an evaluation: what their headers say, and how they are loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from pytrimode.convert.gguf_input import MAX_DIMS, MMPROJ_DIMS, GgufInput
from pytrimode.files.cache_state import weights_digest
from pytrimode.gguf import keys, vision_keys
from pytrimode.gguf.errors import ConversionError
from pytrimode.gguf.file_names import lora_beside
from pytrimode.gguf.types import OUTPUT_TYPES
from pytrimode.trimode import TriMode

ADAPTER = "adapter"
DECIDING_KEYS = (f"{keys.ARCHITECTURE}.", "tokenizer.", "adapter.")
"""Metadata on which logits and tokens depend."""


@dataclass(frozen=True)
class FileFacts:
    """A model or an adapter.

    Attributes:
        path: of the file, or of the first part.
        identity: differs for other weights, types, hyperparameters and vocabularies.
        outtype: its file type, such as q4_k_m.
        n_bytes: of all parts.
        n_params: weights.
        bits_per_weight: on average.
    """

    path: Path
    identity: str
    outtype: str
    n_bytes: int
    n_params: int
    bits_per_weight: float


@dataclass(frozen=True)
class ModelFile:
    """A model with the drafter LoRAs to evaluate it with; the first is its own."""

    facts: FileFacts
    adapters: tuple[FileFacts, ...]


def model_file(path: Path, loras: Sequence[Path] | None) -> ModelFile:
    """Return a model with given adapters, None for the one beside it. Raises ConversionError for what is no model."""
    facts = file_facts(path, is_adapter=False)
    if loras is None:
        beside = lora_beside(path)
        loras = [beside] if beside.is_file() else []
    return ModelFile(facts, tuple(file_facts(lora, is_adapter=True) for lora in loras))


def file_facts(path: Path, *, is_adapter: bool, is_mmproj: bool = False) -> FileFacts:
    """Read the headers of a file and its parts. Raises ConversionError for another kind of file."""
    with GgufInput(path.expanduser(), MMPROJ_DIMS if is_mmproj else MAX_DIMS) as file:
        kind = file.value(keys.GENERAL_TYPE) or "model"
        if (kind == ADAPTER) != is_adapter or (kind == vision_keys.TYPE) != is_mmproj:
            wanted = "a drafter LoRA" if is_adapter else "a vision tower" if is_mmproj else "a model"
            raise ConversionError(f"{path}: {kind}, expected {wanted}")
        if not file.tensors:
            raise ConversionError(f"{path}: has no tensors, expected a model")
        metadata = file.metadata()
        digest = hashlib.sha256(weights_digest(*(header.path for header in file.headers)).encode())
        for key in sorted(metadata.keys()):
            if key.startswith(DECIDING_KEYS):
                digest.update(key.encode() + (metadata.entry(key) or b""))
        n_params = sum(prod(tensor.shape) for tensor in file.tensors)
        n_bytes = sum(tensor.n_bytes for tensor in file.tensors)
        return FileFacts(
            path=path,
            identity=digest.hexdigest()[:32],
            outtype=_outtype(file),
            n_bytes=sum(header.file_bytes for header in file.headers),
            n_params=n_params,
            bits_per_weight=8 * n_bytes / n_params,
        )


def _outtype(file: GgufInput) -> str:
    """By the file's own word, else the type of most of its weights."""
    number = file.value(keys.GENERAL_FILE_TYPE)
    for name, output in OUTPUT_TYPES.items():
        if output.file_type == number:
            return name
    params: dict[str, int] = {}
    for tensor in file.tensors:
        params[tensor.kind.name.lower()] = params.get(tensor.kind.name.lower(), 0) + prod(tensor.shape)
    return max(params, key=lambda kind: params[kind])


class LazyModel:
    """A model that is loaded when it is first called. Use it as a context manager."""

    def __init__(self, model: FileFacts, adapter: FileFacts | None, **options: Any) -> None:
        """`options`: TriMode's."""
        self._path = model.path
        self._lora = adapter.path if adapter else None
        self._options = options
        self._loaded: TriMode | None = None
        self.check: Callable[[TriMode], None] | None = None
        """Called with the loaded model; may refuse it."""

    def __call__(self) -> TriMode:
        """Return the model. Raises as TriMode."""
        if self._loaded is None:
            self._loaded = TriMode(self._path, lora_path=self._lora, **self._options)
            if self.check:
                self.check(self._loaded)
        return self._loaded

    def __enter__(self) -> LazyModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free it; the next call loads it again."""
        if self._loaded is not None:
            self._loaded.close()
            self._loaded = None
