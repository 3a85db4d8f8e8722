"""The line editor of the chat."""

from __future__ import annotations

from pathlib import Path

import platformdirs
from prompt_toolkit import PromptSession
from prompt_toolkit.completion import WordCompleter
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

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
        else:
            buffer.validate_and_handle()

    @keys.add("c-c")
    def _clear_or_leave(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=EOFError)

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

    def read(self) -> str:
        """Return the next turn. Raises EOFError when the user leaves (Ctrl-D, or Ctrl-C at an empty prompt)."""
        return self._session.prompt("> ")
