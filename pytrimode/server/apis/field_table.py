"""What becomes of the fields of an API, in one table each; docs/server.md shows them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from pytrimode.options.generation_options import option_table
from pytrimode.server.fields import unknown, unsupported

OPTIONS = frozenset(
    name for row in option_table().values() if not row.about.varies for name in (row.http, *row.about.aliases)
)
"""Fields of every API that runs the model, by their names in JSON."""


@dataclass(frozen=True)
class FieldTable:
    """The fields of one API. Those that nobody knows are refused, as a misspelt option must not be dropped."""

    kept: Mapping[str, str]
    """What each becomes, for the documents."""
    idle: Collection[str]
    """What no answer depends on."""
    refused: Mapping[str, tuple[Any, ...]]
    """What cannot be kept, with the values that ask for nothing."""
    options: Collection[str] = OPTIONS
    """Those of ours that are taken too."""

    def checked(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields that are kept. Raises FieldError for others, by name."""
        kept = {}
        for name, value in body.items():
            if value is None or name in self.idle:
                continue
            if name in self.kept or name in self.options:
                kept[name] = value
            elif name not in self.refused:
                raise unknown(name, [*self.kept, *self.options])
            elif not any(type(value) is type(idle) and value == idle for idle in self.refused[name]):
                raise unsupported(name, name)
        return kept

    def rows(self) -> list[list[str]]:
        """Return the rows of the table in docs/server.md: fields, what becomes of them."""
        rows = [[f"`{name}`", words] for name, words in self.kept.items() if words]
        rows.append([_names(self.idle), "no answer depends on it"])
        if self.refused:
            rows.append([_names(self.refused), "refused unless it asks for nothing"])
        return rows


def _names(names: Collection[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
