"""OpenAI's `response_format` as a grammar of which every text is JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytrimode.formats.reasoning_grammar import after_reasoning


def grammar_of(response_format: Mapping[str, Any] | None, *, reasoning_open: bool = False) -> str:
    """GBNF for a `response_format`; empty for none and for type "text". With `reasoning_open` it allows any reasoning
    up to its end tag first.

    {"type": "json_object"}, with an optional "schema" as in llama-cpp-python; {"type": "json_schema", "json_schema":
    {"schema": ...}} as in OpenAI's API. Raises ValueError for another type and for a schema that cannot be translated.
    """
    kind = (response_format or {}).get("type", "text")
    if response_format is None or kind == "text":
        return ""
    if kind == "json_object":
        schema = response_format.get("schema")
    elif kind == "json_schema":
        schema = response_format.get("json_schema", {}).get("schema")
        if schema is None:
            raise ValueError("response_format: json_schema has no schema")
    else:
        raise ValueError(f"response_format: unknown type {kind!r}: use text, json_object or json_schema")
    if schema is None:
        from llama_cpp.llama_grammar import JSON_GBNF

        grammar = str(JSON_GBNF)
    else:
        grammar = schema_grammar(schema, "response_format")
    return after_reasoning(grammar) if reasoning_open else grammar


def schema_grammar(schema: Any, name: str) -> str:
    """GBNF for a JSON schema. Raises ValueError, which begins with `name`, for one that cannot be translated."""
    # Imported late: it loads llama-cpp-python's own instance of libllama.
    from pytrimode.formats.json_grammar import schema_to_gbnf

    try:
        return schema_to_gbnf(schema)
    except Exception as error:
        raise ValueError(f"{name}: the schema cannot be translated: {error}") from error
