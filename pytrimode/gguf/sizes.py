"""Sizes of files in text, both ways."""

from __future__ import annotations

import re

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}


def parse_size(text: str) -> int:
    """Bytes of "500M", "20G", "20GB" (powers of 1000) or "20GiB" (of 1024). Raises ValueError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]I?)?B?", text.strip().upper())
    if not match:
        raise ValueError(f"{text!r} is not a size: write it as 500M, 20G or 20GiB")
    n_bytes = int(float(match[1]) * _UNITS[match[2] or ""])
    if n_bytes <= 0:
        raise ValueError(f"{text!r} is not a size above zero")
    return n_bytes


def shown_size(n_bytes: float) -> str:
    """ "7.66 GB", "12.30 MB" or "1.5 kB"."""
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if n_bytes >= size:
            return f"{n_bytes / size:.2f} {unit}"
    return f"{n_bytes / 1e3:.1f} kB"
