"""Sets of characters as sorted ranges of code points, without the surrogates and, as in llama.cpp, without U+0000."""

from __future__ import annotations

from collections.abc import Iterable

Charset = tuple[tuple[int, int], ...]
"""Ranges with both ends, rising and apart."""

_LAST = 0x10FFFF
_SURROGATES = (0xD800, 0xDFFF)
NONE: Charset = ()


def of_ranges(ranges: Iterable[tuple[int, int]]) -> Charset:
    """Return the characters of ranges in any order."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return tuple(part for one in merged for part in _of_characters(one))


def union(*sets: Charset) -> Charset:
    """All characters of some sets."""
    return of_ranges(one for part in sets for one in part)


def complement(chars: Charset) -> Charset:
    """All other characters."""
    found, low = [], 0
    for begin, end in (*chars, (_LAST + 1, _LAST + 1)):
        if low < begin:
            found.append((low, begin - 1))
        low = end + 1
    return of_ranges(found)


def overlap(a: Charset, b: Charset) -> bool:
    """Whether two sets have a character in common."""
    i = j = 0
    while i < len(a) and j < len(b):
        if a[i][1] < b[j][0]:
            i += 1
        elif b[j][1] < a[i][0]:
            j += 1
        else:
            return True
    return False


def regex(chars: Charset) -> str:
    """Return a character class in Rust's syntax."""
    return "[" + "".join(_char(a) + ("" if a == b else "-" + _char(b)) for a, b in chars) + "]"


def _char(code: int) -> str:
    return chr(code) if chr(code).isascii() and chr(code).isalnum() else f"\\x{{{code:x}}}"


def _of_characters(one: tuple[int, int]) -> Iterable[tuple[int, int]]:
    low, high = max(one[0], 1), one[1]
    if high < _SURROGATES[0] or low > _SURROGATES[1]:
        return [(low, high)] if low <= high else []
    parts = ((low, _SURROGATES[0] - 1), (_SURROGATES[1] + 1, high))
    return (part for part in parts if part[0] <= part[1])
