"""The options that commands share. Those of requests and of loading come from the tables in `pytrimode.options`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from pytrimode.hub.reference import on_hub
from pytrimode.options.defaults import (
    DEFAULT_CACHE_TYPE,
    DEFAULT_TEMPERATURE,
)
from pytrimode.options.generation_options import GenerationOptions, option_table, with_options
from pytrimode.options.gpu_layers import ALL, AUTO, parse_gpu_layers
from pytrimode.options.load_options import AUTO_FILE, LoadOptions
from pytrimode.options.loras import parse_lora
from pytrimode.options.option import Row, rows

API_KEY_VARIABLE = "PYTRIMODE_API_KEY"

F = TypeVar("F", bound=Callable[..., Any])


def _gpu_layers(text: int | str) -> int | str:
    try:
        return parse_gpu_layers(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _servers(text: str) -> list[str]:
    """Return the addresses; loading checks them."""
    return [part.strip() for part in text.split(",") if part.strip()]


def _tensor_split(text: str) -> list[float]:
    """Return the shares; the engine checks their number and sum."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"{text!r}: expected shares between commas, such as 3,1") from None


system_option = click.option("--system", "-sys", "--system-prompt", "system", metavar="TEXT", help="System message.")
thinking_option = click.option("--enable-thinking", is_flag=True, help="Let the model reason before it answers.")


def _apply(options: list[Any], make: Callable[..., Any], name: str) -> Callable[[F], F]:
    """Add the options to a command, and hand them to it as one object that `make` makes."""

    def decorate(function: F) -> F:
        def command(**arguments: Any) -> Any:
            fields = {key: arguments.pop(key) for key in names}
            return function(**arguments, **{name: make(**fields)})

        inner = list(getattr(function, "__click_params__", []))
        command.__doc__ = function.__doc__
        command.__click_params__ = list(inner)  # type: ignore[attr-defined]
        for option in reversed(options):
            command = option(command)
        names = [parameter.name for parameter in command.__click_params__[len(inner) :]]  # type: ignore[attr-defined]
        return command  # type: ignore[return-value]

    return decorate


# --- Which model -----------------------------------------------------------------------------------------------------


def model_argument(function: F) -> F:
    """MODEL, or -m FILE or -hf OWNER/NAME as with llama.cpp, passed as `model`."""
    options = [
        click.argument("model", required=False, type=click.Path()),
        click.option("-m", "--model", "model_file", type=click.Path(), metavar="FILE", help="The model, as MODEL."),
        click.option("-hf", "--hf-repo", metavar="OWNER/NAME[:TYPE]",
                     help="A model on the Hugging Face hub, as MODEL, whatever files are here; extra [hub]."),
    ]  # fmt: skip
    return _apply(options, _one_model, "model")(function)


def _one_model(**given: str | None) -> str | None:
    source = click.get_current_context().get_parameter_source
    if given["hf_repo"]:
        given["hf_repo"] = on_hub(given["hf_repo"])
    named = {name: value for name, value in given.items() if value}
    typed = {name: value for name, value in named.items() if source(name) is ParameterSource.COMMANDLINE}
    if len(typed) > 1:
        flags = {"model": "MODEL", "model_file": "--model", "hf_repo": "--hf-repo"}
        several = " and ".join(f"{flags[name]} {value}" for name, value in typed.items())
        raise click.UsageError(f"{several}: give one of them (how to decode is --mode)")
    return next(iter((typed or named).values()), None)


# --- How to load a model ---------------------------------------------------------------------------------------------


