"""Reading the objects within a body, field by field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from pytrimode.server.fields import FieldError

T = TypeVar("T")

_KINDS: dict[type, str] = {
    str: "text", bool: "true or false", int: "a whole number", dict: "an object", list: "a list",
}  # fmt: skip


def refused(where: str, why: str) -> FieldError:
    """Return the error for a field that cannot be kept. `where`: its path in the body."""
    return FieldError(f"{where} {why}", param=where.split(".")[0])


def shown(name: str) -> str:
    """Return a name that a client sent, unless it is too long or strange to be repeated."""
    return name if len(name) <= 60 and name.isprintable() else "what was sent"


class Part:
    """An object in a body. What nobody has read by `end` is refused by its name."""

    def __init__(self, value: Any, where: str) -> None:
        """Take the object at a path. Raises FieldError for a value that is none."""
        if not isinstance(value, dict):
            raise refused(where, "must be an object")
        self.where = where
        self._value = value
        self._read: set[str] = set()

    def of(self, name: str, kind: type[T]) -> T:
        """Return a field that must be there. Raises FieldError."""
        found = self.maybe(name, kind)
        if found is None:
            raise refused(f"{self.where}.{name}", "is missing")
        return found

    def maybe(self, name: str, kind: type[T]) -> T | None:
        """Return a field, None for none. Raises FieldError for one of another type."""
        found = self.any(name)
        if found is None or (isinstance(found, kind) and not (kind is int and isinstance(found, bool))):
            return found
        raise refused(f"{self.where}.{name}", f"must be {_KINDS[kind]}")

    def any(self, name: str) -> Any:
        """Return a field of any type, None for none."""
        self._read.add(name)
        return self._value.get(name)

    def one_of(self, name: str, values: Sequence[str], default: str | None = None) -> str:
        """Return a field that is one of some words. Raises FieldError."""
        found = default if self.any(name) is None and default is not None else self.of(name, str)
        if found not in values:
            raise refused(f"{self.where}.{name}", f"must be {' or '.join(values)}")
        return found

    def end(self, *ignored: str) -> None:
        """Raise FieldError for a field that was not read. `ignored`: those on which nothing depends."""
        for name, value in self._value.items():
            if value is not None and name not in self._read and name not in ignored:
                raise refused(f"{self.where}.{shown(name)}", "is not supported: leave it out")


def parts(values: Any, where: str) -> list[Part]:
    """Return the objects of a list. Raises FieldError."""
    if not isinstance(values, list):
        raise refused(where, "must be a list")
    return [Part(value, f"{where}.{i}") for i, value in enumerate(values)]


def without_images(content: Any) -> tuple[Any, list[dict[str, Any]]]:
    """Return the result of a tool as text, and its images, which only a message of the user may have."""
    if isinstance(content, str):
        return content, []
    images = [part for part in content if part["type"] != "text"]
    text = "\n".join(part["text"] for part in content if part["type"] == "text")
    return text or "(The image follows.)", images
