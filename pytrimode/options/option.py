"""How an option of a request is told: once, at the field of the dataclass that holds it.

The fields of `Sampling` and `GenerationOptions` are the table of options. A type checker sees plain dataclass fields
with their types and defaults; what else there is to say of an option (help, range, flags, name in HTTP, name in the
engine) is the field's metadata, put there by `option()`. Everything else is made of these rows: the check of values
here, the flags (`pytrimode.cli.options`), the request bodies (`pytrimode.server.schema`), the names in `/props`, the
arguments of the engine, the signatures that `help()` shows, and two texts that `tools/option_tables.py` writes and a
test holds: the table in docs/requests.md, and the `TypedDict` in `pytrimode.options.arguments`. That one is written
out since a type checker does not run Python: it cannot see names that are made when the program starts.

To add an option: add a field, run the tool, and write the code that uses it.
"""

from __future__ import annotations

import math
import numbers
import operator
import os
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import cache, cached_property
from typing import Any, TypeVar

from pytrimode.formats.constraint import Constraint

T = TypeVar("T")

_KEY = "option"
_INT32 = (-(2**31), 2**31 - 1)


@dataclass(frozen=True)
class Option:
    """What is told of an option beside its name, type and default."""

    help: str
    """A sentence, for the command line, HTTP and documents; `choices` are added to it."""
    flags: tuple[str, ...] = ()
    """On the command line; none: it is no option there."""
    metavar: str | None = None
    commands: tuple[str, ...] = ("chat", "generate", "serve")
    """Which have the flags."""
    off_flag: str = ""
    """A flag that sets the option to `off`, and its help."""
    off_help: str = ""
    low: float | None = None
    """Smallest value."""
    high: float | None = None
    off: float | None = None
    """A value outside the range that is allowed too: it turns something off."""
    bits: int = 32
    """Of an integer, for the engine and in HTTP. Of 64 bits Python takes any number."""
    choices: Mapping[str, str] | None = None
    """Names that it may have, and what they stand for."""
    values: Mapping[str, Any] | None = None
    """What the names of `choices` mean to Python, where that is no text."""
    http: str | None = None
    """Name in a request body; None: as in Python."""
    aliases: tuple[str, ...] = ()
    """Further names in a request body."""
    json_none: int | None = None
    """What None is in a request body, where null means the server's default."""
    private: bool = False
    """A client may have put text into it: the server shows it to nobody."""
    varies: bool = False
    """Completions and chats write it in different ways: methods, routes and commands have parameters of their own."""
    engine: bool = False
    """Goes to the engine under its name and as it is; others are translated by the class that has the field."""
    default_text: str = ""
    """What the default is, where it is not one value."""


def option(default: T, help: str, **about: Any) -> T:
    """Return a dataclass field with an `Option`. To a type checker it is no field but the default and its type."""
    metadata = {_KEY: Option(help, **about)}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Row:
    """An option with what its dataclass field says of it."""

    name: str
    annotation: str
    """As it is written at the field."""
    default: Any
    about: Option

    @cached_property
    def kind(self) -> str:
        """The annotation of values that are not None."""
        return self.annotation.removesuffix(" | None")

    @cached_property
    def optional(self) -> bool:
        """Whether None is a value, rather than another word for the default."""
        return self.kind != self.annotation

    @property
    def http(self) -> str:
        """Name in a request body."""
        return self.about.http or self.name

    @property
    def help(self) -> str:
        """What it does, its names explained, without a full stop."""
        names = [f"{name}: {text}" for name, text in (self.about.choices or {}).items()]
        return "; ".join([self.about.help.removesuffix("."), *names])

    @property
    def bounds(self) -> tuple[Any, Any]:
        """Smallest and largest value in the option's own type; None where there is none."""
        number = int if self.kind == "int" else float
        low, high = (None if bound is None else number(bound) for bound in (self.about.low, self.about.high))
        return low, high

    @property
    def range_text(self) -> str:
        """The values that are allowed, as an error message has them after "must be"; "" for all."""
        low, high = self.about.low, self.about.high
        if low is None and high is None:
            return ""
        if high is None:
            text = f"{low:g} or more"
        else:
            text = f"{high:g} or less" if low is None else f"between {low:g} and {high:g}"
        return text if self.about.off is None else f"{text}, or {self.about.off:g}"

    def checked(self, value: Any) -> Any:
        """Return the value in the field's own type. Raises TypeError for another type, ValueError outside the range."""
        value = checked(self.name, self.kind, value)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            self._check_range(value)
        return value

    def _check_range(self, value: float) -> None:
        about = self.about
        low = -math.inf if about.low is None else about.low
        high = math.inf if about.high is None else about.high
        finite = isinstance(value, int) or math.isfinite(value)
        if not finite or not (low <= value <= high or value == about.off):
            raise ValueError(f"{self.name} {value}: must be {self.range_text or 'a finite number'}")
        if self.kind == "int" and about.bits == 32 and not _INT32[0] <= value <= _INT32[1]:
            raise ValueError(f"{self.name} {value}: must be between {_INT32[0]} and {_INT32[1]}")


@cache
def rows(kind: type[Any]) -> Mapping[str, Row]:
    """Return the options among the fields of a dataclass, by name."""
    return {f.name: _row(f) for f in fields(kind) if _KEY in f.metadata}


def _row(found: Field[Any]) -> Row:
    row = Row(found.name, str(found.type), found.default, found.metadata[_KEY])
    if row.kind not in _CHECKS:
        raise TypeError(f"option {row.name}: {row.kind} is a type that options do not have yet: {', '.join(_CHECKS)}")
    assert row.default is not MISSING
    return row


