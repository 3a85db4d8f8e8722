#!/usr/bin/env python3
"""The tables of docs/quantization.md: all types measured on trimode-tiny, and what fits on which card.

    python -m tools.quantization_tables types --work /tmp/types   # minutes; goes on where it was interrupted
    python -m tools.quantization_tables cards                     # seconds; no model is needed

Each replaces its table in the document, between the comments that bear its name.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from pytrimode.bench.report import markdown_table
from pytrimode.convert import convert
from pytrimode.convert.lora import LORA_TYPES
from pytrimode.gguf.file_names import lora_path
from pytrimode.gguf.sizes import memory_text
from pytrimode.gguf.types import OUTPUT_TYPES
from pytrimode.plan import Option, plan
from pytrimode.plan.model_shape import BUILT_IN
from pytrimode.quantize import quantize
from pytrimode.quantize.evaluation.evaluation import evaluate
from pytrimode.quantize.evaluation.options import EvaluationOptions
from pytrimode.quantize.evaluation.report import about_lines, table
from pytrimode.quantize.importance.calibration import calibrate
from pytrimode.quantize.target.sensitivity import SensitivityOptions
from pytrimode.quantize.target.target import Target

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs/quantization.md"
TINY = ROOT / "models/trimode-tiny"
BASE = "bf16"
TARGETS = ("q4_k_m", "q3_k_m", "q2_k")
"""Files of the size of these, with types chosen by measurement."""
LORA_COMPARED = ("q8_0", "q5_0", "q4_0")
OPTIONS = EvaluationOptions(n_ctx=512, max_chunks=2, mask_ratios=(0.25, 0.75), thresholds=(0.9,), max_tokens=32)
N_PROMPTS = 8
CARDS = ("8GiB", "12GiB", "16GiB", "24GiB")
CONTEXTS = (32768, 8192)
SMALLEST = "q4_k_m"
"""Where not even this fits with the shorter context, the table says how many layers do."""


def held_out() -> tuple[str, dict[str, list[str]]]:
    """Text and prompts that trimode-tiny has not seen, of the kinds that it has."""
    items = json.loads((TINY / "heldout.json").read_text())
    single = [item["messages"][0]["content"] for item in items if len(item["messages"]) == 1]
    return "\n".join(item["answer"] for item in items), {"held out": single[:: max(1, len(single) // N_PROMPTS)]}


def make_files(work: Path) -> tuple[list[Path], list[Path]]:
    """All types of trimode-tiny, BF16 first, and types of its drafter LoRA."""
    base = work / f"{BASE}.gguf"
    if not base.exists():
        convert(TINY, base, BASE)
    imatrix = work / "imatrix.gguf"
    if not imatrix.exists():
        calibrate(base, imatrix, max_chunks=32)
    files = [base]
    for name, output in OUTPUT_TYPES.items():
        if name in (BASE, "f32"):
            continue
        needs = "--imatrix" in output.text
        if not needs:
            files.append(_quantized(base, work / f"{name}.gguf", name))
        if needs or output.name in ("q4_k_m", "q3_k_m", "q2_k", "iq3_s", "iq3_m"):
            files.append(_quantized(base, work / f"{name}-imatrix.gguf", name, imatrix))
    for name in TARGETS:
        out = work / f"auto-like-{name}.gguf"
        if not out.exists():
            size = (work / f"{name}.gguf").stat().st_size
            target = Target(size, sensitivity=SensitivityOptions(keep=work / "sensitivity.json"))
            quantize(base, out, "auto", target=target)
        files.append(out)
    adapters = [lora_path(base)]
    for name in LORA_COMPARED:
        assert name in LORA_TYPES
        out = work / f"lora-{name}.gguf"
        if not out.exists():
            quantize(base, out, "copy", lora_type=name)
        adapters.append(lora_path(out))
    return sorted(files, key=lambda path: (path != base, -path.stat().st_size)), adapters


def _quantized(base: Path, out: Path, name: str, imatrix: Path | None = None) -> Path:
    if not out.exists():
        quantize(base, out, name, imatrix=imatrix)
    return out


def types_table(work: Path, threads: int | None) -> str:
    """Every type against BF16, then the adapters, each with BF16 and Q4_K_M."""
    work.mkdir(parents=True, exist_ok=True)
    files, adapters = make_files(work)
    text, prompts = held_out()
    options = EvaluationOptions(**{**vars(OPTIONS), "prompts": prompts, "threads": threads, "speed_rounds": 0})
    console = Console(stderr=True)
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("")

        def advance(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total)

        shared = {"text": text, "text_name": "held-out answers of trimode-tiny", "options": options}
        store = work / "base.logits"
        found = evaluate(files[0], files[1:], base_logits=store, progress=advance, **shared)  # type: ignore[arg-type]
        loras = evaluate(
            files[0], [work / "q4_k_m.gguf"], loras=adapters, base_logits=store, progress=advance, **shared
        )  # type: ignore[arg-type]
    (work / "types.json").write_text(json.dumps(found, indent=1))
    (work / "loras.json").write_text(json.dumps(loras, indent=1))
    return f"{about_lines(found)}\n\n{table(found)}\n\nDrafter LoRAs, with each of two models:\n\n{table(loras)}"


def cards_table() -> str:
    """Return the best choice for each card and model, by `pytrimode plan`."""
    rows = [[card.replace("GiB", " GiB"), *(_cell(size, card) for size in BUILT_IN)] for card in CARDS]
    return markdown_table(["card", *BUILT_IN], rows)


def _cell(size: str, card: str) -> str:
    for n_ctx in CONTEXTS:
        choice = plan(size, vram=card, n_ctx=n_ctx).choice
        if choice:
            return _chosen(choice, n_ctx)
    options = plan(size, vram=card, n_ctx=CONTEXTS[-1]).options
    partly = next(one for one in options if (one.quantization, one.cache_type) == (SMALLEST, "q8_0"))
    return f"{SMALLEST}, cache q8_0, {CONTEXTS[-1] // 1024}k, `-ngl {partly.gpu_layers}` (all: {_size(partly)})"


def _chosen(option: Option, n_ctx: int) -> str:
    return f"{option.quantization}, cache {option.cache_type}, {n_ctx // 1024}k: {_size(option)}"


def _size(option: Option) -> str:
    return memory_text(option.on_device)


def replace_table(name: str, text: str) -> None:
    """Put it between `<!-- NAME -->` and `<!-- /NAME -->`."""
    document = DOCUMENT.read_text()
    before, _, rest = document.partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- /{name} -->")
    if not end:
        raise SystemExit(f"{DOCUMENT} has no place for {name}")
    DOCUMENT.write_text(f"{before}<!-- {name} -->\n{text}\n{end}{after}")


def main() -> None:
    """Make one table and put it in its place."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="table", required=True)
    types = commands.add_parser("types")
    types.add_argument("--work", type=Path, required=True, help="a directory for the files, some 200 MB")
    types.add_argument("-t", "--threads", type=int)
    commands.add_parser("cards")
    arguments = parser.parse_args()
    if arguments.table == "cards":
        replace_table("cards", cards_table())
    else:
        replace_table("types", types_table(arguments.work, arguments.threads))


if __name__ == "__main__":
    main()
