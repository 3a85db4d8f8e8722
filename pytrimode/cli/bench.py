"""`pytrimode bench`: how fast a model is, in which mode."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pytrimode import _native
from pytrimode.bench.acceptance import PUBLISHED, read_acceptance
from pytrimode.bench.chart import check_matplotlib, write_chart
from pytrimode.bench.llama_bench import Subject, prompt_speed
from pytrimode.bench.plan import STOCK, Setting, Workload, settings_of
from pytrimode.bench.prompts import PROMPTS, read_prompts, tokenize
from pytrimode.bench.random_model import random_model
from pytrimode.bench.report import FORMATS, Report
from pytrimode.bench.runner import Results, Runner, collect, turns
from pytrimode.bench.stock import Stock
from pytrimode.cli.command import Command
from pytrimode.cli.load import load
from pytrimode.cli.options import loading_options, model_argument
from pytrimode.gguf.sizes import memory_text
from pytrimode.gguf.types import OUTPUT_TYPES
from pytrimode.options import modes
from pytrimode.options.load_options import LoadOptions
from pytrimode.options.sampling import Sampling
from pytrimode.plan.model_shape import BUILT_IN
from pytrimode.trimode import TriMode

NOTHING = "none"


class NumberList(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """Whole numbers, separated by commas."""

    name = "numbers"

    def __init__(self, low: int) -> None:
        self._low = low

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Return the numbers. Raises BadParameter for anything else, and for a number that is too low."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(int(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers such as 4,8,16", param, ctx)
        if min(numbers) < self._low:
            self.fail(f"{min(numbers)} is too low: at least {self._low}", param, ctx)
        return numbers


def _names(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in value.split(","))


def _chosen_prompts(file: str | None, categories: Sequence[str], n_prompts: int | None) -> dict[str, list[str]]:
    known = read_prompts(Path(file)) if file else {name: list(texts) for name, texts in PROMPTS.items()}
    for name in categories:
        if name not in known:
            raise click.UsageError(f"no category {name!r}: there are {', '.join(known)}")
    return {name: texts[:n_prompts] for name, texts in known.items() if not categories or name in categories}


def _stock_options(model: TriMode, loading: LoadOptions) -> dict[str, Any]:
    """As the model is loaded here."""
    return {
        "n_ctx": model.n_ctx,
        "n_batch": loading.n_batch,
        "n_gpu_layers": model.n_gpu_layers,
        "n_threads": model.n_threads,
        "n_threads_batch": model.n_threads_batch,
        "flash_attn": loading.flash_attn,
    }


def _about(model: TriMode, loading: LoadOptions, rounds: int, sampling: str, interrupted: bool) -> dict[str, Any]:
    memory = {"file": Path(model.model_path).stat().st_size, **model.memory}
    return {
        "model": model.metadata.get("general.name") or Path(model.model_path).name,
        "file": Path(model.model_path).name,
        "drafter LoRA": f"rank {model.lora_rank}" if model.has_lora else "none",
        "machine": f"{platform.machine()}, {os.cpu_count()} logical processors, {model.n_threads} threads, "
        f"{model.n_gpu_layers} layers on the GPU",
        "memory": ", ".join(f"{name} {memory_text(n)}" for name, n in memory.items()),
        "sampling": sampling,
        "rounds": f"{rounds}: median (lowest to highest)" + (", INTERRUPTED" if interrupted else ""),
        "versions": f"pytrimode {version('pytrimode')}, llama-cpp-python {_native.LLAMA_CPP_PYTHON_VERSION}",
    }


def _measure(runner: Runner, plan: list[Any], results: Results, warm_up: int) -> bool:
    """Run the plan with a bar on stderr; False when Ctrl-C ended it."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("warming up", total=len(plan))
        try:
            for turn in collect(runner, iter(plan), results, warm_up):
                what = f"{turn.workload.category}, {turn.setting.name}" if turn.round >= warm_up else "warming up"
                progress.update(bar, advance=1, description=what)
        except KeyboardInterrupt:
            return False
    return True


