"""Amounts of memory as people write them."""

from __future__ import annotations

import re

_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_size(text: str) -> int:
    """Bytes of "24GB", "24 GiB", "24G", "512MB": binary units, as memory is sold. Raises ValueError without a unit."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT])(?:i?B)?\s*", text, re.IGNORECASE)
    if not match:
        raise ValueError(f"size {text!r}: expected a number with a unit, such as 24GB or 512MB")
    return int(float(match.group(1)) * _UNITS[match.group(2).upper()])


def size_text(n_bytes: int) -> str:
    """In binary units."""
    value = float(n_bytes)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.2f} GiB"
