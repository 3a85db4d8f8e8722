"""The command `pytrimode`: each subcommand is a module of its own, imported when it is called."""

from __future__ import annotations

import importlib
import os
import sys
from importlib.metadata import version

import click

from pytrimode.gguf.errors import ConversionError

COMMANDS = {
    "chat": "Chat with a model (also: run).",
    "generate": "Complete a prompt.",
    "info": "Show what a GGUF file holds.",
    "bench": "Measure how fast a model is, in which mode.",
    "plan": "Say what fits into a GPU's memory, and how fast to expect it.",
    "doctor": "Show what was found on this machine, and test its devices.",
    "models": "List and remove models that were downloaded from the hub.",
    "serve": "Serve a model over HTTP, with OpenAI's API and others.",
    "batch": "Answer a file of requests, in the format of OpenAI's batches.",
    "rpc-server": "Lend this machine's devices to a model on another one (--rpc).",
    "completion": "Print the script that completes commands in a shell.",
    "man": "Write the manual pages.",
}


ALIASES = {"run": "chat"}
"""Names that other tools have for a command."""


class LazyGroup(click.Group):
    """A group that imports `pytrimode.cli.<command>` only to run it or to show its help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the attribute `command` of the command's module."""
        name = ALIASES.get(cmd_name, cmd_name)
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"pytrimode.cli.{name.replace('-', '_')}").command
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse flags in front of the command: left to click, `-hf` would be `-h`."""
        first = args[0] if args else ""
        if first.startswith("-") and first not in self._flags(ctx) and not ctx.resilient_parsing:
            example = f"pytrimode chat {' '.join(args[:2])}"
            raise click.UsageError(f"{first}: options stand behind a command, as in {example}", ctx)
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command. Raises click.UsageError with what may have been meant."""
        if args and self.get_command(ctx, args[0]) is None and not ctx.resilient_parsing:
            from pytrimode.cli.flags import likely

            if args[0].endswith(".gguf"):
                raise click.UsageError(f"{args[0]} is no command: pytrimode chat {args[0]} chats with it", ctx)
            raise click.UsageError(f"No such command {args[0]!r}{likely(args[0], [*COMMANDS, *ALIASES])}", ctx)
        return super().resolve_command(ctx, args)

    def _flags(self, ctx: click.Context) -> list[str]:
        return [flag for parameter in self.get_params(ctx) for flag in parameter.opts]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list in `pytrimode --help`, without an import."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("pytrimode"), "-V", "--version", prog_name="pytrimode")
def cli() -> None:
    """Run Nemotron-Labs-Diffusion models from GGUF: one set of weights, three ways to decode it.

    Without MODEL the commands use the small checkpoint that comes with pytrimode.
    """


def _fail(message: object, code: int = 1) -> int:
    from pytrimode.cli.terminal_text import for_terminal

    click.echo(f"error: {for_terminal(str(message))}", err=True)
    return code


def run(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, 1 for what went wrong, 2 for wrong usage, 130 for Ctrl-C."""
    try:
        code = cli.main(arguments, prog_name="pytrimode", standalone_mode=False)
    except click.UsageError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        # The reader has gone (`| head`): nothing to say, and Python must not try to flush to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MemoryError as error:
        return _fail(f"out of memory: {error or 'the machine has no more'}")
    except (OSError, ValueError, RuntimeError, ImportError, ConversionError) as error:
        return _fail(error if str(error) else type(error).__name__)
    return code if isinstance(code, int) else 0  # what a command gave to ctx.exit


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run())
