"""What the documents name is there: paths, options of the commands, targets of links."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
from support.documents import DOCUMENTS, ROOT, name

import pytrimode.cli
import pytrimode.convert.cli
import pytrimode.quantize.cli

FOLDERS = "benchmarks|convert|docs|examples|models|native|pytrimode|quantize|tests|tools"
COMMANDS = {
    "pytrimode": pytrimode.cli.cli,
    "trimode-convert": pytrimode.convert.cli.main,
    "trimode-quantize": pytrimode.quantize.cli.main,
}


def expanded(path: str) -> list[str]:
    """`a/{b,c}` as a shell reads it."""
    if not (found := re.search(r"\{([^}]*)\}", path)):
        return [path]
    return [path.replace(found[0], part.strip()) for part in found[1].split(",")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_paths_in_a_document_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    paths = re.findall(rf"(?<![\w/.-])(?:{FOLDERS})/[\w./{{}},-]*", text)
    wanted = {part for path in paths for part in expanded(path.rstrip(".,"))}
    missing = sorted(
        path for path in wanted if not list(ROOT.glob(path)) and not list(ROOT.glob(path.rstrip("/") + ".*"))
    )
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_links_in_a_document_lead_to_files(document: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (document.parent / link).exists()]
    assert missing == []


def options(command: click.Command) -> set[str]:
    """Every flag of a command and of its subcommands."""
    found = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
    if isinstance(command, click.Group):
        context = click.Context(command)
        for sub in command.list_commands(context):
            loaded = command.get_command(context, sub)
            assert loaded is not None
            found |= options(loaded)
    return found | {"--help", "--version"}


KNOWN = {program: options(command) for program, command in COMMANDS.items()}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_commands_in_a_document_take_the_options_that_it_gives_them(document: Path) -> None:
    """Lines of fenced blocks and inline code that begin with one of our commands."""
    text = document.read_text(encoding="utf-8").replace("\\\n", " ")
    wrong = []
    for line in re.findall(rf"(?:^|[`(])\s*((?:{'|'.join(COMMANDS)}) [^`\n]*)", text, re.MULTILINE):
        program, *words = line.split("#")[0].split(" -- ")[0].split()
        flags = [word.split("=")[0].rstrip(",.;:)") for word in words if re.match(r"-{1,2}[a-zA-Z]", word)]
        wrong += [f"{line.strip()}: {flag}" for flag in flags if flag not in KNOWN[program]]
    assert wrong == []
