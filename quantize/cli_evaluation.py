"""`trimode-quantize eval` and `trimode-quantize card`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from pytrimode.bench.prompts import PROMPTS, read_prompts
from pytrimode.convert.cli_run import INTERRUPTED, clean_errors
from pytrimode.gguf.errors import ConversionError
from pytrimode.gguf.output import check_output
from pytrimode.quantize.card import model_card, write_card
from pytrimode.quantize.cli_run import model_errors, named_progress, read_text
from pytrimode.quantize.evaluation.evaluation import evaluate
from pytrimode.quantize.evaluation.options import (
    DEFAULT_CONTEXT,
    DEFAULT_MAX_TOKENS,
    DEFAULT_RATIOS,
    DEFAULT_ROUNDS,
    DEFAULT_THRESHOLDS,
    EvaluationOptions,
)
from pytrimode.quantize.evaluation.report import markdown
from pytrimode.quantize.evaluation.results import read_evaluation


class Shares(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """Numbers from 0 to 1, separated by commas; an empty text for none."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """Return the numbers. Raises BadParameter for anything else."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(float(part) for part in value.split(",") if part.strip())
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers such as 0.5,0.9", param, ctx)
        if any(not 0 <= number <= 1 for number in numbers):
            self.fail(f"{value!r}: the numbers must be from 0 to 1", param, ctx)
        return numbers


card_options = [
    click.option("--repo", metavar="OWNER/NAME", help="Repository on the Hugging Face hub, for the card's commands."),
    click.option(
        "--base-model", metavar="OWNER/NAME", help="What the files were made of, on that hub, where they do not say it."
    ),
    click.option("--force", is_flag=True, help="Replace an existing card."),
]


def with_card_options(command: Any) -> Any:
    """Add what writing a card takes."""
    for option in reversed(card_options):
        command = option(command)
    return command


