"""The live view of diffusion: the block being unmasked, behind the text that is final."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from pytrimode.answers.results import BlockToken
from pytrimode.cli.conversation import Part
from pytrimode.cli.terminal_text import for_terminal

MASK = "▒"
FRESH = "bold green"
WAITING = "dim"


class BlockView:
    """Redraws the unfinished line with the block behind it; finished lines are printed once, as plain text.

    On `close` the unfinished line is printed as plain text too, so that nothing of the view remains.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._console = Console(file=out, highlight=False, markup=False, emoji=False)
        self._live = Live(console=self._console, transient=True, auto_refresh=False)
        self._line = ""
        self._block: Sequence[BlockToken | None] = ()

    def write(self, part: Part) -> None:
        """Show what a pass brought: final text, tokens decided in this pass in another colour, masks."""
        if not self._live.is_started:
            self._live.start()
        text = for_terminal(part.text)
        self._line += text
        finished, newline, self._line = self._line.rpartition("\n")
        if newline:
            self._console.print(Text(finished), soft_wrap=True)
        self._live.update(self._picture(text, part.block), refresh=True)
        self._block = part.block

    def close(self) -> None:
        """Remove the view and print the last line."""
        self._live.stop()
        self._out.write(self._line)
        self._out.flush()

    def _picture(self, fresh: str, block: Sequence[BlockToken | None]) -> Text:
        n_fresh = min(len(fresh.rpartition("\n")[2]), len(self._line))
        picture = Text(self._line[: len(self._line) - n_fresh])
        picture.append(self._line[len(self._line) - n_fresh :], style=FRESH)
        for style, text in undecided(block, self._block):
            picture.append(text, style=style)
        # Rich redraws only what fits the screen: of a long line its end is shown.
        room = self._console.width * max(1, self._console.height - 2)
        return picture[-room:] if len(picture) > room else picture


def undecided(block: Sequence[BlockToken | None], before: Sequence[BlockToken | None] = ()) -> list[tuple[str, str]]:
    """Return styles and texts of a block from its first mask on (what is before is final text), up to an end of
    generation. `before`: the block as it was; what it had already has no colour."""
    if None not in block:
        return []
    parts = []
    for i in range(block.index(None), len(block)):
        token = block[i]
        if token is None:
            parts.append((WAITING, MASK))
            continue
        if token["end"]:
            break
        known = i < len(before) and before[i] == token
        parts.append(("" if known else FRESH, for_terminal(token["text"]).replace("\n", "⏎")))
    return parts
