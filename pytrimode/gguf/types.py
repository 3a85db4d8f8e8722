"""Facts about ggml's tensor types and llama.cpp's file types.

Which type each tensor of a file gets is not here: libllama decides, see `type_selection`.

Sources: llama.cpp `ggml/include/ggml.h` (enum ggml_type), `include/llama.h` (enum llama_ftype).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import prod

from pytrimode import _native


class GgmlType(Enum):
    """A tensor type, its value the number in a GGUF file; what a block holds and takes is asked of ggml.

    The names and sizes of the package `gguf` are not used: 0.19 lacks Q2_0 and gives Q8_1 40 bytes, ggml 36.

    Attributes:
        number: in a GGUF file.
        block: elements of a block.
        block_bytes: bytes of a block.
    """

    F32 = 0
    F16 = 1
    Q4_0 = 2
    Q4_1 = 3
    Q5_0 = 6
    Q5_1 = 7
    Q8_0 = 8
    Q8_1 = 9
    Q2_K = 10
    Q3_K = 11
    Q4_K = 12
    Q5_K = 13
    Q6_K = 14
    Q8_K = 15
    IQ2_XXS = 16
    IQ2_XS = 17
    IQ3_XXS = 18
    IQ1_S = 19
    IQ4_NL = 20
    IQ3_S = 21
    IQ2_S = 22
    IQ4_XS = 23
    I8 = 24
    I16 = 25
    I32 = 26
    I64 = 27
    F64 = 28
    IQ1_M = 29
    BF16 = 30
    TQ1_0 = 34
    TQ2_0 = 35
    MXFP4 = 39
    NVFP4 = 40
    Q1_0 = 41
    Q2_0 = 42

    def __init__(self, number: int) -> None:
        self.number = number
        _, self.block, self.block_bytes = _native.tensor_type(number)

    @property
    def is_quantized(self) -> bool:
        """Whether several elements share a block."""
        return self.block > 1

    def n_bytes(self, shape: tuple[int, ...]) -> int:
        """Bytes of a tensor of this (row-major) shape. Rows must be whole blocks."""
        return prod(shape) // self.block * self.block_bytes


BY_NUMBER = {kind.number: kind for kind in GgmlType}

# Types of activations, within ggml's kernels, and of what is no weight.
_NO_WEIGHTS = ("Q8_1", "Q8_K", "I8", "I16", "I32", "I64", "F64")
WEIGHT_TYPES = {kind.name.lower(): kind for kind in GgmlType if kind.name not in _NO_WEIGHTS}
"""What a tensor can be given with `--tensor-type` and the like, by its name on the command line."""


@dataclass(frozen=True)
class OutputType:
    """What `--q8_0` and its like mean.

    Attributes:
        name: as on the command line.
        file_type: the number in general.file_type (enum llama_ftype).
        text: about it, for the help of a command.
        tensor_types: (regular expression, type) for tensors that libllama would give another type.
    """

    name: str
    file_type: int
    text: str
    tensor_types: tuple[tuple[str, GgmlType], ...] = ()

    @property
    def is_quantized(self) -> bool:
        """Whether its matrices are quantized."""
        return self.name not in ("f32", "f16", "bf16")


_UNQUANTIZED = "nothing is quantized"
_IMATRIX = "needs --imatrix"

# The bits per weight are those of the 8B's shapes.
OUTPUT_TYPES = {
    output.name: output
    for output in (
        OutputType("q8_0", 7, "8.5 bits per weight, as good as the original; the default"),
        OutputType("q6_k", 18, "6.6 bits"),
        OutputType("q5_k_m", 17, "5.7 bits"),
        OutputType("q5_k_s", 16, "5.6 bits"),
        OutputType("q4_k_m", 15, "4.9 bits: the usual choice where Q8_0 does not fit"),
        OutputType("q4_k_s", 14, "4.7 bits"),
        OutputType("q3_k_l", 13, "4.3 bits"),
        OutputType("q3_k_m", 12, "4.0 bits"),
        OutputType("q3_k_s", 11, "3.6 bits"),
        OutputType("q2_k", 10, "3.2 bits"),
        OutputType("q2_k_s", 21, f"3.0 bits; {_IMATRIX}"),
        OutputType("iq4_nl", 25, "4.7 bits"),
        OutputType("iq4_xs", 30, "4.5 bits"),
        OutputType("iq3_m", 27, "3.8 bits"),
        OutputType("iq3_s", 26, "3.7 bits"),
        OutputType("iq3_xs", 22, f"3.5 bits; {_IMATRIX}"),
        OutputType("iq3_xxs", 23, f"3.2 bits; {_IMATRIX}"),
        OutputType("iq2_m", 29, f"2.9 bits; {_IMATRIX}"),
        OutputType("iq2_s", 28, f"2.7 bits; {_IMATRIX}"),
        OutputType("iq2_xs", 20, f"2.6 bits; {_IMATRIX}"),
        OutputType("iq2_xxs", 19, f"2.4 bits; {_IMATRIX}"),
        OutputType("iq1_m", 31, f"2.1 bits; {_IMATRIX}"),
        OutputType("iq1_s", 24, f"2.0 bits; {_IMATRIX}"),
        OutputType("q5_1", 9, "6.0 bits; the four below have the head in Q6_K, as llama.cpp does"),
        OutputType("q5_0", 8, "5.6 bits"),
        OutputType("q4_1", 3, "5.1 bits"),
        OutputType("q4_0", 2, "4.6 bits"),
        # llama.cpp's own MXFP4 type is for experts only: everything else would be Q8_0.
        OutputType("mxfp4", 38, "4.8 bits: layers in MXFP4", (("^blk\\.", GgmlType.MXFP4),)),
        OutputType("tq2_0", 37, "2.5 bits: ternary, for models trained so"),
        OutputType("tq1_0", 36, "2.2 bits: ternary, for models trained so"),
        OutputType("q2_0", 41, "2.7 bits, for models trained so"),
        OutputType("q1_0", 40, "1.5 bits, for models trained so"),
        OutputType("f16", 1, _UNQUANTIZED),
        OutputType("bf16", 32, f"{_UNQUANTIZED}; exactly the checkpoint where that is BF16"),
        OutputType("f32", 0, _UNQUANTIZED),
    )
}

ALIASES = {"q3_k": "q3_k_m", "q4_k": "q4_k_m", "q5_k": "q5_k_m"}
"""Other names that llama-quantize knows."""

QUANTIZATION_VERSION = 2
"""GGML_QNT_VERSION: readers refuse quantized files without it."""
