"""GGUF metadata: typed key-value pairs, encoded as they are added.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

import numpy as np

from .errors import ConversionError

U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9


class Metadata:
    """Key-value pairs in the order in which they were added; `encode` gives their bytes in a GGUF file."""

    def __init__(self) -> None:
        self._entries: dict[str, bytes] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def u32(self, key: str, value: int) -> None:
        """Add an unsigned 32-bit integer."""
        self._add(key, U32, struct.pack("<I", value))

    def f32(self, key: str, value: float) -> None:
        """Add a 32-bit float."""
        self._add(key, F32, struct.pack("<f", value))

    def boolean(self, key: str, value: bool) -> None:
        """Add a boolean."""
        self._add(key, BOOL, struct.pack("<?", value))

    def string(self, key: str, value: str) -> None:
        """Add a string. Raises ConversionError when it is not Unicode text."""
        self._add(key, STRING, _encode_strings(key, [value]))

    def strings(self, key: str, values: list[str]) -> None:
        """Add an array of strings. Raises ConversionError when one is not Unicode text."""
        self._add(key, ARRAY, struct.pack("<IQ", STRING, len(values)) + _encode_strings(key, values))

    def i32s(self, key: str, values: Iterable[int]) -> None:
        """Add an array of signed 32-bit integers."""
        array = np.fromiter(values, dtype="<i4")
        self._add(key, ARRAY, struct.pack("<IQ", I32, array.size) + array.tobytes())

    def encode(self) -> bytes:
        """All pairs, as they stand in the file."""
        return b"".join(self._entries.values())

    def _add(self, key: str, kind: int, value: bytes) -> None:
        if key in self._entries:
            raise ValueError(f"GGUF key {key} is added twice")
        self._entries[key] = encode_string(key) + struct.pack("<I", kind) + value


def _encode_strings(key: str, values: list[str]) -> bytes:
    try:
        return b"".join(map(encode_string, values))
    except UnicodeEncodeError as error:  # JSON can spell half a surrogate pair
        raise ConversionError(f"{key}: {error.object!r} from the checkpoint is not valid Unicode text") from None


def encode_string(text: str) -> bytes:
    """A GGUF string: 64-bit length, then UTF-8."""
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data
