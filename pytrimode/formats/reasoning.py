"""Telling a model's reasoning from its answer, in text as it streams."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

THINK_BEGIN, THINK_END = "<think>", "</think>"
"""Special tokens of the chat templates around reasoning; they are part of a completion's text."""

REASONING_NONE = "none"
REASONING_DEEPSEEK = "deepseek"
REASONING_FORMATS = {
    REASONING_DEEPSEEK: "reasoning apart, in `reasoning_content`",
    REASONING_NONE: "reasoning inline in the content, between its tags",
}
"""llama-server's names."""


def check_reasoning_format(name: str) -> None:
    """Check a format. Raises ValueError for an unknown one."""
    if name not in REASONING_FORMATS:
        raise ValueError(f"unknown reasoning_format {name!r}: use one of {', '.join(REASONING_FORMATS)}")


class ReasoningCount:
    """Counts the tokens of reasoning, its tags among them."""

    def __init__(self, begin: int, end: int, *, open: bool) -> None:
        """Take the ids of the tags, -1 for none, and whether the prompt ended inside reasoning."""
        self.n = 0
        self._begin, self._end, self._open = begin, end, open

    def feed(self, tokens: Iterable[int]) -> None:
        """Count the next tokens of the answer."""
        for token in tokens:
            self._open = self._open or token == self._begin
            self.n += self._open
            self._open = self._open and token != self._end


class Parts(NamedTuple):
    """What a piece of text added to each."""

    reasoning: str
    content: str


class ReasoningSplit:
    """Feeds on pieces of text, gives out reasoning and content without the tags and the white space around them.

    What comes out is the same however the text is cut; what a tag parts in two stands on two lines. `open`: inside
    reasoning; at first: the prompt ended there.
    """

    def __init__(self, *, open: bool = False) -> None:
        self.open = open
        self._held = ""  # a possible part of a tag, and white space that a tag may follow
        self._fresh = open  # nothing but white space since the last tag
        self._last = ["", ""]  # the last character of the reasoning, of the content

    def feed(self, text: str) -> Parts:
        """Return the parts that became final."""
        self._held += text
        out: tuple[list[str], list[str]] = ([], [])
        while True:
            tag = THINK_END if self.open else THINK_BEGIN
            head, found, tail = self._held.partition(tag)
            if not found:
                break
            self._give(head.rstrip() if self.open else head, out)
            self.open, self._fresh, self._held = not self.open, True, tail
        keep = self._possible_end(tag)
        ready, self._held = self._held[:keep], self._held[keep:]
        self._give(ready, out)
        return Parts("".join(out[0]), "".join(out[1]))

    def finish(self) -> Parts:
        """Return what was held back, once no more text comes."""
        out: tuple[list[str], list[str]] = ([], [])
        self._give(self._held, out)
        self._held = ""
        return Parts("".join(out[0]), "".join(out[1]))

    def _give(self, text: str, out: tuple[list[str], list[str]]) -> None:
        if self._fresh:
            text = text.lstrip()
        if not text:
            return
        side = 0 if self.open else 1
        if self._fresh and self._last[side].strip():
            out[side].append("\n")
        self._fresh, self._last[side] = False, text[-1]
        out[side].append(text)

    def _possible_end(self, tag: str) -> int:
        """Where the tail begins that may belong to the next tag."""
        text = self._held
        end = next(
            (i for i in range(max(0, len(text) - len(tag) + 1), len(text)) if tag.startswith(text[i:])), len(text)
        )
        return len(text[:end].rstrip()) if self.open else end
