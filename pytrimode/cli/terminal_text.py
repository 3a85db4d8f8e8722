"""Text for a terminal: what a model writes must not drive it."""

from __future__ import annotations

# Control characters but tab and newline become visible symbols (U+2400 ...), those of the C1 set U+FFFD.
_VISIBLE = {c: 0x2400 + c for c in range(0x20) if chr(c) not in "\t\n"} | {0x7F: 0x2421}
_VISIBLE |= dict.fromkeys(range(0x80, 0xA0), 0xFFFD)


def for_terminal(text: str) -> str:
    """Return the text without control characters that a terminal would obey."""
    return text.translate(_VISIBLE)
