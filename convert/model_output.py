"""What the converter and the quantizer have in common: a model in a type, written to one file or several."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

from pytrimode.convert.checkpoint.names import EMBEDDING, HEAD
from pytrimode.convert.encode import SourceTensor, encoded_tensor
from pytrimode.convert.imatrix_file import ImportanceMatrix
from pytrimode.convert.provenance import SourceHashes
from pytrimode.convert.type_selection import TypeOptions, select_types
from pytrimode.gguf import keys
from pytrimode.gguf.edit import edit_metadata
from pytrimode.gguf.errors import ConversionError
from pytrimode.gguf.metadata import Metadata
from pytrimode.gguf.output import OutputFile
from pytrimode.gguf.split import split_by_size, split_files
from pytrimode.gguf.types import QUANTIZATION_VERSION, GgmlType, OutputType
from pytrimode.gguf.writer import OutputTensor, encode_header, write_gguf

Progress = Callable[[int, int], None]
"""Called with the bytes written so far and the bytes in all."""
GgufOutput = tuple[Path, Metadata, list[OutputTensor]]


@dataclass(frozen=True)
class OutputOptions:
    """How to write a model, but for its type.

    Attributes:
        force: replace existing files.
        threads: encoding threads, 0 for all cores.
        types: wishes for the types of single tensors.
        imatrix: importance matrix, of llama.cpp's or `trimode-quantize imatrix`.
        split_max_bytes: write parts of at most as much data.
        metadata: changes, `KEY=VALUE`.
        dry_run: plan everything and write nothing.
        hashes: record the SHA-256 of the source files.
    """

    force: bool = False
    threads: int = 0
    types: TypeOptions = field(default_factory=TypeOptions)
    imatrix: Path | None = None
    split_max_bytes: int | None = None
    metadata: tuple[str, ...] = ()
    dry_run: bool = False
    hashes: bool = True


@dataclass(frozen=True)
class ModelPlan:
    """What will be written.

    Attributes:
        files: the model's files.
        tensors: all tensors, in order.
        notes: what the user should know.
    """

    files: list[GgufOutput]
    tensors: list[OutputTensor]
    notes: list[str]

    @property
    def paths(self) -> list[Path]:
        """The model's files, the first to be given to a reader first."""
        return [path for path, _, _ in self.files]


def plan_model(
    out: Path,
    metadata: Metadata,
    sources: Sequence[SourceTensor],
    output: OutputType | None,
    options: OutputOptions,
    *,
    parts: Sequence[int] | None = None,
) -> ModelPlan:
    """Choose the types and lay out the files; nothing is written.

    output: None copies every tensor as it is. parts: how many tensors go into each file; else options decide.
    `metadata` gets the keys that describe the output. Raises ConversionError.
    """
    imatrix = ImportanceMatrix.read(options.imatrix) if options.imatrix else None
    if output is None:
        kinds = {tensor.name: tensor.kind for tensor in sources}
    else:
        kinds = select_types(metadata, sources, output, options.types, imatrix is not None)
        for key, number in (
            (keys.GENERAL_FILE_TYPE, output.file_type),
            (keys.GENERAL_QUANTIZATION_VERSION, QUANTIZATION_VERSION),
        ):
            metadata.remove(key)
            metadata.u32(key, number)
    if imatrix:
        imatrix.add_to(metadata)
    edit_metadata(metadata, options.metadata)
    tensors = [_output_tensor(source, kinds[source.name], imatrix, options.threads) for source in sources]
    if parts is None:
        layout = split_by_size(tensors, options.split_max_bytes)
    else:
        rest = iter(tensors)
        layout = [[next(rest) for _ in range(n)] for n in parts]
    return ModelPlan(split_files(out, metadata, layout), tensors, _type_notes(tensors, output, options.types))


def write_files(
    files: Sequence[GgufOutput],
    stack: ExitStack,
    *,
    force: bool,
    progress: Progress | None,
    hashes: SourceHashes,
    shared: Collection[Path] = (),
) -> list[int]:
    """Write all files, then give them their names. Returns their sizes.

    The last gets its name first: whoever finds the first finds the others too. `shared`: files that may be there
    already, with the same content.
    """
    outputs = [stack.enter_context(OutputFile(path, force=force or path in shared)) for path, _, _ in files]
    written, total = 0, sum(tensor.n_bytes for _, _, tensors in files for tensor in tensors)

    def advance(n_bytes: int) -> None:
        nonlocal written
        written = min(written + n_bytes, total)
        if progress:
            progress(written, total)

    sizes = []
    for output, (_, metadata, tensors) in zip(outputs, files, strict=True):
        sizes.append(write_gguf(output, metadata, tensors, advance))
    digests = hashes.result()
    for output, (_, metadata, tensors) in zip(outputs, files, strict=True):
        if digests and keys.TRIMODE_SOURCE_SHA256 in metadata:
            metadata.remove(keys.TRIMODE_SOURCE_SHA256)
            metadata.strings(keys.TRIMODE_SOURCE_SHA256, digests)
            output.rewrite(0, encode_header(metadata, tensors))
    new = [output for output in outputs if force or output.path not in shared or not _is_there(output)]
    for output in reversed(new):
        output.publish()
    return sizes


def _is_there(output: OutputFile) -> bool:
    """Whether the file exists with that content. Raises ConversionError for one with another."""
    if not output.path.exists():
        return False
    if not output.equals_existing():
        raise ConversionError(
            f"{output.path}: exists already and is of another checkpoint or type: give --force to replace it, or a "
            f"name for OUT"
        )
    return True


def _output_tensor(
    source: SourceTensor, kind: GgmlType, imatrix: ImportanceMatrix | None, threads: int
) -> OutputTensor:
    importance = None
    if imatrix and kind.is_quantized and kind is not source.kind:
        importance = imatrix.of(source)
    return encoded_tensor(source, kind, threads, importance)


def _type_notes(tensors: list[OutputTensor], output: OutputType | None, wishes: TypeOptions) -> list[str]:
    """Which tensors fell back to another type because their rows are no whole blocks of what they should be."""
    if output is None or not output.is_quantized:
        return []
    others = [
        tensor
        for tensor in tensors
        if len(tensor.shape) > 1
        and tensor.shape[-1] % 256
        and tensor.kind in (GgmlType.F16, GgmlType.Q8_0, GgmlType.Q5_1, GgmlType.Q5_0, GgmlType.Q4_0, GgmlType.IQ4_NL)
        and tensor.kind.name.lower() != output.name
        and not _wished(tensor, wishes)
    ]
    if not others:
        return []
    first = others[0]
    return [
        f"{len(others)} tensors are not {output.name} because their rows do not divide into blocks, "
        f"the first is {first.name} (rows of {first.shape[-1]}, {first.kind.name})"
    ]


def _wished(tensor: OutputTensor, wishes: TypeOptions) -> bool:
    head = tensor.name == HEAD and (wishes.output_tensor_type or wishes.leave_output_tensor)
    embedding = tensor.name == EMBEDDING and wishes.token_embedding_type
    return bool(head or embedding or tensor.kind in [kind for _, kind in wishes.tensor_types])


def total_bits_per_weight(tensors: Sequence[OutputTensor]) -> float:
    """Bits of the tensors per weight."""
    return 8 * sum(tensor.n_bytes for tensor in tensors) / sum(prod(tensor.shape) for tensor in tensors)
