"""What commands that write model files do around the work: signals, progress, errors, the closing line."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from shlex import quote
from types import FrameType

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from pytrimode.convert.conversion import ConversionResult
from pytrimode.convert.model_output import total_bits_per_weight
from pytrimode.gguf.errors import ConversionError, printable
from pytrimode.gguf.sizes import size_text
from pytrimode.gguf.writer import OutputTensor

INTERRUPTED = 128 + signal.SIGINT


@contextmanager
def clean_errors() -> Iterator[None]:
    """Turn what goes wrong into one line and an exit code, and let signals unwind the stack."""
    try:
        with _terminable():
            yield
    except ConversionError as error:
        raise click.ClickException(printable(str(error))) from None
    except MemoryError as error:
        raise click.ClickException(f"out of memory: {printable(str(error)) or 'the machine has no more'}") from None
    except (OSError, ImportError, RuntimeError) as error:
        raise click.ClickException(printable(str(error)) or type(error).__name__) from None
    except KeyboardInterrupt:
        click.echo("Interrupted: nothing was written.", err=True)
        sys.exit(INTERRUPTED)


@contextmanager
def byte_progress(title: str, *, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Show a progress bar by bytes on stderr, where that is a terminal."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield None
        return
    columns = (TextColumn(title), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda written, total: bar.update(task, completed=written, total=total)


def report(result: ConversionResult, *, dry_run: bool) -> None:
    """Say what was written, or with `dry_run` what would be."""
    for note in result.notes:
        click.echo(f"Note: {note}", err=True)
    if dry_run:
        _report_plan(result)
        return
    size, speed = size_text(result.n_bytes), size_text(result.source_bytes / max(result.seconds, 1e-9))
    parts = f" in {len(result.paths)} parts" if len(result.paths) > 1 else ""
    click.echo(
        f"{result.path}: {result.outtype}, {result.n_tensors} tensors, {result.n_params / 1e6:,.1f} M weights, "
        f"{size}{parts}, {result.bits_per_weight:.2f} bits per weight; {result.seconds:.1f} s ({speed}/s read)"
    )
    if result.lora_path:
        click.echo(f"{result.lora_path}: drafter LoRA")
    if result.mmproj_path:
        click.echo(f"{result.mmproj_path}: {_vision_line(result)}")
    model = quote(str(result.path))
    if result.chat_template:
        click.echo(f"Try it: pytrimode chat {model}")
    else:
        click.echo(f'Try it: pytrimode generate {model} -p "Once upon a time"; no chat, for want of a template')


def _report_plan(result: ConversionResult) -> None:
    width = max(len(tensor.name) for tensor in result.tensors)
    for tensor in [*result.tensors, *result.mmproj_tensors]:
        click.echo(_row(tensor, width))
    for stored in result.skipped:
        shape = " x ".join(map(str, stored.shape))
        click.echo(f"{stored.name}  {shape} {stored.dtype.lower()}, {size_text(stored.n_bytes)}: left out")
    click.echo(
        f"{result.outtype}: {result.n_tensors} tensors, {size_text(result.n_bytes)}, "
        f"{total_bits_per_weight(result.tensors):.2f} bits per weight; nothing was written"
    )
    if result.mmproj_path:
        click.echo(_vision_line(result))
    beside = [path for path in (result.lora_path, result.mmproj_path) if path]
    for path in [*result.paths, *beside]:
        click.echo(f"would write {path}")


def _vision_line(result: ConversionResult) -> str:
    tensors = result.mmproj_tensors
    matrices = Counter(tensor.kind.name.lower() for tensor in tensors if len(tensor.shape) == 2)
    size = size_text(sum(tensor.n_bytes for tensor in tensors))
    return f"vision tower and projector, {matrices.most_common(1)[0][0]}, {len(tensors)} tensors, {size}"


def _row(tensor: OutputTensor, width: int) -> str:
    shape = " x ".join(map(str, tensor.shape))
    types = f"{(tensor.source_kind or tensor.kind).name.lower():>8} -> {tensor.kind.name.lower():<8}"
    return f"{tensor.name:<{width}}  {shape:>16} {types} {size_text(tensor.n_bytes):>10}"


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind the stack, so that the unfinished output is removed."""

    def leave(number: int, _: FrameType | None) -> None:
        sys.exit(128 + number)

    previous = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
