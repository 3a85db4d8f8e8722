"""The turns of a chat: typed, given by a pipe or on the command line; and the files that keep typed ones."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
import platformdirs

QUOTES = '"""'
MOST_KEPT = 20
"""Chats that are kept; the oldest goes."""


def is_open(text: str) -> bool:
    """Whether a text in triple quotes has not ended yet."""
    return text.startswith(QUOTES) and not (text.rstrip().endswith(QUOTES) and len(text.strip()) >= 2 * len(QUOTES))


def unquoted(text: str) -> str:
    """Return a text without the triple quotes around it."""
    whole = text.strip()
    return whole[len(QUOTES) : -len(QUOTES)].strip("\n") if whole.startswith(QUOTES) and not is_open(whole) else text


def given_turns(lines: Iterable[str]) -> Iterator[str]:
    """Yield turns that were not typed, a line each or several between triple quotes, and show them on stderr, so that a
    terminal reads as a conversation and a pipe gets answers only."""
    lines = iter(lines)
    for line in lines:
        turn = line.rstrip("\r\n")
        while is_open(turn):
            more = next(lines, None)
            if more is None:
                break
            turn += "\n" + more.rstrip("\r\n")
        turn = unquoted(turn)
        if turn.strip():
            click.echo(f"> {turn}", err=True)
        yield turn


def new_chat_file() -> Path:
    """Return the file for a chat that begins; those that are too many are deleted. Raises OSError."""
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for file in _kept()[MOST_KEPT - 1 :]:
        file.unlink(missing_ok=True)
    return folder / f"{time.strftime('%Y-%m-%d-%H%M%S')}-{time.time_ns() % 1000:03}"


def last_chat_file() -> Path:
    """Return the file of the chat that was used last. Raises ValueError where there is none."""
    if not (kept := _kept()):
        raise ValueError(f"--continue: there is no chat in {_folder()}")
    return kept[0]


def _folder() -> Path:
    return Path(platformdirs.user_state_dir("pytrimode")) / "chats"


def _kept() -> list[Path]:
    """Return the newest first."""
    files = [file for file in _folder().glob("2*") if file.is_file()]
    return sorted(files, key=lambda file: file.stat().st_mtime_ns, reverse=True)


def check_stdin(prompts: tuple[str, ...]) -> None:
    """Raise click.ClickException where turns can come from nowhere."""
    if not prompts and sys.stdin is None:
        raise click.ClickException("there is no stdin: give prompts with -p")
