"""The slash commands of the chat."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pytrimode.cli.conversation import Conversation, check_mode_name
from pytrimode.cli.stats_line import Totals
from pytrimode.options.modes import MODE_HELP

T = TypeVar("T")


class LeaveChat(Exception):  # noqa: N818 - no error
    """The user wants to leave the chat."""


class ChatCommands:
    """Runs `/name argument`. One table has each command's argument, help and method."""

    def __init__(self, conversation: Conversation, totals: Totals) -> None:
        self._conversation = conversation
        self._totals = totals
        self._commands: dict[str, tuple[str, str, Callable[[str], str]]] = {
            "/mode": ("[NAME]", "show or change the mode", self._mode),
            "/stats": ("", "speed, tokens per forward and acceptance so far", self._stats),
            "/image": ("FILE", "show the model an image, with the next turn; may be given again", self._image),
            "/system": ("[TEXT]", "set the system message and start anew; without a text: remove it", self._system),
            "/reset": ("", "forget the conversation", self._reset),
            "/save": ("FILE", "keep the conversation and its cache in a file", self._save),
            "/load": ("FILE", "go on with a saved conversation, its mode and other options included", self._load),
            "/help": ("", "this list", self._help),
            "/quit": ("", "leave (also Ctrl-D)", self._quit),
        }

    @property
    def names(self) -> list[str]:
        """All commands."""
        return list(self._commands)

    def run(self, line: str) -> str:
        """Return what to print. Raises LeaveChat for /quit, ValueError for an unknown command or a bad argument."""
        name, _, argument = line.strip().partition(" ")
        if name not in self._commands:
            raise ValueError(f"unknown command {name}: {', '.join(self._commands)}")
        return self._commands[name][2](argument.strip())

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
        return "\n".join([*lines, "Alt-Enter, or a backslash at the end, starts a new line. Ctrl-C stops a reply."])

    def _quit(self, _: str) -> str:
        raise LeaveChat


def _with_file(function: Callable[[str], T], path: str, command: str) -> T:
    """Call with a path that the user typed. Raises ValueError for everything that can go wrong with it."""
    if not path:
        raise ValueError(f"{command} needs the name of a file")
    try:
        return function(path)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}" if error.strerror else str(error)) from error
