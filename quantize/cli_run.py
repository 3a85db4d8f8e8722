"""What the commands that run a model share: progress by steps, errors, text files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pytrimode.gguf.errors import ConversionError


@contextmanager
def model_errors() -> Iterator[None]:
    """End the command with one line where a model cannot be loaded or run."""
    try:
        yield
    except (FileNotFoundError, ValueError, RuntimeError) as error:
        raise ConversionError(str(error)) from None


@contextmanager
def step_progress(title: str, *, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Show a progress bar by steps on stderr, where that is a terminal."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield None
        return
    with Progress(
        TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console, transient=True
    ) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def named_progress(*, quiet: bool) -> Iterator[Callable[[str, int, int], None] | None]:
    """Show a progress bar that says what is being done, on stderr where that is a terminal."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("Loading", total=None)

        def advance(what: str, done: int, total: int) -> None:
            if bar.tasks[0].description != what:
                bar.reset(task)
            bar.update(task, description=what, completed=done, total=total)

        yield advance


def read_text(path: Path) -> str:
    """Return a UTF-8 text. Raises ConversionError."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConversionError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConversionError(f"{path}: not UTF-8 text: {error}") from None
