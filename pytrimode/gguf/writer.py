"""A GGUF v3 file: header, metadata, tensor descriptions, then the data of each tensor as it is produced.

gguf-py's writer takes whole tensors as numpy arrays and writes to a path; here a tensor comes in pieces, so that memory
stays flat (137 MiB at the shapes of the 3B), and the file appears whole or not at all (`output`).
Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pytrimode.gguf.layout import MAGIC, VERSION, padded
from pytrimode.gguf.metadata import Metadata, encode_string
from pytrimode.gguf.output import OutputFile, check_space
from pytrimode.gguf.types import GgmlType


@dataclass(frozen=True)
class OutputTensor:
    """A tensor to write.

    Attributes:
        name: in the GGUF file.
        shape: row-major; GGUF stores the reverse.
        kind: the type of its data.
        chunks: makes the data, in pieces of any size.
        source_kind: the type in the file that it comes from, None for what was made.
    """

    name: str
    shape: tuple[int, ...]
    kind: GgmlType
    chunks: Callable[[], Iterable[bytes]]
    source_kind: GgmlType | None = None

    @property
    def n_bytes(self) -> int:
        """Bytes of the data, without padding."""
        return self.kind.n_bytes(self.shape)


def write_gguf(
    output: OutputFile, metadata: Metadata, tensors: Sequence[OutputTensor], progress: Callable[[int], None]
) -> int:
    """Write the whole file to `output`, which is not published. Returns its size in bytes.

    progress is told the bytes written after each piece. Raises ConversionError when the disk is full.
    """
    header = encode_header(metadata, tensors)
    total = len(header) + _data_bytes(tensors)
    check_space(output.path, total)
    _append(output, header, progress)
    for tensor in tensors:
        written = 0
        for chunk in tensor.chunks():
            _append(output, chunk, progress)
            written += len(chunk)
        if written != tensor.n_bytes:
            raise AssertionError(f"{tensor.name}: {written} bytes encoded, {tensor.n_bytes} announced")
        _append(output, bytes(padded(written) - written), progress)
    return total


def file_bytes(metadata: Metadata, tensors: Sequence[OutputTensor]) -> int:
    """Size of the whole file."""
    return len(encode_header(metadata, tensors)) + _data_bytes(tensors)


def encode_header(metadata: Metadata, tensors: Sequence[OutputTensor]) -> bytes:
    """Everything before the data, padded to the alignment."""
    parts = [MAGIC, struct.pack("<IQQ", VERSION, len(tensors), len(metadata)), metadata.encode()]
    offset = 0
    for tensor in tensors:
        shape = tensor.shape[::-1]
        parts.append(encode_string(tensor.name))
        parts.append(struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, tensor.kind.number, offset))
        offset += padded(tensor.n_bytes)
    header = b"".join(parts)
    return header + bytes(padded(len(header)) - len(header))


def _data_bytes(tensors: Sequence[OutputTensor]) -> int:
    return sum(padded(tensor.n_bytes) for tensor in tensors)


def _append(output: OutputFile, data: bytes, progress: Callable[[int], None]) -> None:
    output.write(data)
    progress(len(data))
