"""LoRAs of the user: which are loaded, and at which scale each request has them."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Lora:
    """An adapter's file, and its scale in requests that name none."""

    path: str
    scale: float = 1.0


def loras_of(given: Sequence[Any] | None) -> tuple[Lora, ...]:
    """Return the argument `loras`: paths, or pairs of a path and a scale. Raises TypeError and ValueError that name
    it."""
    return tuple(map(_lora, given or ()))


def _lora(given: Any) -> Lora:
    if isinstance(given, Lora):
        return given
    path, scale = given if isinstance(given, (tuple, list)) and len(given) == 2 else (given, 1.0)
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"loras: expected a path, or a path and a scale, got {given!r} ({type(given).__name__})")
    return Lora(os.fsdecode(path), _scale("loras", scale))


def parse_lora(text: str) -> Lora:
    """Return what `FILE[=SCALE]` says; an equals sign without a number behind it is part of the name."""
    path, equals, scale = text.rpartition("=")
    try:
        return Lora(path, _scale("--lora", float(scale))) if equals and path else Lora(text)
    except ValueError:
        return Lora(text)


def scales_of(asked: Sequence[Mapping[str, Any]] | None, defaults: Sequence[float]) -> list[float]:
    """Return the scale of each adapter that is loaded, for a request that asks for some; None: the defaults.

    Those that a request does not name are off, as in llama-server. Raises TypeError and ValueError that say what is
    wrong with it.
    """
    if asked is None:
        return list(defaults)
    scales = [0.0] * len(defaults)
    for one in asked:
        if not isinstance(one, Mapping) or one.keys() != {"id", "scale"}:
            raise ValueError(f"lora: expected an id and a scale, got {one!r}")
        try:
            number = operator.index(one["id"])
        except TypeError:
            raise TypeError(f"lora: id: expected a whole number, got {one['id']!r}") from None
        if not 0 <= number < len(defaults):
            there = f"0 to {len(defaults) - 1}" if defaults else "none: the model was loaded without LoRAs"
            raise ValueError(f"lora: there is no adapter {number}; there are {there}")
        scales[number] = _scale("lora: scale", one["scale"])
    return scales


def _scale(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}: expected a number, got {value!r} ({type(value).__name__})")
    if not math.isfinite(value) or abs(value) > 1e6:
        raise ValueError(f"{name} {value}: must be between -1e6 and 1e6")
    return float(value)
