"""`trimode-convert`: a checkpoint directory to GGUF, from the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from .cli_options import library_arguments, output_options
from .cli_run import byte_progress, clean_errors, report
from .conversion import convert
from .ggml import OUTPUT_TYPES

DEFAULT_OUTTYPE = "q8_0"


def type_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--q8_0`, `--f16`, ... to a command, each as a boolean parameter of that name."""
    for output in reversed(OUTPUT_TYPES.values()):
        command = click.option(f"--{output.name}", output.name, is_flag=True, help=output.text)(command)
    return command


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model_dir", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@type_flags
@click.option("--outtype", type=click.Choice(list(OUTPUT_TYPES)), help="The same as the flag of that name.")
@output_options
@click.option("--no-hashes", is_flag=True, help="Do not record the SHA-256 of the checkpoint's files.")
@click.version_option(package_name="pytrimode", prog_name="trimode-convert")
def main(model_dir: Path, out: Path, outtype: str | None, no_hashes: bool, **options: Any) -> None:
    """Convert a Nemotron-Labs-Diffusion checkpoint to GGUF.

    MODEL_DIR holds config.json, tokenizer.json and the safetensors weights. OUT is the file to write; {ftype} in it
    stands for the output type. The drafter LoRA in linear_spec_lora/ becomes OUT-drafter-lora.gguf.

    \b
    trimode-convert Nemotron-Labs-Diffusion-8B nld-8b-{ftype}.gguf --q4_k_m
    """
    chosen = _chosen_type(outtype, {name: options.pop(name) for name in OUTPUT_TYPES})
    quiet, arguments = options["quiet"], library_arguments(options)
    with clean_errors():
        with byte_progress("Converting", quiet=quiet) as advance:
            result = convert(model_dir, out, chosen, progress=advance, hashes=not no_hashes, **arguments)
        if not quiet:
            report(result, dry_run=arguments["dry_run"])


def _chosen_type(outtype: str | None, flags: dict[str, bool]) -> str:
    chosen = {name for name, given in flags.items() if given} | ({outtype} if outtype else set())
    if len(chosen) > 1:
        raise click.UsageError(f"choose one output type, not {' and '.join(sorted(chosen))}")
    return next(iter(chosen), DEFAULT_OUTTYPE)


if __name__ == "__main__":
    main()
