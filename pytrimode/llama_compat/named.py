"""`model=`: the name in a result."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def named(result: Any, model: str | None) -> Any:
    """Put the name that the caller wants into a result or an iterator of chunks."""
    if model is None:
        return result
    if isinstance(result, dict):
        return {**result, "model": model}
    return _named_chunks(result, model)


def _named_chunks(chunks: Iterator[Any], model: str) -> Iterator[Any]:
    for chunk in chunks:
        yield {**chunk, "model": model}
