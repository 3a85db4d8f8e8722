"""Printing an answer as it comes: plain text anywhere, the block being unmasked on a terminal."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from dataclasses import dataclass
from typing import Protocol, TextIO

from pytrimode.cli.interrupt import Interrupt
from pytrimode.cli.live import BlockView
from pytrimode.cli.terminal_text import for_terminal
from pytrimode.completion import Step
from pytrimode.modes import DIFFUSION, resolve_mode
from pytrimode.results import FinishDetails, Timings
from pytrimode.trimode import TriMode


@dataclass
class Reply:
    """What came of an answer."""

    text: str = ""
    finish: FinishDetails | None = None
    """None when it was interrupted."""
    timings: Timings | None = None


class Writer(Protocol):
    """Shows one step after another."""

    def write(self, step: Step) -> None:
        """Show what the step brought."""

    def close(self) -> None:
        """The answer is complete, or was stopped."""


class PlainWriter:
    """Text as it becomes final."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._terminal = out.isatty()

    def write(self, step: Step) -> None:
        """Show the step's text at once."""
        self._out.write(for_terminal(step.text) if self._terminal else step.text)
        self._out.flush()

    def close(self) -> None:
        """Nothing is held."""


def writer_for(out: TextIO, model: TriMode, mode: str) -> Writer:
    """The live view for diffusion on a terminal, else plain text."""
    resolved = resolve_mode(mode, has_mask=model.mask_token_id >= 0)
    if resolved == DIFFUSION and out.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        return BlockView(out, model)
    return PlainWriter(out)


def show_reply(run: Generator[Step, None, None], writer: Writer, stop: Interrupt | None = None) -> Reply:
    """Show an answer while it is made, and return it. It ends early when `stop` says so, within one step."""
    reply = Reply()
    with contextlib.closing(writer), contextlib.closing(run):
        for step in run:
            writer.write(step)
            reply.text += step.text
            if step.ending:
                reply.finish = step.ending.details
                reply.timings = step.ending.measured["timings"]
            if stop:
                break
    return reply
