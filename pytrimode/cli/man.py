"""`pytrimode man`: manual pages, made of the commands' help by click-man."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import click

from pytrimode.cli.command import Command


@click.command(name="man", cls=Command)
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("man1"),
    show_default=True,
    metavar="DIR",
    help="Folder for the pages: ~/.local/share/man/man1 is where `man` looks.",
)
@click.pass_context
def command(ctx: click.Context, output: Path) -> None:
    """Write a manual page for each command: pytrimode-chat.1 and so on.

    Needs the extra: pip install "pytrimode[man]".
    """
    try:
        from click_man.core import generate_man_page
    except ImportError:
        raise click.ClickException('click-man is not installed: pip install "pytrimode[man]"') from None
    root = ctx.find_root()
    group = root.command
    assert isinstance(group, click.Group)
    output.mkdir(parents=True, exist_ok=True)
    pages = {"pytrimode": click.Context(group, info_name="pytrimode")}
    for name in group.list_commands(ctx):
        found = group.get_command(ctx, name)
        assert found is not None
        group.add_command(found, name)  # click-man lists what the group holds
        pages[f"pytrimode-{name}"] = click.Context(found, info_name=name, parent=pages["pytrimode"])
    for title, context in pages.items():
        text = _as_typed(generate_man_page(context, version=version("pytrimode")))
        (output / f"{title}.1").write_text(text, encoding="utf-8")
    click.echo(f"{len(pages)} pages in {output}", err=True)


def _as_typed(page: str) -> str:
    """Keep the lines of a paragraph that click does not fill (`\\b` in front of it)."""
    return re.sub(r"^\x08\n(.*?)(?=^\.)", r".nf\n\1.fi\n", page, flags=re.MULTILINE | re.DOTALL)
