"""A LoRA of the user, as PEFT saves it, as a llama.cpp LoRA adapter."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from pytrimode.convert.checkpoint.checkpoint import CONFIG, Weights, read_config
from pytrimode.convert.checkpoint.hparams import Hyperparameters
from pytrimode.convert.checkpoint.json_file import JsonObject
from pytrimode.convert.checkpoint.names import Weight, expected_weights
from pytrimode.convert.encode import SourceTensor, checkpoint_tensor, encode_tensor
from pytrimode.convert.gguf_input import GgufInput
from pytrimode.convert.lora import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from pytrimode.convert.restore.config import hyperparameters_of
from pytrimode.gguf import keys
from pytrimode.gguf.errors import ConversionError
from pytrimode.gguf.metadata import Metadata
from pytrimode.gguf.output import OutputFile
from pytrimode.gguf.types import OUTPUT_TYPES, GgmlType
from pytrimode.gguf.writer import OutputTensor, write_gguf

_NAME = re.compile(
    r"(?:base_model\.model\.)?(?P<module>(?:.*\.)?layers\.(?P<layer>\d+)\."
    r"(?P<name>self_attn\.[qkvo]_proj|mlp\.(?:gate|up|down)_proj))\.lora_(?P<part>[AB])(?:\.default)?\.weight"
)
_PLACES = {"A": "lora_a", "B": "lora_b"}
_BASE_CHANGED = re.compile(r"pissa|olora|corda")
"""Initializations after which an adapter fits weights that are no longer the base model's."""


@dataclass(frozen=True)
class _Pair:
    """The matrices of one module: names in the file, the weight that they adapt, its scale."""

    a: str
    b: str
    weight: Weight
    rank: int
    scale: float


@dataclass(frozen=True)
class LoraResult:
    """What was written.

    Attributes:
        path: the file.
        n_pairs: matrices of the model that it adapts.
        ranks: of the pairs, each once, ascending.
    """

    path: Path
    n_pairs: int
    ranks: list[int]


def convert_lora(
    directory: str | PathLike[str],
    out: str | PathLike[str],
    *,
    base: str | PathLike[str] | None = None,
    force: bool = False,
    threads: int = 0,
) -> LoraResult:
    """Convert a directory that PEFT saved to a GGUF adapter for `TriMode(loras=...)`, and for llama.cpp.

    Any of q, k, v, o, gate, up and down in any layers; rank_pattern, alpha_pattern and use_rslora are kept.

    Args:
        directory: with adapter_config.json and adapter_model.safetensors.
        out: file to write.
        base: the model that it is for, a checkpoint directory or a GGUF file; None: the directory that
            adapter_config.json names.
        force: replace an existing file.
        threads: encoding threads, 0 for all cores.

    Raises ConversionError for what cannot be kept, or does not fit the base model.
    """
    directory, out = Path(directory), Path(out)
    config = JsonObject.read(directory / ADAPTER_CONFIG)
    _check(config)
    hparams = _shape_of(Path(base) if base else _named_base(config))
    if not (directory / ADAPTER_WEIGHTS).is_file():
        raise ConversionError(f"{directory / ADAPTER_WEIGHTS}: not found: only safetensors are read")
    weights = Weights({directory / ADAPTER_WEIGHTS: None})
    try:
        pairs = _pairs(config, weights, directory / ADAPTER_WEIGHTS, hparams)
        # llama.cpp scales a pair by alpha / rank, one alpha for all; what another scale needs goes into its B.
        alpha = pairs[0].scale * pairs[0].rank
        tensors = [t for pair in pairs for t in _tensors(pair, pair.scale * pair.rank / alpha, weights, threads)]
        metadata = _metadata(config, directory, alpha)
        with OutputFile(out, force=force) as output:
            write_gguf(output, metadata, tensors, lambda _: None)
            output.publish()
    finally:
        weights.close()
    return LoraResult(out, len(pairs), sorted({pair.rank for pair in pairs}))


def _check(config: JsonObject) -> None:
    config.require("peft_type", ("LORA",), "only LoRA adapters are known")
    config.require("bias", (None, "none"), "the graph has no biases")
    config.require("lora_bias", (None, False), "the graph has no biases")
    config.require("use_dora", (None, False), "llama.cpp's adapters have no magnitudes (DoRA)")
    config.require("fan_in_fan_out", (None, False), "matrices are stored (out, in)")
    config.require("modules_to_save", (None, []), "an adapter holds no whole modules: merge it into the checkpoint")
    config.require("layer_replication", (None, []), "the model has its own layers")
    config.require("trainable_token_indices", (None, []), "the embedding is not adapted")
    config.require("alora_invocation_tokens", (None, []), "activated LoRAs are not supported")
    initial = config.get("init_lora_weights")
    if isinstance(initial, str) and _BASE_CHANGED.match(initial):
        raise ConversionError(
            f"{config.where}: init_lora_weights is {initial!r}: such an adapter belongs to a changed base model; "
            f"save it with path_initial_model_for_weight_conversion"
        )


