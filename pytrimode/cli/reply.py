"""Printing an answer as it comes: plain text anywhere, the block being unmasked on a terminal."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from dataclasses import dataclass
from typing import Protocol, TextIO

from pytrimode.answers.results import FinishDetails, Timings
from pytrimode.cli.conversation import Part
from pytrimode.cli.interrupt import Interrupt
from pytrimode.cli.live import BlockView
from pytrimode.cli.terminal_text import for_terminal
from pytrimode.options.modes import DIFFUSION


@dataclass
class Reply:
    """What came of an answer."""

    text: str = ""
    finish: FinishDetails | None = None
    """None when it was interrupted."""
    timings: Timings | None = None


class Writer(Protocol):
    """Shows one pass after another."""

    def write(self, part: Part) -> None:
        """Show what the pass brought."""

    def close(self) -> None:
        """End the display: the answer is complete, or was stopped."""


class PlainWriter:
    """Text as it becomes final."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._terminal = out.isatty()

    def write(self, part: Part) -> None:
        """Show its text at once."""
        self._out.write(for_terminal(part.text) if self._terminal else part.text)
        self._out.flush()

    def close(self) -> None:
        """Nothing is held."""


def writer_for(out: TextIO, mode: str, *, rendered: bool = False) -> Writer:
    """Return plain text, but on a terminal the live view of diffusion, and Markdown where it is to be `rendered`."""
    if out.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        if rendered:
            from pytrimode.cli.markdown_view import MarkdownView  # takes a while to import

            return MarkdownView(out)
        if mode == DIFFUSION:
            return BlockView(out)
    return PlainWriter(out)


def show_reply(run: Generator[Part, None, None], writer: Writer, stop: Interrupt | None = None) -> Reply:
    """Show an answer while it is made, and return it. It ends early when `stop` says so, within one pass."""
    reply = Reply()
    with contextlib.closing(writer), contextlib.closing(run):
        for part in run:
            writer.write(part)
            reply.text += part.text
            reply.finish, reply.timings = part.finish or reply.finish, part.timings or reply.timings
            if stop:
                break
    return reply
