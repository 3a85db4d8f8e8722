"""Text of users that spells special tokens out, and stays text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

MARK = "\ufdd0"
"""Within what looks like a special token. A code point that is no character: no text has it."""


class SpecialText:
    """The special tokens of a vocabulary, by their texts."""

    def __init__(self, tokens: Mapping[str, int]) -> None:
        self.tokens = {text: token for text, token in tokens.items() if len(text) > 1}
        longest_first = sorted(self.tokens, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def guarded(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Return the message with marks in its content, unless it is the assistant's own: templates look for tags in
        that.
        """
        content = message.get("content")
        if message.get("role") == "assistant":
            return dict(message)
        if isinstance(content, str):
            return {**message, "content": self.guarded_text(content)}
        if isinstance(content, Sequence):
            return {**message, "content": [self._guarded_part(part) for part in content]}
        return dict(message)

    def _guarded_part(self, part: Any) -> Any:
        if isinstance(part, Mapping) and isinstance(part.get("text"), str):
            return {**part, "text": self.guarded_text(part["text"])}
        return part

    def guarded_text(self, text: str) -> str:
        """Return a text with marks."""
        return self._pattern.sub(lambda found: found[0][0] + MARK + found[0][1:], text.replace(MARK, ""))

    def split(self, text: str) -> list[str | int]:
        """Return a prompt as texts without special tokens and, between them, the ids of those that bear no mark."""
        parts: list[str | int] = []
        end = 0
        for found in self._pattern.finditer(text):
            parts += [text[end : found.start()].replace(MARK, ""), self.tokens[found[0]]]
            end = found.end()
        parts.append(text[end:].replace(MARK, ""))
        return [part for part in parts if part != ""]
