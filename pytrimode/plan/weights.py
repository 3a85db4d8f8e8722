"""Bytes of a model's weights by quantization, tensor by tensor, as the converter chooses their types."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import NamedTuple

from pytrimode.convert.checkpoint.hparams import Hyperparameters
from pytrimode.convert.checkpoint.names import EMBEDDING, expected_weights
from pytrimode.convert.lora import drafter_pairs
from pytrimode.convert.type_selection import TypeOptions, select_types
from pytrimode.gguf import keys
from pytrimode.gguf.errors import ConversionError
from pytrimode.gguf.metadata import Metadata
from pytrimode.gguf.types import OUTPUT_TYPES, GgmlType
from pytrimode.plan.model_shape import ModelShape

AS_STORED = "as stored"
"""The name of a GGUF file's own types among the quantizations."""

QUANTIZATIONS = ("bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_0", "q3_k_m")
"""Those that a plan compares: the usual ones of `OUTPUT_TYPES`."""


class _Tensor(NamedTuple):
    name: str
    shape: tuple[int, ...]
    kind: GgmlType


@cache
def chosen_types(hparams: Hyperparameters, quantization: str) -> dict[str, GgmlType]:
    """Return the type of each tensor by its name, as the converter's `select_types` has libllama choose it."""
    metadata = Metadata()
    metadata.string(keys.GENERAL_ARCHITECTURE, keys.ARCHITECTURE)
    hparams.add_to(metadata)
    tensors = [
        _Tensor(w.target, w.shape, GgmlType.F32 if len(w.shape) == 1 else GgmlType.BF16)
        for w in expected_weights(hparams)
    ]
    output = OUTPUT_TYPES[quantization]
    try:
        return select_types(metadata, tensors, output, TypeOptions(), has_imatrix=False)
    except ConversionError:
        return select_types(metadata, tensors, output, TypeOptions(), has_imatrix=True)


@dataclass(frozen=True)
class WeightBytes:
    """Bytes of a model's weights.

    Attributes:
        embedding: the token embedding, which stays in main memory.
        layers: of each layer.
        head: the output projection and the last norm.
        params: number of weights in all.
    """

    embedding: int
    layers: tuple[int, ...]
    head: int
    params: int

    @property
    def total(self) -> int:
        """Of everything."""
        return self.embedding + sum(self.layers) + self.head

    @property
    def read_per_pass(self) -> int:
        """What a forward pass reads: everything but the embedding, of which it looks up rows."""
        return self.total - self.embedding

    @property
    def bits_per_weight(self) -> float:
        """On average."""
        return 8 * self.total / self.params


def weight_bytes(shape: ModelShape, quantization: str) -> WeightBytes:
    """Of a model in a quantization, or `AS_STORED`. Raises ValueError for one that is not known."""
    if quantization == AS_STORED:
        return _sum((t.name, t.n_bytes or 0, t.n_params) for t in shape.stored)
    if quantization not in OUTPUT_TYPES:
        raise ValueError(f"quantization {quantization!r}: expected one of {', '.join(OUTPUT_TYPES)}")
    types = chosen_types(shape.hparams, quantization)
    return _sum(
        (weight.target, types[weight.target].n_bytes(weight.shape), prod(weight.shape))
        for weight in expected_weights(shape.hparams)
    )


def lora_bytes(shape: ModelShape) -> int:
    """Of the drafter LoRA, which the converter keeps in F32 (all published ones are)."""
    if not shape.lora_rank:
        return 0
    return sum(GgmlType.F32.n_bytes(pair.shape) for pair in drafter_pairs(shape.hparams, shape.lora_rank))


def _sum(tensors: Iterable[tuple[str, int, int]]) -> WeightBytes:
    embedding = head = params = 0
    layers: dict[int, int] = {}
    for name, n_bytes, n_params in tensors:
        params += n_params
        if name == EMBEDDING:
            embedding += n_bytes
        elif name.startswith("blk."):
            layer = int(name.split(".")[1])
            layers[layer] = layers.get(layer, 0) + n_bytes
        else:
            head += n_bytes
    return WeightBytes(embedding, tuple(layers[i] for i in sorted(layers)), head, params)
