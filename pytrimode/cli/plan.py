"""`pytrimode plan`: what fits into a device's memory, what to choose, how fast to expect it."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from pytrimode import _native
from pytrimode.cli.command import Command
from pytrimode.cli.options import model_argument
from pytrimode.cli.terminal_text import for_terminal
from pytrimode.gguf.sizes import memory_text
from pytrimode.hub.pretrained import planned_model
from pytrimode.plan import Option, Plan, plan
from pytrimode.plan.cards import find_card
from pytrimode.plan.cpu import cpu_speeds
from pytrimode.plan.model_shape import BUILT_IN, ModelShape, model_shape
from pytrimode.plan.planner import DEFAULT_CONTEXT, ESTIMATE_CONTEXT, GIB, LEAST_CONTEXT, CardSpeed, size_of
from pytrimode.plan.speed import Speeds
from pytrimode.threads import default_threads

FITS = {True: "yes", False: "no", None: ""}
FORMULA = (
    "ESTIMATES, not measurements, for one request: bandwidth, arithmetic rate and published acceptance; within 25 % of "
    "the measurements they were fitted to, of this engine those on an H100 (docs/gpu.md)."
)


@click.command(name="plan", cls=Command)
@model_argument
@click.option("--vram", metavar="SIZE", help="Memory to fit into: 24GiB (default: that of --card, or of the GPUs).")
@click.option(
    "-c",
    "--ctx",
    "--ctx-size",
    "n_ctx",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"Context in tokens, shared by all slots (default: {DEFAULT_CONTEXT}; fewer, down to {LEAST_CONTEXT}, where "
    "else only a cache of 4 bits would fit, or weights of less).",
)
@click.option(
    "-np",
    "--parallel",
    "n_parallel",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Slots: requests at a time.",
)
@click.option(
    "-b",
    "--batch-size",
    "n_batch",
    type=click.IntRange(min=1),
    default=512,
    show_default=True,
    metavar="N",
    help="Most rows in one forward pass.",
)
@click.option(
    "-fa",
    "--flash-attn",
    type=click.Choice(["on", "off"]),
    default="on",
    show_default=True,
    help="Flash attention; off needs much more compute memory and no quantized cache.",
)
@click.option("--margin", default="1GiB", show_default=True, metavar="SIZE", help="Leave so much free.")
@click.option("--card", metavar="NAME", help='Only this card in the table of speeds, "3090" or "M4 Max".')
@click.option("--cpu", "on_cpu", is_flag=True, help="Measure this CPU for MODEL, a few seconds a type of weights.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")  # fmt: skip
def command(model: str | None, vram: str | None, card: str | None, on_cpu: bool, as_json: bool, **options: Any) -> None:
    """Plan the memory of MODEL, and estimate its speed.

    MODEL is 3B, 8B or 14B, a GGUF file, a checkpoint directory of which config.json is enough, or OWNER/NAME on the
    hub, of which config.json alone is downloaded; without it, what to choose for each of the three. Nothing is loaded:
    compute buffers are asked from the backend for the engine's graph.
    """
    options["flash_attn"] = options["flash_attn"] == "on"
    source = planned_model(model) if model else None
    if on_cpu and model is None:
        raise click.UsageError("--cpu: give a MODEL: 3B, 8B, 14B, a file or a checkpoint")
    size = vram if vram is not None else _memory_of(card)
    plans = [plan(name, vram=size, **options) for name in ([source] if source else BUILT_IN)]
    if card is not None:
        wanted = find_card(card)
        for found in plans:
            found.cards[:] = [entry for entry in found.cards if entry.card == wanted]
    cpu = _cpu_table(model_shape(source), plans[0]) if on_cpu and source is not None else {}
    if as_json and on_cpu:
        print(json.dumps({**asdict(plans[0]), "cpu": {name: asdict(found) for name, found in cpu.items()}}, indent=2))
        return
    if as_json:
        print(json.dumps([asdict(found) for found in plans] if model is None else asdict(plans[0]), indent=2))
        return
    console = Console(width=None if Console().is_terminal else 120, highlight=False)
    for found in plans:
        _print_memory(console, found, whole=model is not None)
    if on_cpu:
        _print_cpu(console, cpu)
    elif model is not None:
        _print_cards(console, plans[0])


def _memory_of(card: str | None) -> int | None:
    if card is not None:
        memory = find_card(card).memory_gib
        return None if memory is None else int(memory * GIB)
    gpus = [device["memory_total"] for device in _native.devices() if device["type"] in ("gpu", "igpu")]
    return sum(gpus) or None


def _print_memory(console: Console, found: Plan, *, whole: bool) -> None:
    slots = f" shared by {found.n_parallel} slots" if found.n_parallel > 1 else ""
    room = f", to fit into {memory_text(found.vram)} less {memory_text(found.margin)}" if found.vram else ""
    console.print(for_terminal(f"{found.model}: {found.params / 1e9:.2f} B weights; {found.n_ctx} tokens{slots}{room}"))
    if found.shortened:
        console.print(f"  context  {DEFAULT_CONTEXT} tokens would take a worse cache or weights: shortened; -c sets it")
    console.print(for_terminal(f"  choose   {_choice_text(found)}"))
    if not whole:
        return
    caches = ", ".join(
        f"{kind} {memory_text(n_bytes)} ({found.kv_per_token[kind] / 1024:.4g} KiB a token)"
        for kind, n_bytes in found.kv_cache.items()
    )
    console.print(f"  cache    {caches}")
    lora = f"; drafter LoRA {memory_text(found.lora)}" if found.lora else ""
    console.print(f"  compute  {memory_text(found.compute)}, asked from {found.measured_on}{lora}")
    if found.vision:
        console.print(f"  vision   {memory_text(found.vision)}: the tower and its buffer for the largest image")
    if found.measured_on == "CPU":
        console.print("           a GPU's backend may ask for somewhat more; this machine has none to ask")
    console.print(_memory_table(found))
    console.print("On the device: all weights but the token embedding, LoRA, vision, the cache, the compute buffers.")


def _choice_text(found: Plan) -> str:
    if found.choice is None:
        return "nothing fits: see -ngl in the table for how many layers do" if found.vram else "give --vram, as 24GiB"
    option = found.choice
    same = "" if option.cache_type == "f16" else f" -ctk {option.cache_type} -ctv {option.cache_type}"
    return (
        f"{option.quantization} weights, {option.cache_type} cache: {memory_text(option.on_device)} on the device"
        f"   (-c {found.n_ctx} -ngl all{same})"
    )


def _memory_table(found: Plan) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("weights", "bits", "file"):
        table.add_column(heading, justify="left" if heading == "weights" else "right")
    for kind in found.kv_cache:
        table.add_column(f"with {kind} cache", justify="right")
    by_quantization: dict[str, list[Option]] = {}
    for option in found.options:
        by_quantization.setdefault(option.quantization, []).append(option)
    for name, options in by_quantization.items():
        first = options[0]
        table.add_row(name, f"{first.bits_per_weight:.2f}", memory_text(first.weights), *map(_option_text, options))
    return table


def _option_text(option: Option) -> str:
    text = memory_text(option.on_device)
    if option.fits is None:
        return text
    return f"{text} fits" if option.fits else f"{text} -ngl {option.gpu_layers}"


def _cpu_table(shape: ModelShape, found: Plan) -> dict[str, Speeds]:
    """Speeds on this CPU by quantization; those with types that cannot be measured are left out."""
    speeds: dict[str, Speeds] = {}
    for name in dict.fromkeys(option.quantization for option in found.options):
        with contextlib.suppress(ValueError):
            speeds[name] = cpu_speeds(shape, name, default_threads(), size=size_of(shape), lora=shape.lora_rank > 0)
    return speeds


def _print_cpu(console: Console, speeds: dict[str, Speeds]) -> None:
    if not speeds:
        console.print("\nThis CPU has no kernels of pytrimode's own (pytrimode doctor): nothing was measured.")
        return
    console.print(
        f"\nTokens per second on this CPU, {default_threads()} threads, short texts: products measured just now, "
        "drafts accepted as published. An ESTIMATE: pytrimode bench --shape measures a whole model of random weights."
    )
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("weights", "ar", "diffusion", "self-spec", "block"):
        table.add_column(heading, justify="left" if heading == "weights" else "right")
    for name, each in speeds.items():
        rates = (f"~{rate:.3g}" for rate in (each.ar, each.diffusion, each.self_spec))
        table.add_row(name, *rates, str(each.block_length))
    console.print(table)


def _print_cards(console: Console, found: Plan) -> None:
    option = found.choice or found.options[0]
    tokens = min(found.n_ctx, ESTIMATE_CONTEXT)
    console.print(
        f"\nTokens per second, {option.quantization} with {option.cache_type} cache at {tokens} tokens. {FORMULA}"
    )
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("card", "memory", "fits", "ar", "diffusion", "self-spec", "block"):
        table.add_column(heading, justify="left" if heading == "card" else "right")
    for entry in found.cards:
        table.add_row(*_card_cells(entry))
    console.print(table)


def _card_cells(entry: CardSpeed) -> list[str]:
    memory = f"{entry.card.memory_gib:g} GiB" if entry.card.memory_gib else "varies"
    found = entry.speeds
    return [
        entry.card.name,
        memory,
        FITS[entry.fits],
        f"~{found.ar:.0f}",
        f"~{found.diffusion:.0f}",
        f"~{found.self_spec:.0f}",
        str(found.block_length),
    ]
