"""The drafter LoRA in `linear_spec_lora/` (PEFT's layout) as a llama.cpp LoRA adapter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pytrimode.convert.checkpoint.checkpoint import LORA_DIR, Checkpoint, Weights
from pytrimode.convert.checkpoint.hparams import Hyperparameters
from pytrimode.convert.checkpoint.json_file import JsonObject
from pytrimode.convert.checkpoint.names import Weight
from pytrimode.convert.encode import checkpoint_tensor, encoded_tensor
from pytrimode.convert.general import add_adapter_general
from pytrimode.gguf import keys
from pytrimode.gguf.errors import ConversionError
from pytrimode.gguf.metadata import Metadata
from pytrimode.gguf.types import OUTPUT_TYPES, GgmlType
from pytrimode.gguf.writer import OutputTensor

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
TARGET_MODULE = "o_proj"
LORA_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0")
"""What its tensors may be stored in; K-quants want longer rows than the rank of an adapter."""


@dataclass(frozen=True)
class DrafterLora:
    """An adapter on every layer's o_proj. Use it as a context manager, like the checkpoint.

    Attributes:
        rank: r.
        alpha: the delta is scaled by alpha / rank.
        weights: its tensors.
        pairs: A (rank, heads * head_dim) and B (hidden, rank) of each layer, in order.
    """

    rank: int
    alpha: float
    weights: Weights
    pairs: list[Weight]

    @classmethod
    def open(cls, checkpoint: Checkpoint, hparams: Hyperparameters) -> DrafterLora | None:
        """Open the checkpoint's adapter, None when it has none. Raises ConversionError for a broken or other one."""
        directory = checkpoint.path / LORA_DIR
        if not directory.is_dir():
            return None
        rank, alpha = _read_config(JsonObject.read(directory / ADAPTER_CONFIG))
        pairs = list(drafter_pairs(hparams, rank))
        weights = Weights({directory / ADAPTER_WEIGHTS: None})
        try:
            _check(weights, pairs, directory / ADAPTER_WEIGHTS, hparams)
        except ConversionError:
            weights.close()
            raise
        return cls(rank, alpha, weights, pairs)

    def metadata(self, checkpoint: Checkpoint, outtype: str | None = None) -> Metadata:
        """Return the keys of the adapter file, as llama.cpp's `src/llama-adapter.cpp` reads them."""
        metadata = Metadata()
        file_type = OUTPUT_TYPES[outtype or self.kind(self.pairs[0], None).name.lower()].file_type
        add_adapter_general(metadata, checkpoint, file_type)
        metadata.string(keys.ADAPTER_TYPE, "lora")
        metadata.f32(keys.ADAPTER_LORA_ALPHA, self.alpha)
        return metadata

    def tensors(self, threads: int, outtype: str | None = None) -> list[OutputTensor]:
        """Its tensors: in `outtype`, else as they are, but BF16 as F32.

        Rows that do not divide into the blocks of `outtype` stay F16.
        """
        return [
            encoded_tensor(checkpoint_tensor(self.weights, weight), self.kind(weight, outtype), threads)
            for weight in self.pairs
        ]

    def kind(self, weight: Weight, outtype: str | None) -> GgmlType:
        """Return the type of one of its tensors."""
        if outtype is None:
            return GgmlType.F16 if self.weights.tensors[weight.source].dtype == "F16" else GgmlType.F32
        return stored_kind(weight.shape, outtype)

    def __enter__(self) -> DrafterLora:
        return self

    def __exit__(self, *_: object) -> None:
        self.weights.close()


def stored_kind(shape: tuple[int, ...], outtype: str) -> GgmlType:
    """Return the type of a tensor of an adapter in `outtype`: rows that do not divide into its blocks are F16."""
    wanted = GgmlType[outtype.upper()]
    return GgmlType.F16 if shape[-1] % wanted.block else wanted


def _read_config(config: JsonObject) -> tuple[int, float]:
    """Rank and alpha, of a plain LoRA on o_proj."""
    config.require("peft_type", ("LORA",), "only LoRA adapters are known")
    config.require("target_modules", ([TARGET_MODULE], TARGET_MODULE), "the drafter LoRA adapts o_proj alone")
    config.require("bias", (None, "none"), "the graph has no biases")
    config.require("use_rslora", (None, False), "the scale must be alpha / r")
    config.require("use_dora", (None, False), "llama.cpp's adapters have no magnitudes")
    config.require("fan_in_fan_out", (None, False), "matrices are stored (out, in)")
    config.require("layers_to_transform", (None, []), "the drafter LoRA adapts every layer")
    for key in ("rank_pattern", "alpha_pattern"):
        config.require(key, (None, {}), "all layers have one rank and alpha")
    config.require("modules_to_save", (None, []), "an adapter holds no whole modules")
    return config.integer("r"), config.positive("lora_alpha")


def drafter_pairs(hparams: Hyperparameters, rank: int) -> list[Weight]:
    """Return the matrices A [rank, heads * head_dim] and B [hidden, rank] of every layer's o_proj."""
    found = []
    for i in range(hparams.n_layers):
        source = f"base_model.model.encoder.layers.{i}.self_attn.{TARGET_MODULE}"
        target = f"blk.{i}.attn_output.weight"
        found.append(Weight(f"{source}.lora_A.weight", f"{target}.lora_a", (rank, hparams.n_heads * hparams.head_dim)))
        found.append(Weight(f"{source}.lora_B.weight", f"{target}.lora_b", (hparams.hidden, rank)))
    return found


def _check(weights: Weights, pairs: list[Weight], path: Path, hparams: Hyperparameters) -> None:
    for weight in pairs:
        if weight.source not in weights.tensors:
            raise ConversionError(
                f"{path}: tensor {weight.source} is missing: the adapter must cover all {hparams.n_layers} layers"
            )
        found = weights.tensors[weight.source].shape
        if found != weight.shape:
            raise ConversionError(
                f"{path}: tensor {weight.source}: expected shape {list(weight.shape)}, found {list(found)}: "
                f"the adapter belongs to another model or {ADAPTER_CONFIG} to another adapter"
            )
    extra = set(weights.tensors) - {weight.source for weight in pairs}
    if extra:
        raise ConversionError(f"{path}: tensor {min(extra)} has no place in a LoRA on {TARGET_MODULE}")
