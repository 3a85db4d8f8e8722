"""`pytrimode rpc-server`: this machine's devices for a model that another machine runs."""

from __future__ import annotations

import signal
import socket

import click

from pytrimode import _native
from pytrimode.cli.command import Command
from pytrimode.options.rpc import DEFAULT_PORT
from pytrimode.threads import default_threads

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@click.command(name="rpc-server", cls=Command)
@click.option("-H", "--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Address to listen on.")
@click.option(
    "-p",
    "--port",
    type=click.IntRange(1, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    metavar="N",
    help="Port to listen on.",
)
@click.option(
    "-d",
    "--device",
    "names",
    multiple=True,
    metavar="NAME",
    help="Device to lend, by its name in `pytrimode doctor`; repeatable (default: the GPUs, or else the CPU).",
)
@click.option(
    "-t",
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    help="CPU threads, where the CPU is lent (default: one for each core).",
)
def command(host: str, port: int, names: tuple[str, ...], threads: int | None) -> None:
    """Lend devices of this machine to `pytrimode ... --rpc HOST:PORT` on another one, until Ctrl-C.

    It is the server of ggml's RPC backend: llama.cpp's programs of the same version can use it too. Whoever reaches the
    port can use it, unencrypted and without a password, and a broken client can end it: only in a network that you
    trust. The weights come over the network when a model is loaded.
    """
    devices = list(names) or _default_devices()
    _check_free(host, port)
    if host not in LOOPBACK:
        click.echo(f"warning: everybody who reaches {host}:{port} can use this machine's memory and devices", err=True)
    click.echo(f"lending {', '.join(devices)} at {host}:{port}; Ctrl-C ends it", err=True)
    for number in (signal.SIGINT, signal.SIGTERM):  # the server never comes back to Python
        signal.signal(number, signal.SIG_DFL)
    _native.run_rpc_server(f"{host}:{port}", devices, threads or default_threads())
    raise click.ClickException(f"the server at {host}:{port} has ended")


def _default_devices() -> list[str]:
    found = _native.devices()
    gpus = [device["name"] for device in found if device["type"] in ("gpu", "igpu")]
    return gpus or [device["name"] for device in found if device["type"] == "cpu"][:1]


def _check_free(host: str, port: int) -> None:
    """Raise OSError that names the address where nobody can listen: ggml would end without a word."""
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        raise OSError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
