"""`trimode-quantize`: GGUF to GGUF, from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pytrimode.convert.cli_options import library_arguments, output_options
from pytrimode.convert.cli_run import byte_progress, clean_errors, report
from pytrimode.convert.ggml import ALIASES, OUTPUT_TYPES

from .quantization import COPY, quantize

TYPES = [*OUTPUT_TYPES, *ALIASES, COPY]


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
@click.argument("outtype", metavar="TYPE", type=click.Choice(TYPES, case_sensitive=False))
@output_options
@click.option("--allow-requantize", is_flag=True, help="Quantize again what is quantized already.")
@click.option("--keep-split", is_flag=True, help="Write the same parts as the input has.")
def quantize_command(
    in_path: Path, out_path: Path, outtype: str, allow_requantize: bool, keep_split: bool, **options: Any
) -> None:
    """Write the GGUF model IN as OUT in TYPE.

    TYPE is a llama.cpp file type such as q4_k_m, or copy. {ftype} in OUT stands for it. IN may be the first part of a
    split model. A drafter LoRA beside IN becomes OUT-drafter-lora.gguf.
    """
    quiet, arguments = options["quiet"], library_arguments(options)
    with clean_errors():
        with byte_progress("Quantizing", quiet=quiet) as advance:
            result = quantize(
                in_path,
                out_path,
                outtype,
                progress=advance,
                allow_requantize=allow_requantize,
                keep_split=keep_split,
                **arguments,
            )
        if not quiet:
            report(result, dry_run=arguments["dry_run"])


if __name__ == "__main__":
    main()
