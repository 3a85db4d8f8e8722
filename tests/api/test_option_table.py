"""The option table: one field makes an option known everywhere, and what is kept in files is what it gives."""

from __future__ import annotations

import json
import subprocess
import sys
import typing
from pathlib import Path

import pytest

from pytrimode import _native
from pytrimode.options.arguments import LoadArguments, RequestArguments
from pytrimode.options.generation_options import GenerationOptions, option_table, with_options
from pytrimode.options.load_options import LoadOptions
from pytrimode.options.option import Row, rows
from pytrimode.options.sampling import Sampling
from tools import option_tables

ROOT = Path(__file__).resolve().parents[2]

ADDED = """    warmth: float = option(
        0.5, "How warm the answer is.", flags=("--warmth",), metavar="W", low=0, high=2, aliases=("warmness",),
        engine=True,
    )  # fmt: skip
"""

WITH_ONE_MORE = '''
"""Imports pytrimode with one field more in `Sampling`, and tells where the option turns up."""
import importlib.machinery, json, sys
import click

NAME, BEFORE, ADDED = "pytrimode.options.sampling", "    top_k: int = option(", sys.stdin.read()

class Loader(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname):
        source = self.get_data(self.path).decode()
        assert source.count(BEFORE) == 1
        return compile(source.replace(BEFORE, ADDED + BEFORE), self.path, "exec", dont_inherit=True)

class Finder:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name != NAME:
            return None
        specs = (f.find_spec(name, path, target) for f in sys.meta_path if f is not cls)
        spec = next(spec for spec in specs if spec)
        spec.loader = Loader(name, spec.origin)
        return spec

sys.meta_path.insert(0, Finder)

import option_tables
from pytrimode import TriMode
from pytrimode.cli import cli
from pytrimode.cli.options import request_fields
from pytrimode.options.generation_options import GenerationOptions, with_options
from pytrimode.options.methods import check_names
from pytrimode.server.options import in_json
from pytrimode.server.schema import ChatCompletionRequest

def help_of(command):
    found = cli.get_command(click.Context(cli), command)
    return found.get_help(click.Context(found))

def refusal(function):
    try:
        function()
    except (TypeError, ValueError) as error:
        return str(error)

options = with_options(GenerationOptions(), {"warmth": 1})
check_names(TriMode.create_completion, ["warmth"])
body = {"messages": [{"role": "user", "content": "x"}], "warmness": 1.5}
print(json.dumps({
    "default": GenerationOptions().sampling.warmth,
    "engine": options.sampling.engine_arguments(10)["warmth"],
    "range": refusal(lambda: with_options(options, {"warmth": 3})),
    "type": refusal(lambda: with_options(options, {"warmth": "x"})),
    "help": [help_of(command) for command in ("chat", "generate", "serve")],
    "chat --url": request_fields({"warmth": 1.0}),
    "body": ChatCompletionRequest(**body).given_options(),
    "schema": ChatCompletionRequest.model_json_schema()["properties"]["warmth"],
    "props": in_json(options)["warmth"],
    "document": option_tables.options_table(),
    "arguments": option_tables.arguments_text(),
}))
'''


def test_an_option_is_added_in_one_place() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITH_ONE_MORE], input=ADDED, cwd=ROOT / "tools", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["default"], found["engine"], found["props"]) == (0.5, 1, 1)
    assert found["range"] == "warmth 3: must be between 0 and 2"
    assert found["type"] == "warmth: expected a number, got 'x' (str)"
    for text in found["help"]:
        assert "--warmth W How warm the answer is. [default: 0.5; 0.0<=x<=2.0]" in " ".join(text.split())
    assert found["chat --url"] == {"warmth": 1.0}
    assert found["body"] == {"warmth": 1.5}
    assert found["schema"]["description"] == "How warm the answer is."
    row = "| `warmth` | 0.5 | between 0 and 2 | `--warmth` | `warmth`, `warmness` | How warm the answer is. |"
    assert row in found["document"].splitlines()
    assert "    warmth: float | None" in found["arguments"].splitlines()


def test_the_document_has_the_table_of_now() -> None:
    text = option_tables.DOCUMENT.read_text()
    assert option_tables.replaced(text) == text, "run tools/option_tables.py"
    with pytest.raises(ValueError, match="no place for the table"):
        option_tables.replaced("a document")


def test_type_checkers_see_the_table_of_now() -> None:
    assert option_tables.ARGUMENTS.read_text() == option_tables.arguments_text(), "run tools/option_tables.py"
    assert set(typing.get_type_hints(LoadArguments)) == {*rows(LoadOptions)}
    hints = typing.get_type_hints(RequestArguments)
    assert set(hints) == {name for name, row in option_table().items() if not row.about.varies}


@pytest.mark.parametrize("row", option_table().values(), ids=lambda row: row.name)
def test_none_is_the_default_of_every_option(row: Row) -> None:
    assert with_options(GenerationOptions(), {row.name: None}) == GenerationOptions()
    assert row.help and not row.help.endswith(".")


@pytest.mark.parametrize("row", option_table().values(), ids=lambda row: row.name)
def test_a_wrong_type_is_a_type_error_that_names_the_option(row: Row) -> None:
    with pytest.raises(TypeError, match=f"^{row.name}: expected "):
        with_options(GenerationOptions(), {row.name: object()})


def test_the_dataclasses_have_no_field_outside_the_table() -> None:
    fields = {*GenerationOptions.__dataclass_fields__, *Sampling.__dataclass_fields__}
    assert fields - {"sampling", "_bias"} == set(option_table())


def test_options_that_go_to_the_engine_as_they_are_have_its_names_and_defaults() -> None:
    preset = _native.RequestOptions()
    passed = {name: row.default for name, row in option_table().items() if row.about.engine}
    assert {"temperature", "top_k", "reveal", "use_lora"} <= passed.keys()
    for name, default in passed.items():
        assert getattr(preset, name) == pytest.approx(default), name
