"""`pytrimode completion`: the script by which a shell completes commands, options and files."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from pytrimode.cli.command import Command

SHELLS = ("bash", "zsh", "fish")
PROGRAM, VARIABLE = "pytrimode", "_PYTRIMODE_COMPLETE"


@click.command(name="completion", cls=Command)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the script that completes commands, options and files in SHELL.

    \b
    bash   eval "$(pytrimode completion bash)"           in ~/.bashrc
    zsh    eval "$(pytrimode completion zsh)"            in ~/.zshrc
    fish   pytrimode completion fish | source            in ~/.config/fish/config.fish
    """
    script = get_completion_class(shell)
    assert script is not None
    click.echo(script(ctx.find_root().command, {}, PROGRAM, VARIABLE).source())
