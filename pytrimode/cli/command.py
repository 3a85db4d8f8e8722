"""The class of the commands: flags are checked, options come from the environment and a file too."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import click

from pytrimode.cli.environment import PREFIX, variables_of
from pytrimode.cli.flags import check_flags, mode_or_model, options_of

CONFIG, PRESET = "--config", "--preset"


class Command(click.Command):
    """A command whose options are read from the command line, else the environment, else a preset, else the file."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += [
            click.Option(
                [PRESET],
                metavar="NAME",
                expose_value=False,
                help="Take options from [presets.NAME] of the file --config.",
            ),
            click.Option(
                [CONFIG],
                metavar="FILE",
                expose_value=False,
                help="TOML file with defaults and presets (default: ~/.config/pytrimode/config.toml, if it is there).",
            ),
        ]
        for parameter in self.params:
            if isinstance(parameter, click.Option) and parameter.expose_value:
                own = [parameter.envvar] if isinstance(parameter.envvar, str) else list(parameter.envvar or ())
                parameter.envvar = list(dict.fromkeys([*own, *variables_of(parameter)]))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Check the flags and read the file, then parse. Raises click.UsageError."""
        if ctx.resilient_parsing:  # completion of a line that is being typed
            return super().parse_args(ctx, args)
        known = options_of(self, ctx)
        words = [mode_or_model(each, known) for each in check_flags(known, args, ctx)]
        if not any(each[0] in ctx.help_option_names for each in words):
            from_file = _from_file(self.name or "", known, words, ctx)
            ctx.default_map = {**(ctx.default_map or {}), **from_file}
        return super().parse_args(ctx, [word for each in words for word in each])


def _from_file(
    name: str, known: Mapping[str, click.Option], words: list[list[str]], ctx: click.Context
) -> dict[str, Any]:
    file, preset = (_given(flag, words) for flag in (CONFIG, PRESET))
    from pytrimode.cli.config import default_file, defaults_for

    if not file and not preset and not default_file().is_file():
        return {}

    def of_all() -> dict[str, dict[str, click.Option]]:
        group = ctx.find_root().command
        if not isinstance(group, click.Group):
            return {name: dict(known)}
        found = {each: group.get_command(ctx, each) for each in group.list_commands(ctx)}
        return {each: options_of(command, ctx) for each, command in found.items() if command is not None}

    return defaults_for(name, known, of_all, file=file, preset=preset)


def _given(flag: str, words: list[list[str]]) -> str | None:
    """Return the value of a flag that is needed before the others are parsed."""
    found = os.environ.get(PREFIX + flag[2:].upper()) or None
    for word, *value in words:
        if word == flag and value:
            found = value[0]
        elif word.startswith(f"{flag}="):
            found = word.partition("=")[2]
    return found
