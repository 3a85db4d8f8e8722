"""GGUF metadata: typed key-value pairs, encoded as they are added.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

import numpy as np

from pytrimode.gguf.errors import ConversionError
from pytrimode.gguf.layout import ARRAY, BOOL, F32, I32, STRING, U16, U32


class Metadata:
    """Key-value pairs in the order in which they were added; `encode` gives their bytes in a GGUF file."""

    def __init__(self) -> None:
        self._entries: dict[str, bytes] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def keys(self) -> list[str]:
        """All keys, in order."""
        return list(self._entries)

    def u16(self, key: str, value: int) -> None:
        """Add an unsigned 16-bit integer."""
        self._add(key, U16, struct.pack("<H", value))

    def i32(self, key: str, value: int) -> None:
        """Add a signed 32-bit integer."""
        self._add(key, I32, struct.pack("<i", value))

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

    def f32s(self, key: str, values: Iterable[float]) -> None:
        """Add an array of 32-bit floats."""
        array = np.fromiter(values, dtype="<f4")
        self._add(key, ARRAY, struct.pack("<IQ", F32, array.size) + array.tobytes())

    def encoded(self, key: str, kind_and_value: bytes) -> None:
        """Add a value as it stands in another file, its type before it."""
        if key in self._entries:
            raise ValueError(f"GGUF key {key} is added twice")
        self._entries[key] = encode_string(key) + kind_and_value

    def remove(self, key: str) -> None:
        """Remove a key if it is there."""
        self._entries.pop(key, None)

    def entry(self, key: str) -> bytes | None:
        """Return the type and value of a key, as `encoded` takes them; None without it."""
        entry = self._entries.get(key)
        return None if entry is None else entry[len(encode_string(key)) :]

    def kind(self, key: str) -> int | None:
        """Return the GGUF type of a key's value, None without it."""
        entry = self.entry(key)
        return None if entry is None else int(struct.unpack_from("<I", entry)[0])

    def without(self, *prefixes: str) -> Metadata:
        """Return a copy that lacks the keys with these beginnings."""
        copy = Metadata()
        copy._entries = {key: entry for key, entry in self._entries.items() if not key.startswith(prefixes)}
        return copy

    def encode(self) -> bytes:
        """All pairs, as they stand in the file."""
        return b"".join(self._entries.values())

    def _add(self, key: str, kind: int, value: bytes) -> None:
        self.encoded(key, struct.pack("<I", kind) + value)


def _encode_strings(key: str, values: list[str]) -> bytes:
    try:
        return b"".join(map(encode_string, values))
    except UnicodeEncodeError as error:  # JSON can spell half a surrogate pair
        raise ConversionError(f"{key}: {error.object!r} from the checkpoint is not valid Unicode text") from None


def encode_string(text: str) -> bytes:
    """Return a GGUF string: 64-bit length, then UTF-8."""
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def decode_string(kind_and_value: bytes) -> str:
    """Return a string, as `Metadata.encoded` takes it."""
    return kind_and_value[12:].decode("utf-8", "replace")


def decode_strings(kind_and_value: bytes) -> list[str]:
    """Return an array of strings, as `Metadata.encoded` takes it. Raises ValueError when it is something else."""
    kind, inner, n = struct.unpack_from("<IIQ", kind_and_value)
    if (kind, inner) != (ARRAY, STRING):
        raise ValueError("expected an array of strings")
    position, found = 16, []
    for _ in range(n):
        (length,) = struct.unpack_from("<Q", kind_and_value, position)
        found.append(kind_and_value[position + 8 : position + 8 + length].decode("utf-8", "replace"))
        position += 8 + length
    return found
