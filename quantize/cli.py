"""`trimode-quantize`: GGUF to GGUF, from the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from pytrimode.convert.cli_options import Size, WeightTypes, library_arguments, output_options
from pytrimode.convert.cli_run import byte_progress, clean_errors, report
from pytrimode.gguf.types import ALIASES, OUTPUT_TYPES
from pytrimode.quantize.cli_evaluation import card_command, eval_command
from pytrimode.quantize.cli_run import model_errors, named_progress, read_text, step_progress
from pytrimode.quantize.importance.calibration import DEFAULT_CONTEXT, calibrate
from pytrimode.quantize.quantization import COPY, quantize
from pytrimode.quantize.target.sensitivity import DEFAULT_CHUNKS, SensitivityOptions
from pytrimode.quantize.target.target import AUTO, Target

TYPES = [*OUTPUT_TYPES, *ALIASES, COPY, AUTO]


class DefaultGroup(click.Group):
    """A group whose first command is meant where none is named: `trimode-quantize IN OUT TYPE`, as llama-quantize."""

    default = "quantize"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the name of the default command before arguments that name none."""
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help", "--version"):
            args = [self.default, *args]
        return super().parse_args(ctx, args)


@click.group(cls=DefaultGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pytrimode", prog_name="trimode-quantize")
def main() -> None:
    """Quantize a GGUF model: trimode-quantize IN.gguf OUT.gguf TYPE.

    `trimode-quantize quantize --help` has the options.
    """


@main.command("quantize", short_help="Write a model in another type; the default.")
@click.argument("in_path", metavar="IN", type=click.Path(path_type=Path))
@click.argument("out_path", metavar="OUT", type=click.Path(path_type=Path))
@click.argument("outtype", metavar="TYPE", default=AUTO, type=click.Choice(TYPES, case_sensitive=False))
@output_options
@click.option("--allow-requantize", is_flag=True, help="Quantize again what is quantized already.")
@click.option("--keep-split", is_flag=True, help="Write the same parts as the input has.")
@click.option("--target-size", type=Size(), metavar="SIZE", help="The best types for at most 20G, 20GiB, 500M.")
@click.option(
    "--target-bpw", type=click.FloatRange(min=0, min_open=True), metavar="BITS", help="The same, per weight: 4.5."
)
@click.option(
    "--target-types", type=WeightTypes(), default=(), metavar="TYPE,...", help="Types to choose from for a target."
)
@click.option(
    "--sensitivity",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Keep what is measured for a target; it is not measured again for another one.",
)
@click.option(
    "--sensitivity-chunks",
    type=click.IntRange(min=1),
    default=DEFAULT_CHUNKS,
    show_default=True,
    help="Pieces of text, 256 tokens each, that it is measured on.",
)
@click.option("-ngl", "--n-gpu-layers", default="auto", show_default=True, help="Where it is measured.")
def quantize_command(
    in_path: Path, out_path: Path, outtype: str, allow_requantize: bool, keep_split: bool, **options: Any
) -> None:
    """Write the GGUF model IN as OUT in TYPE.

    TYPE is a llama.cpp file type such as q4_k_m, or copy. {ftype} in OUT stands for it. IN may be the first part of a
    split model. A drafter LoRA beside IN becomes OUT-drafter-lora.gguf.

    With --target-size or --target-bpw there is no TYPE: the model is run with one matrix quantized at a time, and each
    gets the type with which all together lose least in so many bytes.

    \b
    trimode-quantize nld-8b-bf16.gguf nld-8b-q4_k_m.gguf q4_k_m
    trimode-quantize nld-8b-bf16.gguf nld-8b-6g.gguf --target-size 6GB --sensitivity nld-8b.json
    """
    quiet, arguments = options["quiet"], library_arguments(options)
    with clean_errors(), model_errors():
        with _progress(options) as (target, advance):
            result = quantize(
                in_path,
                out_path,
                outtype,
                progress=advance,
                allow_requantize=allow_requantize,
                keep_split=keep_split,
                target=target,
                **arguments,
            )
        if not quiet:
            report(result, dry_run=arguments["dry_run"])


@contextmanager
def _progress(options: dict[str, Any]) -> Iterator[tuple[Target | None, Callable[[int, int], None] | None]]:
    """Give what --target-size and --target-bpw say, and who is told of the bytes written."""
    quiet = options["quiet"]
    if options["target_size"] is None and options["target_bpw"] is None:
        with byte_progress("Quantizing", quiet=quiet) as advance:
            yield None, advance
        return
    with named_progress(quiet=quiet) as report_step:
        target = Target(
            n_bytes=options["target_size"],
            bits_per_weight=options["target_bpw"],
            types=options["target_types"],
            sensitivity=SensitivityOptions(
                chunks=options["sensitivity_chunks"],
                keep=options["sensitivity"],
                threads=options["threads"],
                n_gpu_layers=options["n_gpu_layers"],
            ),
            progress=report_step,
        )
        yield target, report_step and (lambda done, total: report_step("Quantizing, MiB", done >> 20, total >> 20))


@main.command("imatrix", short_help="Make an importance matrix.")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-f", "--file", "text_file", type=click.Path(path_type=Path), help="Text.  [default: one that ships]")
@click.option("-o", "--output", "out", type=click.Path(path_type=Path), default=Path("imatrix.gguf"), show_default=True)
@click.option("-c", "--ctx-size", "n_ctx", type=click.IntRange(min=8), default=DEFAULT_CONTEXT, show_default=True)
@click.option("--chunks", type=click.IntRange(min=1), help="At most as many pieces of -c tokens.  [default: all]")
@click.option(
    "--block-rows",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Rows of block passes per causal row; 0 is what llama-imatrix does.",
)
@click.option("-B", "--block-length", type=click.IntRange(min=2), help="[default: the model's]")
@click.option("--process-output", is_flag=True, help="Cover the head too.")
@click.option("--parse-special", is_flag=True, help="Special tokens spelled out in the text become their ids.")
@click.option("--no-lora", is_flag=True, help="Drafts without the drafter LoRA.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random masks.")
@click.option("-t", "--threads", type=click.IntRange(min=1), help="[default: one for each core]")
@click.option("-ngl", "--n-gpu-layers", type=int, default=0, show_default=True)
@click.option("--force", is_flag=True, help="Replace an existing file.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def imatrix_command(
    model: Path, text_file: Path | None, out: Path, chunks: int | None, no_lora: bool, quiet: bool, **options: Any
) -> None:
    """Run the GGUF model MODEL over a text and write the importance matrix of its weights.

    Activations come from causal passes and from block passes with masks, drafts with the drafter LoRA on: what the
    model does in its three modes. The file is llama.cpp's.
    """
    with clean_errors(), model_errors():
        given: dict[str, Any] = {"text": read_text(text_file), "dataset": text_file.name} if text_file else {}
        with step_progress("Calibrating", quiet=quiet) as advance:
            result = calibrate(model, out, max_chunks=chunks, lora=not no_lora, progress=advance, **given, **options)
        if not quiet:
            lora = ", drafts with the LoRA" if result.lora else ""
            click.echo(
                f"{result.path}: {result.entries} matrices, {result.chunks} chunks: {result.causal_rows} causal rows, "
                f"{result.draft_rows} of drafts, {result.denoise_rows} of denoising{lora}; {result.seconds:.1f} s"
            )


main.add_command(eval_command)
main.add_command(card_command)

if __name__ == "__main__":
    main()
