"""A type for each tensor, so that the file stays within a budget and the loss is the smallest.

The loss of a matrix in a type is its sensitivity (see `sensitivity`) times the error of its weights in that type, as a
multiple of the error in the type that it was measured with. The choice is a multiple-choice knapsack problem.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from pytrimode import _native
from pytrimode.convert.checkpoint.names import EMBEDDING, HEAD
from pytrimode.convert.encode import SourceTensor
from pytrimode.convert.imatrix_file import ImportanceMatrix
from pytrimode.convert.type_selection import TypeOptions
from pytrimode.gguf.errors import ConversionError
from pytrimode.gguf.layout import padded
from pytrimode.gguf.types import OUTPUT_TYPES, GgmlType, OutputType
from pytrimode.quantize.target.knapsack import best_choices
from pytrimode.quantize.target.sensitivity import probe_of

_ALWAYS = ("Q2_K", "Q3_K", "IQ4_XS", "Q4_K", "Q5_K", "Q6_K", "Q8_0")
_WITH_IMATRIX = ("IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S")
_SHORT_ROWS = ("Q4_0", "Q4_1", "IQ4_NL", "Q5_0", "Q5_1", "Q8_0")
"""For rows that are no whole blocks of 256."""
_MIXES = {GgmlType.Q3_K: "q3_k_m", GgmlType.Q4_K: "q4_k_m", GgmlType.Q5_K: "q5_k_m"}
SAMPLED_WEIGHTS = 1 << 16
"""Of a matrix, whose errors stand for all."""
SAMPLES = 16
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Choices:
    """What each tensor can be, in order.

    Attributes:
        tensors: the model's.
        kinds: types for each.
        sizes_and_losses: bytes in a file and expected divergence of each of these.
    """

    tensors: Sequence[SourceTensor]
    kinds: list[list[GgmlType]]
    sizes_and_losses: list[list[tuple[int, float]]]

    @property
    def smallest(self) -> int:
        """Bytes of the data when every tensor has its smallest type."""
        return sum(min(size for size, _ in choices) for choices in self.sizes_and_losses)

    def best(self, budget: int) -> dict[str, GgmlType] | None:
        """By name, for data of at most `budget` bytes; None where nothing is so small."""
        chosen = best_choices(self.sizes_and_losses, budget)
        if chosen is None:
            return None
        return {tensor.name: of[i] for tensor, of, i in zip(self.tensors, self.kinds, chosen, strict=True)}

    def loss(self, kinds: Mapping[str, GgmlType]) -> float:
        """Return the expected divergence of an assignment, nats per row."""
        return sum(
            entries[of.index(kinds[tensor.name])][1]
            for tensor, of, entries in zip(self.tensors, self.kinds, self.sizes_and_losses, strict=True)
        )


def find_choices(
    tensors: Sequence[SourceTensor],
    sensitivity: Mapping[str, float],
    *,
    wishes: TypeOptions,
    imatrix: ImportanceMatrix | None,
    types: Sequence[GgmlType] = (),
    threads: int = 0,
    progress: Progress | None = None,
) -> Choices:
    """Try every type on some rows of every tensor.

    wishes: tensors that have their type already. types: to choose from, empty for the usual ones.
    """
    kinds, entries = [], []
    for number, tensor in enumerate(tensors):
        importance = imatrix.of(tensor) if imatrix and len(tensor.shape) > 1 else None
        wished = _wished(tensor, wishes)
        of = [wished] if wished else _candidates(tensor, types, importance)
        losses = [0.0] if len(of) == 1 else _losses(tensor, of, sensitivity, importance, threads)
        kinds.append(of)
        entries.append([(padded(kind.n_bytes(tensor.shape)), loss) for kind, loss in zip(of, losses, strict=True)])
        if progress:
            progress(number + 1, len(tensors))
    return Choices(tensors, kinds, entries)


def main_type(tensors: Sequence[SourceTensor], kinds: Mapping[str, GgmlType]) -> OutputType:
    """Return the file type that comes nearest: of most quantized weights. Raises ConversionError where none are
    quantized.
    """
    weights: Counter[GgmlType] = Counter()
    for tensor in tensors:
        kind = kinds[tensor.name]
        if kind.is_quantized:
            weights[kind] += prod(tensor.shape)
    if not weights:
        raise ConversionError("the target has room for the model as it is: give type copy, or a smaller target")
    most = weights.most_common(1)[0][0]
    return OUTPUT_TYPES.get(_MIXES.get(most, most.name.lower()), OUTPUT_TYPES["q8_0"])


def as_wishes(kinds: Mapping[str, GgmlType]) -> TypeOptions:
    """Return what tells libllama to take exactly these types."""
    return TypeOptions(tensor_types=tuple((f"^{re.escape(name)}$", kind) for name, kind in kinds.items()))


def described(tensors: Sequence[SourceTensor], kinds: Mapping[str, GgmlType]) -> str:
    """How many matrices got which type."""
    count = Counter(kinds[tensor.name] for tensor in tensors if len(tensor.shape) > 1)
    order = sorted(count, key=lambda kind: kind.block_bytes / kind.block)
    return "types of the matrices: " + ", ".join(f"{count[kind]} {kind.name.lower()}" for kind in order)


def _wished(tensor: SourceTensor, wishes: TypeOptions) -> GgmlType | None:
    """Return what the user says, and for vectors what they are."""
    if len(tensor.shape) < 2:
        return tensor.kind
    if tensor.name == HEAD and wishes.leave_output_tensor:
        return tensor.kind
    given = {HEAD: wishes.output_tensor_type, EMBEDDING: wishes.token_embedding_type}.get(tensor.name)
    return given or next((kind for pattern, kind in wishes.tensor_types if re.search(pattern, tensor.name)), None)


def _candidates(
    tensor: SourceTensor, types: Sequence[GgmlType], importance: NDArray[np.float32] | None
) -> list[GgmlType]:
    """Types for a matrix, the source's among them: what is quantized already never becomes larger."""
    names = [*(_WITH_IMATRIX if importance is not None else ()), *_ALWAYS, *_SHORT_ROWS[: 0 if _is_long(tensor) else 9]]
    wanted = types or [GgmlType[name] for name in names]
    own = GgmlType.F16 if tensor.kind is GgmlType.F32 else tensor.kind
    found = [
        kind
        for kind in wanted
        if tensor.shape[-1] % kind.block == 0
        and (importance is not None or not _native.requires_imatrix(kind.name))
        and _bits(kind) < _bits(own)
    ]
    if types and own not in types and found:
        return list(dict.fromkeys(found))
    return list(dict.fromkeys([*found, own]))


