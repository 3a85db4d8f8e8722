#!/usr/bin/env python3
"""Writes what is made of the option table (`pytrimode.options.option`) and kept in the repository.

    python -m tools.option_tables

The table of docs/requests.md, that of fields in docs/server.md, and `pytrimode/options/arguments.py`, the keyword
arguments for type checkers. Tests hold them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pytrimode.bench.report import markdown_table
from pytrimode.options.generation_options import option_table
from pytrimode.options.load_options import LoadOptions
from pytrimode.options.option import Row, rows
from pytrimode.server.fields import table

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs/requests.md"
ARGUMENTS = ROOT / "pytrimode/options/arguments.py"
SERVER = ROOT / "docs/server.md"

_HEAD = '''"""The keyword arguments of a request, for type checkers; `tools/option_tables.py` writes this file.

None is the default everywhere. What they mean: docs/requests.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from pytrimode.formats.constraint import Constraint


class RequestArguments(TypedDict, total=False):
    """The options of the table (`pytrimode.options.option`) that completions and chats have alike."""

'''


_LOADING = '''

class LoadArguments(TypedDict, total=False):
    """How a model is loaded (`pytrimode.options.load_options`)."""

'''


def arguments_text() -> str:
    """Return the Python file."""
    wanted = [row for row in option_table().values() if not row.about.varies]
    return _HEAD + _fields(wanted) + _LOADING + _fields(rows(LoadOptions).values())


def _fields(wanted: Iterable[Row]) -> str:
    return "".join(f"    {row.name}: {row.kind} | None\n" for row in wanted)


def options_table() -> str:
    """Return the Markdown table."""
    head = ["option", "default", "values", "command line", "HTTP", "what it does"]
    return markdown_table(head, map(_cells, option_table().values()))


def _cells(row: Row) -> list[str]:
    flags = [*row.about.flags, *([row.about.off_flag] if row.about.off_flag else [])]
    http = ", ".join(f"`{name}`" for name in (row.http, *row.about.aliases))
    cells = [
        f"`{row.name}`",
        _default(row),
        _values(row),
        " ".join(f"`{flag}`" for flag in flags),
        http,
        f"{row.help}.",
    ]
    return [cell.replace("|", "\\|").replace("\n", " ") for cell in cells]


def _default(row: Row) -> str:
    return row.about.default_text or _literal(row.default)


def _literal(value: Any) -> str:
    if value is None or value == "":
        return ""
    if isinstance(value, (str, tuple)):
        return f"`{json.dumps(value)}`"
    return str(value)


def _values(row: Row) -> str:
    if row.about.choices:
        return ", ".join(f"`{name}`" for name in row.about.choices)
    return row.range_text or {"bool": "True, False"}.get(row.kind, "")


def fields_table() -> str:
    """Return the Markdown table of docs/server.md."""
    return markdown_table(["field", "of", "what becomes of it"], table())


def replaced(document: str, name: str = "options", text: str | None = None) -> str:
    """Return the document with the table of now. Raises ValueError for one without a place for it."""
    begin, end_mark = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
    before, _, rest = document.partition(begin)
    _, end, after = rest.partition(end_mark)
    if not end:
        raise ValueError(f"no place for the table: {begin.strip()} and {end_mark.strip()} are needed")
    return f"{before}{begin}{(text or options_table()).strip()}\n{end_mark}{after}"


def main() -> None:
    """Write the files."""
    ARGUMENTS.write_text(arguments_text())
    DOCUMENT.write_text(replaced(DOCUMENT.read_text()))
    SERVER.write_text(replaced(SERVER.read_text(), "fields", fields_table()))


if __name__ == "__main__":
    main()
