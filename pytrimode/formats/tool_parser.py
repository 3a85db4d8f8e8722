"""Tool calls in the text of a model as it streams."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import NamedTuple

from pytrimode.formats.call_readers import CallPart, CallReader
from pytrimode.formats.tool_calls import ToolFormat
from pytrimode.formats.tools import Tool, ToolCallDelta


class Pieces(NamedTuple):
    """What a piece of text added."""

    content: str
    calls: list[ToolCallDelta]


class ToolCallParser:
    """Feeds on pieces of text, gives out content and calls.

    A call is given out as it comes: its name and then its arguments. With `whole` that is when it is complete, and what
    is no call comes out as content; else what was given out of it stands, and the rest of it is dropped. Apart from
    that, what comes out is the same however the text is cut. With `single` there is nothing behind the first call.
    """

    def __init__(self, form: ToolFormat, tools: Sequence[Tool], *, single: bool = False) -> None:
        self.whole = False
        self.n_calls = 0
        """Calls that are complete."""
        self._form = form
        self._tools = tools
        self._single = single
        self._held = ""
        self._reader: CallReader | None = None  # inside a body
        self._body = ""
        self._parts: list[CallPart] = []  # of the body, while they are held back
        self._n_told = 0
        self._told_before = 0  # when the body began

    def feed(self, text: str) -> Pieces:
        """Return what became final."""
        self._held += text
        out = Pieces("", [])
        while True:
            tag = self._form.begin if self._reader is None else self._form.end or self._form.begin
            head, found, tail = self._held.partition(tag)
            if not found:
                break
            self._held = tail
            if self._reader is None:
                out = self._with(out, head.rstrip())
            else:
                self._read(head, out.calls)
                out = self._close(out, self._form.end)
            if tag == self._form.begin:
                self._reader, self._body, self._parts = self._form.reader(self._tools), "", []
                self._told_before = self._n_told
        keep = self._possible_tag(tag)
        ready, self._held = self._held[:keep], self._held[keep:]
        if self._reader is None:
            return self._with(out, ready)
        self._read(ready, out.calls)
        return out

    def finish(self) -> Pieces:
        """Return what was held back, once no more text comes."""
        out = Pieces("", [])
        text, self._held = self._held, ""
        if self._reader is None:
            return self._with(out, text.rstrip() if self._n_told else text)
        # A model may end its turn without the tag.
        self._read(text, out.calls)
        return self._close(out, "")

    def _with(self, out: Pieces, content: str) -> Pieces:
        return out if self._single and self.n_calls else Pieces(out.content + content, out.calls)

    def _read(self, text: str, calls: list[ToolCallDelta]) -> None:
        assert self._reader
        self._body += text
        self._tell(self._reader.feed(text), calls)

    def _close(self, out: Pieces, tag: str) -> Pieces:
        """End the body; one that is no call, and of which nothing was told, is content."""
        assert self._reader
        reader, self._reader = self._reader, None
        try:
            self._tell(reader.finish(), out.calls)
        except (ValueError, KeyError, TypeError, RecursionError):
            told = self._n_told > self._told_before
            return out if told else self._with(out, self._form.begin + self._body + tag)
        if self.whole:
            self._give(self._complete(reader.n_whole), out.calls)
        self.n_calls += reader.n_whole
        return out

    def _complete(self, n: int) -> list[CallPart]:
        """Return the parts of the first n calls of the body."""
        starts = [i for i, part in enumerate(self._parts) if part.name is not None]
        return self._parts[: starts[n]] if n < len(starts) else self._parts

    def _tell(self, parts: list[CallPart], calls: list[ToolCallDelta]) -> None:
        if self.whole:
            self._parts += parts
        else:
            self._give(parts, calls)

    def _give(self, parts: list[CallPart], calls: list[ToolCallDelta]) -> None:
        for part in parts:
            if part.name is not None:
                self._n_told += 1
            if self._single and self._n_told > 1:
                continue
            index = self._n_told - 1
            if part.name is not None:
                function = {"name": part.name, "arguments": part.arguments}
                calls.append({"index": index, "id": _new_id(), "type": "function", "function": function})  # type: ignore[typeddict-item]
            elif calls and calls[-1]["index"] == index:
                calls[-1]["function"]["arguments"] += part.arguments
            else:
                calls.append({"index": index, "function": {"arguments": part.arguments}})

    def _possible_tag(self, tag: str) -> int:
        """Where a part of the tag begins that may follow, outside of a body with the white space in front of it."""
        text = self._held
        first = max(0, len(text) - len(tag) + 1)
        end = next((i for i in range(first, len(text)) if tag.startswith(text[i:])), len(text))
        return len(text[:end].rstrip()) if self._reader is None else end


def _new_id() -> str:
    return f"call_{uuid.uuid4().hex[:24]}"
