"""One check of a GGUF file before libllama or ggml sees it: they assert, hang or take all memory where this refuses.

Whatever reads a model calls it: run, plan, info, quantize, restore, imatrix. A refusal is a ValueError with file, key
or tensor, the value found and what is expected. It reads the header alone, never the weights.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from pytrimode.gguf import keys, vision_keys
from pytrimode.gguf.file_names import part_path, whole_name
from pytrimode.gguf.header import GgufHeader, TensorInfo, read_gguf_header
from pytrimode.gguf.preflight_values import REMEDY, Shape, Values, model_shape, shown
from pytrimode.gguf.preflight_vocab import check_vocabulary
from pytrimode.gguf.types import WEIGHT_TYPES

MATRIX_TYPES = frozenset(kind.name for kind in WEIGHT_TYPES.values())
"""What ggml multiplies by and takes rows of."""
VECTOR_TYPES = frozenset({"F32"})
"""Of norms: ggml's CPU multiplies F32 rows by F32 alone."""
LORA_TYPES = frozenset({"F32", "F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0"})
"""Of an adapter: K-quants want longer rows than its rank."""
MAX_PARTS = 99_999
MAX_LORA_RANK = 1 << 16
DRAFTER = "drafter LoRA"
"""In the name of a drafter LoRA that trimode-convert made."""


@dataclass(frozen=True)
class CheckedModel:
    """A model that the engine can run, as far as its header tells.

    Attributes:
        headers: of its parts, in order.
        shape: the sizes of its tensors.
    """

    headers: list[GgufHeader]
    shape: Shape


def check_model(path: Path) -> CheckedModel:
    """Check a model, or the first part of a split one with all others.

    Raises ValueError for a file that cannot be run, FileNotFoundError for a part that is missing, OSError where one
    cannot be read.
    """
    first = read_gguf_header(path)
    headers = read_parts(first)
    values = Values(first)
    _check_kind(values)
    shape = model_shape(values)
    n_vocab = check_vocabulary(values)
    _check_tensors(headers, shape, n_vocab)
    return CheckedModel(headers, shape)


def _check_kind(values: Values) -> None:
    found = values.header.metadata.get(keys.GENERAL_ARCHITECTURE)
    if found != keys.ARCHITECTURE:
        raise values.error(f"{keys.GENERAL_ARCHITECTURE} is {shown(found)}, expected '{keys.ARCHITECTURE}' ({REMEDY})")
    kind = values.header.metadata.get(keys.GENERAL_TYPE, "model")
    if kind != "model":
        raise values.error(
            f"{keys.GENERAL_TYPE} is {shown(kind)}, expected 'model': give the model, not what belongs to it"
        )


def check_adapter(path: Path, shape: Shape | None = None) -> GgufHeader:
    """Check a drafter LoRA; with `shape`, that it fits a model of that. Raises ValueError, OSError."""
    values, ranks = _check_lora(path)
    header = values.header
    if len(ranks) != 1:
        raise values.error(f"its tensors have the ranks {sorted(ranks)}: one rank is expected")
    if shape:
        rank = ranks.pop()
        expected_shapes = {}
        for i in range(shape.n_layer):
            expected_shapes[f"blk.{i}.attn_output.weight.lora_a"] = (shape.n_head * shape.head_dim, rank)
            expected_shapes[f"blk.{i}.attn_output.weight.lora_b"] = (rank, shape.n_embd)
        _check_shapes({tensor.name: (values, tensor) for tensor in header.tensors}, expected_shapes, values)
    return header


def check_user_lora(path: Path) -> GgufHeader:
    """Check a LoRA that is not the drafter's; its loader compares each tensor with the model.

    Raises ValueError, OSError.
    """
    values, _ = _check_lora(path)
    if DRAFTER in str(values.header.metadata.get(keys.GENERAL_NAME, "")):
        raise values.error("it is a drafter LoRA, for drafts alone: give it as --drafter-lora (lora_path)")
    if keys.ADAPTER_ALORA_TOKENS in values.header.metadata:
        raise values.error(f"it has {keys.ADAPTER_ALORA_TOKENS}: activated LoRAs are not supported")
    return values.header


def _check_lora(path: Path) -> tuple[Values, set[int]]:
    """Return the file's values and its ranks."""
    header = read_gguf_header(path)
    values = Values(header)
    for key, expected in ((keys.GENERAL_TYPE, "adapter"), (keys.ADAPTER_TYPE, "lora")):
        found = header.metadata.get(key)
        if found != expected:
            raise values.error(f"{key} is {shown(found)}, expected '{expected}'")
    values.number(keys.ADAPTER_LORA_ALPHA)
    ranks = {_adapter_rank(values, tensor) for tensor in header.tensors}
    names = {tensor.name for tensor in header.tensors}
    for name in sorted(names):
        partner = f"{name[:-1]}{'b' if name.endswith('a') else 'a'}"
        if partner not in names:
            raise values.error(f"tensor {partner} is missing: the matrices of a LoRA come in pairs")
    return values, ranks