def settle(options: Any) -> None:
    """Check the options of a frozen dataclass and bring them into their types; None becomes the default.

    Raises TypeError and ValueError that name the option.
    """
    for row in rows(options.__class__).values():
        value = getattr(options, row.name)
        if value is row.default or (value is None and row.optional):
            continue
        settled = row.default if value is None else row.checked(value)
        if settled is not value:
            object.__setattr__(options, row.name, settled)


def engine_values(options: Any) -> dict[str, Any]:
    """Return the values that go to the engine as they are."""
    return {name: getattr(options, name) for name, row in rows(options.__class__).items() if row.about.engine}


# --- Types -----------------------------------------------------------------------------------------------------------


def checked(name: str, kind: str, value: Any) -> Any:
    """Return the value of an argument in the type that is meant: integers and floats of numpy become Python's, bytes
    text.

    `kind` is an annotation that options have, such as "int". Raises TypeError that names the argument, ValueError for
    numbers beyond all that the engine can hold and for bytes that are not UTF-8.
    """
    check, meant = _CHECKS[kind]
    try:
        return check(value)
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}: the bytes are not UTF-8: {error.reason} at byte {error.start}") from error
    except OverflowError:
        raise ValueError(f"{name}: {_shown(value)} is more than the engine can hold") from None
    except TypeError:
        raise TypeError(f"{name}: expected {meant}, got {_shown(value)}") from None


def switch(name: str, value: bool | None) -> bool:
    """Return an argument that is on or off; None: off. Raises TypeError."""
    return value is not None and bool(checked(name, "bool", value))


def mapping(name: str, value: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return an argument with names and values; None: none. Raises TypeError."""
    return {} if value is None else dict(checked(name, "Mapping[str, Any]", value))


def _shown(value: object) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def _bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if type(value).__name__ in ("bool", "bool_"):  # numpy's
        return bool(value)
    raise TypeError


def _int(value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError
    return operator.index(value)


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError
    as_float = float(value)  # OverflowError for an integer beyond all floats
    return value if isinstance(value, (int, float)) else as_float


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (bytes, bytearray)):
        return value.decode()
    raise TypeError


def _texts(value: Any) -> Sequence[str]:
    if isinstance(value, (str, bytes, bytearray, Mapping)) or not isinstance(value, Sequence):
        raise TypeError
    if all(isinstance(item, str) for item in value):
        return value
    return tuple(_text(item) for item in value)


def _text_or_texts(value: Any) -> str | Sequence[str]:
    return _text(value) if isinstance(value, (str, bytes, bytearray)) else _texts(value)


def _token_ids(value: Any) -> Sequence[int]:
    if isinstance(value, (str, bytes, bytearray, Mapping)):
        raise TypeError
    return array("i", value).tolist()


def _prompt(value: Any) -> str | Sequence[int]:
    return _text(value) if isinstance(value, (str, bytes, bytearray)) else _token_ids(value)


def _int_or_text(value: Any) -> int | str:
    return value if isinstance(value, str) else _int(value)


def _path(value: Any) -> str:
    return os.fsdecode(value)


def _floats(value: Any) -> Sequence[float]:
    if isinstance(value, (str, bytes, bytearray, Mapping)):
        raise TypeError
    return [_float(item) for item in value]


def _of_mapping(value: Any) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise TypeError
    return value


def _items(value: Any) -> Sequence[Any]:
    if isinstance(value, (str, bytes, bytearray)) or not isinstance(value, Sequence):
        raise TypeError
    return value


def _messages(value: Any) -> Sequence[Mapping[str, Any]]:
    if isinstance(value, (str, bytes, bytearray, Mapping)) or not all(isinstance(item, Mapping) for item in value):
        raise TypeError
    return [_message(item) for item in value]


def _message(message: Mapping[str, Any]) -> Mapping[str, Any]:
    content = message.get("content")
    return {**message, "content": content.decode()} if isinstance(content, (bytes, bytearray)) else message


def _adapters(value: Any) -> Sequence[Mapping[str, Any]]:
    if isinstance(value, (str, bytes, bytearray, Mapping)) or not all(isinstance(item, Mapping) for item in value):
        raise TypeError
    return list(value)


def _grammar(value: Any) -> str | Constraint:
    return value if isinstance(value, Constraint) else _text(value)


def _bool_or_text(value: Any) -> bool | str:
    return value if isinstance(value, str) else _bool(value)


_CHECKS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "bool": (_bool, "True or False"),
    "int": (_int, "a whole number"),
    "float": (_float, "a number"),
    "str": (_text, "text"),
    "int | str": (_int_or_text, "a whole number or a name"),
    "str | Path": (_path, "a path"),
    "Sequence[float]": (_floats, "a list of numbers"),
    "bool | str": (_bool_or_text, "True, False or a name"),
    "Sequence[str]": (_texts, "a list of texts"),
    "str | Sequence[str]": (_text_or_texts, "text or a list of texts"),
    "Sequence[int]": (_token_ids, "token ids"),
    "str | Sequence[int]": (_prompt, "text or token ids"),
    "str | Constraint": (_grammar, "a grammar as text"),
    "Mapping[int | str, float]": (_of_mapping, "token ids with numbers"),
    "Mapping[str, Any]": (_of_mapping, "names with values"),
    "Sequence[Mapping[str, float]]": (_adapters, "a list of adapters, each with an id and a scale"),
    "Sequence[Any]": (_items, "a list"),
    "Sequence[Mapping[str, Any]]": (_messages, "a list of messages, each with a role"),
}
"""By the type of an option: what brings a value into it, and how an error message names it."""
