"""Amounts of bytes as people write them: GB are 10^9 bytes, GiB are 2^30, everywhere."""

from __future__ import annotations

import re

_DECIMAL = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY = {"KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


def parse_size(text: str) -> int:
    """Bytes of "500M", "20G", "20GB" (powers of 1000), "20GiB" (of 1024) or a number alone. Raises ValueError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]I?)?B?", text.strip().upper())
    if not match:
        raise ValueError(f"{text!r} is not a size: write it as 500M, 20G or 20GiB")
    return int(float(match[1]) * (_DECIMAL | _BINARY)[match[2] or ""])


def size_text(n_bytes: float) -> str:
    """ "7.66 GB", "12.30 MB" or "1.5 kB": of files, as file managers and hubs show them."""
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if n_bytes >= size:
            return f"{n_bytes / size:.2f} {unit}"
    return f"{n_bytes / 1e3:.1f} kB"


def memory_text(n_bytes: float) -> str:
    """ "7.13 GiB", "11.7 MiB", "1.5 KiB" or "12 B": of memory, and of what is to fit into it."""
    for unit, exponent, digits in (("GiB", 30, 2), ("MiB", 20, 1), ("KiB", 10, 1)):
        if n_bytes >= 2**exponent:
            return f"{n_bytes / 2**exponent:.{digits}f} {unit}"
    return f"{n_bytes:.0f} B"
