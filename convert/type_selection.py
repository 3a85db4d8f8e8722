"""The type of each tensor of a quantized file, chosen by libllama itself.

llama.cpp picks types by the name of a tensor, the length of its rows, its layer and a few hyperparameters. Nothing of
that is repeated here: libllama's dry run over a skeleton of the model, all tensors with two rows, says what it would
choose. That takes a fraction of a second, whatever the size of the model and the type.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pytrimode import _native
from pytrimode.convert.checkpoint.names import EMBEDDING, HEAD
from pytrimode.gguf.errors import ConversionError
from pytrimode.gguf.metadata import Metadata
from pytrimode.gguf.output import OutputFile
from pytrimode.gguf.types import GgmlType, OutputType
from pytrimode.gguf.writer import OutputTensor, write_gguf

Rows = list[tuple[str, int]]
"""Names and row lengths of the tensors that have an importance matrix."""
# Of no importance for the types, and big.
_UNUSED_METADATA = ("tokenizer.", "split.")


class TypedTensor(Protocol):
    """What libllama looks at; `convert.encode.SourceTensor` is one."""

    @property
    def name(self) -> str:
        """In the GGUF file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Row-major."""

    @property
    def kind(self) -> GgmlType:
        """Of the source."""


@dataclass(frozen=True)
class TypeOptions:
    """Wishes for the types of single tensors; libllama chooses for all others.

    Attributes:
        output_tensor_type: for the head.
        token_embedding_type: for the token embedding.
        tensor_types: (regular expression, type): a tensor gets the type of the first that is found in its name.
        leave_output_tensor: the head is not quantized.
        pure: all matrices get the type that most of them have.
    """

    output_tensor_type: GgmlType | None = None
    token_embedding_type: GgmlType | None = None
    tensor_types: tuple[tuple[str, GgmlType], ...] = ()
    leave_output_tensor: bool = False
    pure: bool = False


def select_types(
    metadata: Metadata,
    tensors: Sequence[TypedTensor],
    output: OutputType,
    options: TypeOptions,
    has_imatrix: bool,
) -> dict[str, GgmlType]:
    """Return the type of each tensor, by its name.

    metadata: at least the hyperparameters. has_imatrix: some choices depend on whether there is an importance matrix.

    Raises ConversionError for wishes that cannot be met and where an importance matrix is needed.
    """
    check_wishes(tensors, output, options, has_imatrix)
    all_rows = [(tensor.name, tensor.shape[-1]) for tensor in tensors]
    with tempfile.TemporaryDirectory(prefix="trimode-types-") as directory:
        skeleton = Path(directory) / "skeleton.gguf"
        _write_skeleton(skeleton, metadata, tensors)
        try:
            found = _libllamas_types(skeleton, output, options, all_rows if has_imatrix else [])
        except RuntimeError as error:
            if not has_imatrix and _works(skeleton, output, options, all_rows):
                raise ConversionError(
                    f"{output.name} needs an importance matrix: give --imatrix FILE "
                    f"(trimode-quantize imatrix makes one), or choose a type of more bits"
                ) from None
            raise ConversionError(f"llama.cpp refuses: {error}") from None
    if unknown := [tensor.name for tensor in tensors if tensor.name not in found]:
        raise ConversionError(f"llama.cpp names no type for the tensor {unknown[0]!r}")
    return {tensor.name: found[tensor.name] for tensor in tensors}


def _libllamas_types(file: Path, output: OutputType, options: TypeOptions, rows: Rows) -> dict[str, GgmlType]:
    types = _native.quantized_types(
        str(file),
        ftype=output.file_type,
        output_tensor_type=options.output_tensor_type.name if options.output_tensor_type else "",
        token_embedding_type=options.token_embedding_type.name if options.token_embedding_type else "",
        quantize_output_tensor=not options.leave_output_tensor,
        pure=options.pure,
        # The first match counts: the user's wishes go before what the output type brings along.
        tensor_types=[(pattern, kind.name) for pattern, kind in (*options.tensor_types, *output.tensor_types)],
        imatrix=rows,
    )
    return {name: GgmlType[kind.upper()] for name, kind in types}


def _works(file: Path, output: OutputType, options: TypeOptions, rows: Rows) -> bool:
    try:
        _libllamas_types(file, output, options, rows)
    except RuntimeError:
        return False
    return True


def _write_skeleton(path: Path, metadata: Metadata, tensors: Sequence[TypedTensor]) -> None:
    """Write a model with the same tensors in the same types, but two rows each: one row would be a vector.

    Vectors are F32, as llama.cpp's converter makes them: libllama leaves them alone.
    """

    def small(tensor: TypedTensor) -> OutputTensor:
        is_vector = len(tensor.shape) == 1
        stored = GgmlType.F32 if tensor.kind is GgmlType.F64 else tensor.kind  # libllama does not quantize F64
        kind, shape = (GgmlType.F32, tensor.shape) if is_vector else (stored, (2, tensor.shape[-1]))
        return OutputTensor(tensor.name, shape, kind, lambda: [bytes(kind.n_bytes(shape))])

    with OutputFile(path, force=False) as file:
        write_gguf(file, metadata.without(*_UNUSED_METADATA), [small(tensor) for tensor in tensors], lambda _: None)
        file.publish()


def check_wishes(tensors: Sequence[TypedTensor], output: OutputType, options: TypeOptions, has_imatrix: bool) -> None:
    """Refuse what libllama would abort on, or silently ignore. Raises ConversionError."""
    columns = {tensor.name: tensor.shape[-1] for tensor in tensors}
    for name, kind, option in (
        (HEAD, options.output_tensor_type, "--output-tensor-type"),
        (EMBEDDING, options.token_embedding_type, "--token-embedding-type"),
    ):
        if kind and columns.get(name, 0) % kind.block:
            raise ConversionError(
                f"{option} {kind.name.lower()}: the rows of {name} have {columns[name]} elements, "
                f"which do not divide into blocks of {kind.block}: choose another type"
            )
        if kind:
            _check_imatrix(option, kind, has_imatrix)
    for pattern, kind in options.tensor_types:
        _check_imatrix(f"--tensor-type {pattern}", kind, has_imatrix)
        if not output.is_quantized:
            raise ConversionError(f"--tensor-type works with quantized output types only, not with {output.name}")
        try:
            matched = any(re.search(pattern, name) for name in columns)
        except re.error as error:
            raise ConversionError(f"--tensor-type {pattern}: not a regular expression: {error}") from None
        if not matched:
            raise ConversionError(f"--tensor-type {pattern}: no tensor has such a name: see --dry-run for the names")


def _check_imatrix(option: str, kind: GgmlType, has_imatrix: bool) -> None:
    if not has_imatrix and _native.requires_imatrix(kind.name):
        raise ConversionError(f"{option} {kind.name.lower()} needs an importance matrix: give --imatrix FILE")
