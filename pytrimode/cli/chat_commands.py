"""The slash commands of the chat."""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pytrimode.cli.chat_options import chat_options, parse_setting, shown
from pytrimode.cli.conversation import Conversation, check_mode_name
from pytrimode.cli.stats_line import Totals
from pytrimode.options.modes import MODE_HELP

T = TypeVar("T")

MOST_READ = 4 << 20
"""Bytes of a file for /read."""


class LeaveChat(Exception):  # noqa: N818 - no error
    """The user wants to leave the chat."""


@dataclass(frozen=True)
class Done:
    """What came of a command."""

    note: str = ""
    """To print."""
    send: str | None = None
    """A turn to send."""
    draft: str | None = None
    """A text for the user to go on with."""
    attach: str = ""
    """A text to put in front of the next turn."""


class ChatCommands:
    """Runs `/name argument`. One table has each command's argument, help and method."""

    def __init__(self, conversation: Conversation, totals: Totals) -> None:
        self._conversation = conversation
        self._totals = totals
        self._commands: dict[str, tuple[str, str, Callable[[str], str | Done]]] = {
            "/regen": ("", "answer the last question again", self._regen),
            "/undo": ("", "take the last question and its answer back", self._undo),
            "/edit": ("[TEXT]", "ask something else in place of the last question", self._edit),
            "/set": ("NAME VALUE", "set an option of the answers, such as temp 0.2; default: as it was", self._set),
            "/show": ("", "model, options, system message", self._show),
            "/read": ("FILE", "put a text file in front of the next turn", self._read),
            "/copy": ("", "copy the last answer to the clipboard", self._copy),
            "/think": ("on|off", "let the model reason before it answers", self._think),
            "/mode": ("[NAME]", "show or change the mode", self._mode),
            "/stats": ("", "speed, tokens per forward and acceptance so far", self._stats),
            "/image": ("FILE", "show the model an image, with the next turn; may be given again", self._image),
            "/system": ("[TEXT]", "set the system message and start anew; without a text: remove it", self._system),
            "/reset": ("", "forget the conversation", self._reset),
            "/save": ("FILE", "keep the conversation and its cache in a file", self._save),
            "/load": ("FILE", "go on with a saved conversation, its mode and other options included", self._load),
            "/help": ("", "this list", self._help),
            "/exit": ("", "leave (also /quit, Ctrl-D, or Ctrl-C twice)", self._quit),
            "/quit": ("", "leave", self._quit),
        }

    @property
    def names(self) -> list[str]:
        """All commands."""
        return list(self._commands)

    def run(self, line: str) -> Done:
        """Return what is to be done. Raises LeaveChat for /exit, ValueError for an unknown command or argument."""
        name, _, argument = line.strip().partition(" ")
        if name not in self._commands:
            raise ValueError(f"unknown command {name}: {', '.join(self._commands)}")
        done = self._commands[name][2](argument.strip())
        return Done(done) if isinstance(done, str) else done

    def _regen(self, _: str) -> Done:
        return Done(send=self._conversation.undo())

    def _undo(self, _: str) -> str:
        self._conversation.undo()
        return f"taken back; {self._turns()} left"

    def _edit(self, text: str) -> Done:
        before = self._conversation.undo()
        return Done(send=text) if text else Done("edit your last question:", draft=before)

    def _set(self, text: str) -> str:
        name, row, value = parse_setting(text)
        if name == "mode":
            return self._mode(str(value))
        self._conversation.set_option(row, value)
        return f"{name} {shown(row, value)}"

    def _show(self, _: str) -> str:
        rows = chat_options()
        options = [f"  {name:<20} {shown(rows[name], value)}" for name, value in self._conversation.settings.items()]
        return "\n".join([self._conversation.about, f"{self._turns()} so far; /set changes these:", *options])

    def _read(self, path: str) -> Done:
        text = _with_file(_text_of, path, "/read")
        return Done(f"{path}: {len(text)} characters; go with the next turn", attach=f"{path}:\n```\n{text}\n```\n\n")

    def _copy(self, _: str) -> str:
        answer = self._conversation.last_answer
        if not answer:
            raise ValueError("/copy: there is no answer yet")
        if not sys.stdout.isatty():
            raise ValueError("/copy is for a terminal: it asks the terminal to take the text")
        # OSC 52: the terminal's own clipboard, through ssh too.
        sys.stdout.write(f"\x1b]52;c;{base64.b64encode(answer.encode()).decode()}\x07")
        sys.stdout.flush()
        return f"{len(answer)} characters copied, if this terminal allows it"

    def _think(self, wanted: str) -> str:
        if wanted not in ("on", "off"):
            raise ValueError("/think needs on or off")
        self._conversation.set_thinking(wanted == "on")
        return f"the model {'may reason first' if wanted == 'on' else 'answers at once'}"

    def _mode(self, name: str) -> str:
        if not name:
            lines = [f"mode {self._conversation.mode}; there are:"]
            return "\n".join(lines + [f"  {mode:<10} {text}" for mode, text in MODE_HELP.items()])
        check_mode_name(name)
        self._conversation.set_mode(name)
        return f"mode {self._conversation.mode}"

    def _stats(self, _: str) -> str:
        return "\n".join(self._totals.lines())

    def _system(self, text: str) -> str:
        self._conversation.set_system(text or None)
        return "system message set, conversation forgotten" if text else "no system message, conversation forgotten"

    def _reset(self, _: str) -> str:
        self._conversation.reset()
        return "conversation forgotten"

    def _image(self, path: str) -> str:
        return _with_file(self._conversation.add_image, path, "/image")

    def _save(self, path: str) -> str:
        return f"{self._turns()} saved, {_with_file(self._conversation.save, path, '/save')}"

    def _load(self, path: str) -> str:
        loaded = _with_file(self._conversation.load, path, "/load")
        return f"{self._turns()} loaded, {loaded}"

    def _turns(self) -> str:
        n = self._conversation.n_turns
        return f"{n} turn{'s' * (n != 1)}"

    def _help(self, _: str) -> str:
        lines = [f"{name + ' ' + argument:<16} {text}" for name, (argument, text, _) in self._commands.items()]
        keys = 'Alt-Enter, a backslash at the end, or """ around them: several lines. Ctrl-C stops a reply.'
        return "\n".join([*lines, keys])

    def _quit(self, _: str) -> str:
        raise LeaveChat


def _text_of(path: str) -> str:
    file = Path(path).expanduser()
    if file.is_file() and file.stat().st_size > MOST_READ:
        raise ValueError(f"{path}: larger than {MOST_READ >> 20} MiB: too long for a turn")
    try:
        return file.read_text(encoding="utf-8").rstrip("\n")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: this is no text") from None


def _with_file(function: Callable[[str], T], path: str, command: str) -> T:
    """Call with a path that the user typed. Raises ValueError for everything that can go wrong with it."""
    if not path:
        raise ValueError(f"{command} needs the name of a file")
    try:
        return function(path)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}" if error.strerror else str(error)) from error
