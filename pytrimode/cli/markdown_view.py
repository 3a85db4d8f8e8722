"""An answer on a terminal: Markdown as it comes, what diffusion has not decided yet, what self-spec drafts."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TextIO

from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.markdown import Markdown
from rich.segment import Segment
from rich.text import Text

from pytrimode.cli.conversation import Part
from pytrimode.cli.live import WAITING, undecided
from pytrimode.cli.terminal_text import for_terminal

ACCEPTED, REJECTED = "green", "red strike"
_FENCE = re.compile(r"\s*(```+|~~~+)")
_REFRESH_SECONDS = 0.08
"""Between two pictures: a long block takes a while to lay out."""


def markdown(text: str) -> Markdown:
    """Return what rich prints of Markdown. HTML stays text, a line stays a line, links show where they lead."""
    found = Markdown("", code_theme="ansi_dark", hyperlinks=False)
    parser = MarkdownIt("commonmark", {"html": False}).enable("strikethrough").enable("table")
    found.parsed = parser.parse(text)
    _keep_lines(found.parsed)
    return found


def _keep_lines(tokens: Sequence[Token]) -> None:
    for token in tokens:
        if token.type == "softbreak":
            token.type = "hardbreak"
        _keep_lines(token.children or ())


def finished_blocks(text: str) -> int:
    """Return how many characters of Markdown are blocks that nothing to come can change: up to the last blank line that
    is not in a fence of code."""
    position, end, fence = 0, 0, ""
    for line in text.splitlines(keepends=True):
        position += len(line)
        if found := _FENCE.match(line):
            if not fence:
                fence = found[1]
            elif found[1].startswith(fence) and not line.strip(" `~\n"):
                fence = ""
        elif not fence and not line.strip() and line.endswith("\n"):
            end = position
    return end


@dataclass
class Drafts:
    """What self-spec has drafted, and how much of it was kept."""

    drafted: int = 0
    accepted: int = 0
    _waiting: Sequence[str] = ()
    _last: list[tuple[str, str]] = field(default_factory=list)

    def add(self, part: Part) -> None:
        """Count a pass: `accepted` is about the draft of the one before."""
        if part.accepted is not None and self._waiting:
            n = min(part.accepted, len(self._waiting))  # a server may say anything
            self.drafted += len(self._waiting)
            self.accepted += n
            kept, lost = self._waiting[:n], self._waiting[n:]
            self._last = [(for_terminal("".join(kept)), ACCEPTED), (for_terminal("".join(lost)), REJECTED)]
        self._waiting = part.draft

    def line(self) -> Text | None:
        """Return `drafted 96, accepted 71, rejected 25` and the last draft; None before the first one."""
        if not self.drafted:
            return None
        rejected = self.drafted - self.accepted
        line = Text(f"drafted {self.drafted}, accepted {self.accepted}, rejected {rejected}  ", style=WAITING, end="")
        for text, style in self._last:
            line.append(text.replace("\n", "⏎"), style=style)
        line.no_wrap, line.overflow = True, "ellipsis"
        return line


class _Last:
    """The last lines of something that may be higher than the screen."""

    def __init__(self, shown: RenderableType, height: int) -> None:
        self._shown, self._height = shown, height

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the segments."""
        for line in console.render_lines(self._shown, options, pad=False)[-self._height :]:
            yield from line
            yield Segment.line()


class MarkdownView:
    """Prints finished blocks once, and redraws the one that is being written; nothing of the view remains."""

    def __init__(self, out: TextIO) -> None:
        self._console = Console(file=out, highlight=False, markup=False, emoji=False)
        self._live = Live(console=self._console, transient=True, auto_refresh=False)
        self._text = ""
        self._drafts = Drafts()
        self._printed = False
        self._drawn = 0.0

    def write(self, part: Part) -> None:
        """Show what a pass brought."""
        if not self._live.is_started:
            self._live.start()
        self._text += for_terminal(part.text)
        self._drafts.add(part)
        if end := finished_blocks(self._text):
            self._print(self._text[:end])
            self._text = self._text[end:]
        now = time.monotonic()
        if now - self._drawn >= _REFRESH_SECONDS or part.block or part.finish:
            self._drawn = now
            self._live.update(Group(*self._picture(part)), refresh=True)

    def close(self) -> None:
        """Remove the view and print the last block."""
        self._live.stop()
        self._print(self._text)

    def _print(self, text: str) -> None:
        if text.strip():
            if self._printed:
                self._console.print()
            self._console.print(markdown(text))
            self._printed = True

    def _picture(self, part: Part) -> Iterator[RenderableType]:
        if self._printed:
            yield Text("")
        height = max(2, self._console.height - 4)
        if part.block:
            text = Text(self._text)
            for style, piece in undecided(part.block):
                text.append(piece, style=style)
            yield _Last(text, height)
        else:
            yield _Last(markdown(self._text), height)
        if line := self._drafts.line():
            yield line
