"""A GGUF model to read: one file or the parts of a split one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pytrimode.convert.encode import SourceTensor
from pytrimode.gguf.errors import ConversionError
from pytrimode.gguf.header import GgufHeader, read_gguf_header
from pytrimode.gguf.mapped_file import MappedFile
from pytrimode.gguf.metadata import Metadata
from pytrimode.gguf.preflight import read_parts
from pytrimode.gguf.types import GgmlType

SPLIT_KEYS = "split."
MAX_DIMS = 2
"""Of the tensors of a model: vectors and matrices."""
MMPROJ_DIMS = 4
"""Of those of a vision tower: the patches' kernel has a channel and two sides more."""


class GgufInput:
    """An opened model. Use it as a context manager: its files are memory-mapped until it closes.

    Attributes:
        path: as given: the file, or the first part.
        headers: of all parts, in order.
        parts: the tensors of each part, in order.
    """

    def __init__(self, path: Path, max_dims: int = MAX_DIMS) -> None:
        """Open `path` and all parts that belong to it.

        Raises ConversionError when one is missing or damaged, or has a tensor of more than `max_dims` dimensions.
        """
        self.path = path
        with refusals(path):
            self.headers = read_parts(read_gguf_header(path))
        self._files = [MappedFile(header.path) for header in self.headers]
        self.parts = [
            [_source_tensor(header, file, i, max_dims) for i in range(len(header.tensors))]
            for header, file in zip(self.headers, self._files, strict=True)
        ]

    @property
    def tensors(self) -> list[SourceTensor]:
        """The tensors of all parts, in order."""
        return [tensor for part in self.parts for tensor in part]

    def metadata(self) -> Metadata:
        """Return a copy of the model's metadata, without what says that it is split."""
        header, file = self.headers[0], self._files[0]
        metadata = Metadata()
        for key, (begin, end) in header.spans.items():
            if not key.startswith(SPLIT_KEYS):
                with file.read(begin, end) as value:
                    metadata.encoded(key, bytes(value))
        return metadata

    def value(self, key: str) -> object:
        """Return a metadata value, None without it; arrays as ("array", length)."""
        return self.headers[0].metadata.get(key)

    def __enter__(self) -> GgufInput:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()


@contextmanager
def refusals(path: Path) -> Iterator[None]:
    """Raise as ConversionError what is wrong with `path` or one of its parts."""
    try:
        yield
    except FileNotFoundError as error:
        raise ConversionError(f"{path}: not found" if error.errno else str(error)) from None
    except IsADirectoryError:
        raise ConversionError(f"{path}: is a directory: trimode-convert reads checkpoints") from None
    except OSError as error:
        raise ConversionError(f"{error.filename or path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ConversionError(str(error)) from None


def _source_tensor(header: GgufHeader, file: MappedFile, index: int, max_dims: int) -> SourceTensor:
    info = header.tensors[index]
    if info.n_bytes is None:
        raise ConversionError(f"{header.path}: tensor {info.name}: {info.type} is not known to this version")
    if len(info.shape) > max_dims:
        raise ConversionError(
            f"{header.path}: tensor {info.name} has {len(info.shape)} dimensions, more than {max_dims}"
        )
    return SourceTensor(
        info.name, info.name, info.shape[::-1], GgmlType[info.type], file, header.data_start + info.offset
    )
