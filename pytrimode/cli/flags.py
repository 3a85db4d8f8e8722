"""Flags as they were typed, before click reads them: unknown ones are named, with the likeliest that was meant.

Left alone click reads `-hf` as `-h -f`, and shows the help page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

import click

from pytrimode.options.modes import MODE_NAMES

MODEL_FLAG, MODE_FLAG = "-m", "--mode"


def options_of(command: click.Command, ctx: click.Context) -> dict[str, click.Option]:
    """Return the options by each of their flags."""
    return {
        flag: parameter
        for parameter in command.get_params(ctx)
        if isinstance(parameter, click.Option)
        for flag in (*parameter.opts, *parameter.secondary_opts)
    }


def check_flags(known: Mapping[str, click.Option], args: Sequence[str], ctx: click.Context) -> Iterator[list[str]]:
    """Yield the arguments, a flag together with its value. What stands behind `--` comes as one list.

    Raises click.NoSuchOption for what looks like a flag and is none.
    """
    i = 0
    while i < len(args):
        arg = args[i]
        if arg == "--":
            yield list(args[i:])
            return
        n = 1
        if arg.startswith("-") and arg != "-":
            name, equals, _ = arg.partition("=")
            option = known.get(name)
            if option is None and not _is_value_attached(known, arg):
                raise NoSuchFlag(name, ctx, known)
            if option is not None and not equals and not option.is_flag and not option.count:
                n = 2
        yield list(args[i : i + n])
        i += n


def mode_or_model(words: list[str], known: Mapping[str, click.Option]) -> list[str]:
    """Return `-m NAME` as `--mode NAME` where NAME is one of modes, or several between commas, and no file."""
    if len(words) < 2 or words[0] != MODEL_FLAG or MODE_FLAG not in known:
        return words
    names = words[1].split(",")
    is_mode = all(name.strip() in MODE_NAMES for name in names) and not Path(words[1]).exists()
    return [MODE_FLAG, words[1]] if is_mode else words


class NoSuchFlag(click.NoSuchOption):
    """A flag that the command does not have, and what may have been meant."""

    def __init__(self, name: str, ctx: click.Context, known: Mapping[str, click.Option]) -> None:
        super().__init__(name, ctx=ctx)
        self._likely = likely(name, known)

    def format_message(self) -> str:
        """Return the message in a line."""
        return f"No such option {self.option_name}{self._likely}"


def likely(name: str, known: Sequence[str] | Mapping[str, object]) -> str:
    """Return `: did you mean X or Y?` for a name that is none; "." where nothing is like it."""
    # Of a flag of llama.cpp that is written with one dash too few or too many, the letters count.
    by_letters = {flag.lstrip("-").replace("_", "-"): flag for flag in known}
    found = get_close_matches(name.lstrip("-").replace("_", "-"), by_letters, n=3, cutoff=0.65)
    return f": did you mean {' or '.join(by_letters[letters] for letters in found)}?" if found else "."


def _is_value_attached(known: Mapping[str, click.Option], arg: str) -> bool:
    """Whether it is a short flag with a number behind it, `-n20`."""
    option = known.get(arg[:2])
    return option is not None and not option.is_flag and arg[2:].lstrip("-").replace(".", "", 1).isdigit()
