"""OpenAI's `response_format` as a constraint under which every text is JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytrimode.formats.constraint import Constraint, of_schema


def grammar_of(response_format: Mapping[str, Any] | None, *, reasoning_open: bool = False) -> Constraint | None:
    """Return what a `response_format` asks for; None for none and for type "text". With `reasoning_open` it holds
    behind the reasoning, which the prompt has opened.

    {"type": "json_object"}, with an optional "schema" as in llama-cpp-python; {"type": "json_schema", "json_schema":
    {"schema": ...}} as in OpenAI's API. Raises ValueError for another type and for a schema with a keyword that cannot
    be kept, which it names.
    """
    kind = (response_format or {}).get("type", "text")
    if response_format is None or kind == "text":
        return None
    if kind == "json_object":
        schema = response_format.get("schema")
        schema = {"type": "object"} if schema is None else schema
    elif kind == "json_schema":
        schema = response_format.get("json_schema", {}).get("schema")
        if schema is None:
            raise ValueError("response_format: json_schema has no schema")
    else:
        raise ValueError(f"response_format: unknown type {kind!r}: use text, json_object or json_schema")
    return of_schema(schema, "response_format", after_reasoning=reasoning_open)
