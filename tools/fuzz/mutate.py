"""Changes of bytes by chance: of what is binary (numbers, lengths) and of what is text (numbers, nesting, quotes)."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable, Sequence

_NUMBERS = (0, 1, 2, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
_TEXTS = (
    b"0", b"-1", b"1e400", b"NaN", b"null", b"true", b"[]", b"{}", b'""', b"[" * 2000, b'{"a":' * 500, b"9" * 5000,
    b'"\\ud800"', b"\xff", b"\x00", b"\\u0000", b"\n", b"\x1b[2J", b"(" * 2000, b"::=", b"{1000000}", b"..",
)  # fmt: skip


def _flip(data: bytearray, at: int, chance: random.Random) -> None:
    data[at] ^= 1 << chance.randrange(8)


def _number(data: bytearray, at: int, chance: random.Random) -> None:
    size = chance.choice((1, 2, 4, 8))
    data[at : at + size] = struct.pack("<Q", chance.choice(_NUMBERS))[:size]


def _cut(data: bytearray, at: int, chance: random.Random) -> None:
    del data[at : at + chance.choice((1, 2, 8, 64, len(data)))]


def _double(data: bytearray, at: int, chance: random.Random) -> None:
    part = data[at : at + chance.choice((1, 8, 64, 512))]
    data[at:at] = part * chance.choice((1, 1, 2, 50))


def _text(data: bytearray, at: int, chance: random.Random) -> None:
    data[at:at] = chance.choice(_TEXTS)


def _value(data: bytearray, at: int, chance: random.Random) -> None:
    """Another text in place of a number, a string or a word of JSON."""
    found = re.compile(rb'-?\d+(?:\.\d+)?|"[^"]{0,100}"|true|false|null').search(data, at)
    if found:
        data[found.start() : found.end()] = chance.choice(_TEXTS)


_CHANGES: Sequence[Callable[[bytearray, int, random.Random], None]] = (_flip, _number, _cut, _double, _text, _value)


def mutated(seeds: Sequence[bytes], chance: random.Random) -> bytes:
    """Return one of the seeds with one to six changes; half of them near its beginning, where headers are."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.choice((1, 1, 2, 3, 6))):
        near = chance.random() < 0.5
        at = chance.randrange(min(len(data), 4096) if near else len(data)) if data else 0
        change = chance.choice(_CHANGES)
        if data or change is _text:
            change(data, at, chance)
    return bytes(data)
