"""`pytrimode models`: what is here of models from the hub."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import datetime, timedelta

import click
from rich.console import Console
from rich.table import Table

from pytrimode.gguf.sizes import size_text
from pytrimode.hub.fetch import fetch
from pytrimode.hub.reference import Reference, on_hub, reference_of
from pytrimode.hub.store import SAFETENSORS, Stored, mark_used, remove, stored

AGES = ((timedelta(days=1), "day"), (timedelta(hours=1), "hour"), (timedelta(minutes=1), "minute"))


@click.group(name="models", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """List the models that were downloaded from the hub by their names: name, type, size, last use, where.

    `safetensors` is the download that a model was converted from: another type needs it, running a model does not.
    """
    if context.invoked_subcommand:
        return
    found = stored()
    if as_json:
        print(json.dumps([asdict(one) | {"path": str(one.path)} for one in found], indent=2))
        return
    if not found:
        click.echo("no models; pytrimode chat OWNER/NAME downloads one", err=True)
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("name", "type", "size", "used", "where"):
        table.add_column(heading, justify="right" if heading == "size" else "left", no_wrap=heading != "where")
    for one in found:
        table.add_row(one.repo, one.type, size_text(one.n_bytes), _age(one.used), str(one.path))
    wide = None if Console().is_terminal else 10_000  # a pipe gets a line for each
    Console(width=wide, highlight=False).print(table)


@command.command("pull")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
def pull_command(names: tuple[str, ...]) -> None:
    """Download and convert OWNER/NAME[:TYPE], or look whether the hub has a newer one."""
    for name in names:
        path = fetch(_reference(name), notice=_notice, progress=sys.stderr.isatty(), renew=True)
        mark_used(path)
        click.echo(path)


@command.command("rm")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
def remove_command(names: tuple[str, ...]) -> None:
    """Remove OWNER/NAME, or one type of it: OWNER/NAME:q8_0.

    Its files go from the hub's cache too, which other programs share; type safetensors is the download of a converted
    model.
    """
    chosen: list[Stored] = []
    for name in names:
        reference = _reference(name)
        found = [one for one in stored(reference.repo) if reference.type in (None, one.type)]
        if not found:
            there = ", ".join(one.reference for one in stored(reference.repo) or stored())
            raise click.ClickException(f"{reference}: not here; there is {there or 'nothing'}")
        chosen += found
    # A checkpoint last: what is converted from it goes first where a run is cut short.
    for one in sorted(chosen, key=lambda one: one.type == SAFETENSORS):
        click.echo(f"{one.reference}: removed, {size_text(remove(one))}")


def _reference(name: str) -> Reference:
    reference = reference_of(on_hub(name))
    assert reference is not None  # on_hub: never a path
    return reference


def _notice(text: str) -> None:
    click.echo(text, err=True)


def _age(seconds: float) -> str:
    age = datetime.now() - datetime.fromtimestamp(seconds)
    for unit, name in AGES:
        if age >= unit:
            n = age // unit
            return f"{n} {name}{'s' if n > 1 else ''} ago"
    return "now"