def _is_long(tensor: SourceTensor) -> bool:
    return tensor.shape[-1] % 256 == 0


def _bits(kind: GgmlType) -> float:
    return 8 * kind.block_bytes / kind.block


def _losses(
    tensor: SourceTensor,
    kinds: Sequence[GgmlType],
    sensitivity: Mapping[str, float],
    importance: NDArray[np.float32] | None,
    threads: int,
) -> list[float]:
    probe = probe_of(tensor)
    assert probe is not None, "a matrix with more than one candidate has a probe"
    rows = _sample(tensor, threads)
    # As it was tried: without an importance matrix.
    unit = _squared_error(rows, probe, None, importance, threads)
    scale = max(sensitivity[tensor.name], 0.0) / unit if unit > 0 else 0.0
    return [
        0.0 if kind is tensor.kind else scale * _squared_error(rows, kind, importance, importance, threads)
        for kind in kinds
    ]


def _sample(tensor: SourceTensor, threads: int) -> NDArray[np.float32]:
    """Return some rows of a matrix, float32, from all over it."""
    n_cols = tensor.shape[-1]
    n_rows = prod(tensor.shape) // n_cols
    row_bytes = tensor.kind.n_bytes((n_cols,))
    each = max(1, min(n_rows, SAMPLED_WEIGHTS // n_cols) // SAMPLES)
    parts = []
    for first in np.linspace(0, n_rows - each, SAMPLES, dtype=int).tolist() if n_rows > each else [0]:
        start = tensor.offset + first * row_bytes
        with tensor.file.read(start, start + each * row_bytes) as data:
            parts.append(_native.encode(data, tensor.kind.name, "F32", n_cols, threads))
    return np.frombuffer(b"".join(parts), np.float32).reshape(-1, n_cols)


def _squared_error(
    rows: NDArray[np.float32],
    kind: GgmlType,
    importance: NDArray[np.float32] | None,
    weights: NDArray[np.float32] | None,
    threads: int,
) -> float:
    """Of a type, encoded with `importance`; `weights`: how much each column counts."""
    n_cols = rows.shape[1]
    encoded = _native.encode(rows, "F32", kind.name, n_cols, threads, importance)
    again = np.frombuffer(_native.encode(encoded, kind.name, "F32", n_cols, threads), np.float32)
    columns = ((again.reshape(-1, n_cols) - rows) ** 2).sum(axis=0, dtype=np.float64)
    return float(columns.sum() if weights is None else columns @ weights.astype(np.float64))