@click.command(name="bench", cls=Command)
@model_argument
@click.option(
    "--mode",
    "names",
    default="ar,self-spec,auto",
    show_default=True,
    metavar="MODE,...",
    callback=_names,
    help="Modes to compare.",
)
@click.option(
    "-B",
    "--block-length",
    "block_lengths",
    type=NumberList(1),
    metavar="N,...",
    help="Tokens per block in self-spec (default: 4,8,16,32) and in diffusion (default: the file's).",
)
@click.option("--fused", is_flag=True, help="Self-spec in fused passes as well.")
@click.option("--without-lora", is_flag=True, help="Draft without the LoRA as well, to see what it brings.")
@click.option(
    "--without-ngram", is_flag=True, help="Mode auto without drafts read off the text as well, to see what they bring."
)
@click.option(
    "--without-trees", is_flag=True, help="Mode auto without trees of drafts as well, to see what they bring."
)
@click.option(
    "-p",
    "--prompt-tokens",
    "prompt_lengths",
    type=NumberList(0),
    default="0",
    show_default=True,
    metavar="N,...",
    help="Prompt lengths: prompts behind earlier turns of about N tokens; 0: as they are.",
)
@click.option(
    "-n",
    "--max-tokens",
    "max_tokens",
    type=NumberList(2),
    default="128",
    show_default=True,
    metavar="N,...",
    help="Most tokens to write.",
)
@click.option(
    "-np",
    "--parallel",
    type=NumberList(1),
    default="1",
    show_default=True,
    metavar="N,...",
    help="Requests at a time; tokens/s is then that of all together, prompts included.",
)
@click.option(
    "--category",
    "categories",
    multiple=True,
    metavar="NAME",
    help=f"Only these prompts; repeatable. Built in: {', '.join(PROMPTS)}.",
)
@click.option(
    "-f",
    "--file",
    type=click.Path(),
    metavar="FILE",
    help='Other prompts: a text, one on each line, or JSON {"category": ["prompt", ...]}.',
)
@click.option("--prompts", "n_prompts", type=click.IntRange(min=1), metavar="N", help="Only the first N of each.")
@click.option(
    "-r",
    "--rounds",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    metavar="N",
    help="Times to measure everything.",
)
@click.option(
    "--warm-up",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    metavar="N",
    help="Rounds before that; auto learns in them what passes cost.",
)
@click.option(
    "--temp",
    "--temperature",
    "temperature",
    type=click.FloatRange(min=0.0),
    default=0.0,
    show_default=True,
    metavar="T",
    help="Temperature; 0: greedy, so that all exact modes write the same.",
)
@click.option("--ignore-eos", is_flag=True, help="Write --max-tokens in any case.")
@click.option(
    "--compare",
    type=click.Choice([STOCK, NOTHING]),
    help=f"Run the same file in stock llama-cpp-python too, greedy (default: {NOTHING}; with --shape {STOCK}).",
)
@click.option(
    "--acceptance",
    metavar="RATES",
    help="Accept drafts by lot, whatever they are: the text is meaningless, the speed that of a model which drafts so "
    f"well. {PUBLISHED} (for the model's size), {', '.join(BUILT_IN)} (published for that), or a JSON file of rates by "
    "position.",
)
@click.option(
    "--shape",
    metavar="SHAPE",
    help=f"A model of random weights instead of MODEL: {', '.join(BUILT_IN)}, or the shape of a file or checkpoint.",
)
@click.option(
    "--type",
    "outtype",
    type=click.Choice(list(OUTPUT_TYPES)),
    default="q8_0",
    show_default=True,
    metavar="TYPE",
    help="With --shape: its type, by the converter's names.",
)
@click.option("--layers", type=click.IntRange(min=1), metavar="N", help="With --shape: only the first N layers.")
@click.option(
    "-o",
    "--output",
    "output_format",
    type=click.Choice(list(FORMATS)),
    default="markdown",
    show_default=True,
    help="Format of the report on stdout.",
)
@click.option("--chart", type=click.Path(), metavar="FILE", help="Write a PNG of the speeds; needs the extra [chart].")
@loading_options  # fmt: skip
def command(
    model: str | None,
    names: tuple[str, ...],
    block_lengths: tuple[int, ...] | None,
    fused: bool,
    without_lora: bool,
    without_ngram: bool,
    without_trees: bool,
    prompt_lengths: tuple[int, ...],
    max_tokens: tuple[int, ...],
    parallel: tuple[int, ...],
    categories: tuple[str, ...],
    file: str | None,
    n_prompts: int | None,
    rounds: int,
    warm_up: int,
    temperature: float,
    ignore_eos: bool,
    compare: str | None,
    acceptance: str | None,
    shape: str | None,
    outtype: str,
    layers: int | None,
    output_format: str,
    chart: str | None,
    loading: LoadOptions,
) -> None:
    """Measure how fast MODEL, a GGUF file, is (default: the checkpoint that comes with pytrimode).

    Settings take turns, prompt by prompt, so that a busy machine slows all of them; ratios are taken within a round.
    Ctrl-C ends the run and prints what was measured so far.

    \b
    tokens/s        without the prompt and without the first token, which comes from it
    x ar            against mode ar in the same round: above 1 drafting pays
    tokens/forward  tokens for each forward pass of a request
    tokens/cycle    tokens for each pair of draft and verify pass
    overhead        share of a pass that is not computation: inputs, sampling, bookkeeping

    \b
    pytrimode bench                                     the shipped model, a few minutes
    pytrimode bench nld-8b.gguf --mode ar,auto --compare llama-cpp-python
    pytrimode bench nld-8b.gguf -B 8,16,32 --category code -n 64 -r 5
    pytrimode bench nld-8b.gguf --mode ar,auto -np 1,2,4,8 -c 16384 -o csv > speeds.csv
    pytrimode bench --shape 8B --type q4_k_m --acceptance published      a machine, without the weights
    """
    if chart:
        check_matplotlib()
    if shape and model:
        raise click.UsageError(f"MODEL {model} and --shape {shape}: give one of them")
    if acceptance and temperature > 0:
        raise click.UsageError("--acceptance is for greedy decoding: leave --temperature out")
    if acceptance and any(modes.ALIASES.get(name, name) == modes.DIFFUSION for name in names):
        raise click.UsageError(f"--acceptance says nothing of mode {modes.DIFFUSION}: leave it out of --mode")
    if shape:  # texts mean nothing: one prompt is as good as many
        categories, n_prompts = categories or (() if file else (next(iter(PROMPTS)),)), n_prompts or 1
        compare = compare or STOCK
    if loading.loras and compare:
        raise click.UsageError(f"--lora does not go with --compare: {STOCK} runs the model without it")
    ignore_eos = ignore_eos or bool(shape or acceptance)
    texts = _chosen_prompts(file, categories, n_prompts)
    results: Results = {}
    with ExitStack() as stack:
        if shape:
            model = str(stack.enter_context(random_model(shape, outtype, layers)))
        loaded = stack.enter_context(load(model, loading, n_parallel=max(parallel)))
        simulated = read_acceptance(acceptance, loaded.metadata) if acceptance else None
        settings = settings_of(
            names, block_lengths or (), has_mask=loaded.mask_token_id >= 0, fused=fused, without_lora=without_lora,
            without_ngram=without_ngram, without_trees=without_trees,
        )  # fmt: skip
        stock = None
        if compare == STOCK:
            stock = stack.enter_context(Stock(loaded.model_path, _stock_options(loaded, loading)))
            settings.append(Setting(STOCK))
        workloads = [Workload(*axes) for axes in product(texts, prompt_lengths, max_tokens, parallel)]
        if max(prompt_lengths) >= loaded.n_ctx:
            raise ValueError(f"Requested tokens ({max(prompt_lengths)}) exceed context window of {loaded.n_ctx}")
        prompts = {
            (category, length): tokens
            for length in prompt_lengths
            for category, tokens in tokenize(loaded, texts, length).items()
        }
        runner = Runner(
            loaded, stock, lambda seed: Sampling(temperature, seed=seed), ignore_eos=ignore_eos, acceptance=simulated
        )
        plan = list(turns(prompts, workloads, settings, rounds + warm_up))
        complete = _measure(runner, plan, results, warm_up)
        results = {key: results[key] for key in product(workloads, settings) if key in results}
        measured = loaded.draft_length.cost.table() if modes.AUTO in names or len(settings) > 1 else []
        sampling = "greedy" if temperature == 0 else f"temperature {temperature:g}"
        about = _about(loaded, loading, rounds, sampling, not complete)
        if simulated:
            about["acceptance"] = f"SIMULATED, texts are meaningless: {simulated.source}"
        gpus = [device["name"] for device in _native.devices() if device["type"] in ("gpu", "igpu")]
        prompt = prompt_speed(loaded, rounds) if complete and results else None
        report = Report(about, results, measured, Subject.of(loaded, gpus), prompt, simulated is not None)
    print(FORMATS[output_format](report))
    if chart and results:
        write_chart(report, Path(chart))
    if not complete:
        sys.stdout.flush()
        raise KeyboardInterrupt
