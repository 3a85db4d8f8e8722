"""`pytrimode batch`: a file of requests to a file of answers."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pytrimode.cli.command import Command
from pytrimode.cli.load import load
from pytrimode.cli.options import loading_options, request_options, thinking_option
from pytrimode.options.generation_options import GenerationOptions
from pytrimode.options.load_options import LoadOptions
from pytrimode.server import check_installed
from pytrimode.server.settings import ServerSettings

if TYPE_CHECKING:
    from pytrimode.server.batch import Progress

DEFAULT_PARALLEL = 8
LONGEST = 7 * 86400.0
"""Seconds for an answer: nobody waits for one alone."""
BODY_BYTES = 64 << 20


@click.command(name="batch", cls=Command)
@click.argument("requests", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    metavar="FILE",
    help="File for the answers; what it has already is not asked again.",
)
@click.option("-m", "--model", type=click.Path(), metavar="FILE", help="The model (default: the one that comes along).")
@click.option(
    "-np",
    "--parallel",
    type=click.IntRange(min=1),
    default=DEFAULT_PARALLEL,
    show_default=True,
    metavar="N",
    help="Slots: answers made side by side. They share the context (-c).",
)
@request_options("serve")
@thinking_option
@loading_options
@click.pass_context
def command(
    ctx: click.Context,
    requests: Path,
    output: Path,
    model: str | None,
    parallel: int,
    options: GenerationOptions,
    enable_thinking: bool,
    loading: LoadOptions,
) -> None:
    """Answer REQUESTS, a file in the format of OpenAI's batches, with a line for each request.

    \b
    {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": [...]}}
    {"custom_id": "1", "response": {"status_code": 200, "body": {...}}, "error": null}

    Answers are written as they are finished: run the command again after Ctrl-C, a crash or a kill, and it goes on. A
    line that is no request gets a record with an error and its number; the exit code is then 1. Options of decoding and
    sampling are the defaults of requests that do not say otherwise.

    Needs the extra: pip install "pytrimode[server]".
    """
    try:
        check_installed()
        from pytrimode.server.batch import AnswersFile, run_batch
    except ImportError as error:
        raise click.ClickException(str(error)) from error
    if output.exists() and output.samefile(requests):
        raise click.UsageError(f"-o {output}: that is the file with the requests")
    settings = ServerSettings(
        defaults=options, enable_thinking=enable_thinking, timeout=LONGEST, max_body_bytes=BODY_BYTES
    )
    started = time.monotonic()
    with (
        AnswersFile(output) as answers,
        _progress(requests) as tell,
        requests.open(encoding="utf-8", errors="replace") as lines,
    ):
        done = run_batch(
            lambda: load(model, loading, n_parallel=parallel), settings, lines, answers, n_parallel=parallel, tell=tell
        )
    seconds = time.monotonic() - started
    click.echo(_summary(done, seconds, output), err=True)
    if done.refused:
        ctx.exit(1)


def _summary(done: Progress, seconds: float, output: Path) -> str:
    parts = [f"{done.answered} answered"]
    if done.before:
        parts.append(f"{done.before} were there")
    if done.refused:
        parts.append(f"{done.refused} refused (see their error)")
    return (
        f"{output}: {', '.join(parts)}; {done.tokens} tokens in {seconds:.1f} s, {done.tokens / seconds:.1f} tokens/s"
    )


@contextmanager
def _progress(requests: Path) -> Iterator[Callable[[Progress], None]]:
    """Give what is to be told of each request: a bar on a terminal, else nothing."""
    if not sys.stderr.isatty():
        yield lambda _done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    with requests.open("rb") as lines:
        total = sum(1 for line in lines if line.strip())
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as shown:
        bar = shown.add_task("answering", total=total)
        began = time.monotonic()

        def tell(done: Progress) -> None:
            rate = done.tokens / max(time.monotonic() - began, 1e-3)
            shown.update(bar, completed=done.lines, description=f"{rate:.0f} tokens/s")

        yield tell