@click.command("eval", short_help="Compare quantized files with what they were made of.")
@click.argument("base", type=click.Path(path_type=Path))
@click.argument("quants", metavar="[QUANT]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("-f", "--file", "text_file", type=click.Path(path_type=Path), help="Text.  [default: one that ships]")
@click.option(
    "-c",
    "--ctx-size",
    "n_ctx",
    type=click.IntRange(min=16),
    default=DEFAULT_CONTEXT,
    show_default=True,
    help="Tokens in a chunk of the text.",
)
@click.option("--chunks", "max_chunks", type=click.IntRange(min=1), help="At most as many chunks.  [default: all]")
@click.option(
    "--mask-ratios",
    type=Shares(),
    default=",".join(map(str, DEFAULT_RATIOS)),
    show_default=True,
    help="Shares of masks in blocks, beside all and none.",
)
@click.option("-B", "--block-length", type=click.IntRange(min=2), help="[default: the model's]")
@click.option(
    "--thresholds",
    type=Shares(),
    default=",".join(map(str, DEFAULT_THRESHOLDS)),
    show_default=True,
    help="Of diffusion.",
)
@click.option(
    "--prompts",
    "prompt_file",
    type=click.Path(path_type=Path),
    help="A text, a prompt on each line, or JSON {category: [prompts]}.  [default: those of pytrimode bench]",
)
@click.option(
    "-n",
    "--max-tokens",
    type=click.IntRange(min=1),
    default=DEFAULT_MAX_TOKENS,
    show_default=True,
    help="Of an answer.",
)
@click.option(
    "--lora",
    "loras",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Evaluate every file with this drafter LoRA; again for more.  [default: the one beside each]",
)
@click.option("--no-lora", is_flag=True, help="Evaluate no drafter LoRA.")
@click.option(
    "--speed-rounds",
    type=click.IntRange(min=0),
    default=DEFAULT_ROUNDS,
    show_default=True,
    help="0: no speed, which needs two models in memory.",
)
@click.option(
    "--base-logits",
    type=click.Path(path_type=Path),
    help="Keep what is computed: an interrupted run goes on, further files need no new run of BASE.",
)
@click.option("--parse-special", is_flag=True, help="Special tokens spelled out in the text become their ids.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the masks.")
@click.option("-t", "--threads", type=click.IntRange(min=1), help="[default: one for each core]")
@click.option("-ngl", "--n-gpu-layers", default="auto", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for trimode-quantize card too.")
@click.option("--card", type=click.Path(path_type=Path), metavar="README.md", help="Write a model card too.")
@with_card_options
@click.option("-q", "--quiet", is_flag=True, help="No progress bar.")  # fmt: skip
def eval_command(
    base: Path,
    quants: tuple[Path, ...],
    text_file: Path | None,
    prompt_file: Path | None,
    loras: tuple[Path, ...],
    no_lora: bool,
    base_logits: Path | None,
    as_json: bool,
    card: Path | None,
    repo: str | None,
    base_model: str | None,
    force: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Compare the GGUF files QUANT with BASE, the file that they were made of.

    Perplexity as llama.cpp measures it; KL divergence and the likeliest token for causal rows, for blocks with some
    tokens masked and for drafts; answers to prompts in every mode; speed. One table on stdout.

    \b
    trimode-quantize eval nld-8b-bf16.gguf nld-8b-q8_0.gguf nld-8b-q4_k_m.gguf -f wiki.test.raw --chunks 20
    trimode-quantize eval nld-8b-bf16.gguf --lora lora-f32.gguf --lora lora-q8_0.gguf
    """
    with clean_errors(), model_errors(), _interruptible(base_logits):
        if card:
            check_output(card, force=force)
        given: dict[str, Any] = {"text": read_text(text_file), "text_name": text_file.name} if text_file else {}
        prompts = _prompts(prompt_file) if prompt_file else PROMPTS
        with named_progress(quiet=quiet) as advance:
            found = evaluate(
                base,
                quants,
                loras=() if no_lora else loras or None,
                options=EvaluationOptions(prompts=prompts, **options),
                base_logits=base_logits,
                progress=advance,
                **given,
            )
        if card:
            write_card(card, model_card([*quants] or [base], found, repo=repo, base_model=base_model), force=force)
        click.echo(json.dumps(found, indent=2, ensure_ascii=False) if as_json else markdown(found))


def _prompts(path: Path) -> dict[str, list[str]]:
    try:
        return read_prompts(path)
    except OSError as error:
        raise ConversionError(f"{path}: cannot be read: {error.strerror}") from None


@contextmanager
def _interruptible(base_logits: Path | None) -> Iterator[None]:
    """Ctrl-C says what is left of the work."""
    try:
        yield
    except KeyboardInterrupt:
        what = f"the same command goes on from {base_logits}" if base_logits else "with --base-logits it could go on"
        click.echo(f"Interrupted: {what}.", err=True)
        sys.exit(INTERRUPTED)


@click.command("card", short_help="Write a model card for a repository.")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--eval", "evaluation", type=click.Path(path_type=Path), help="What trimode-quantize eval --json printed."
)
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("README.md"), show_default=True)
@with_card_options
def card_command(
    files: tuple[Path, ...],
    evaluation: Path | None,
    output: Path,
    repo: str | None,
    base_model: str | None,
    force: bool,
) -> None:
    """Write the README.md of a model repository that holds the GGUF files FILES.

    What the files are and where they come from is in their metadata; the table is that of trimode-quantize eval.

    \b
    trimode-quantize eval nld-8b-bf16.gguf nld-8b-*.gguf --json > eval.json
    trimode-quantize card nld-8b-*.gguf --eval eval.json -o repository/README.md
    """
    with clean_errors(), model_errors():
        check_output(output, force=force)
        found = read_evaluation(evaluation) if evaluation else None
        write_card(output, model_card(files, found, repo=repo, base_model=base_model), force=force)
        click.echo(f"{output}: card of {len(files)} files")
