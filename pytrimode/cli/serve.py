"""`pytrimode serve`: the server."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pytrimode.cli.command import Command
from pytrimode.cli.load import load
from pytrimode.cli.options import (
    API_KEY_VARIABLE,
    loading_options,
    model_argument,
    request_options,
    thinking_option,
)
from pytrimode.files.model_file import check_model_file, find_mmproj
from pytrimode.formats.reasoning import REASONING_FORMATS
from pytrimode.hub.pretrained import local_model
from pytrimode.options.generation_options import GenerationOptions
from pytrimode.options.load_options import LoadOptions
from pytrimode.server import check_installed
from pytrimode.server.logs import FORMATS, JSON, LEVELS, TEXT
from pytrimode.server.settings import CACHE_SCOPES, DEFAULT_MAX_QUEUE, VISION_BODY_BYTES, ServerSettings
from pytrimode.threads import thread_default

_DEFAULT = ServerSettings()


@click.command(name="serve", cls=Command)
@model_argument
@click.option(
    "--host",
    default=_DEFAULT.host,
    show_default=True,
    metavar="ADDRESS",
    help="Address to listen on; 0.0.0.0: every one.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=_DEFAULT.port,
    show_default=True,
    metavar="N",
    help="Port to listen on; 0: a free one.",
)
@click.option("-a", "--alias", metavar="NAME", help="The model's name in answers (default: the file's name).")
@click.option(
    "--api-key",
    "api_keys",
    multiple=True,
    envvar=API_KEY_VARIABLE,
    metavar="KEY",
    help=f"Key that requests must have; repeatable. Better in {API_KEY_VARIABLE} or in a file.",
)
@click.option(
    "--api-key-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="File with a key per line.",
)
@click.option(
    "--cache-scope",
    type=click.Choice(list(CACHE_SCOPES)),
    default=_DEFAULT.cache_scope,
    show_default=True,
    help=f"Who shares what the cache holds of prompts: {'; '.join(f'{n}: {t}' for n, t in CACHE_SCOPES.items())}.",
)
@click.option(
    "--slot-save-path",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder in which clients may save what the cache holds of a slot, with POST /slots/ID?action=save.",
)
@click.option(
    "--allowed-hosts",
    multiple=True,
    metavar="NAME",
    help="Name that clients without a key may reach this machine by, such as host.docker.internal; repeatable.",
)
@click.option(
    "--cors-origins",
    multiple=True,
    metavar="ORIGIN",
    help="Web origin that may call the server from a browser; repeatable, *: any.",
)
@click.option(
    "-np",
    "--parallel",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Slots: answers made side by side. They share the context (-c).",
)
@click.option(
    "--max-queue",
    type=click.IntRange(min=0),
    default=DEFAULT_MAX_QUEUE,
    show_default=True,
    metavar="N",
    help="Answers that may wait for a slot; more are refused with 429.",
)
@click.option(
    "--max-prompt",
    type=click.IntRange(min=1),
    metavar="N",
    help="Most tokens in a prompt (default: what the context holds).",
)
@click.option(
    "--max-body",
    type=click.IntRange(min=1),
    metavar="BYTES",
    help=f"Largest request body (default: {_DEFAULT.max_body_bytes}, with a vision tower {VISION_BODY_BYTES}).",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=_DEFAULT.timeout,
    show_default=True,
    metavar="SECONDS",
    help="Longest time for an answer, the wait for a slot included.",
)
@click.option(
    "--write-timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=_DEFAULT.write_timeout,
    show_default=True,
    metavar="SECONDS",
    help="Give a client up that takes no data for so long.",
)
@click.option(
    "--shutdown-timeout",
    type=click.FloatRange(min=0),
    default=_DEFAULT.shutdown_timeout,
    show_default=True,
    metavar="SECONDS",
    help="Time for running answers after the signal to stop.",
)
@click.option(
    "--reasoning-format",
    type=click.Choice(list(REASONING_FORMATS)),
    default=_DEFAULT.reasoning_format,
    show_default=True,
    help="; ".join(f"{name}: {text}" for name, text in REASONING_FORMATS.items()) + ".",
)
@click.option(
    "--log-format",
    type=click.Choice(list(FORMATS)),
    help=f"{'; '.join(f'{name}: {text}' for name, text in FORMATS.items())} (default: text on a terminal, else json).",
)
@click.option(
    "--log-level",
    type=click.Choice(LEVELS),
    default=_DEFAULT.log_level,
    show_default=True,
    help="The least that is logged; debug has the requests for /health too.",
)
@request_options("serve")
@thinking_option
@loading_options  # fmt: skip
def command(
    model: str | None,
    host: str,
    port: int,
    alias: str | None,
    api_keys: tuple[str, ...],
    api_key_file: Path | None,
    cache_scope: str,
    slot_save_path: Path | None,
    allowed_hosts: tuple[str, ...],
    cors_origins: tuple[str, ...],
    parallel: int,
    max_queue: int,
    max_prompt: int | None,
    max_body: int | None,
    timeout: float,
    write_timeout: float,
    shutdown_timeout: float,
    reasoning_format: str,
    log_format: str | None,
    log_level: str,
    options: GenerationOptions,
    enable_thinking: bool,
    loading: LoadOptions,
) -> None:
    """Serve MODEL, a GGUF file (default: the checkpoint that comes with pytrimode), over HTTP.

    It has the APIs of OpenAI, Anthropic, Ollama and llama-server. Options of decoding and sampling are the defaults of
    requests that do not say otherwise. Needs the extra: pip install "pytrimode[server]".
    """
    try:
        check_installed()
        from pytrimode.server.run import listen, serve, url_of
    except ImportError as error:
        raise click.ClickException(str(error)) from error

    if model:
        model = str(local_model(model, notice=lambda text: click.echo(text, err=True)))
        check_model_file(model)
    tower = find_mmproj(Path(model), loading.mmproj) if model else None
    settings = ServerSettings(
        host=host,
        port=port,
        alias=alias,
        api_keys=(*api_keys, *_keys_in(api_key_file)),
        cache_scope=cache_scope,
        slot_save_path=slot_save_path,
        allowed_hosts=allowed_hosts,
        cors_origins=cors_origins,
        max_body_bytes=max_body or (VISION_BODY_BYTES if tower else _DEFAULT.max_body_bytes),
        max_prompt_tokens=max_prompt,
        timeout=timeout,
        write_timeout=write_timeout,
        shutdown_timeout=shutdown_timeout,
        defaults=options,
        enable_thinking=enable_thinking,
        reasoning_format=reasoning_format,
        log_format=log_format or (TEXT if sys.stderr.isatty() else JSON),
        log_level=log_level,
        log_file=Path(loading.log_file) if loading.log_file else None,
    )
    with listen(host, port) as listening:
        threads = loading.n_threads or thread_default()
        click.echo(f"listening on {url_of(listening)} (threads: {threads})", err=True)
        if settings.open_to_others:
            click.echo(f"warning: everybody who reaches {host} can use this server: it has no API key", err=True)
        serve(settings, lambda: load(model, loading, n_parallel=parallel, max_queue=max_queue), listening)


def _keys_in(file: Path | None) -> list[str]:
    """Read the keys. Raises click.ClickException for a file without any: the server would be open to all."""
    if file is None:
        return []
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise click.ClickException(f"--api-key-file {file}: it is no text") from None
    keys = [line.strip() for line in lines if line.strip()]
    if not keys:
        raise click.ClickException(f"--api-key-file {file}: it has no key")
    return keys
