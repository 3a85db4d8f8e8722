"""`trimode-convert`: a checkpoint directory to GGUF, from the command line."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from .conversion import ConversionResult, convert
from .errors import ConversionError
from .ggml import OUTPUT_TYPES

DEFAULT_OUTTYPE = "q8_0"
INTERRUPTED = 128 + signal.SIGINT
SIZES = {
    "q8_0": "8.5 bits per weight, as good as the original; the default",
    "q4_0": "4.5 bits; like the three below with the head in Q6_K, as llama.cpp does",
    "q4_1": "5 bits",
    "q5_0": "5.5 bits",
    "q5_1": "6 bits",
}


def type_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--q8_0`, `--f16`, ... to a command, each as a boolean parameter of that name."""
    for name in reversed(OUTPUT_TYPES):
        text = SIZES.get(name, "matrices in this type, nothing is quantized")
        command = click.option(f"--{name}", name, is_flag=True, help=text)(command)
    return command


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model_dir", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@type_flags
@click.option("--outtype", type=click.Choice(list(OUTPUT_TYPES)), help="The same as the flag of that name.")
@click.option("--force", is_flag=True, help="Replace existing files.")
@click.option("-t", "--threads", type=click.IntRange(min=1), help="Encoding threads.  [default: all cores]")
@click.option("--no-lora", is_flag=True, help="Leave the drafter LoRA out.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
@click.version_option(package_name="pytrimode", prog_name="trimode-convert")
def main(
    model_dir: Path,
    out: Path,
    outtype: str | None,
    force: bool,
    threads: int | None,
    no_lora: bool,
    quiet: bool,
    **flags: bool,
) -> None:
    """Convert a Nemotron-Labs-Diffusion checkpoint to GGUF.

    MODEL_DIR holds config.json, tokenizer.json and the safetensors weights. OUT is the file to write; {ftype} in it
    stands for the output type. The drafter LoRA in linear_spec_lora/ becomes OUT-drafter-lora.gguf.

    \b
    trimode-convert Nemotron-Labs-Diffusion-8B nld-8b-{ftype}.gguf --q8_0
    """
    chosen = _chosen_type(outtype, flags)
    try:
        with _terminable(), _progress(quiet) as advance:
            result = convert(model_dir, out, chosen, force=force, threads=threads, lora=not no_lora, progress=advance)
    except ConversionError as error:
        raise click.ClickException(_printable(str(error))) from None
    except KeyboardInterrupt:
        click.echo("Interrupted: nothing was written.", err=True)
        sys.exit(INTERRUPTED)
    if not quiet:
        _report(result)


def _chosen_type(outtype: str | None, flags: dict[str, bool]) -> str:
    chosen = {name for name, given in flags.items() if given} | ({outtype} if outtype else set())
    if len(chosen) > 1:
        raise click.UsageError(f"choose one output type, not {' and '.join(sorted(chosen))}")
    return next(iter(chosen), DEFAULT_OUTTYPE)


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


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar by bytes on stderr, where that is a terminal."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield None
        return
    columns = (TextColumn("Converting"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("Converting", total=None)
        yield lambda written, total: bar.update(task, completed=written, total=total)


def _report(result: ConversionResult) -> None:
    for note in result.notes:
        click.echo(f"Note: {note}", err=True)
    size, speed = _size(result.n_bytes), _size(result.source_bytes / max(result.seconds, 1e-9))
    click.echo(
        f"{result.path}: {result.outtype}, {result.n_tensors} tensors, {result.n_params / 1e6:,.1f} M weights, {size}, "
        f"{result.bits_per_weight:.2f} bits per weight; {result.seconds:.1f} s ({speed}/s read)"
    )
    if result.lora_path:
        click.echo(f"{result.lora_path}: drafter LoRA")
    click.echo(f"Try it: pytrimode chat {result.path}")


def _printable(text: str) -> str:
    """One line that any terminal takes, whatever names a damaged checkpoint has."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _size(n_bytes: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if n_bytes >= size:
            return f"{n_bytes / size:.2f} {unit}"
    return f"{n_bytes / 1e3:.1f} kB"


if __name__ == "__main__":
    main()
