"""Changes that a user makes to the metadata: `KEY=VALUE`."""

from __future__ import annotations

from collections.abc import Iterable

from pytrimode.gguf import keys
from pytrimode.gguf.errors import ConversionError
from pytrimode.gguf.layout import BOOL, F32, I32, STRING, U16, U32
from pytrimode.gguf.metadata import Metadata

_KINDS = {"u16": U16, "u32": U32, "i32": I32, "f32": F32, "bool": BOOL, "str": STRING}
_RANGES = {U16: (0, 2**16 - 1), U32: (0, 2**32 - 1), I32: (-(2**31), 2**31 - 1)}
_BOOLEANS = {"true": True, "false": False}
# Readers need them as they are.
_FIXED = (keys.GENERAL_ARCHITECTURE, keys.GENERAL_ALIGNMENT, keys.GENERAL_QUANTIZATION_VERSION, "split.")


def edit_metadata(metadata: Metadata, changes: Iterable[str]) -> None:
    """Make changes such as `general.name=My model` or, for a new key that is no text, `my.number=u32:7`.

    A key that is there keeps its type; nothing after the = removes the key. Raises ConversionError for a change that
    is impossible.
    """
    for change in changes:
        key, equals, value = change.partition("=")
        if not key or not equals:
            raise ConversionError(f"--metadata {change}: expected KEY=VALUE")
        if key.startswith(_FIXED):
            raise ConversionError(f"--metadata {change}: {key} cannot be changed")
        if not value:
            metadata.remove(key)
            continue
        _set(metadata, key, value, change)


def _set(metadata: Metadata, key: str, value: str, change: str) -> None:
    kind = metadata.kind(key)
    prefix, colon, rest = value.partition(":")
    if colon and prefix in _KINDS and kind in (None, _KINDS[prefix]):
        kind, value = _KINDS[prefix], rest
    if kind is None:
        kind = STRING
    if kind not in _KINDS.values():
        raise ConversionError(f"--metadata {change}: {key} is neither a number, a text nor true or false")
    metadata.remove(key)
    try:
        if kind == STRING:
            metadata.string(key, value)
        elif kind == BOOL:
            metadata.boolean(key, _BOOLEANS[value])
        elif kind == F32:
            metadata.f32(key, float(value))
        else:
            low, high = _RANGES[kind]
            number = int(value)
            if not low <= number <= high:
                raise ValueError
            {U16: metadata.u16, U32: metadata.u32, I32: metadata.i32}[kind](key, number)
    except (ValueError, KeyError, OverflowError):
        name = next(name for name, number in _KINDS.items() if number == kind)
        raise ConversionError(f"--metadata {change}: {key} is of type {name}, {value!r} is not") from None
