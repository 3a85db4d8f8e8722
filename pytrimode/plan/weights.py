"""Bytes of a model's weights by quantization, tensor by tensor, as the converter chooses their types."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod

from pytrimode.convert.ggml import OUTPUT_TYPES, GgmlType
from pytrimode.convert.hparams import Hyperparameters
from pytrimode.convert.lora import _pairs as drafter_pairs
from pytrimode.convert.names import HEAD, Weight, expected_weights
from pytrimode.plan.model_shape import ModelShape

EMBEDDING = "token_embd.weight"
AS_STORED = "as stored"
"""The name of a GGUF file's own types among the quantizations."""

ChooseType = Callable[[Weight, Hyperparameters], GgmlType]
"""The type that a quantization gives to a weight of a model."""


def _of_output_type(name: str) -> ChooseType:
    def choose(weight: Weight, _: Hyperparameters) -> GgmlType:
        return OUTPUT_TYPES[name].choose(weight.shape, head=weight.target == HEAD)

    return choose


QUANTIZATIONS: dict[str, ChooseType] = {name: _of_output_type(name) for name in OUTPUT_TYPES}
"""By name. Mixes (q4_k_m, ...) belong here as soon as the converter or trimode-quantize writes them."""


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
    if quantization not in QUANTIZATIONS:
        raise ValueError(f"quantization {quantization!r}: expected one of {', '.join(QUANTIZATIONS)}")
    choose = QUANTIZATIONS[quantization]
    return _sum(
        (weight.target, choose(weight, shape.hparams).n_bytes(weight.shape), prod(weight.shape))
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
