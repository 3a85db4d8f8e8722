"""`pytrimode info`: what a GGUF file holds, from its header alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click

from pytrimode.cli.command import Command
from pytrimode.cli.options import model_argument
from pytrimode.cli.terminal_text import for_terminal
from pytrimode.files.file_info import file_info
from pytrimode.gguf.sizes import memory_text
from pytrimode.hub.pretrained import stored_model

Row = tuple[str, str]
LABEL_WIDTH = 14


def _count(n: int) -> str:
    for limit, unit in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if n >= limit:
            return f"{n / limit:.2f} {unit}"
    return str(n)


def _file_rows(info: dict[str, Any]) -> Iterator[Row]:
    yield "file", f"{info['file']} ({memory_text(info['file_bytes'])}, GGUF v{info['gguf_version']})"
    yield "name", info["name"] or "not given"
    yield "architecture", str(info["architecture"]) + ("" if info["kind"] == "model" else f" ({info['kind']})")
    for key in ("license", "source"):
        if info[key]:
            yield key, info[key]
    yield "parameters", f"{_count(info['n_params'])} in {info['n_tensors']} tensors"
    types = ", ".join(f"{t['type']} x{t['tensors']} ({memory_text(t['bytes'])})" for t in info["tensor_types"])
    yield "quantization", f"{types}; {info['bits_per_weight']} bits per weight"
    if info["left_to_llama_cpp"]:
        left = ", ".join(info["left_to_llama_cpp"])
        yield "CPU products", f"llama.cpp's for {left}: slower, and replies can differ at near-ties between modes"


def _model_rows(info: dict[str, Any]) -> Iterator[Row]:
    shape, rope, tokenizer = info["shape"], info["rope"], info["tokenizer"]
    yield (
        "layers",
        (
            f"{shape['layers']}, hidden {shape['hidden']}, feed-forward {shape['feed_forward']}, "
            f"heads {shape['heads']} ({shape['kv_heads']} for keys and values) of {shape['head_dim']}"
        ),
    )
    context = f"{shape['context_length']} tokens"
    if shape["kv_cache_bytes_per_token_f16"]:
        context += f"; KV cache {memory_text(shape['kv_cache_bytes_per_token_f16'])} per token in F16"
    yield "context", context
    scaling = (
        f", {rope['scaling']} x{_number(rope['factor'])} from {rope['original_context']}" if rope["factor"] else ""
    )
    beta = rope["attention_temperature_scale"]
    yield "RoPE", f"base {_number(rope['freq_base'])}{scaling}" + (f", query scale {_number(beta)}" if beta else "")
    yield "tokenizer", f"{tokenizer['model']} / {tokenizer['pre']}, {tokenizer['vocabulary']} tokens"
    ids = ", ".join(f"{name} {_number(tokenizer[f'{name}_token_id'])}" for name in ("bos", "eos", "mask"))
    yield "token ids", ids
    yield "chat template", "yes" if tokenizer["chat_template"] else "no: chat will not work, generate does"


def _mode_rows(info: dict[str, Any]) -> Iterator[Row]:
    found = info["modes"]
    yield "modes", ", ".join(found["available"]) or "none"
    for mode, why in found["missing"].items():
        yield f"  not {mode}", why
    if len(found["available"]) > 1:
        lengths = ", ".join(f"{length} in {mode}" for mode, length in found["block_length"].items())
        yield "  block length", lengths
        yield "  threshold", f"{found['threshold']:g}"
    yield "drafter LoRA", _drafter(info["drafter_lora"])
    yield "vision tower", _vision(info["vision"])


def _drafter(lora: dict[str, Any] | None) -> str:
    if lora is None:
        return "none beside the file"
    if "error" in lora:
        return f"unusable: {lora['error']}"
    rank = lora["rank"] if lora["rank"] is not None else "unclear"
    types = "/".join(lora["types"])
    return f"rank {rank}, alpha {_number(lora['alpha'])}, {types}, {memory_text(lora['file_bytes'])}: {lora['file']}"


def _vision(tower: dict[str, Any] | None) -> str:
    if tower is None:
        return "none beside the file: no images"
    if "error" in tower:
        return f"unusable: {tower['error']}"
    sides = f", sides up to {tower['max_side']} pixels" if tower["max_side"] else ""
    return (
        f"{tower['projector']}, {tower['layers']} layers of {tower['hidden']}{sides}, {tower['type']}, "
        f"{memory_text(tower['file_bytes'])}: {tower['file']}"
    )


def _number(value: object) -> str:
    """Return a number as short as it is exact to 6 digits; what else a file may hold there as it is."""
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


@click.command(name="info", cls=Command)
@model_argument
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def command(model: str | None, as_json: bool) -> None:
    """Show what MODEL, a GGUF file, holds (default: the checkpoint that comes with pytrimode).

    Reads the header only: size, quantization, shapes, modes and why others are missing, drafter LoRA.
    """
    if model is None:
        from pytrimode.files.shipped_model import shipped_gguf

        model = str(shipped_gguf(notice=lambda text: click.echo(text, err=True)))
    info = file_info(stored_model(model))
    if as_json:
        print(json.dumps(info, ensure_ascii=False, indent=2))
        return
    rows = [*_file_rows(info)]
    if info["kind"] == "model":
        rows += [*_model_rows(info), *_mode_rows(info)]
    elif info["vision"]:
        rows.append(("vision tower", _vision(info["vision"])))
    for label, value in rows:
        click.echo(f"{click.style(label.ljust(LABEL_WIDTH), bold=True)} {for_terminal(str(value))}")
