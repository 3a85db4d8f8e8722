"""`--prompt-cache`: what the cache holds of a prompt, in a file between two runs."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pytrimode.files.conversation_file import SavedConversation, read_conversation, write_conversation
from pytrimode.options.generation_options import GenerationOptions
from pytrimode.trimode import TriMode
from pytrimode.vision.prompt import Prompt

if TYPE_CHECKING:
    from pytrimode.answers.step import Step


class PromptCache:
    """The file of one run; a conversation without turns, so that `/load` of the chat reads it too.

    Without a `path` nothing is done. `whole`: keep the completion too; `keep`: write the file at all.
    """

    def __init__(self, path: Path | None, model: TriMode, prompt: Prompt, *, whole: bool, keep: bool) -> None:
        """Put what the file has into the cache; says so where it cannot be used. Raises OSError."""
        self._path = path
        self._model = model
        self._prompt = prompt
        self._whole = whole
        self._keep = keep
        self._tokens: list[int] = []
        if path is not None and path.exists():
            self._read(path)

    def _read(self, path: Path) -> None:
        try:
            saved = read_conversation(path, origin=self._model.origin, n_ctx=self._model.n_ctx)
            if saved.unread:
                raise ValueError(saved.unread)
            self._model.load_state(saved.cache)
        except ValueError as error:
            click.echo(f"warning: --prompt-cache {path} is not used: {error}", err=True)

    def watch(self, run: Generator[Step, None, None]) -> Generator[Step, None, None]:
        """Yield the steps of the completion, and take note of its tokens."""
        with contextlib.closing(run):
            for step in run:
                self._tokens += step.tokens
                yield step

    def write(self) -> None:
        """Write the file, after the completion. Raises OSError."""
        if self._path is None or not self._keep:
            return
        tokens = [*self._prompt.tokens, *(self._tokens if self._whole else ())]
        cache = self._model.save_state(tokens, pictures=self._prompt.pictures)
        write_conversation(self._path, SavedConversation(None, [], False, GenerationOptions(), cache))
