"""The command `pytrimode`: each subcommand is a module of its own, imported when it is called."""

from __future__ import annotations

import importlib
import os
import sys
from importlib.metadata import version

import click

from pytrimode.gguf.errors import ConversionError

COMMANDS = {
    "chat": "Chat with a model.",
    "generate": "Complete a prompt.",
    "info": "Show what a GGUF file holds.",
    "bench": "Measure how fast a model is, in which mode.",
    "plan": "Say what fits into a GPU's memory, and how fast to expect it.",
    "doctor": "Show what was found on this machine, and test its devices.",
    "serve": "Serve a model over HTTP, with OpenAI's API and others.",
}


class LazyGroup(click.Group):
    """A group that imports `pytrimode.cli.<command>` only to run it or to show its help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the attribute `command` of the command's module."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"pytrimode.cli.{cmd_name}").command
        return command

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