def check_mmproj(path: Path) -> GgufHeader:
    """Check that a file is a vision tower with a header that can be read; its loader checks each tensor.

    Raises ValueError, OSError.
    """
    header = read_gguf_header(path)
    found = header.metadata.get(keys.GENERAL_ARCHITECTURE)
    if found != vision_keys.ARCHITECTURE:
        name = shown(found).strip("'")
        raise Values(header).error(
            f"{keys.GENERAL_ARCHITECTURE}: expected {vision_keys.ARCHITECTURE}, found {name}: not a vision tower"
        )
    return header


def read_parts(first: GgufHeader) -> list[GgufHeader]:
    """Return the headers of a model's parts, the first with them. Raises ValueError, FileNotFoundError."""
    headers = [first, *(read_gguf_header(part) for part in _other_parts(first))]
    _check_parts(headers)
    return headers


def _other_parts(first: GgufHeader) -> list[Path]:
    values = Values(first)
    if keys.SPLIT_COUNT not in first.metadata:
        return []
    count = values.integer(keys.SPLIT_COUNT, 1, MAX_PARTS)
    if count == 1:
        return []
    path = first.path
    if first.metadata.get(keys.SPLIT_NO) != 0 or not re.search(r"-00001-of-\d{5}\.gguf$", path.name):
        raise values.error("a part of a split model, and not the first: give the first")
    whole = path.with_name(whole_name(path.name))
    parts = [part_path(whole, number, count) for number in range(2, count + 1)]
    missing = [part for part in parts if not part.is_file()]
    if missing:
        raise FileNotFoundError(f"{missing[0]}: not found ({len(missing)} of {count} parts are missing)")
    return parts


def _check_parts(headers: list[GgufHeader]) -> None:
    known: dict[str, Path] = {}
    for i, header in enumerate(headers):
        values = Values(header)
        if len(headers) > 1:
            values.expect(keys.SPLIT_NO, i)
            values.expect(keys.SPLIT_COUNT, len(headers))
        for tensor in header.tensors:
            if tensor.name in known:
                raise values.error(f"tensor {tensor.name} is there twice, in {known[tensor.name].name} too")
            known[tensor.name] = header.path
    promised = headers[0].metadata.get(keys.SPLIT_TENSORS_COUNT)
    if len(headers) > 1 and promised != len(known):
        raise Values(headers[0]).error(f"{len(known)} tensors in all parts, {promised} are promised")


def _check_tensors(headers: list[GgufHeader], shape: Shape, n_vocab: int) -> None:
    stored = {tensor.name: (Values(header), tensor) for header in headers for tensor in header.tensors}
    for values, tensor in stored.values():
        if len(tensor.shape) not in (1, 2):
            raise values.error(f"tensor {tensor.name} has {len(tensor.shape)} dimensions, expected 1 or 2")
        _check_type(values, tensor, VECTOR_TYPES if len(tensor.shape) == 1 else MATRIX_TYPES)
    expected = shape.tensors(n_vocab)
    if "output.weight" not in stored:
        del expected["output.weight"]  # the embedding serves as the head
    _check_shapes(stored, expected, Values(headers[0]))


def _check_type(values: Values, tensor: TensorInfo, allowed: Collection[str]) -> None:
    if tensor.type not in allowed:
        some = ", ".join(sorted(allowed)) if len(allowed) < 10 else "a float or quantized type (pytrimode info)"
        raise values.error(f"tensor {tensor.name} is stored as {tensor.type}, which the engine cannot use: {some}")


def _check_shapes(
    stored: Mapping[str, tuple[Values, TensorInfo]], expected: Mapping[str, tuple[int, ...]], first: Values
) -> None:
    for name, shape in expected.items():
        if name not in stored:
            raise first.error(f"tensor {name} is missing")
        values, tensor = stored[name]
        if tensor.shape != shape:
            raise values.error(f"tensor {name} has shape {list(tensor.shape)}, expected {list(shape)}")
    if extra := stored.keys() - expected.keys():
        name = min(extra)
        raise stored[name][0].error(
            f"tensor {name} does not belong to this architecture as the engine knows it (no biases, no fused "
            f"projections, no RoPE factors)"
        )


def _adapter_rank(values: Values, tensor: TensorInfo) -> int:
    is_a = tensor.name.endswith(".lora_a")
    if not is_a and not tensor.name.endswith(".lora_b"):
        raise values.error(f"tensor {tensor.name} is no part of a LoRA: names end in .lora_a or .lora_b")
    if len(tensor.shape) != 2:
        raise values.error(f"tensor {tensor.name} has {len(tensor.shape)} dimensions, expected 2")
    _check_type(values, tensor, LORA_TYPES)
    rank = tensor.shape[1 if is_a else 0]
    if rank > MAX_LORA_RANK:
        raise values.error(f"tensor {tensor.name} has rank {rank}, expected at most {MAX_LORA_RANK}")
    return rank
