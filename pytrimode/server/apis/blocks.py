"""An answer as blocks, one after the other: reasoning, text, calls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

REASONING, TEXT, CALL = "reasoning", "text", "call"


@dataclass
class Block:
    """A block. `text`: what it has so far; of a call its arguments."""

    index: int
    kind: str
    id: str = ""
    name: str = ""
    text: str = ""


class BlockEvent(NamedTuple):
    """What happened to a block; `text`: what was added."""

    event: Literal["begin", "add", "end"]
    block: Block
    text: str = ""


class Blocks:
    """Makes blocks of the deltas of one chat completion, or of its message."""

    def __init__(self) -> None:
        self.done: list[Block] = []
        self._open: Block | None = None
        self._call = -1  # the index that the open call has in its deltas

    def feed(self, delta: dict[str, Any]) -> Iterator[BlockEvent]:
        """Yield what a delta, or a whole message, adds."""
        for kind, name in ((REASONING, "reasoning_content"), (TEXT, "content")):
            if delta.get(name):
                yield from self._begin_other(kind)
                yield self._add(delta[name])
        for i, call in enumerate(delta.get("tool_calls") or []):
            function = call["function"]
            if (index := call.get("index", i)) != self._call:
                self._call = index
                yield from self.end()
                yield self._begin(CALL, call["id"], function["name"])
            if function["arguments"]:
                yield self._add(function["arguments"])

    def end(self) -> Iterator[BlockEvent]:
        """Yield the end of the block that is open."""
        if self._open:
            block, self._open = self._open, None
            self.done.append(block)
            yield BlockEvent("end", block)

    def _begin_other(self, kind: str) -> Iterator[BlockEvent]:
        if self._open is None or self._open.kind != kind:
            yield from self.end()
            yield self._begin(kind)

    def _begin(self, kind: str, id: str = "", name: str = "") -> BlockEvent:
        self._open = Block(len(self.done), kind, id, name)
        return BlockEvent("begin", self._open)

    def _add(self, text: str) -> BlockEvent:
        assert self._open
        self._open.text += text
        return BlockEvent("add", self._open, text)


def blocks_of(message: dict[str, Any]) -> list[Block]:
    """Return the blocks of a whole message."""
    blocks = Blocks()
    for _ in (*blocks.feed(message), *blocks.end()):
        pass
    return blocks.done
