"""Options that trimode-convert and trimode-quantize share, and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pytrimode.convert.lora import LORA_TYPES
from pytrimode.convert.type_selection import TypeOptions
from pytrimode.gguf.sizes import parse_size
from pytrimode.gguf.types import WEIGHT_TYPES, GgmlType

Command = Callable[..., Any]
TYPE_METAVAR = "TYPE"


class WeightType(click.ParamType):  # type: ignore[type-arg]  # not generic in click 8.1
    """The name of a ggml type, in any case."""

    name = "type"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Its GgmlType."""
        if isinstance(value, GgmlType):
            return value
        kind = WEIGHT_TYPES.get(str(value).lower())
        if kind is None:
            self.fail(f"{value!r} is none of {', '.join(WEIGHT_TYPES)}", param, ctx)
        return kind


class WeightTypes(click.ParamType):  # type: ignore[type-arg]  # not generic in click 8.1
    """Names of ggml types, separated by commas."""

    name = "types"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a tuple of GgmlType."""
        if isinstance(value, tuple):
            return value
        return tuple(WeightType().convert(part.strip(), param, ctx) for part in str(value).split(",") if part.strip())


class TensorType(click.ParamType):  # type: ignore[type-arg]  # not generic in click 8.1
    """REGEX=TYPE."""

    name = "tensor type"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the pair."""
        if isinstance(value, tuple):
            return value
        pattern, equals, kind = str(value).rpartition("=")
        if not equals or not pattern:
            self.fail(f"{value!r}: expected REGEX=TYPE, such as ffn_down=q6_k", param, ctx)
        return pattern, WeightType().convert(kind, param, ctx)


class Size(click.ParamType):  # type: ignore[type-arg]  # not generic in click 8.1
    """A size in bytes."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Its number of bytes."""
        if isinstance(value, int):
            return value
        try:
            n_bytes = parse_size(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if n_bytes <= 0:
            self.fail(f"{value!r} is not a size above zero", param, ctx)
        return n_bytes


_FILE = click.Path(path_type=Path)
_OPTIONS = (
    click.option("--imatrix", type=_FILE, metavar="FILE", help="Importance matrix, see trimode-quantize imatrix."),
    click.option("--output-tensor-type", type=WeightType(), metavar=TYPE_METAVAR, help="Type of output.weight."),
    click.option("--token-embedding-type", type=WeightType(), metavar=TYPE_METAVAR, help="Type of token_embd.weight."),
    click.option(
        "--tensor-type",
        "tensor_types",
        type=TensorType(),
        multiple=True,
        metavar="REGEX=TYPE",
        help="Type of the tensors in whose name REGEX is found; the first that fits counts. May be given again.",
    ),
    click.option("--leave-output-tensor", is_flag=True, help="Do not quantize the head."),
    click.option("--pure", is_flag=True, help="All matrices in one type, no mix."),
    click.option(
        "--split-max-size", type=Size(), metavar="SIZE", help="Write parts of at most as much data: 500M, 4G, 4GiB."
    ),
    click.option(
        "--metadata",
        multiple=True,
        metavar="KEY=VALUE",
        help="Set a metadata key; nothing after the = removes it. May be given again.",
    ),
    click.option("--dry-run", is_flag=True, help="Show types and sizes of all tensors and write nothing."),
    click.option("--lora-type", type=click.Choice(LORA_TYPES), help="Type of the drafter LoRA.  [default: as it is]"),
    click.option("--no-lora", is_flag=True, help="Leave the drafter LoRA out."),
    click.option("--force", is_flag=True, help="Replace existing files."),
    click.option("-t", "--threads", type=click.IntRange(min=1), help="Encoding threads.  [default: one for each core]"),
    click.option("-q", "--quiet", is_flag=True, help="Print errors only."),
)  # fmt: skip


def output_options(command: Command) -> Command:
    """Add the options that say how to write a model."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def library_arguments(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options, without `quiet`, as the keyword arguments of `convert` and `quantize`."""
    return {
        "force": options["force"],
        "threads": options["threads"],
        "lora": not options["no_lora"],
        "lora_type": options["lora_type"],
        "imatrix": options["imatrix"],
        "types": TypeOptions(
            options["output_tensor_type"],
            options["token_embedding_type"],
            tuple(options["tensor_types"]),
            options["leave_output_tensor"],
            options["pure"],
        ),
        "split_max_bytes": options["split_max_size"],
        "metadata": options["metadata"],
        "dry_run": options["dry_run"],
    }
