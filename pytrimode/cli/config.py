"""Options from a TOML file: defaults for all commands or for one, and presets by name.

ctx-size = 8192              # for every command that has --ctx-size

[serve]                      # for one command
port = 9000

[presets.coder]              # pytrimode chat --preset coder
model = "/models/nld-8b.gguf"
temp = 0.2
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import platformdirs

from pytrimode.cli.flags import likely

PRESETS = "presets"


def default_file() -> Path:
    """Return the file that is read without --config, where there is one: ~/.config/pytrimode/config.toml on Linux."""
    return Path(platformdirs.user_config_dir("pytrimode")) / "config.toml"


def defaults_for(
    command: str,
    options: Mapping[str, click.Option],
    commands: Callable[[], Mapping[str, Mapping[str, click.Option]]],
    *,
    file: str | None,
    preset: str | None,
) -> dict[str, Any]:
    """Return the values that the file has for a command, by the names of its parameters.

    `options`: the command's, by flag. `commands`: those of all commands, asked only about a key that this one lacks.
    `file` None: the default one, which need not be there.
    Raises click.UsageError that names file, table and key.
    """
    path = Path(file).expanduser() if file else default_file()
    if not file and not path.is_file():
        if preset:
            raise click.UsageError(f"--preset {preset}: there is no {path}; --config names another file")
        return {}
    reader = _Reader(path, options, commands)
    content = reader.content()
    tables = {name: value for name, value in content.items() if isinstance(value, dict)}
    values = reader.values("", {n: v for n, v in content.items() if n not in tables}, shared=True)
    for name in tables:
        if name != PRESETS and name not in commands():
            raise click.UsageError(f"{path}: [{name}] is no command{likely(name, [*commands(), PRESETS])}")
    values |= reader.values(command, tables.get(command, {}), shared=False)
    if preset:
        presets = tables.get(PRESETS, {})
        if not isinstance(presets.get(preset), dict):
            found = ", ".join(presets) or "none"
            raise click.UsageError(f"--preset {preset}: {path} has no [{PRESETS}.{preset}]; there are: {found}")
        values |= reader.values(f"{PRESETS}.{preset}", presets[preset], shared=True)
    return values


class _Reader:
    """One file for one command."""

    def __init__(
        self,
        path: Path,
        options: Mapping[str, click.Option],
        commands: Callable[[], Mapping[str, Mapping[str, click.Option]]],
    ) -> None:
        self._path = path
        self._options = options
        self._commands = commands

    def content(self) -> dict[str, Any]:
        """Read the file."""
        if sys.version_info >= (3, 11):
            import tomllib
        else:
            import tomli as tomllib
        try:
            with self._path.open("rb") as stream:
                content: dict[str, Any] = tomllib.load(stream)
                return content
        except OSError as error:
            raise click.UsageError(f"{self._path}: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise click.UsageError(f"{self._path}: this is no TOML: {error}") from None

    def values(self, table: str, given: Mapping[str, Any], *, shared: bool) -> dict[str, Any]:
        """Return the values of a table; with `shared` it may have options of other commands."""
        found: dict[str, Any] = {}
        for key, value in given.items():
            flag = f"--{key.replace('_', '-')}"
            where = f"{self._path}: {f'[{table}] ' if table else ''}{key}"
            option = self._options.get(flag)
            if option is None or not option.expose_value:
                if not shared or not any(flag in options for options in self._commands().values()):
                    raise click.UsageError(f"{where}: no such option{likely(key, _names(self._options))}")
                continue
            found[option.name or ""] = self._checked(where, option, flag, value)
        return found

    @staticmethod
    def _checked(where: str, option: click.Option, flag: str, value: Any) -> Any:
        if option.is_flag and option.type.name == "boolean":
            if not isinstance(value, bool):
                raise click.UsageError(f"{where} = {value!r}: true or false is needed")
            return value is not (flag in option.secondary_opts)
        if isinstance(value, (dict, bool)):
            what = "a table" if isinstance(value, dict) else str(value).lower()
            raise click.UsageError(f"{where}: {what} is no value for {flag}")
        if isinstance(value, list):
            # `--tensor-split 3,1` and the like take a text, repeatable options take a list.
            return [str(part) for part in value] if option.multiple else ",".join(map(str, value))
        return [str(value)] if option.multiple else str(value)


def _names(options: Mapping[str, click.Option]) -> list[str]:
    return [flag[2:] for flag, option in options.items() if flag.startswith("--") and option.expose_value]
