"""A GGUF file back to a checkpoint in the original layout: `trimode-convert --to-safetensors`."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from math import prod
from os import PathLike
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pytrimode.convert import lora
from pytrimode.convert.checkpoint.checkpoint import LORA_DIR, WEIGHTS
from pytrimode.convert.checkpoint.names import Weight, expected_weights
from pytrimode.convert.encode import SourceTensor, encode_tensor, rope_row_order
from pytrimode.convert.gguf_input import MMPROJ_DIMS, GgufInput, refusals
from pytrimode.convert.restore.config import config_of, hyperparameters_of
from pytrimode.convert.restore.tokenizer import tokenizer_files
from pytrimode.convert.restore.vision import vision_config_of, vision_settings
from pytrimode.convert.vision.names import IMAGE_BREAK, tower_weights
from pytrimode.gguf import keys
from pytrimode.gguf.errors import ConversionError
from pytrimode.gguf.file_names import lora_beside, mmproj_beside
from pytrimode.gguf.output import check_space, output_directory
from pytrimode.gguf.preflight import check_adapter, check_model
from pytrimode.gguf.types import GgmlType
from pytrimode.threads import default_threads

Progress = Callable[[int, int], None]
DTYPES = {GgmlType.F32: "F32", GgmlType.F16: "F16"}
"""Float types that a file's weights keep; everything else becomes BF16."""
Tensor = tuple[str, SourceTensor, GgmlType, int]
"""Name in the checkpoint, data, type there, heads whose rows go back to the rotate-half order."""


def restore(
    gguf: str | PathLike[str],
    out_dir: str | PathLike[str],
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write a checkpoint directory that holds what a GGUF model, its drafter LoRA and its vision tower hold.

    F32 and F16 weights stay so, all others become BF16: a BF16 file gives the weights of the checkpoint it came from.
    The directory appears when it is complete. Returns it. Raises ConversionError.
    """
    path, out = Path(gguf), Path(out_dir)
    with ExitStack() as stack:
        part = stack.enter_context(output_directory(out))
        with refusals(path):
            checked = check_model(path)
        file = stack.enter_context(GgufInput(path))
        hparams = hyperparameters_of(file)
        tensors = _tensors(file, list(expected_weights(hparams)))
        tower = mmproj_beside(path)
        vision = None
        if tower.is_file():
            tower_file = stack.enter_context(GgufInput(tower, max_dims=MMPROJ_DIMS))
            vision_config = vision_config_of(tower_file, hparams.hidden)
            tensors += _tensors(tower_file, list(tower_weights(vision_config)), ignored=(IMAGE_BREAK,))
            vision = vision_settings(vision_config)
        adapter = lora_beside(path)
        adapter_file = None
        if adapter.is_file():
            with refusals(adapter):
                check_adapter(adapter, checked.shape)
            adapter_file = stack.enter_context(GgufInput(adapter))
        total = sum(_bytes(tensor) for tensor in tensors)
        check_space(part, total)
        for name, text in {**config_of(file, hparams, vision), **tokenizer_files(file)}.items():
            (part / name).write_text(text, encoding="utf-8", newline="")
        write_safetensors(part / WEIGHTS, tensors, threads or default_threads(), progress)
        if adapter_file:
            _write_adapter(part / LORA_DIR, adapter_file, threads or default_threads())
    return out


def write_safetensors(path: Path, tensors: Sequence[Tensor], threads: int, progress: Progress | None = None) -> None:
    """Write one safetensors file. Raises OSError when that fails.

    The package `safetensors` writes only what lies in memory as a whole (28 GB of a 14B); here it is a tensor at most.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for tensor in tensors:
        name, source, kind, _ = tensor
        end = offset + _bytes(tensor)
        header[name] = {"dtype": kind.name, "shape": list(source.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        written = 0
        for tensor in tensors:
            for chunk in _data(tensor, threads):
                out.write(chunk)
                written += len(chunk)
                if progress:
                    progress(written, offset)
        _flush(out)


def _flush(out: BinaryIO) -> None:
    out.flush()
    os.fsync(out.fileno())


def _data(tensor: Tensor, threads: int) -> Iterator[bytes]:
    _, source, kind, heads = tensor
    if not heads:
        yield from encode_tensor(source, kind, threads)
        return
    # Whole heads: their rows change places. A projection of q or k is small enough to be taken at once.
    data = b"".join(encode_tensor(source, kind, threads))
    rows = np.frombuffer(data, np.uint8).reshape(heads, source.shape[0] // heads, -1)
    original = np.empty_like(rows)
    original[:, rope_row_order(rows.shape[1])] = rows
    yield original.tobytes()


def _bytes(tensor: Tensor) -> int:
    return tensor[2].n_bytes(tensor[1].shape)


def _tensors(file: GgufInput, weights: list[Weight], ignored: tuple[str, ...] = ()) -> list[Tensor]:
    stored = {tensor.name: tensor for tensor in file.tensors if tensor.name not in ignored}
    found = []
    for weight in weights:
        tensor = stored.pop(weight.target, None)
        if tensor is None:
            raise ConversionError(f"{file.path}: tensor {weight.target} is missing: not a model of trimode-convert")
        if tensor.shape != weight.shape:
            raise ConversionError(
                f"{file.path}: tensor {weight.target}: shape {list(tensor.shape)}, expected {list(weight.shape)}"
            )
        found.append((weight, tensor))
    if stored:
        raise ConversionError(f"{file.path}: tensor {min(stored)} has no place in the checkpoint")
    # Vectors, and the kernel of a vision tower's patches, are F32 in any file.
    largest = max((pair for pair in found if len(pair[0].shape) == 2), key=lambda pair: prod(pair[1].shape))[1]
    vectors = _dtype(largest.kind)
    return [_tensor(weight, tensor, vectors) for weight, tensor in found]


def _tensor(weight: Weight, tensor: SourceTensor, vectors: GgmlType) -> Tensor:
    kind = _dtype(tensor.kind) if len(weight.shape) == 2 else vectors
    return weight.source, tensor, kind, weight.rope_heads


def _dtype(kind: GgmlType) -> GgmlType:
    return GgmlType[DTYPES.get(kind, "BF16")]


def _write_adapter(directory: Path, file: GgufInput, threads: int) -> None:
    directory.mkdir()
    tensors: list[Tensor] = []
    rank = 0
    for tensor in file.tensors:
        layer, part = tensor.name.split(".")[1], tensor.name[-1]
        name = f"base_model.model.encoder.layers.{layer}.self_attn.{lora.TARGET_MODULE}.lora_{part.upper()}.weight"
        rank = tensor.shape[0] if part == "a" else rank
        kind = tensor.kind if tensor.kind in DTYPES else GgmlType.F32
        tensors.append((name, tensor, kind, 0))
    write_safetensors(directory / lora.ADAPTER_WEIGHTS, tensors, threads)
    settings = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": file.value(keys.ADAPTER_LORA_ALPHA),
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": [lora.TARGET_MODULE],
    }
    (directory / lora.ADAPTER_CONFIG).write_text(json.dumps(settings, indent=1), encoding="utf-8")
