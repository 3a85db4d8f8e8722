"""`trimode-quantize`: not there yet; the command exists so that it can say so."""

from __future__ import annotations

import click


@click.command(
    context_settings={"help_option_names": ["-h", "--help"], "ignore_unknown_options": True},
    short_help="Not available yet.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.version_option(package_name="pytrimode", prog_name="trimode-quantize")
def main(arguments: tuple[str, ...]) -> None:
    """Requantize a GGUF file. NOT AVAILABLE YET.

    Until then, trimode-convert writes Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, F16, BF16 and F32 from the checkpoint, and
    llama.cpp's llama-quantize reads those files.
    """
    raise click.ClickException(
        "trimode-quantize is not available in this version. Use trimode-convert with --q4_0 or another type, "
        "or llama.cpp's llama-quantize on a file that trimode-convert wrote."
    )


if __name__ == "__main__":
    main()
