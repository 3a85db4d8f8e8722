"""Importance matrices: how much each column of a weight matrix matters, from the activations that it multiplies.

Two formats of llama.cpp are read: its GGUF files (tensors NAME.in_sum2 and NAME.counts) and the older .dat files.
Source: llama.cpp `tools/imatrix/README.md`, `tools/imatrix/imatrix.cpp`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pytrimode.convert.checkpoint.names import EMBEDDING, HEAD
from pytrimode.convert.encode import SourceTensor
from pytrimode.gguf import keys
from pytrimode.gguf.errors import ConversionError
from pytrimode.gguf.header import GgufHeader, read_gguf_header
from pytrimode.gguf.layout import MAGIC, MAX_NAME
from pytrimode.gguf.metadata import Metadata, decode_strings
from pytrimode.gguf.output import OutputFile
from pytrimode.gguf.types import GgmlType
from pytrimode.gguf.writer import OutputTensor, write_gguf

SUMS, COUNTS = ".in_sum2", ".counts"


@dataclass(frozen=True)
class ImportanceMatrix:
    """What an importance matrix file holds.

    Attributes:
        path: where it was read from.
        entries: by the name of a weight, the mean square of its input in each column, float32.
        datasets: the calibration texts, as they were called.
        chunks: pieces of text that went through the model.
    """

    path: Path
    entries: dict[str, NDArray[np.float32]]
    datasets: list[str]
    chunks: int

    @classmethod
    def read(cls, path: Path) -> ImportanceMatrix:
        """Read a file of either format. Raises ConversionError when it is none or damaged."""
        try:
            with path.open("rb") as file:
                is_gguf = file.read(len(MAGIC)) == MAGIC
            found = _read_gguf(path) if is_gguf else _read_dat(path)
        except OSError as error:
            raise ConversionError(f"{path}: cannot be read: {error.strerror}") from None
        except (ValueError, struct.error) as error:
            raise ConversionError(f"{path}: not an importance matrix, or damaged: {error}") from None
        if not found.entries:
            raise ConversionError(f"{path}: not an importance matrix: it has no entries")
        for name, values in found.entries.items():
            if not np.isfinite(values).all() or (values < 0).any():
                raise ConversionError(f"{path}: {name}: a mean square that is negative or not finite: make it again")
        return found

    def of(self, tensor: SourceTensor) -> NDArray[np.float32] | None:
        """Return the entry of a tensor; None for an embedding or a head that has none.

        Raises ConversionError when a tensor of a layer is missing, or an entry has another length than the rows.
        """
        values = self.entries.get(tensor.name)
        if values is None:
            if tensor.name in (EMBEDDING, HEAD):
                return None
            raise ConversionError(f"{self.path}: no entry for {tensor.name}: it was made with another model")
        if values.size != tensor.shape[-1]:
            raise ConversionError(
                f"{self.path}: {tensor.name}: {values.size} columns, the model has {tensor.shape[-1]}: "
                f"it was made with another model"
            )
        return values

    def add_to(self, metadata: Metadata) -> None:
        """Write what llama-quantize writes about an importance matrix that it used."""
        for key in (keys.IMATRIX_FILE, keys.IMATRIX_DATASET, keys.IMATRIX_ENTRIES, keys.IMATRIX_CHUNKS):
            metadata.remove(key)
        metadata.string(keys.IMATRIX_FILE, self.path.name)
        if self.datasets:
            metadata.string(keys.IMATRIX_DATASET, self.datasets[0])
        metadata.u32(keys.IMATRIX_ENTRIES, len(self.entries))
        metadata.u32(keys.IMATRIX_CHUNKS, self.chunks)


def write_imatrix(
    path: Path,
    sums: Mapping[str, tuple[NDArray[np.float64], int]],
    *,
    datasets: list[str],
    chunks: int,
    chunk_size: int,
    force: bool = False,
    extra: Mapping[str, int] | None = None,
) -> None:
    """Write llama.cpp's GGUF format: by the name of a weight, the sum of squares of each column and the rows summed.

    extra: further keys with numbers. Raises ConversionError when it cannot be written.
    """
    metadata = Metadata()
    metadata.string(keys.GENERAL_TYPE, "imatrix")
    metadata.strings(keys.IMATRIX_DATASETS, datasets)
    metadata.u32(keys.IMATRIX_CHUNK_COUNT, chunks)
    metadata.u32(keys.IMATRIX_CHUNK_SIZE, chunk_size)
    for key, number in (extra or {}).items():
        metadata.u32(key, number)

    def tensor(name: str, values: NDArray[np.float32]) -> OutputTensor:
        return OutputTensor(name, (1, values.size), GgmlType.F32, lambda: [values.tobytes()])

    tensors = []
    for name, (squares, count) in sorted(sums.items()):
        tensors.append(tensor(name + SUMS, squares.astype(np.float32)))
        tensors.append(tensor(name + COUNTS, np.array([count], np.float32)))
    with OutputFile(path, force=force) as file:
        write_gguf(file, metadata, tensors, lambda _: None)
        file.publish()


def _read_gguf(path: Path) -> ImportanceMatrix:
    header = read_gguf_header(path)
    if header.metadata.get(keys.GENERAL_TYPE) != "imatrix":
        raise ValueError(f"{keys.GENERAL_TYPE} is {header.metadata.get(keys.GENERAL_TYPE)!r}, expected 'imatrix'")
    arrays = dict(_f32_arrays(header))
    entries = {}
    for name, sums in arrays.items():
        if name.endswith(SUMS):
            weight = name.removesuffix(SUMS)
            counts = arrays.get(weight + COUNTS)
            if counts is None or counts.size != 1:
                raise ValueError(f"{weight}: expected one count, found {0 if counts is None else counts.size}")
            entries[weight] = sums / counts[0] if counts[0] > 0 else np.ones_like(sums)
    begin, end = header.spans.get(keys.IMATRIX_DATASETS, (0, 0))
    with path.open("rb") as file:
        file.seek(begin)
        datasets = decode_strings(file.read(end - begin)) if end else []
    return ImportanceMatrix(path, entries, datasets, int(header.metadata.get(keys.IMATRIX_CHUNK_COUNT, 0)))


def _f32_arrays(header: GgufHeader) -> Iterable[tuple[str, NDArray[np.float32]]]:
    for info in header.tensors:
        if info.type != "F32":
            raise ValueError(f"{info.name} is {info.type}, expected F32")
        yield info.name, np.fromfile(header.path, "<f4", info.n_params, offset=header.data_start + info.offset)


def _read_dat(path: Path) -> ImportanceMatrix:
    """Read the old format: number of entries; of each name, calls, values times calls; then chunks and the dataset."""
    data = path.read_bytes()
    position = 0

    def integer(maximum: int) -> int:
        nonlocal position
        (value,) = struct.unpack_from("<i", data, position)
        position += 4
        if not 0 <= value <= maximum:
            raise ValueError(f"{value} at byte {position - 4}, expected at most {maximum}")
        return int(value)

    def text(maximum: int) -> str:
        nonlocal position
        length = integer(maximum)
        position += length
        return data[position - length : position].decode()

    entries = {}
    for _ in range(integer(len(data))):
        name = text(MAX_NAME)
        calls, n = integer(2**31 - 1), integer(len(data) // 4)
        values = np.frombuffer(data, "<f4", n, position)
        position += 4 * n
        entries[name] = (values / calls if calls else values).astype(np.float32)
    chunks, datasets = 0, []
    if position < len(data):
        chunks = integer(2**31 - 1)
        datasets = [text(len(data))]
    return ImportanceMatrix(path, entries, datasets, chunks)
