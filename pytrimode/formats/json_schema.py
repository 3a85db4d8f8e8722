"""JSON schemas as trees of schemas, and how they are changed before they become grammars."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

_ONE = ("items", "additionalProperties", "additionalItems", "contains", "not", "if", "then", "else", "propertyNames")
_LIST = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
_MAP = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_COMBINED = ("allOf", "anyOf", "oneOf", "$ref")

Change = Callable[[dict[str, Any]], dict[str, Any]]


def changed(schema: Any, change: Change) -> Any:
    """Return the same with each schema in it, and then itself, changed. What is no schema (`const`, `enum`) stays."""
    if not isinstance(schema, dict):
        return schema
    found = dict(schema)
    for key, value in schema.items():
        if key in _MAP and isinstance(value, dict):
            found[key] = {name: changed(one, change) for name, one in value.items()}
        elif key in _LIST and isinstance(value, list):
            found[key] = [changed(one, change) for one in value]
        elif key in _ONE:
            found[key] = changed(value, change)
    return change(found)


def moved(schema: Any, place: str) -> Any:
    """Return a schema for another place in a document: its references to itself point there."""

    def move(one: dict[str, Any]) -> dict[str, Any]:
        reference = one.get("$ref")
        if isinstance(reference, str) and reference.startswith("#"):
            return {**one, "$ref": place + reference[1:]}
        return one

    return changed(schema, move)


def closed(schema: Any) -> Any:
    """Return the same with no other properties than those that are named, unless it says something of others: as in
    llama.cpp.

    A model then adds nothing of its own, and what it writes is of the schema all the same. A document in which schemas
    are joined stays as it is: what is closed in one of them would forbid what another one asks for.
    """
    return schema if any(map(_joins, _all(schema))) else changed(schema, _close)


def _close(one: dict[str, Any]) -> dict[str, Any]:
    says = ("additionalProperties", "patternProperties", "unevaluatedProperties", "minProperties", "propertyNames")
    return {**one, "additionalProperties": False} if "properties" in one and not any(k in one for k in says) else one


def _joins(one: Mapping[str, Any]) -> bool:
    alone = len(one.get("allOf") or []) <= 1
    return not alone or ("properties" in one and any(key in one for key in _COMBINED))


def _all(schema: Any) -> Iterator[dict[str, Any]]:
    found: list[dict[str, Any]] = []

    def note(one: dict[str, Any]) -> dict[str, Any]:
        found.append(one)
        return one

    changed(schema, note)
    return iter(found)


def pointed_at(reference: str, root: Mapping[str, Any]) -> Any:
    """Return what a reference within a document points at; None where there is nothing."""
    found: Any = root
    for part in reference.removeprefix("#").split("/")[1:]:
        found = found.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
    return found


def types_of(schema: Any, root: Mapping[str, Any]) -> set[str]:
    """Return the types that a schema names, by itself or in its alternatives. Empty: it names none."""
    found: set[str] = set()
    todo, seen = [schema], 0
    while todo and seen < 100:
        seen += 1
        one = todo.pop()
        if not isinstance(one, Mapping):
            continue
        kind = one.get("type")
        found |= {kind} if isinstance(kind, str) else set(kind) if isinstance(kind, list) else set()
        found |= {type_of(value) for value in [*(one.get("enum") or []), *([one["const"]] if "const" in one else [])]}
        for key in ("anyOf", "oneOf", "allOf"):
            todo += one.get(key) or []
        if isinstance(reference := one.get("$ref"), str):
            todo.append(pointed_at(reference, root))
    return found


def type_of(value: Any) -> str:
    """JSON schema's name for the type of a value."""
    kinds = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}
    return kinds.get(type(value), "null")