def loading_options(function: F) -> F:
    """How to load a model, passed as `loading`, which are `LoadOptions`."""
    own = {
        "n_gpu_layers": [
            click.option("-ngl", "--n-gpu-layers", type=_gpu_layers, default=AUTO, show_default=True, metavar="N",
                         help=f"Layers to run on the GPU: a number, {ALL}, or {AUTO} for what its memory holds."),
        ],
        "tensor_split": [
            click.option("-ts", "--tensor-split", type=_tensor_split, metavar="A,B,...",
                         help="Shares of several GPUs (default: by free memory)."),
        ],
        "flash_attn": [
            click.option("-fa", "--flash-attn", type=click.Choice(["on", "off", "auto"]), default="auto",
                         show_default=True, help="Flash attention; off computes attention exactly, auto is on."),
        ],
        "type_k": [
            click.option("--cache-type", "-ct", default=DEFAULT_CACHE_TYPE, show_default=True, metavar="TYPE",
                         help="Type of the KV cache: f32, f16, bf16, q8_0, q5_1, q5_0, q4_1, q4_0."),
            click.option("-ctk", "--cache-type-k", metavar="TYPE", help="Type of the keys alone."),
            click.option("-ctv", "--cache-type-v", metavar="TYPE", help="Type of the values alone."),
        ],
        "lora_path": [
            click.option("--drafter-lora", type=click.Path(), metavar="FILE",
                         help="Drafter LoRA (default: MODEL-drafter-lora.gguf beside the model, if it is there)."),
            click.option("--no-drafter-lora", "--no-lora", "no_lora", is_flag=True, help="Draft without a LoRA."),
        ],
        "loras": [
            click.option("--lora", "loras", type=parse_lora, multiple=True, metavar="FILE[=SCALE]",
                         help="LoRA adapter for all rows of all modes; repeatable."),
        ],
        "mmproj": [
            click.option("--mmproj", type=click.Path(), metavar="FILE",
                         help="Vision tower (default: MODEL-mmproj.gguf beside the model, if it is there)."),
            click.option("--no-mmproj", is_flag=True, help="Load no vision tower: the model takes text only."),
        ],
        "use_mmap": [
            click.option("--mmap/--no-mmap", "use_mmap", default=True,
                         help="Map the file into memory, the default, or read it."),
        ],
        "tuning_cache": [
            click.option("--tuning-cache/--no-tuning-cache", "tuning_cache", default=True,
                         help="Keep what mode auto measures in the cache directory, the default, or begin anew."),
        ],
        "rpc": [
            click.option("--rpc", type=_servers, metavar="HOST:PORT,...",
                         help="Put layers on other machines too, which run `pytrimode rpc-server`, or llama.cpp's; "
                              "unencrypted and without a password: only in a network that you trust."),
        ],
        "repack": [
            click.option("--no-repack", is_flag=True,
                         help="Leave the weights as the file has them, for processes that share it: slower (CPU)."),
        ],
    }  # fmt: skip
    options = []
    for name, row in rows(LoadOptions).items():
        options += own.get(name) or ([_click_option(row, row.default)] if row.about.flags else [])
    return _apply(options, _load_options, "loading")(function)


def _load_options(
    *,
    cache_type: str,
    cache_type_k: str | None,
    cache_type_v: str | None,
    flash_attn: str,
    drafter_lora: str | None,
    no_lora: bool,
    mmproj: str | None,
    no_mmproj: bool,
    no_repack: bool,
    **others: Any,
) -> LoadOptions:
    return LoadOptions(
        type_k=cache_type_k or cache_type,
        type_v=cache_type_v or cache_type,
        flash_attn=flash_attn != "off",
        lora_path=None if no_lora else drafter_lora or AUTO_FILE,
        mmproj=None if no_mmproj else mmproj or AUTO_FILE,
        repack=not no_repack,
        **others,
    )


# --- Options of a request --------------------------------------------------------------------------------------------


def request_options(command: str, *, temperature: float = DEFAULT_TEMPERATURE) -> Callable[[F], F]:
    """All flags that a command has of the option table, passed as `options`, which are `GenerationOptions`."""
    options = []
    for row in _rows_of(command):
        options.append(_click_option(row, temperature if row.name == "temperature" else row.default))
        if row.about.off_flag:
            options.append(click.option(row.about.off_flag, _off_name(row), is_flag=True, help=row.about.off_help))
    return _apply(options, _options_of, "options")


def request_fields(given: dict[str, Any]) -> dict[str, Any]:
    """Take the options of a request out of what was given on a command line: they come back as fields of a body."""
    fields = {}
    for row in option_table().values():
        if row.about.flags and row.name in given:
            fields[row.http] = given.pop(row.name)
        if row.about.off_flag and given.pop(_off_name(row), False):
            fields[row.http] = row.about.off
    return fields


def _rows_of(command: str) -> list[Row]:
    wanted = option_table().values()
    return [row for row in wanted if row.about.flags and command in row.about.commands and not row.about.varies]


def _off_name(row: Row) -> str:
    return row.about.off_flag.lstrip("-").replace("-", "_")


def _options_of(**values: Any) -> GenerationOptions:
    for row in option_table().values():
        if row.about.off_flag and values.pop(_off_name(row), False):
            values[row.name] = row.about.off
    return with_options(GenerationOptions(), values)


def _click_option(row: Row, default: Any) -> Any:
    about = row.about
    how: dict[str, Any] = {"help": f"{row.help}.", "default": default, "show_default": True, "metavar": about.metavar}
    if default is None:
        text = f" (default: {about.default_text})" if about.default_text else ""
        how |= {"help": f"{row.help}{text}.", "show_default": False}
    if row.kind == "bool":
        how = {"help": f"{row.help}.", "is_flag": True}
    elif row.kind == "str | Sequence[str]":
        how = {"help": f"{row.help}; repeatable.", "multiple": True, "metavar": about.metavar}
    else:
        how["type"] = _click_type(row)
    if values := about.values:
        how["callback"] = lambda _context, _parameter, name: None if name is None else values[name]
    return click.option(*about.flags, row.name, **how)


def _click_type(row: Row) -> Any:
    if row.about.choices:
        return click.Choice(list(row.about.choices))
    low, high = row.bounds
    unbounded = low is None and high is None
    if row.kind == "int":
        return int if unbounded else click.IntRange(low, high)
    if row.kind == "float":
        return float if unbounded else click.FloatRange(low, high)
    return str
