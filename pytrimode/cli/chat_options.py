"""Options of a request as the chat's `/set` and `/show` name them: by their flags, without dashes."""

from __future__ import annotations

from functools import cache
from typing import Any

from pytrimode.cli.flags import likely
from pytrimode.options.generation_options import option_table
from pytrimode.options.option import Row

DEFAULT = "default"


@cache
def chat_options() -> dict[str, Row]:
    """Return the options of an answer, by name."""
    return {
        next(flag[2:] for flag in row.about.flags if flag.startswith("--")): row
        for row in option_table().values()
        if "chat" in row.about.commands and any(flag.startswith("--") for flag in row.about.flags)
    }


def parse_setting(text: str) -> tuple[str, Row, Any]:
    """Read `temp 0.2`, or `temp default`; returns the name, the option and its value. Raises ValueError."""
    name, _, given = text.partition(" ")
    name, given = name.lstrip("-").replace("_", "-"), given.strip()
    by_flag = {flag.lstrip("-"): each for each, row in chat_options().items() for flag in row.about.flags}
    if name not in by_flag:
        raise ValueError(f"no option {name!r}{likely(name, by_flag)} /show lists them")
    name = by_flag[name]
    row = chat_options()[name]
    if not given:
        raise ValueError(f"/set {name} needs a value, or {DEFAULT}")
    return name, row, row.default if given == DEFAULT else _value(name, row, given)


def shown(row: Row, value: Any) -> str:
    """Return a value as a user would write it."""
    if value is None or value == ():
        return DEFAULT
    names = [name for name, meant in (row.about.values or {}).items() if meant is value]
    return names[0] if names else str(value)


def _value(name: str, row: Row, given: str) -> Any:
    if row.about.values:
        if given not in row.about.values:
            raise ValueError(f"{name} {given!r}: must be one of {', '.join(row.about.values)}")
        return row.about.values[given]
    try:
        if row.kind == "int":
            return row.checked(int(given))
        if row.kind == "float":
            return row.checked(float(given))
    except ValueError as error:
        raise ValueError(str(error) if "must be" in str(error) else f"{name} {given!r}: a number is needed") from None
    if row.kind == "bool":
        if given not in ("on", "off"):
            raise ValueError(f"{name} {given!r}: on or off is needed")
        return given == "on"
    return row.checked(given)
