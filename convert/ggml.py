"""Facts about ggml's tensor types, and which of them each output type of the converter uses.

Sources: llama.cpp `ggml/include/ggml.h` (enum ggml_type), `ggml/src/ggml-common.h` (block sizes), `include/llama.h`
(enum llama_ftype), `src/llama-quant.cpp` (the head's type, fallbacks).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import prod


class GgmlType(Enum):
    """A tensor type: its number in a GGUF file, elements per block, bytes per block."""

    F32 = (0, 1, 4)
    F16 = (1, 1, 2)
    Q4_0 = (2, 32, 18)
    Q4_1 = (3, 32, 20)
    Q5_0 = (6, 32, 22)
    Q5_1 = (7, 32, 24)
    Q8_0 = (8, 32, 34)
    Q6_K = (14, 256, 210)
    BF16 = (30, 1, 2)

    def __init__(self, number: int, block: int, block_bytes: int) -> None:
        self.number = number
        self.block = block
        self.block_bytes = block_bytes

    def n_bytes(self, shape: tuple[int, ...]) -> int:
        """Bytes of a tensor of this (row-major) shape. Rows must be whole blocks."""
        return prod(shape) // self.block * self.block_bytes


@dataclass(frozen=True)
class OutputType:
    """What `--q8_0` and its like mean.

    Attributes:
        name: as on the command line.
        file_type: the number in general.file_type (enum llama_ftype).
        matrix: type of all 2-D weights but the head.
        head: type of the head (output.weight).
    """

    name: str
    file_type: int
    matrix: GgmlType
    head: GgmlType

    def choose(self, shape: tuple[int, ...], *, head: bool = False) -> GgmlType:
        """The type for a weight. Vectors stay F32; rows that are no whole blocks go to Q8_0 or F16, as in llama.cpp."""
        if len(shape) == 1:
            return GgmlType.F32
        wanted = self.head if head else self.matrix
        candidates = (wanted, GgmlType.Q8_0) if wanted is GgmlType.Q6_K else (wanted,)
        return next((kind for kind in candidates if shape[-1] % kind.block == 0), GgmlType.F16)


# llama.cpp's quantize keeps the head at Q6_K for every type below Q8_0.
OUTPUT_TYPES = {
    output.name: output
    for output in (
        OutputType("q8_0", 7, GgmlType.Q8_0, GgmlType.Q8_0),
        OutputType("f16", 1, GgmlType.F16, GgmlType.F16),
        OutputType("bf16", 32, GgmlType.BF16, GgmlType.BF16),
        OutputType("f32", 0, GgmlType.F32, GgmlType.F32),
        OutputType("q4_0", 2, GgmlType.Q4_0, GgmlType.Q6_K),
        OutputType("q4_1", 3, GgmlType.Q4_1, GgmlType.Q6_K),
        OutputType("q5_0", 8, GgmlType.Q5_0, GgmlType.Q6_K),
        OutputType("q5_1", 9, GgmlType.Q5_1, GgmlType.Q6_K),
    )
}

QUANTIZATION_VERSION = 2
"""GGML_QNT_VERSION: readers refuse quantized files without it."""