def _named_base(config: JsonObject) -> Path:
    named = config.get("base_model_name_or_path")
    if isinstance(named, str) and (Path(named) / CONFIG).is_file():
        return Path(named)
    raise ConversionError(
        f"{config.where}: base_model_name_or_path {named!r} is no directory here: "
        f"give the base model with --base, a checkpoint directory or a GGUF file"
    )


def _shape_of(base: Path) -> Hyperparameters:
    if base.is_dir():
        return Hyperparameters.from_config(read_config(base))
    with GgufInput(base) as file:
        return hyperparameters_of(file)


def _pairs(config: JsonObject, weights: Weights, path: Path, hparams: Hyperparameters) -> list[_Pair]:
    targets = {weight.source.removeprefix("encoder."): weight for weight in expected_weights(hparams)}
    found: dict[str, dict[str, str]] = {}
    modules: dict[str, str] = {}
    for name in weights.tensors:
        match = _NAME.fullmatch(name)
        if not match:
            raise ConversionError(
                f"{path}: tensor {name} cannot be kept: an adapter may have lora_A and lora_B of q_proj, k_proj, "
                f"v_proj, o_proj, gate_proj, up_proj and down_proj"
            )
        target = f"layers.{match['layer']}.{match['name']}.weight"
        if target not in targets:
            raise ConversionError(f"{path}: tensor {name}: the base model has {hparams.n_layers} layers")
        found.setdefault(target, {})[match["part"]] = name
        modules[target] = match["module"]
    if not found:
        raise ConversionError(f"{path}: it has no tensors")
    pairs = []
    for target, weight in targets.items():
        if parts := found.get(target):
            if len(parts) != 2:
                raise ConversionError(f"{path}: tensor {next(iter(parts.values()))} has no partner")
            pairs.append(_pair(config, weights, path, parts, weight, modules[target]))
    return pairs


def _pair(
    config: JsonObject, weights: Weights, path: Path, parts: dict[str, str], weight: Weight, module: str
) -> _Pair:
    rank = _of_pattern(config, "rank_pattern", module) or config.integer("r")
    alpha = _of_pattern(config, "alpha_pattern", module) or config.positive("lora_alpha")
    n_out, n_in = weight.shape
    for part, shape in (("A", (rank, n_in)), ("B", (n_out, rank))):
        stored = weights.tensors[parts[part]].shape
        if stored != shape:
            raise ConversionError(
                f"{path}: tensor {parts[part]}: expected shape {list(shape)} (rank {rank} for the base model), found "
                f"{list(stored)}: the adapter belongs to another model, or {ADAPTER_CONFIG} to another adapter"
            )
    root = math.sqrt(rank) if config.get("use_rslora") else rank
    return _Pair(parts["A"], parts["B"], weight, int(rank), alpha / root)


def _of_pattern(config: JsonObject, key: str, module: str) -> float | None:
    """Return the first value whose pattern is a module's name or the end of it, as PEFT finds it."""
    if not config.get(key):
        return None
    patterns = config.object(key)
    for pattern in patterns:
        try:
            matched = re.match(rf"(.*\.)?({pattern})$", module)
        except re.error as error:
            raise ConversionError(f"{patterns.where}: {pattern!r} is no pattern: {error}") from None
        if matched:
            return patterns.integer(pattern) if key == "rank_pattern" else patterns.positive(pattern)
    return None


def _tensors(pair: _Pair, factor: float, weights: Weights, threads: int) -> Iterator[OutputTensor]:
    n_out, n_in = pair.weight.shape
    heads = pair.weight.rope_heads
    for part, source, shape in (("A", pair.a, (pair.rank, n_in)), ("B", pair.b, (n_out, pair.rank))):
        target = f"{pair.weight.target}.{_PLACES[part]}"
        weight = Weight(source, target, shape, heads if part == "B" else 0)
        yield _tensor(checkpoint_tensor(weights, weight), factor if part == "B" else 1.0, threads)


def _tensor(source: SourceTensor, factor: float, threads: int) -> OutputTensor:
    def data() -> Iterator[bytes]:
        for piece in encode_tensor(source, GgmlType.F32, threads):
            yield piece if factor == 1.0 else (np.frombuffer(piece, np.float32) * np.float32(factor)).tobytes()

    return OutputTensor(source.name, source.shape, GgmlType.F32, data, source.kind)


def _metadata(config: JsonObject, directory: Path, alpha: float) -> Metadata:
    metadata = Metadata()
    metadata.string(keys.GENERAL_ARCHITECTURE, keys.ARCHITECTURE)
    metadata.string(keys.GENERAL_TYPE, "adapter")
    metadata.string(keys.GENERAL_NAME, f"{directory.resolve().name} LoRA")
    metadata.u32(keys.GENERAL_FILE_TYPE, OUTPUT_TYPES["f32"].file_type)
    base = config.get("base_model_name_or_path")
    if isinstance(base, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", base):
        metadata.string(keys.TRIMODE_SOURCE_MODEL, base)
    metadata.string(keys.ADAPTER_TYPE, "lora")
    metadata.f32(keys.ADAPTER_LORA_ALPHA, alpha)
    return metadata
