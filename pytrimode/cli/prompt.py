"""The line editor of the chat."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import platformdirs
from prompt_toolkit import PromptSession
from prompt_toolkit.completion import WordCompleter
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from pytrimode.cli.turns import is_open, unquoted

HISTORY_FILE = "chat_history"


def _history() -> History:
    directory = Path(platformdirs.user_state_dir("pytrimode"))
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = directory / HISTORY_FILE
        file.touch(mode=0o600)
    except OSError:
        return InMemoryHistory()  # a read-only home is no reason not to chat
    return FileHistory(str(file))


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("escape", "enter")
    def _newline(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @keys.add("enter")
    def _send(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.document.text_before_cursor.endswith("\\") and buffer.document.is_cursor_at_the_end:
            buffer.delete_before_cursor()
            buffer.insert_text("\n")
        elif is_open(buffer.text):
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    @keys.add("c-c")
    def _clear_or_leave(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=KeyboardInterrupt)

    return keys


class LineEditor:
    """Reads a user's turns: history, editing, several lines with Alt-Enter or a backslash at the end."""

    def __init__(self, commands: list[str]) -> None:
        self._session: PromptSession[str] = PromptSession(
            history=_history(),
            key_bindings=_keys(),
            completer=WordCompleter(commands, sentence=True),
            complete_while_typing=False,
            prompt_continuation="  ",
        )

    def read(self, draft: str = "") -> str:
        """Return the next turn, which begins as `draft`. Raises EOFError for Ctrl-D, KeyboardInterrupt for Ctrl-C at an
        empty prompt."""
        return unquoted(self._session.prompt("> ", default=draft))


class TypedTurns:
    """Reads what is typed; a second Ctrl-C at an empty prompt leaves."""

    def __init__(self, commands: list[str]) -> None:
        self.draft = ""
        """What the next line begins with."""
        self._editor = LineEditor(commands)

    def __iter__(self) -> Iterator[str]:
        interrupted = False
        while True:
            try:
                draft, self.draft = self.draft, ""
                line = self._editor.read(draft)
            except EOFError:
                return
            except KeyboardInterrupt:
                if interrupted:
                    return
                interrupted = True
                click.secho("[Ctrl-C again, Ctrl-D or /exit leaves]", dim=True, err=True)
                continue
            interrupted = False
            yield line
