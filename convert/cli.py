"""`trimode-convert`: a checkpoint directory to GGUF, from the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from shlex import quote
from typing import Any

import click

from pytrimode.convert.check import CheckResult, check, files_to_check
from pytrimode.convert.cli_options import library_arguments, output_options
from pytrimode.convert.cli_run import byte_progress, clean_errors, report
from pytrimode.convert.conversion import convert
from pytrimode.convert.peft import convert_lora
from pytrimode.convert.restore.restore import restore
from pytrimode.convert.vision.mmproj import MMPROJ_TYPES
from pytrimode.gguf.types import OUTPUT_TYPES
from pytrimode.threads import default_threads

DEFAULT_OUTTYPE = "q8_0"


def type_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--q8_0`, `--f16`, ... to a command, each as a boolean parameter of that name."""
    for output in reversed(OUTPUT_TYPES.values()):
        command = click.option(f"--{output.name}", output.name, is_flag=True, help=output.text)(command)
    return command


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model_dir", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path), required=False)
@type_flags
@click.option("--outtype", type=click.Choice(list(OUTPUT_TYPES)), help="The same as the flag of that name.")
@output_options
@click.option(
    "--mmproj-type", type=click.Choice(MMPROJ_TYPES), help="Type of the vision tower's matrices.  [default: f16]"
)
@click.option("--no-mmproj", is_flag=True, help="Leave the vision tower of a vision and language model out.")
@click.option("--check", "check_only", is_flag=True, help="Compare: trimode-convert --check FILE.gguf MODEL_DIR.")
@click.option("--to-safetensors", is_flag=True, help="Back: trimode-convert --to-safetensors FILE.gguf NEW_DIR.")
@click.option("--lora", "is_lora", is_flag=True, help="A LoRA: trimode-convert --lora PEFT_DIR OUT.gguf.")
@click.option(
    "--base",
    type=click.Path(path_type=Path),
    metavar="MODEL",
    help="With --lora: the model that it is for, a checkpoint directory or a GGUF file.",
)
@click.option("--no-hashes", is_flag=True, help="Do not record the SHA-256 of the checkpoint's files.")
@click.version_option(package_name="pytrimode", prog_name="trimode-convert")
def main(
    model_dir: Path,
    out: Path | None,
    outtype: str | None,
    check_only: bool,
    to_safetensors: bool,
    is_lora: bool,
    base: Path | None,
    no_hashes: bool,
    mmproj_type: str | None,
    no_mmproj: bool,
    **options: Any,
) -> None:
    """Convert a Nemotron-Labs-Diffusion checkpoint to GGUF.

    MODEL_DIR holds config.json, tokenizer.json and the safetensors weights. OUT is the file to write; {ftype} in it
    stands for the output type. The drafter LoRA in linear_spec_lora/ becomes OUT-drafter-lora.gguf, the vision tower of
    a vision and language model OUT-mmproj.gguf. Without OUT, or with a directory, all are named by GGUF's convention:
    Model-8B-Q4_K_M.gguf, Model-8B-Drafter-F32-LoRA.gguf, mmproj-Model-8B-F16.gguf.

    \b
    trimode-convert Nemotron-Labs-Diffusion-8B --q4_k_m
    trimode-convert Nemotron-Labs-Diffusion-8B nld-8b-{ftype}.gguf --q4_k_m
    trimode-convert --check nld-8b-q4_k_m.gguf Nemotron-Labs-Diffusion-8B
    trimode-convert --lora my-peft-adapter my-lora.gguf --base nld-8b-q4_k_m.gguf
    """
    chosen = _chosen_type(outtype, {name: options.pop(name) for name in OUTPUT_TYPES})
    if check_only + to_safetensors + is_lora > 1:
        raise click.UsageError("choose one of --check, --to-safetensors and --lora")
    if base and not is_lora:
        raise click.UsageError("--base goes with --lora")
    if check_only or to_safetensors or is_lora:
        if out is None:
            raise click.UsageError("Missing argument 'OUT'.")
        if is_lora:
            _lora(model_dir, out, base, options)
        elif check_only:
            _check(model_dir, out, options)
        else:
            _restore(model_dir, out, options)
        return
    quiet, arguments = options["quiet"], library_arguments(options)
    with clean_errors():
        with byte_progress("Converting", quiet=quiet) as advance:
            result = convert(
                model_dir, out, chosen, progress=advance, hashes=not no_hashes, mmproj=not no_mmproj,
                mmproj_type=mmproj_type, **arguments,
            )  # fmt: skip
        if not quiet:
            report(result, dry_run=arguments["dry_run"])


def _chosen_type(outtype: str | None, flags: dict[str, bool]) -> str:
    chosen = {name for name, given in flags.items() if given} | ({outtype} if outtype else set())
    if len(chosen) > 1:
        raise click.UsageError(f"choose one output type, not {' and '.join(sorted(chosen))}")
    return next(iter(chosen), DEFAULT_OUTTYPE)


def _check(gguf: Path, model_dir: Path, options: dict[str, Any]) -> None:
    n_differences = 0
    for path in files_to_check(gguf):
        with clean_errors(), byte_progress("Comparing", quiet=options["quiet"]) as advance:
            result = check(path, model_dir, threads=options["threads"], imatrix=options["imatrix"], progress=advance)
        n_differences += len(result.differences)
        for difference in result.differences:
            click.echo(f"{path}: {difference}", err=True)
        if not options["quiet"] and not result.differences:
            _report_check(path, model_dir, result)
    if n_differences:
        raise click.ClickException(f"{gguf} differs from {model_dir} in {n_differences} places")


def _report_check(path: Path, model_dir: Path, result: CheckResult) -> None:
    hashes = " and the SHA-256 of its files" if result.hashes_checked else ""
    what = "the vision tower of " if result.is_mmproj else ""
    vision = f"; {result.n_skipped} of its vision are no part of it" if result.n_skipped else ""
    agree = f"{result.n_tensors} tensors, {result.n_keys} keys{hashes} agree{vision}"
    click.echo(f"{path} holds {what}{model_dir}: {agree}")


def _lora(directory: Path, out: Path, base: Path | None, options: dict[str, Any]) -> None:
    with clean_errors():
        result = convert_lora(
            directory, out, base=base, force=options["force"], threads=options["threads"] or default_threads()
        )
    if not options["quiet"]:
        ranks = ", ".join(map(str, result.ranks))
        click.echo(
            f"{out}: a LoRA on {result.n_pairs} matrices, rank {ranks}: pytrimode chat MODEL --lora {quote(str(out))}"
        )


def _restore(gguf: Path, directory: Path, options: dict[str, Any]) -> None:
    with clean_errors(), byte_progress("Restoring", quiet=options["quiet"]) as advance:
        restore(gguf, directory, threads=options["threads"], progress=advance)
    if not options["quiet"]:
        click.echo(f"{directory}: a checkpoint directory")


if __name__ == "__main__":
    main()
