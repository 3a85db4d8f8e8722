"""What every GGUF file has in common: magic, versions, alignment, and the numbers of value types.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

MAGIC = b"GGUF"
VERSION = 3
"""What is written."""
READABLE_VERSIONS = (2, 3)
ALIGNMENT = 32
"""GGUF's default: data of a tensor starts at a multiple of it."""
MAX_DIMENSIONS = 4
MAX_NAME = 64
"""GGML_MAX_NAME: bytes of a tensor's name and the zero behind it."""

U16, U32, I32, F32, BOOL, STRING, ARRAY = 2, 4, 5, 6, 7, 8, 9
SCALARS = {0: "B", 1: "b", U16: "H", 3: "h", U32: "I", I32: "i", F32: "f", BOOL: "?", 10: "Q", 11: "q", 12: "d"}
"""Value types of one number each -> its code in `struct`."""


def padded(n_bytes: int) -> int:
    """Return what so many bytes take in a file, alignment included."""
    return (n_bytes + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
