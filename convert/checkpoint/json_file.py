"""A JSON object in a file, and typed look-ups in it whose errors name the file and the key."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytrimode.gguf.errors import ConversionError
from pytrimode.gguf.lfs import LFS_ADVICE, LFS_POINTER


class JsonObject(Mapping[str, Any]):
    """A read-only JSON object that remembers where it came from.

    `where` is shown in errors: a path, and for a nested object the key behind it.
    """

    def __init__(self, data: dict[str, Any], where: str) -> None:
        self._data = data
        self.where = where

    @classmethod
    def read(cls, path: Path) -> JsonObject:
        """Read `path`. Raises ConversionError when it is missing, no valid JSON, or not an object."""
        try:
            text = path.read_text(encoding="utf-8")
            if text.startswith(LFS_POINTER.decode()):
                raise ConversionError(f"{path}: {LFS_ADVICE}")
            data = json.loads(text)
        except FileNotFoundError:
            raise ConversionError(f"{path}: not found") from None
        except OSError as error:
            raise ConversionError(f"{path}: cannot be read: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise ConversionError(f"{path}: not UTF-8 text (byte {error.start}): download the file again") from None
        except (ValueError, RecursionError) as error:
            raise ConversionError(f"{path}: not valid JSON: {error}: download the file again") from None
        if not isinstance(data, dict):
            raise ConversionError(f"{path}: expected a JSON object, found {json_type(data)}")
        return cls(data, str(path))

    def __getitem__(self, key: str) -> Any:
        return self._data[key]

    def __iter__(self) -> Any:
        return iter(self._data)

    def __len__(self) -> int:
        return len(self._data)

    def error(self, key: str, expected: str) -> ConversionError:
        """Return the error for a value that is not `expected`."""
        found = f"found {shown(self._data[key])}" if key in self._data else "the key is missing"
        return ConversionError(f"{self.where}: {key}: expected {expected}, {found}")

    def object(self, key: str) -> JsonObject:
        """Return the JSON object under `key`."""
        value = self.get(key)
        if not isinstance(value, dict):
            raise self.error(key, "an object")
        return JsonObject(value, f"{self.where}: {key}")

    def objects(self, key: str) -> list[JsonObject]:
        """Return the JSON objects in the array under `key`; none when the key is missing or null."""
        value = self.get(key)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
            raise self.error(key, "an array of objects")
        return [JsonObject(entry, f"{self.where}: {key}[{i}]") for i, entry in enumerate(value)]

    def integer(self, key: str, *, minimum: int = 1, maximum: int = 2**31 - 1) -> int:
        """Return the integer under `key`; the bounds are inclusive."""
        value = self.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
            raise self.error(key, f"an integer from {minimum} to {maximum}")
        return value

    def positive(self, key: str) -> float:
        """Return the positive, finite number under `key`."""
        value = self.get(key)
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or value <= 0:
            raise self.error(key, "a positive number")
        return float(value)

    def require(self, key: str, allowed: tuple[Any, ...], reason: str) -> None:
        """Refuse any value of `key` but those `allowed`; a missing key counts as None."""
        if self.get(key) not in allowed:
            raise ConversionError(
                f"{self.where}: {key}: expected {' or '.join(shown(value) for value in allowed)}, "
                f"found {shown(self.get(key))}: {reason}"
            )


def json_type(value: Any) -> str:
    """Return the JSON name of a value's type."""
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def shown(value: Any) -> str:
    """Return a value as JSON, cut to one line's length."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
